//! Checks whether entries of the file system are trusted, by type, owner and mode.

use rustix::process::geteuid;
use std::{
    fmt,
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// Other users cannot rename or remove an entry, even if they can write to the directory.
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o022;

/// The reason why a file or directory is not used: another user can change it or could have changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsafe {
    pub(crate) path: Box<Path>,
    pub(crate) what: Box<str>,
    /// The remedy, as an imperative.
    pub(crate) remedy: Box<str>,
}

impl Unsafe {
    pub(crate) fn refuse(
        path: &Path,
        what: impl Into<Box<str>>,
        remedy: impl Into<Box<str>>,
    ) -> io::Error {
        let this = Self { path: path.into(), what: what.into(), remedy: remedy.into() };
        io::Error::new(io::ErrorKind::InvalidInput, this)
    }
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, remedy } = self;
        write!(f, "{} is not safe to use: {what}; {remedy}", path.display())
    }
}

impl std::error::Error for Unsafe {}

/// Returns the reason if the error has one.
pub(crate) fn unsafe_of(error: &io::Error) -> Option<&Unsafe> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// The required type of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    /// A file that was created with the umask of the host process.
    LaxFile,
}

pub(super) fn own() -> u32 {
    geteuid().as_raw()
}

/// Checks an entry itself. [`check_above`] checks the directories above it.
pub(super) fn check(path: &Path, about: &Metadata, kind: Kind, own: u32) -> io::Result<()> {
    check_shape(path, about)?;
    match (kind, about.is_dir()) {
        (Kind::Directory, false) => return Err(is_no_directory(path)),
        (Kind::File | Kind::LaxFile, true) => return Err(is_no_file(path)),
        _ => {}
    }
    check_owner(path, about, own)?;
    let mode = about.mode() & 0o7777;
    if kind != Kind::LaxFile && mode & OTHERS_WRITE != 0 {
        let what = format!("others can write to it (mode {mode:03o})");
        let shown = path.display();
        let remedy = format!("check what is in it, then close it: chmod go-w {shown}");
        return Err(Unsafe::refuse(path, what, remedy));
    }
    Ok(())
}

pub(super) fn check_owner(path: &Path, about: &Metadata, own: u32) -> io::Result<()> {
    if about.uid() == own {
        return Ok(());
    }
    let what = format!("it belongs to another user ({})", about.uid());
    Err(Unsafe::refuse(path, what, "run as that user, or correct its owner (chown)"))
}

/// Checks that an entry is a directory, or a file with a single name: through another name, another user
/// could reach it.
pub(super) fn check_shape(path: &Path, about: &Metadata) -> io::Result<()> {
    if about.is_symlink() {
        return Err(is_link(path));
    }
    if !about.is_dir() && !about.is_file() {
        return Err(is_no_file(path));
    }
    if about.is_file() && about.nlink() > 1 {
        let remedy = "put a copy of it in its place";
        return Err(Unsafe::refuse(path, "it has another name as well (a hard link)", remedy));
    }
    Ok(())
}

/// Checks the directory at `path`, which has no links, and those above it. A user who can write to one of
/// them can replace the next one. So each belongs to root or to `own`, and no one else can write to it,
/// with two exceptions. In a sticky directory such as `/tmp`, others can add entries, but not rename those
/// of this user. And a group with the number of the directory's owner is the private group of that user,
/// as systems with the umask 002 create it.
pub(super) fn check_above(path: &Path, own: u32) -> io::Result<()> {
    let unmapped = unmapped();
    for above in path.ancestors() {
        let about = fs::metadata(above)?;
        let (uid, mode) = (about.uid(), about.mode() & 0o7777);
        let within = "another directory could be put in the place of the one below it";
        let elsewhere = "choose a place below directories that only you and root can change";
        if uid != own && uid != 0 && Some(uid) != unmapped {
            let what = format!("it belongs to another user ({uid}), so that {within}");
            return Err(Unsafe::refuse(above, what, format!("{elsewhere}, or correct its owner")));
        }
        let mut writers = mode & OTHERS_WRITE;
        if about.gid() == uid {
            writers &= !GROUP_WRITES;
        }
        if writers != 0 && mode & STICKY == 0 {
            let what = format!("others can write to it (mode {mode:03o}), so that {within}");
            let close = format!("chmod go-w {}", above.display());
            return Err(Unsafe::refuse(above, what, format!("close it ({close}), or {elsewhere}")));
        }
    }
    Ok(())
}

/// In a user namespace, the uid that stands for users outside of it, for example as the owner of `/`.
fn unmapped() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let everybody = u32::MAX.to_string();
    if map.split_whitespace().nth(2) == Some(&everybody) {
        return None;
    }
    fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()
}

pub(super) fn is_link(path: &Path) -> io::Error {
    let remedy = "remove it, or put the file itself in its place";
    Unsafe::refuse(path, "it is a symbolic link", remedy)
}

pub(super) fn is_no_file(path: &Path) -> io::Error {
    let about = fs::symlink_metadata(path);
    let what = match about.map(|about| about.file_type()) {
        Ok(kind) if kind.is_dir() => "it is a directory",
        Ok(kind) if kind.is_fifo() => "it is a pipe",
        Ok(kind) if kind.is_socket() => "it is a socket",
        _ => "it is no regular file",
    };
    Unsafe::refuse(path, what, "move it away")
}

fn is_no_directory(path: &Path) -> io::Error {
    Unsafe::refuse(path, "it is no directory", "move it away")
}
