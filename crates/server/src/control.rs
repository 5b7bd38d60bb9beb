//! The control socket: the entry point for local commands of the server's own user and of root.

use super::accept::MonitoredStream;
use axum::{Extension, middleware::AddExtension};
use axum_server::accept::Accept;
use portcullis::files::{Dir, check_of_any_owner};
use portcullis_admin::LocalUser;
use rustix::process::geteuid;
use std::{
    fs::{self, File, Permissions},
    future::{Ready, ready},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixStream;
use tower::Layer;

const NAME: &str = "control.sock";
/// The longest path that a socket address can hold.
const MAX_PATH_BYTES: usize = 107;

/// The bound socket of a server. Dropping it removes the file.
pub struct Control {
    listener: UnixListener,
    file: RemoveOnDrop,
}

/// Removes the socket's file when it is dropped.
pub(crate) struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Control {
    /// Binds the socket of the store in `data`. The caller has the store open, so an existing file is left
    /// over from a dead server and is replaced.
    pub fn bind(data: &Path) -> io::Result<Self> {
        let dir = Dir::open(data)?;
        if dir.has(NAME.as_ref())? {
            dir.refuse_all_but_sockets(NAME.as_ref())?;
            dir.remove_file(NAME.as_ref())?;
        }
        let listener = with_short_path(dir.path(), |path| UnixListener::bind(path))?;
        let file = RemoveOnDrop(dir.path().join(NAME));
        // The directory is closed to other users already.
        fs::set_permissions(&file.0, Permissions::from_mode(0o600))?;
        Ok(Self { listener, file })
    }

    pub(crate) fn into_parts(self) -> (UnixListener, RemoveOnDrop) {
        (self.listener, self.file)
    }
}

/// Connects to the server that has the store in `data` open. Call this within a tokio runtime.
///
/// The errors `NotFound` and `ConnectionRefused` mean that there is no server, `InvalidInput` that
/// another user could have created the socket.
pub fn connect(data: &Path) -> io::Result<UnixStream> {
    let owner = check_of_any_owner(data)?;
    // The peer will receive keys, so its user is checked before anything is sent.
    let stream = with_short_path(data, |path| std::os::unix::net::UnixStream::connect(path))?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let (server, own) = (stream.peer_cred()?.uid(), geteuid().as_raw());
    if server == own || own == 0 && server == owner {
        Ok(stream)
    } else {
        let text = format!(
            "the control socket belongs to user {server}, but this process runs as user {own}"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// Runs `work` with a path to the socket that fits a socket address, however long the directory's path.
fn with_short_path<T>(data: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = data.join(NAME);
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return work(&path);
    }
    let directory = File::open(data)?;
    work(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(NAME))
}

/// Accepts only the server's own user and root, whatever the mode of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnerOnly;

impl<S> Accept<MonitoredStream<UnixStream>, S> for OwnerOnly {
    type Stream = MonitoredStream<UnixStream>;
    type Service = AddExtension<S, LocalUser>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: MonitoredStream<UnixStream>, service: S) -> Self::Future {
        ready(stream.get_ref().peer_cred().and_then(|peer| {
            let uid = peer.uid();
            if uid == geteuid().as_raw() || uid == 0 {
                Ok((stream, Extension(LocalUser::new(uid)).layer(service)))
            } else {
                tracing::warn!(uid, "refused a connection of another user to the control socket");
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_bound_in_a_directory_with_a_long_path() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        fs::set_permissions(&deep, Permissions::from_mode(0o700)).unwrap();
        let control = Control::bind(&deep).unwrap();
        let mode = fs::metadata(deep.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            with_short_path(&deep, |path| std::os::unix::net::UnixStream::connect(path)).is_ok()
        );
        drop(control);
        assert!(!deep.join(NAME).exists());
    }

    #[test]
    fn socket_file_of_a_dead_server_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let stale = Control::bind(data.path()).unwrap();
        let (listener, file) = stale.into_parts();
        drop(listener);
        assert!(data.path().join(NAME).exists());
        std::mem::forget(file);
        assert!(Control::bind(data.path()).is_ok());
    }

    #[test]
    fn file_or_link_in_place_of_the_socket_is_refused_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(NAME);
        fs::write(&path, "precious").unwrap();
        assert!(Control::bind(data.path()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::rename(&path, data.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(Control::bind(data.path()).is_err());
        assert!(path.is_symlink());
    }

    #[tokio::test]
    async fn socket_in_a_directory_that_others_can_write_is_not_trusted() {
        let data = tempfile::tempdir().unwrap();
        let _control = Control::bind(data.path()).unwrap();
        fs::set_permissions(data.path(), Permissions::from_mode(0o777)).unwrap();
        let error = connect(data.path()).err().unwrap();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
}
