//! The data directory: who may use it, its lock, its layout, and what must be synced in it.
//!
//! ```text
//! <dir>/           0700, of the user who runs us
//!   lock           held while a store is open; names the holder
//!   ledger/        made as ledger.new/ and renamed when it is whole
//!     sled/        the database
//!     anchor       unless it is kept elsewhere
//!     rehearsal/   while the engine's opening is rehearsed
//! ```

use crate::error::Error;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// What a data directory may hold before a store is made in it: what an interrupted creation and
/// the server leave, what a freshly formatted disk has, and a store that is just being made.
const HARMLESS: [&str; 6] = ["lock", "ledger.new", "ledger", "tls", "control.sock", "lost+found"];

/// A store that this process has just closed may look open for a moment: a child that another
/// thread is starting has our file until it runs its own program.
const LINGER: Duration = Duration::from_secs(2);

/// What to do where there is no store, or where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Open it, or make it where the directory is absent or empty.
    OpenOrCreate,
    /// Open what is there.
    Open,
    /// Make a new one.
    Create,
}

/// A locked data directory.
pub(super) struct Home {
    dir: PathBuf,
    /// Released when it is closed.
    _lock: File,
}

impl Home {
    /// Checks the directory (makes it, where the mode allows), and takes its lock.
    pub(super) fn enter(dir: &Path, mode: Mode) -> Result<Self, Error> {
        match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => return Err(bad(dir, "it is a file; name a directory")),
            Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
                return Err(bad(
                    dir,
                    "it belongs to another user; run as that user or correct its owner",
                ));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == Mode::Open => {
                return Err(Error::NotFound(dir.into()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_dir(dir)?,
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(bad(dir, "a part of its path is a file"));
            }
            Err(e) => return Err(Error::io("looking at the data directory", e)),
        }
        // Before the lock, so that nothing is left in a directory that is not ours.
        if mode != Mode::Open && !dir.join("ledger").exists() {
            check_free(dir)?;
        }
        let home = Self { dir: dir.to_path_buf(), _lock: lock(dir, mode)? };
        match (mode, home.has_ledger()) {
            (Mode::Open, false) => Err(Error::NotFound(dir.into())),
            (Mode::Create, true) => Err(Error::AlreadyExists(dir.into())),
            _ => Ok(home),
        }
    }

    pub(super) fn has_ledger(&self) -> bool {
        self.ledger().exists()
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// Where a ledger is made.
    pub(super) fn nursery(&self) -> PathBuf {
        self.dir.join("ledger.new")
    }

    /// That place, with nothing in it.
    pub(super) fn empty_nursery(&self) -> Result<PathBuf, Error> {
        let doing = "making the store";
        check_free(&self.dir)?;
        let nursery = self.nursery();
        match fs::remove_dir_all(&nursery) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(doing, e)),
            _ => {}
        }
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700))
            .map_err(|e| Error::io(doing, e))?;
        make_dir(&nursery)?;
        Ok(nursery)
    }

    /// Gives a whole ledger its name, for good.
    pub(super) fn adopt(&self, nursery: &Path) -> Result<(), Error> {
        let doing = "making the store";
        sync_tree(nursery).map_err(|e| Error::io(doing, e))?;
        fs::rename(nursery, self.ledger()).map_err(|e| Error::io(doing, e))?;
        sync_dir(&self.dir).and_then(|()| sync_parent(&self.dir)).map_err(|e| Error::io(doing, e))
    }
}

/// Whether a store may be made here.
fn check_free(dir: &Path) -> Result<(), Error> {
    let failed = |e| Error::io("looking at the data directory", e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(bad(dir, "it holds other files; choose an absent or empty directory"));
        }
    }
    Ok(())
}

fn bad(dir: &Path, reason: &str) -> Error {
    Error::BadDirectory { dir: dir.into(), reason: reason.into() }
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(dir).and_then(|()| sync_parent(dir)).map_err(|e| {
        match e.kind() {
            io::ErrorKind::NotFound => {
                bad(dir, "the directory above it does not exist; make that first")
            }
            io::ErrorKind::NotADirectory => bad(dir, "a part of its path is a file"),
            _ => Error::io("making the data directory", e),
        }
    })
}

/// The lock is ours and taken before the database is touched: its own lock comes after it has
/// already made files, and tells nobody who holds it.
fn lock(dir: &Path, mode: Mode) -> Result<File, Error> {
    let doing = "locking the data directory";
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false).mode(0o600);
    // Looking for a store that is not there must not leave a file behind.
    options.create(mode != Mode::Open || dir.join("ledger").exists());
    let mut file = options.open(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(dir.into()),
        _ => Error::io(doing, e),
    })?;
    let own_note = format!("process {}\n", std::process::id());
    let patience = Instant::now() + LINGER;
    loop {
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(own_note.as_bytes()))
                    .map_err(|e| Error::io(doing, e))?;
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(Error::io(doing, e)),
        }
        let holder = fs::read_to_string(&path).unwrap_or_default();
        if holder != own_note || Instant::now() > patience {
            // A note that cannot be read only makes the message poorer.
            let holder = Some(holder.trim()).filter(|holder| !holder.is_empty());
            let holder = holder.unwrap_or("another process").into();
            return Err(Error::Locked { dir: dir.into(), holder });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Syncs every file and directory below `path` and `path` itself, and closes them to others.
pub(super) fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            let file = File::open(entry.path())?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.sync_all()?;
        }
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    sync_dir(path)
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
