//! The data directory: who may use it, its lock, its layout, and what must be synced in it.
//!
//! ```text
//! <dir>/           0700, of the user who runs us
//!   lock           held while a store is open; names the holder
//!   ledger/        created as ledger.new/ and renamed when it is complete
//!     sled/        the database
//!     anchor       unless it is kept elsewhere
//!     rehearsal/   while the engine's opening is rehearsed
//!     reserve      blocks for opening on a full disk
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
/// Where a ledger is made.
const NURSERY: &str = "ledger.new";

/// What a data directory may hold before a store is made in it: what an interrupted creation and
/// the server leave, what a freshly formatted disk has, and a store that is just being made.
const HARMLESS: [&str; 6] = ["lock", "ledger.new", "ledger", "tls", "control.sock", "lost+found"];

/// A store that this process has just closed may look open for a moment: a child that another
/// thread is starting has our file until it runs its own program.
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

/// A locked data directory whose content no other user could have changed.
pub(super) struct Home {
    dir: Dir,
    /// The directory was absent before.
    is_new: bool,
    /// Released when it is closed.
    _lock: File,
}

impl Home {
    /// Checks the directory (makes it, where the mode allows), takes its lock, and checks what the
    /// engine will open.
    pub(super) fn enter(shown: &Path, mode: Mode) -> Result<Self, Error> {
        let (dir, is_new) = match Dir::open(shown) {
            Ok(dir) => (dir, false),
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == Mode::Open => {
                return Err(Error::NotFound(shown.into()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => (make_dir(shown)?, true),
            Err(e) => return Err(refused(shown, e)),
        };
        let looking = |e| Error::io("looking at the data directory", e);
        let has_ledger = dir.has(LEDGER.as_ref()).map_err(looking)?;
        // Before the lock, so that nothing is left in a directory that is not ours.
        if mode != Mode::Open && !has_ledger {
            check_free(&dir, shown)?;
        }
        let lock = lock(&dir, shown, mode)?;
        let home = Self { dir, is_new, _lock: lock };
        home.check().map_err(looking)?;
        match (mode, home.has_ledger()?) {
            (Mode::Open, false) => Err(Error::NotFound(shown.into())),
            (Mode::Create, true) => Err(Error::AlreadyExists(shown.into())),
            _ => Ok(home),
        }
    }

    /// The engine opens its files by their paths, and follows links. It creates its snapshots with
    /// the umask of the host program; they lie in directories that are closed to others.
    fn check(&self) -> io::Result<()> {
        let is_snapshot = |name: &OsStr| name.as_encoded_bytes().starts_with(b"snap.");
        let is_removed = |name: &OsStr| name == "rehearsal";
        for name in [LEDGER, NURSERY].map(OsStr::new) {
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
        found.map_err(|e| Error::io("looking at the data directory", e))
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.dir.path().join(LEDGER)
    }

    pub(super) fn nursery(&self) -> PathBuf {
        self.dir.path().join(NURSERY)
    }

    /// That place, with nothing in it.
    pub(super) fn empty_nursery(&self) -> Result<PathBuf, Error> {
        let doing = |e| Error::io("making the store", e);
        check_free(&self.dir, self.dir.path())?;
        let nursery = self.nursery();
        match fs::remove_dir_all(&nursery) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(doing(e)),
            _ => {}
        }
        self.dir.close_to_others().map_err(doing)?;
        self.dir.create_dir(NURSERY.as_ref()).and_then(|_| self.dir.sync()).map_err(doing)?;
        Ok(nursery)
    }

    /// Gives a whole ledger its name, for good.
    pub(super) fn adopt(&self) -> Result<(), Error> {
        let adopted = self.dir.open_dir(NURSERY.as_ref()).and_then(|made| {
            made.sync_below()?;
            self.dir.rename(NURSERY.as_ref(), LEDGER.as_ref())?;
            self.dir.sync()?;
            sync_parent(self.dir.path())
        });
        adopted.map_err(|e| Error::io("making the store", e))
    }

    /// Syncs every file of the ledger and its name, and closes them to others.
    pub(super) fn sync_ledger(&self) -> io::Result<()> {
        self.dir.open_dir(LEDGER.as_ref())?.sync_below()?;
        self.dir.sync()
    }
}

impl Drop for Home {
    /// A directory that was created for a store which was never finished is removed. An entry that
    /// somebody else put there keeps it.
    fn drop(&mut self) {
        if self.is_new && self.has_ledger().is_ok_and(|has_ledger| !has_ledger) {
            let _ = fs::remove_dir_all(self.nursery());
            let _ = self.dir.remove_file("lock".as_ref());
            let _ = fs::remove_dir(self.dir.path());
        }
    }
}

/// Whether a store may be made here.
fn check_free(dir: &Dir, shown: &Path) -> Result<(), Error> {
    let names = dir.names().map_err(|e| Error::io("looking at the data directory", e))?;
    if names.iter().all(|name| HARMLESS.iter().any(|harmless| name == harmless)) {
        return Ok(());
    }
    Err(bad(shown, "it holds other files; choose an absent or empty directory"))
}

fn bad(dir: &Path, reason: &str) -> Error {
    Error::BadDirectory { dir: dir.into(), reason: reason.into() }
}

/// Why a directory cannot be opened. A fault of another path than its own names that path.
fn refused(shown: &Path, error: io::Error) -> Error {
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
        _ => Error::io("looking at the data directory", error),
    }
}

fn make_dir(shown: &Path) -> Result<Dir, Error> {
    let made = Dir::above(shown).and_then(|(above, name)| {
        let made = above.create_dir(&name)?;
        above.sync()?;
        Ok(made)
    });
    made.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            bad(shown, "the directory above it does not exist; make that first")
        }
        io::ErrorKind::AlreadyExists => bad(shown, "it is a link that leads nowhere; remove it"),
        _ => match refused(shown, e) {
            Error::Io { source, .. } => Error::io("making the data directory", *source),
            other => other,
        },
    })
}

/// The lock is ours and taken before the database is touched: its own lock comes after it has
/// already made files, and tells nobody who holds it.
fn lock(dir: &Dir, shown: &Path, mode: Mode) -> Result<File, Error> {
    let doing = |e: io::Error| Error::io("locking the data directory", e);
    let mut flags = OFlags::RDWR;
    // Looking for a store that is not there must not leave a file behind.
    if mode != Mode::Open || dir.has(LEDGER.as_ref()).map_err(doing)? {
        flags |= OFlags::CREATE;
    }
    let mut file = dir.open_file("lock".as_ref(), flags).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(shown.into()),
        _ => doing(e),
    })?;
    acquire(&mut file, shown, File::try_lock)?;
    // Over what is there: on a full disk a block that is given up may not come back.
    let note = note_of_this_process();
    file.rewind()
        .and_then(|()| file.write_all(note.as_bytes()))
        .and_then(|()| file.set_len(note.len() as u64))
        .map_err(doing)?;
    Ok(file)
}

fn note_of_this_process() -> String {
    format!("process {}\n", std::process::id())
}

/// Locks a file. A store that this process has closed may keep its lock for a moment: the lock of
/// another process is refused at once.
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
        // A note that cannot be read only makes the message poorer.
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
        if holder != note_of_this_process() || Instant::now() > deadline {
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
