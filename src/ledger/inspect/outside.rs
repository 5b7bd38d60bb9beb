//! What can be told of a data directory from outside: whose it is, who may read it, what is left in
//! it that should be gone.

use crate::{
    error::Error,
    files::{self, Unsafe},
    ledger::{home::acquire, reserve},
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The entries of a data directory that are ours.
const USED: [&str; 4] = ["lock", "ledger", "ledger.new", "tls"];

/// The facts, each with the file that they are of.
#[derive(Default)]
pub(crate) struct Outside {
    /// Who has the store open.
    pub(crate) holder: Option<Box<str>>,
    /// Files that others than their owner may use, and their modes.
    pub(crate) loose: Vec<(PathBuf, u32)>,
    /// Files that belong to another user than the directory does, or a directory to another than
    /// who asks, and to whom.
    pub(crate) foreign: Vec<(PathBuf, u32)>,
    /// What an interrupted creation, or a kill while the engine opened, left behind.
    pub(crate) leftovers: Vec<PathBuf>,
    /// Files that must be there and are not.
    pub(crate) missing: Vec<PathBuf>,
    /// Links and other entries that are no files, files with several names, and directories above
    /// that others can change.
    pub(crate) misplaced: Vec<Unsafe>,
    /// Values that the engine put outside its database file, where it never syncs them.
    pub(crate) blobs: Vec<PathBuf>,
    /// What cannot be looked at, and why.
    pub(crate) hidden: Vec<(PathBuf, Box<str>)>,
    /// Free bytes on the disk.
    pub(crate) room: Option<u64>,
    /// Bytes of the database file.
    pub(crate) size: u64,
    /// Bytes that are allocated for revocations on a full disk.
    pub(crate) reserve: u64,
    /// Whether the file system can allocate blocks ahead; `None` where that cannot be tried.
    pub(crate) can_reserve: Option<bool>,
}

impl Outside {
    /// Looks; nothing is opened but the lock, and that only for reading.
    pub(crate) fn look(dir: &Path, anchor: Option<&Path>) -> Result<Self, Error> {
        let about = fs::metadata(dir).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound(dir.into()),
            _ => Error::io("looking at the data directory", e),
        })?;
        if !about.is_dir() {
            let reason = "it is a file; name a directory".into();
            return Err(Error::BadDirectory { dir: dir.into(), reason });
        }
        let mut outside = Self::default();
        match hold(dir) {
            Err(Error::Locked { holder, .. }) => outside.holder = Some(holder),
            Err(Error::Unsafe { .. }) | Ok(_) => {} // The walk below reports what is unsafe.
            Err(other) => outside.hidden.push((dir.join("lock"), other.to_string().into())),
        }
        let own = rustix::process::geteuid().as_raw();
        if about.uid() != own && own != 0 {
            outside.foreign.push((dir.into(), about.uid()));
        }
        outside.misplaced.extend(files::fault_above(dir, about.uid()));
        outside.walk(dir, about.uid());
        // An operator may keep a link to something else here.
        let is_used = |path: &Path| match path.strip_prefix(dir) {
            Ok(within) => USED.iter().any(|used| within.starts_with(used)),
            Err(_) => true,
        };
        outside.misplaced.retain(|fault| is_used(&fault.path));
        let ledger = dir.join("ledger");
        let needed = match anchor {
            Some(elsewhere) => {
                outside.file(elsewhere, about.uid());
                outside.misplaced.extend(files::fault_above(elsewhere, about.uid()));
                elsewhere.to_path_buf()
            }
            None => ledger.join("anchor"),
        };
        let db = ledger.join("sled").join("db");
        outside.size = fs::metadata(&db).map_or(0, |about| about.len());
        outside.reserve = reserve::held(&ledger);
        outside.can_reserve = reserve::can_allocate(&ledger);
        let is_absent = |path: &PathBuf| path.symlink_metadata().is_err();
        outside.missing = [db, needed].into_iter().filter(is_absent).collect();
        outside.room =
            rustix::fs::statvfs(dir).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Ok(outside)
    }

    fn walk(&mut self, dir: &Path, owner: u32) {
        self.file(dir, owner);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) => return self.hidden.push((dir.into(), e.to_string().into())),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == "ledger.new" {
                    self.leftovers.push(path.clone());
                } else if path.ends_with("ledger/rehearsal") {
                    // What the engine makes in it is closed to others by it, and goes with it.
                    self.leftovers.push(path.clone());
                    self.file(&path, owner);
                    continue;
                }
                self.walk(&path, owner);
                continue;
            }
            self.file(&path, owner);
            if path.extension().is_some_and(|extension| extension == "generating") {
                self.leftovers.push(path);
            } else if dir.ends_with("ledger/sled/blobs") {
                self.blobs.push(path);
            }
        }
    }

    fn file(&mut self, path: &Path, owner: u32) {
        let Ok(about) = fs::symlink_metadata(path) else { return };
        // The mode of a link says nothing.
        if !about.is_symlink() && about.mode() & 0o077 != 0 {
            self.loose.push((path.into(), about.mode() & 0o7777));
        }
        if about.uid() != owner {
            self.foreign.push((path.into(), about.uid()));
        }
        if let Some(fault) = files::fault_of(path, &about) {
            self.misplaced.push(fault);
        }
    }
}

/// Keeps every process from opening the store while the file that this gives is open; `None` where
/// there is no lock to take. The note in it stays as it is.
pub(super) fn hold(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let mut file = match files::open_to_look(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("opening the lock", e)),
    };
    acquire(&mut file, dir, File::try_lock_shared)?;
    Ok(Some(file))
}
