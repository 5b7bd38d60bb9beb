//! Files and directories of ours: opened relative to a directory handle, without following links.
//!
//! A path that a caller names is resolved once; it may contain links. From then on the directory is
//! a handle. No name in it is followed if it is a link, and nothing in it is used that another user
//! owns or can write. The storage engine opens its files by path. That path has no links, and nobody
//! else can change a directory on it, so that it leads to the files that were checked.

mod private;
mod trust;

pub use private::read_private;
pub(crate) use trust::{Unsafe, unsafe_of};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat};
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use trust::{Kind, check};

const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// An open directory.
pub struct Dir {
    handle: File,
    /// Absolute and without links.
    path: PathBuf,
}

impl Dir {
    /// Opens a directory of ours. Refused if another user owns it, can write to it, or can put
    /// another one in its place.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = Self::resolve(path)?;
        check(&dir.path, &dir.handle.metadata()?, Kind::Directory, trust::own())?;
        if let Some(above) = dir.path.parent() {
            trust::check_above(above, trust::own())?;
        }
        Ok(dir)
    }

    /// Opens a directory that may belong to another user, such as `/tmp`, to reach a file of ours
    /// in it. Refused if that file could be replaced by another user.
    pub fn open_shared(path: &Path) -> io::Result<Self> {
        let dir = Self::resolve(path)?;
        trust::check_above(&dir.path, trust::own())?;
        Ok(dir)
    }

    fn resolve(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let handle = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let path = fs::canonicalize(path)?;
        let (held, named) = (handle.metadata()?, fs::metadata(&path)?);
        if (held.dev(), held.ino()) != (named.dev(), named.ino()) {
            return Err(Unsafe::refuse(&path, "it was replaced while it was opened", "try again"));
        }
        Ok(Self { handle, path })
    }

    /// Opens the directory that contains `path`; returns it and the last name of `path`.
    pub fn above(path: &Path) -> io::Result<(Self, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((Self::open_shared(path.parent().unwrap_or(Path::new("")))?, name.to_owned()))
    }

    /// The directory's path, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory of ours in this one.
    pub fn open_dir(&self, name: &OsStr) -> io::Result<Self> {
        let path = self.path.join(name);
        // Where a directory is expected, the system calls a link no directory.
        if self.kind_of(name)? == Some(FileType::Symlink) {
            return Err(trust::is_link(&path));
        }
        let handle = self.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        check(&path, &handle.metadata()?, Kind::Directory, trust::own())?;
        Ok(Self { handle, path })
    }

    /// Creates a directory that is closed to others, and opens it.
    pub fn create_dir(&self, name: &OsStr) -> io::Result<Self> {
        mkdirat(&self.handle, name, Mode::from(PRIVATE_DIR))?;
        self.open_dir(name)
    }

    /// Opens a regular file of ours in this directory, and closes it to others if it is not.
    pub fn open_file(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        self.refuse_other_kinds(name)?;
        let file = self.open_at(name, flags)?;
        let about = file.metadata()?;
        check(&self.path.join(name), &about, Kind::File, trust::own())?;
        if about.mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(about.mode() & 0o700))?;
        }
        Ok(file)
    }

    /// Creates a file that is closed to others; an error if the name is taken.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        self.open_at(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// Checks that an entry is a socket of ours.
    pub fn refuse_all_but_sockets(&self, name: &OsStr) -> io::Result<()> {
        let path = self.path.join(name);
        let about = fs::symlink_metadata(&path)?;
        match self.kind_of(name)? {
            Some(FileType::Socket) => trust::check_owner(&path, &about, trust::own()),
            Some(FileType::Symlink) => Err(trust::is_link(&path)),
            _ => Err(Unsafe::refuse(&path, "it is no socket", "move it away")),
        }
    }

    /// Removes a file, or a link itself.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    /// Renames an entry. What had the new name is replaced, if it is a file.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Whether an entry has this name; a link counts, wherever it leads.
    pub fn has(&self, name: &OsStr) -> io::Result<bool> {
        Ok(self.kind_of(name)?.is_some())
    }

    /// The kind of an entry; a link is a link.
    pub fn kind_of(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes the directory itself to others.
    pub fn close_to_others(&self) -> io::Result<()> {
        if fstat(&self.handle)?.st_mode & 0o777 == PRIVATE_DIR {
            return Ok(());
        }
        self.handle.set_permissions(Permissions::from_mode(PRIVATE_DIR))
    }

    /// Syncs the names in this directory.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Checks all that is below: directories and regular files of ours, and nothing else. `lax`
    /// names files whose mode depends on the umask of whoever runs us; `skip` names directories
    /// whose content does not matter.
    pub fn check_below(
        &self,
        lax: &dyn Fn(&OsStr) -> bool,
        skip: &dyn Fn(&OsStr) -> bool,
    ) -> io::Result<()> {
        for name in self.names()? {
            let path = self.path.join(&name);
            let about = fs::symlink_metadata(&path)?;
            if about.is_dir() {
                let below = self.open_dir(&name)?;
                if !skip(&name) {
                    below.check_below(lax, skip)?;
                }
            } else {
                let kind = if lax(&name) { Kind::LaxFile } else { Kind::File };
                check(&path, &about, kind, trust::own())?;
            }
        }
        Ok(())
    }

    /// Syncs all files and directories below and this directory, and closes them to others.
    pub fn sync_below(&self) -> io::Result<()> {
        for name in self.names()? {
            if self.kind_of(&name)? == Some(FileType::Directory) {
                self.open_dir(&name)?.sync_below()?;
            } else {
                self.refuse_other_kinds(&name)?;
                let file = self.open_at(&name, OFlags::RDONLY)?;
                file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
                file.sync_all()?;
            }
        }
        self.handle.set_permissions(Permissions::from_mode(PRIVATE_DIR))?;
        self.sync()
    }

    /// The names of its entries.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn open_at(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        // A pipe with no process at its other end must not keep us waiting.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.handle, name, flags, Mode::from(PRIVATE_FILE)) {
            Ok(file) => Ok(File::from(file)),
            // The refusal of a link; and of a socket or a pipe that nobody reads.
            Err(rustix::io::Errno::LOOP) => Err(trust::is_link(&self.path.join(name))),
            Err(rustix::io::Errno::NXIO) => Err(trust::is_no_file(&self.path.join(name))),
            Err(error) => Err(error.into()),
        }
    }

    /// Names what is no regular file before it is opened; if it is opened, it is checked again.
    fn refuse_other_kinds(&self, name: &OsStr) -> io::Result<()> {
        match self.kind_of(name)? {
            None | Some(FileType::RegularFile) => Ok(()),
            Some(FileType::Symlink) => Err(trust::is_link(&self.path.join(name))),
            Some(_) => Err(trust::is_no_file(&self.path.join(name))),
        }
    }
}

