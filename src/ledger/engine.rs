//! Opens sled, and converts its errors and panics to [`Error`].

use crate::error::Error;
use std::{
    fs::{self, File},
    io::{self, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// With a smaller cache, many writers wait for pages that were just evicted. A larger cache mostly
/// duplicates the index.
const CACHE_BYTES: u64 = 16 << 20;
const READ_BYTES: usize = 1 << 20;
/// How long to wait for sled's lock: its threads hold it for a while after the last handle is dropped.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// An open database. Dropping it catches a panic of sled, also when opening the store fails later.
pub(super) struct Database(Option<sled::Db>);

impl Database {
    pub(super) fn get(&self) -> sled::Result<&sled::Db> {
        self.0.as_ref().ok_or_else(|| sled::Error::Io(io::Error::other("the store is closed")))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // sled panics here if syncs fail. Every acknowledged change is durable already.
        let db = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// Removes partial snapshots, which a kill during opening leaves: sled refuses to open with them.
pub(super) fn remove_unfinished_snapshots(sled_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sled_dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Reads all files into the page cache. sled treats an unreadable part as the end of its log, and
/// overwrites it with zeros: one failed read during opening would destroy the store.
pub(super) fn fill_page_cache(sled_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sled_dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            io::copy(&mut BufReader::with_capacity(READ_BYTES, file), &mut io::sink())?;
        }
    }
    Ok(())
}

/// Opens sled without periodic flushes: each commit flushes. The caller holds the lock of the data
/// directory, so sled's lock can only be held by a store that this process has just closed.
pub(super) fn open(sled_dir: &Path, dir: &Path) -> Result<Database, Error> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let config =
            sled::Config::new().path(sled_dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Err(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
                if Instant::now() > deadline {
                    return Err(Error::Locked {
                        dir: dir.into(),
                        holder: "another process, which has its database open".into(),
                    });
                }
                thread::sleep(Duration::from_millis(5));
            }
            Ok(opened) => {
                let opened = opened.map_err(|e| failed(Doing::Opening, e));
                return opened.map(|db| Database(Some(db)));
            }
            Err(_) => return Err(panicked(Doing::Opening)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Creating,
    Opening,
    Reading,
    Writing,
}

impl Doing {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating the store",
            Self::Opening => "opening the store",
            Self::Reading => "reading the audit log",
            Self::Writing => "writing a change",
        }
    }
}

/// Runs a call of sled, and converts its error or its panic.
pub(super) fn contained<T>(
    doing: Doing,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| panicked(doing))?.map_err(|e| failed(doing, e))
}

fn panicked(doing: Doing) -> Error {
    match doing {
        Doing::Opening => Error::damaged("the database cannot be read"),
        // sled returns disk errors, and panics on malformed bytes.
        Doing::Reading => {
            Error::damaged(format!("{}: the storage engine panicked", doing.as_str()))
        }
        _ => Error::io(doing.as_str(), io::Error::other("the storage engine panicked")),
    }
}

fn failed(doing: Doing, error: sled::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    match error {
        // During opening, malformed bytes cause these errors, not the disk.
        sled::Error::Io(e)
            if doing == Doing::Opening
                && matches!(
                    e.kind(),
                    InvalidData | InvalidInput | NotFound | Other | UnexpectedEof
                ) =>
        {
            Error::damaged(format!("the database cannot be read: {e}"))
        }
        sled::Error::Io(e) => Error::io(doing.as_str(), e),
        // The checksum of a page that was not read during opening.
        sled::Error::Corruption { .. } if doing != Doing::Opening => Error::damaged(format!(
            "{}: a page of its database is not as it was written",
            doing.as_str()
        )),
        other if doing == Doing::Opening => {
            Error::damaged(format!("the database cannot be read: {other}"))
        }
        other => Error::io(doing.as_str(), io::Error::other(other.to_string())),
    }
}

pub(super) fn misplaced() -> Error {
    Error::damaged("a value has a key that is not valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrupt_page_is_damage_and_disk_error_is_not() {
        for doing in [Doing::Opening, Doing::Reading, Doing::Writing] {
            let corrupt =
                contained(doing, || Err::<(), _>(sled::Error::Corruption { at: None, bt: () }));
            assert!(matches!(corrupt, Err(Error::Damaged(_))), "{corrupt:?}");
            let disk = || Err::<(), _>(sled::Error::Io(io::Error::from_raw_os_error(5)));
            assert!(matches!(contained(doing, disk), Err(Error::Io { .. })));
            let panics = || panic!("malformed bytes");
            let panicked = contained::<()>(doing, panics).unwrap_err();
            // A panic during a write may be caused by the disk.
            assert_eq!(matches!(panicked, Error::Damaged(_)), doing != Doing::Writing);
        }
    }
}
