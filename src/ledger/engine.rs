//! Contains sled: opens it, and turns its errors and panics into ours.

use crate::error::Error;
use std::{
    fs::{self, File},
    io::{self, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// With a smaller cache many writers wait for pages that were just evicted; a larger one mostly
/// duplicates the index.
const CACHE_BYTES: u64 = 16 << 20;
const READ_BYTES: usize = 1 << 20;
/// sled's threads hold its lock for a while after the last handle is gone.
const LINGER: Duration = Duration::from_secs(5);

/// An open database. Wherever it ends, in an opening that failed later too, its end is contained.
pub(super) struct Database(Option<sled::Db>);

impl Database {
    pub(super) fn get(&self) -> sled::Result<&sled::Db> {
        self.0.as_ref().ok_or_else(|| sled::Error::Io(io::Error::other("the store is closed")))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // sled panics here where syncs keep failing; what was acknowledged is safe already.
        let db = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// A kill while sled opens leaves a partial snapshot that it would refuse ever after.
pub(super) fn remove_unfinished_snapshots(sled_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sled_dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Reads all files into the page cache. sled takes a part that it cannot read for the end of its log,
/// and overwrites it with zeros: one failed read while it opens would destroy the store.
pub(super) fn read_through(sled_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sled_dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            io::copy(&mut BufReader::with_capacity(READ_BYTES, file), &mut io::sink())?;
        }
    }
    Ok(())
}

/// `flush_every_ms(None)`: the flush is the commit's. Our own lock is held, so whoever holds sled's
/// is a store that this process has just closed.
pub(super) fn open(sled_dir: &Path, dir: &Path) -> Result<Database, Error> {
    let patience = Instant::now() + LINGER;
    loop {
        let config =
            sled::Config::new().path(sled_dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Err(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
                if Instant::now() > patience {
                    return Err(Error::Locked {
                        dir: dir.into(),
                        holder: "a process that holds its database".into(),
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
            Self::Creating => "making the store",
            Self::Opening => "opening the store",
            Self::Reading => "reading the audit trail",
            Self::Writing => "writing a change",
        }
    }
}

/// Runs one call of sled; neither its errors nor its panics get further.
pub(super) fn contained<T>(
    doing: Doing,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| panicked(doing))?.map_err(|e| failed(doing, e))
}

fn panicked(doing: Doing) -> Error {
    match doing {
        Doing::Opening => Error::damaged("the database cannot be read"),
        // sled returns the errors of a disk; it panics on malformed bytes.
        Doing::Reading => Error::damaged(format!("{}: the engine panicked", doing.as_str())),
        _ => Error::io(doing.as_str(), io::Error::other("the storage engine panicked")),
    }
}

fn failed(doing: Doing, error: sled::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    match error {
        // While opening, these come from malformed bytes, not from the disk.
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
        // Its checksum says so, of a page that opening had no need to read.
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
    Error::damaged("a value lies under a key that is not one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_not_as_it_was_written_is_damage_and_a_disk_that_fails_is_not() {
        for doing in [Doing::Opening, Doing::Reading, Doing::Writing] {
            let corrupt =
                contained(doing, || Err::<(), _>(sled::Error::Corruption { at: None, bt: () }));
            assert!(matches!(corrupt, Err(Error::Damaged(_))), "{corrupt:?}");
            let disk = || Err::<(), _>(sled::Error::Io(io::Error::from_raw_os_error(5)));
            assert!(matches!(contained(doing, disk), Err(Error::Io { .. })));
            let makes_no_sense = || panic!("at bytes that make no sense");
            let panicked = contained::<()>(doing, makes_no_sense).unwrap_err();
            // While it writes, the disk may have failed as well.
            assert_eq!(matches!(panicked, Error::Damaged(_)), doing != Doing::Writing);
        }
    }
}