/// Opens a regular file for reading, whoever it belongs to. The last name of its path is no link.
pub(crate) fn open_to_look(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(trust::is_link(path)),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(trust::is_no_file(path)) }
}

/// Checks a directory that we only look for a server in, and returns its owner. Refused if others
/// than the owner and root could have put the server's socket there.
pub fn check_of_any_owner(dir: &Path) -> io::Result<u32> {
    let dir = Dir::resolve(dir)?;
    let about = dir.handle.metadata()?;
    let owner = about.uid();
    check(&dir.path, &about, Kind::Directory, owner)?;
    if let Some(above) = dir.path.parent() {
        trust::check_above(above, owner)?;
    }
    Ok(owner)
}

/// Why a directory could be replaced by others than root and `owner`; for a report.
pub(crate) fn fault_above(dir: &Path, owner: u32) -> Option<Unsafe> {
    let path = fs::canonicalize(dir).ok()?;
    let error = trust::check_above(path.parent()?, owner).err()?;
    unsafe_of(&error).cloned()
}

/// Why an entry is not used, apart from its owner and mode; for a report.
pub(crate) fn fault_of(path: &Path, about: &fs::Metadata) -> Option<Unsafe> {
    let error = trust::check_shape(path, about).err()?;
    unsafe_of(&error).cloned()
}

#[cfg(test)]
mod tests;
