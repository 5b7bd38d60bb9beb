//! The data directory: its owner and modes, its lock, its layout, and its syncs.
//!
//! ```text
//! <dir>/           mode 0700, owned by the user of this process
//!   lock           locked while a store is open; contains the process id of the holder
//!   ledger/        created as ledger.new/ and renamed when it is complete
//!     sled/        the database
//!     anchor       unless the anchor has a path of its own
//!     rehearsal/   a copy of the database, only during opening
//!     reserve      allocated blocks for opening on a full disk
//! ```

use crate::{
    error::Error,
    files::{Dir, unsafe_of},
};
use rustix::fs::OFlags;
use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const LEDGER: &str = "ledger";
/// The staging directory, in which a ledger is created.
const STAGING: &str = "ledger.new";

/// The entries that a data directory may have before a store is created in it. They are left by an
/// interrupted creation, the server, a concurrent creation, or the formatting of a disk.
const HARMLESS: [&str; 6] = ["lock", "ledger.new", "ledger", "tls", "control.sock", "lost+found"];

/// How long to wait for a lock of this same process. A child process that another thread is starting
/// inherits the file of a closed store until the child executes its own program.
const LINGER: Duration = Duration::from_secs(2);

/// Whether a store may be created, and must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Open it, or create it if the directory is absent or empty.
    OpenOrCreate,
    /// Open an existing store.
    Open,
    /// Create a new store.
    Create,
}

/// A locked data directory. No other user can change its content.
pub(super) struct DataDir {
    dir: Dir,
    /// Whether this value created the directory.
    is_new: bool,
    /// Closing the file releases the lock.
    _lock: File,
}

