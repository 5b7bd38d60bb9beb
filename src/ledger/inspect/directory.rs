//! Examines the files of a data directory without opening the database: owners, modes, leftovers, missing
//! files and free space.

use crate::{
    error::Error,
    files::{self, Unsafe},
    ledger::{data_dir::acquire, reserve},
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The entries of a data directory that belong to the store.
const OWN_ENTRIES: [&str; 4] = ["lock", "ledger", "ledger.new", "tls"];

/// The state of a data directory.
#[derive(Default)]
pub(crate) struct DirectoryState {
    /// The process that has the store open.
    pub(crate) holder: Option<Box<str>>,
    /// Files that other users can access, and their modes.
    pub(crate) accessible: Vec<(PathBuf, u32)>,
    /// Files of another owner than the directory's, and a directory of another user than this process's.
    /// Each with its owner.
    pub(crate) foreign: Vec<(PathBuf, u32)>,
    /// Files that an interrupted creation or opening left behind.
    pub(crate) leftovers: Vec<PathBuf>,
    /// Required files that are missing.
    pub(crate) missing: Vec<PathBuf>,
    /// Links and other entries that are no regular files, files with several names, and parent directories
    /// that other users can change.
    pub(crate) unsafe_entries: Vec<Unsafe>,
    /// Values state the database file, which the engine never syncs.
    pub(crate) blobs: Vec<PathBuf>,
    /// Entries that cannot be examined, and why.
    pub(crate) unreadable: Vec<(PathBuf, Box<str>)>,
    /// Free bytes on the disk.
    pub(crate) free: Option<u64>,
    /// Bytes of the database file.
    pub(crate) database: u64,
    /// Allocated bytes of the disk reserve.
    pub(crate) reserve: u64,
    /// Whether the file system can allocate blocks ahead; `None` if that cannot be tried.
    pub(crate) can_reserve: Option<bool>,
}

impl DirectoryState {
    /// Examines the directory. Opens only the lock, for reading.
    pub(crate) fn read(dir: &Path, anchor: Option<&Path>) -> Result<Self, Error> {
        let about = fs::metadata(dir).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound(dir.into()),
            _ => Error::io("reading the data directory", e),
        })?;
        if !about.is_dir() {
            let reason = "it is a file; name a directory".into();
            return Err(Error::BadDirectory { dir: dir.into(), reason });
        }
        let mut state = Self::default();
        match lock_shared(dir) {
            Err(Error::Locked { holder, .. }) => state.holder = Some(holder),
            Err(Error::Unsafe { .. }) | Ok(_) => {} // Reported by the walk below.
            Err(other) => state.unreadable.push((dir.join("lock"), other.to_string().into())),
        }
        let own = rustix::process::geteuid().as_raw();
        if about.uid() != own && own != 0 {
            state.foreign.push((dir.into(), about.uid()));
        }
        state.unsafe_entries.extend(files::fault_above(dir, about.uid()));
        state.walk(dir, about.uid());
        // An operator may keep a link to other files here.
        let is_used = |path: &Path| match path.strip_prefix(dir) {
            Ok(within) => OWN_ENTRIES.iter().any(|own| within.starts_with(own)),
            Err(_) => true,
        };
        state.unsafe_entries.retain(|fault| is_used(&fault.path));
        let ledger = dir.join("ledger");
        let needed = match anchor {
            Some(elsewhere) => {
                state.examine(elsewhere, about.uid());
                state.unsafe_entries.extend(files::fault_above(elsewhere, about.uid()));
                elsewhere.to_path_buf()
            }
            None => ledger.join("anchor"),
        };
        let db = ledger.join("sled").join("db");
        state.database = fs::metadata(&db).map_or(0, |about| about.len());
        state.reserve = reserve::allocated_bytes(&ledger);
        state.can_reserve = reserve::can_allocate(&ledger);
        let is_absent = |path: &PathBuf| path.symlink_metadata().is_err();
        state.missing = [db, needed].into_iter().filter(is_absent).collect();
        state.free =
            rustix::fs::statvfs(dir).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Ok(state)
    }

    fn walk(&mut self, dir: &Path, owner: u32) {
        self.examine(dir, owner);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) => return self.unreadable.push((dir.into(), e.to_string().into())),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == "ledger.new" {
                    self.leftovers.push(path.clone());
                } else if path.ends_with("ledger/rehearsal") {
                    // Its content is not examined: the directory is private, and opening removes it.
                    self.leftovers.push(path.clone());
                    self.examine(&path, owner);
                    continue;
                }
                self.walk(&path, owner);
                continue;
            }
            self.examine(&path, owner);
            if path.extension().is_some_and(|extension| extension == "generating") {
                self.leftovers.push(path);
            } else if dir.ends_with("ledger/sled/blobs") {
                self.blobs.push(path);
            }
        }
    }

    fn examine(&mut self, path: &Path, owner: u32) {
        let Ok(about) = fs::symlink_metadata(path) else { return };
        // The mode of a link says nothing.
        if !about.is_symlink() && about.mode() & 0o077 != 0 {
            self.accessible.push((path.into(), about.mode() & 0o7777));
        }
        if about.uid() != owner {
            self.foreign.push((path.into(), about.uid()));
        }
        if let Some(fault) = files::fault_of(path, &about) {
            self.unsafe_entries.push(fault);
        }
    }
}

/// Locks the data directory without changing the lock file. No process can open the store until the
/// returned file is closed. `None` if there is no lock file.
pub(super) fn lock_shared(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let mut file = match files::open_to_look(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("opening the lock", e)),
    };
    acquire(&mut file, dir, File::try_lock_shared)?;
    Ok(Some(file))
}
