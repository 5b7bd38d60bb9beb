//! The control socket: the entry point for local commands of the host's own user and of root.

use super::caller::LocalUser;
use axum::{
    Router,
    extract::{ConnectInfo, Request, connect_info::Connected},
    middleware::{self, Next},
    response::Response,
    serve::{IncomingStream, Listener},
};
use portcullis::files::{Dir, check_of_any_owner};
use rustix::process::geteuid;
use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixStream;

const NAME: &str = "control.sock";
/// The longest path that a socket address can hold.
const MAX_PATH_BYTES: usize = 107;

/// The bound control socket of a store. Dropping it removes the file.
///
/// Over it `portcullis key …` works on a running host. The socket is started explicitly: opening a store
/// binds none. **Every process of the host's user, and of root, gets the rights of a root key.** Such a
/// process could read the memory of the host anyway; other users are refused.
///
/// ```no_run
/// use portcullis_admin::control::ControlSocket;
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let store = portcullis::Store::open("keys")?;
/// let control = ControlSocket::bind("keys".as_ref())?;
/// tokio::spawn(control.serve(portcullis_admin::router(store))); // until the task is aborted
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: RemoveOnDrop,
}

/// Removes the socket's file when it is dropped.
#[derive(Debug)]
pub struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl ControlSocket {
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

    /// Serves this router, such as [`router`](crate::router), to the host's own user and to root. Call this
    /// within a tokio runtime. It ends with an error only, or when its future is dropped, which removes the
    /// file.
    pub async fn serve(self, app: Router) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = OwnListener(tokio::net::UnixListener::from_std(self.listener)?);
        let app = app.layer(middleware::from_fn(insert_local_user));
        let _file = self.file;
        axum::serve(listener, app.into_make_service_with_connect_info::<LocalUser>()).await
    }

    /// Returns the listener, for a server of the host's own, and the guard that removes the file. That
    /// server accepts a connection only if [`local_user`] returns its user.
    pub fn into_parts(self) -> (UnixListener, RemoveOnDrop) {
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

/// Returns the user of a connection to the control socket. Fails with `PermissionDenied` unless it is the
/// host's own user or root; the mode of the file does not matter.
pub fn local_user(stream: &UnixStream) -> io::Result<LocalUser> {
    let uid = stream.peer_cred()?.uid();
    if uid == geteuid().as_raw() || uid == 0 {
        Ok(LocalUser::new(uid))
    } else {
        tracing::warn!(uid, "refused a connection of another user to the control socket");
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Accepts connections of the host's own user and of root.
struct OwnListener(tokio::net::UnixListener);

impl Listener for OwnListener {
    type Io = UnixStream;
    type Addr = LocalUser;

    async fn accept(&mut self) -> (UnixStream, LocalUser) {
        loop {
            let (stream, _) = Listener::accept(&mut self.0).await;
            if let Ok(user) = local_user(&stream) {
                return (stream, user);
            }
        }
    }

    fn local_addr(&self) -> io::Result<LocalUser> {
        Ok(LocalUser::new(geteuid().as_raw()))
    }
}

impl Connected<IncomingStream<'_, OwnListener>> for LocalUser {
    fn connect_info(stream: IncomingStream<'_, OwnListener>) -> Self {
        *stream.remote_addr()
    }
}

async fn insert_local_user(
    ConnectInfo(user): ConnectInfo<LocalUser>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(user);
    next.run(request).await
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
        let control = ControlSocket::bind(&deep).unwrap();
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
        let stale = ControlSocket::bind(data.path()).unwrap();
        let (listener, file) = stale.into_parts();
        drop(listener);
        assert!(data.path().join(NAME).exists());
        std::mem::forget(file);
        assert!(ControlSocket::bind(data.path()).is_ok());
    }

    #[test]
    fn file_or_link_in_place_of_the_socket_is_refused_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(NAME);
        fs::write(&path, "precious").unwrap();
        assert!(ControlSocket::bind(data.path()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::rename(&path, data.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(ControlSocket::bind(data.path()).is_err());
        assert!(path.is_symlink());
    }

    #[tokio::test]
    async fn socket_in_a_directory_that_others_can_write_is_not_trusted() {
        let data = tempfile::tempdir().unwrap();
        let _control = ControlSocket::bind(data.path()).unwrap();
        fs::set_permissions(data.path(), Permissions::from_mode(0o777)).unwrap();
        let error = connect(data.path()).err().unwrap();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }

    #[tokio::test]
    async fn own_user_acts_with_the_rights_of_a_root_key() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let data = tempfile::tempdir().unwrap();
        let control = ControlSocket::bind(data.path()).unwrap();
        let serving = tokio::spawn(
            control.serve(crate::router(
                portcullis::Store::builder()
                    .scopes(portcullis::scope::catalogue::financial_data())
                    .in_memory()
                    .unwrap(),
            )),
        );
        let mut stream = connect(data.path()).unwrap();
        let body = r#"{"name": "root", "scopes": ["*"]}"#;
        let request = format!(
            "POST /v1/keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert!(!data.path().join(NAME).exists());
    }
}