impl DataDir {
    /// Checks the directory, or creates it if the mode permits. Then locks it and checks the files that
    /// the engine will open.
    pub(super) fn open(shown: &Path, mode: Mode) -> Result<Self, Error> {
        let (dir, is_new) = match Dir::open(shown) {
            Ok(dir) => (dir, false),
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == Mode::Open => {
                return Err(Error::NotFound(shown.into()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => (create_dir(shown)?, true),
            Err(e) => return Err(open_error(shown, e)),
        };
        let reading = |e| Error::io("reading the data directory", e);
        let has_ledger = dir.has(LEDGER.as_ref()).map_err(reading)?;
        // Before the lock, so that no lock file is left in the directory of another program.
        if mode != Mode::Open && !has_ledger {
            check_free(&dir, shown)?;
        }
        let lock = lock(&dir, shown, mode)?;
        let data_dir = Self { dir, is_new, _lock: lock };
        data_dir.check().map_err(reading)?;
        match (mode, data_dir.has_ledger()?) {
            (Mode::Open, false) => Err(Error::NotFound(shown.into())),
            (Mode::Create, true) => Err(Error::AlreadyExists(shown.into())),
            _ => Ok(data_dir),
        }
    }

    /// Checks the files that the engine opens by path: the engine follows links. It creates its snapshots
    /// with the umask of the host program, so their modes may be lax. Their directory is private.
    fn check(&self) -> io::Result<()> {
        let is_snapshot = |name: &OsStr| name.as_encoded_bytes().starts_with(b"snap.");
        let is_removed = |name: &OsStr| name == "rehearsal";
        for name in [LEDGER, STAGING].map(OsStr::new) {
            if self.dir.has(name)? {
                let below = self.dir.open_dir(name)?;
                if name == LEDGER {
                    below.check_below(&is_snapshot, &is_removed)?;
                    self.dir.close_to_others()?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn has_ledger(&self) -> Result<bool, Error> {
        let found = self.dir.has(LEDGER.as_ref());
        found.map_err(|e| Error::io("reading the data directory", e))
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.dir.path().join(LEDGER)
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.dir.path().join(STAGING)
    }

    /// Creates an empty staging directory and returns its path.
    pub(super) fn empty_staging(&self) -> Result<PathBuf, Error> {
        let doing = |e| Error::io("creating the store", e);
        check_free(&self.dir, self.dir.path())?;
        let staging = self.staging();
        match fs::remove_dir_all(&staging) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(doing(e)),
            _ => {}
        }
        self.dir.close_to_others().map_err(doing)?;
        self.dir.create_dir(STAGING.as_ref()).and_then(|_| self.dir.sync()).map_err(doing)?;
        Ok(staging)
    }

    /// Renames a complete ledger to its final name, durably.
    pub(super) fn publish(&self) -> Result<(), Error> {
        let renamed = self.dir.open_dir(STAGING.as_ref()).and_then(|staging| {
            staging.sync_below()?;
            self.dir.rename(STAGING.as_ref(), LEDGER.as_ref())?;
            self.dir.sync()?;
            sync_parent(self.dir.path())
        });
        renamed.map_err(|e| Error::io("creating the store", e))
    }

    /// Syncs every file of the ledger and their names, and restricts their modes to this user.
    pub(super) fn sync_ledger(&self) -> io::Result<()> {
        self.dir.open_dir(LEDGER.as_ref())?.sync_below()?;
        self.dir.sync()
    }
}

impl Drop for DataDir {
    /// Removes a directory that was created for an incomplete store. A directory with other entries
    /// stays.
    fn drop(&mut self) {
        if self.is_new && self.has_ledger().is_ok_and(|has_ledger| !has_ledger) {
            let _ = fs::remove_dir_all(self.staging());
            let _ = self.dir.remove_file("lock".as_ref());
            let _ = fs::remove_dir(self.dir.path());
        }
    }
}

/// Refuses a directory with files of other programs.
fn check_free(dir: &Dir, shown: &Path) -> Result<(), Error> {
    let names = dir.names().map_err(|e| Error::io("reading the data directory", e))?;
    if names.iter().all(|name| HARMLESS.iter().any(|harmless| name == harmless)) {
        return Ok(());
    }
    Err(bad(shown, "it holds other files; choose an absent or empty directory"))
}

fn bad(dir: &Path, reason: &str) -> Error {
    Error::BadDirectory { dir: dir.into(), reason: reason.into() }
}

/// Converts the error of opening a directory. The error for another path contains that path.
fn open_error(shown: &Path, error: io::Error) -> Error {
    let own = fs::canonicalize(shown).unwrap_or_default();
    match unsafe_of(&error) {
        Some(fault) if *fault.path == *own => {
            bad(shown, &format!("{}; {}", fault.what, fault.remedy))
        }
        None if error.kind() == io::ErrorKind::NotADirectory => bad(
            shown,
            if own.is_file() {
                "it is a file; name a directory"
            } else {
                "a part of its path is a file"
            },
        ),
        _ => Error::io("reading the data directory", error),
    }
}

fn create_dir(shown: &Path) -> Result<Dir, Error> {
    let made = Dir::above(shown).and_then(|(above, name)| {
        let made = above.create_dir(&name)?;
        above.sync()?;
        Ok(made)
    });
    made.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            bad(shown, "the directory above it does not exist; create that first")
        }
        io::ErrorKind::AlreadyExists => bad(shown, "it is a link without a target; remove it"),
        _ => match open_error(shown, e) {
            Error::Io { cause, .. } => Error::io("creating the data directory", *cause),
            other => other,
        },
    })
}

/// Locks the data directory before the engine runs. The engine locks its database only after it has
/// created files, and its error does not name the holder.
fn lock(dir: &Dir, shown: &Path, mode: Mode) -> Result<File, Error> {
    let doing = |e: io::Error| Error::io("locking the data directory", e);
    let mut flags = OFlags::RDWR;
    // Opening an absent store must not leave a lock file behind.
    if mode != Mode::Open || dir.has(LEDGER.as_ref()).map_err(doing)? {
        flags |= OFlags::CREATE;
    }
    let mut file = dir.open_file("lock".as_ref(), flags).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(shown.into()),
        _ => doing(e),
    })?;
    acquire(&mut file, shown, File::try_lock)?;
    // Overwritten in place: on a full disk, a block that is freed may not be available again.
    let note = holder_note();
    file.rewind()
        .and_then(|()| file.write_all(note.as_bytes()))
        .and_then(|()| file.set_len(note.len() as u64))
        .map_err(doing)?;
    Ok(file)
}

fn holder_note() -> String {
    format!("process {}\n", std::process::id())
}

/// Locks a file. Waits up to [`LINGER`] for a lock of this process; a lock of another process is an
/// error at once.
pub(super) fn acquire(
    file: &mut File,
    dir: &Path,
    try_lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<(), Error> {
    let deadline = Instant::now() + LINGER;
    loop {
        match try_lock(file) {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(Error::io("locking the data directory", e)),
        }
        let mut holder = String::new();
        // Without a readable note, the error names no holder.
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
        if holder != holder_note() || Instant::now() > deadline {
            let holder = Some(holder.trim()).filter(|holder| !holder.is_empty());
            let holder = holder.unwrap_or("another process").into();
            return Err(Error::Locked { dir: dir.into(), holder });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Syncs the directory that holds `path`'s name.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}
