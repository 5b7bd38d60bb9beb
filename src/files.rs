//! Files and directories of the store, opened relative to a directory handle and without following links.
//!
//! The path of a caller is resolved once, and may contain links. From then on the directory is a handle.
//! Links in it are not followed, and entries that another user owns or can write are not used. The
//! storage engine opens its files by path. That path has no links, and no other user can change a
//! directory on it, so it leads to the checked files.

mod trust;

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
#[derive(Debug)]
pub struct Dir {
    handle: File,
    /// Absolute and without links.
    path: PathBuf,
}

impl Dir {
    /// Opens a directory of this user. Refused if another user owns it, can write to it, or can replace it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = Self::resolve(path)?;
        check(&dir.path, &dir.handle.metadata()?, Kind::Directory, trust::own())?;
        if let Some(above) = dir.path.parent() {
            trust::check_above(above, trust::own())?;
        }
        Ok(dir)
    }

    /// Opens a directory that may belong to another user, such as `/tmp`, to use a file of this user in it.
    /// Refused if another user could replace that file.
    pub(crate) fn open_shared(path: &Path) -> io::Result<Self> {
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
    pub(crate) fn above(path: &Path) -> io::Result<(Self, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((Self::open_shared(path.parent().unwrap_or(Path::new("")))?, name.to_owned()))
    }

    /// Returns the path, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory of this user in this one.
    pub fn open_dir(&self, name: &OsStr) -> io::Result<Self> {
        let path = self.path.join(name);
        // For a link the system reports that it is not a directory.
        if self.kind_of(name)? == Some(FileType::Symlink) {
            return Err(trust::is_link(&path));
        }
        let handle = self.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        check(&path, &handle.metadata()?, Kind::Directory, trust::own())?;
        Ok(Self { handle, path })
    }

    /// Creates a directory with mode 0700 and opens it.
    pub fn create_dir(&self, name: &OsStr) -> io::Result<Self> {
        mkdirat(&self.handle, name, Mode::from(PRIVATE_DIR))?;
        self.open_dir(name)
    }

    /// Opens a regular file of this user in this directory, and sets its mode to 0600.
    pub(crate) fn open_file(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        self.refuse_other_kinds(name)?;
        let file = self.open_at(name, flags)?;
        let about = file.metadata()?;
        check(&self.path.join(name), &about, Kind::File, trust::own())?;
        if about.mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(about.mode() & 0o700))?;
        }
        Ok(file)
    }

    /// Opens a regular file of this user in this directory for reading, and sets its mode to 0600.
    pub fn open_to_read(&self, name: &OsStr) -> io::Result<File> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// Creates a file with mode 0600. Fails if the name exists.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        self.open_at(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// Checks that an entry is a socket of this user.
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

    /// Renames an entry. A file with the new name is replaced.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Whether an entry has this name. A link counts, whatever its target is.
    pub fn has(&self, name: &OsStr) -> io::Result<bool> {
        Ok(self.kind_of(name)?.is_some())
    }

    /// Returns the type of an entry, of a link itself.
    pub(crate) fn kind_of(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the mode of the directory to 0700.
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

    /// Checks that everything below is a directory or a regular file of this user. `lax` are the names of
    /// files whose mode depends on the umask of the process. `skip` are the names of directories that are
    /// not checked.
    pub(crate) fn check_below(
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

    /// Syncs this directory and everything below, and restricts the modes to this user.
    pub(crate) fn sync_below(&self) -> io::Result<()> {
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

    /// Returns the names of its entries.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn open_at(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        // Opening a pipe without a process at its other end must not block.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.handle, name, flags, Mode::from(PRIVATE_FILE)) {
            Ok(file) => Ok(File::from(file)),
            // The errors for a link, and for a socket or a pipe without a reader.
            Err(rustix::io::Errno::LOOP) => Err(trust::is_link(&self.path.join(name))),
            Err(rustix::io::Errno::NXIO) => Err(trust::is_no_file(&self.path.join(name))),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses an entry that is not a regular file before it is opened. It is checked again afterwards.
    fn refuse_other_kinds(&self, name: &OsStr) -> io::Result<()> {
        match self.kind_of(name)? {
            None | Some(FileType::RegularFile) => Ok(()),
            Some(FileType::Symlink) => Err(trust::is_link(&self.path.join(name))),
            Some(_) => Err(trust::is_no_file(&self.path.join(name))),
        }
    }
}

/// Opens a regular file of any owner for reading. The last name of its path must not be a link.
pub(crate) fn open_to_look(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(trust::is_link(path)),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(trust::is_no_file(path)) }
}

/// Checks a directory that is only searched for a server, and returns its owner. Refused if others
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

/// The reason why others than root and `owner` could replace a directory, for a report.
pub(crate) fn fault_above(dir: &Path, owner: u32) -> Option<Unsafe> {
    let path = fs::canonicalize(dir).ok()?;
    let error = trust::check_above(path.parent()?, owner).err()?;
    unsafe_of(&error).cloned()
}

/// The reason why an entry is not used, apart from its owner and mode, for a report.
pub(crate) fn fault_of(path: &Path, about: &fs::Metadata) -> Option<Unsafe> {
    let error = trust::check_shape(path, about).err()?;
    unsafe_of(&error).cloned()
}

#[cfg(test)]
mod tests;
