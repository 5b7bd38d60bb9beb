//! The directory where sled puts values that are too long for its file. It must stay empty: sled does
//! not sync it.
//!
//! It is checked before each acknowledgement, through a handle that is open already: a process that
//! has no file handles left can still revoke keys.

use crate::error::Error;
use rustix::fs::{RawDir, SeekFrom, seek};
use std::{
    fs::{self, File},
    io,
    mem::MaybeUninit,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Room for the entries of a directory, of which there should be two.
const ROOM: usize = 1024;

pub(super) struct Blobs {
    path: PathBuf,
    dir: Mutex<File>,
}

impl Blobs {
    pub(super) fn open(sled_dir: &Path) -> Result<Self, Error> {
        let path = sled_dir.join("blobs");
        let dir = File::open(&path).map_err(failed)?;
        Ok(Self { path, dir: Mutex::new(dir) })
    }

    /// Checks that the directory is empty and still in its place. A directory that was moved or removed
    /// meanwhile does not belong to the store.
    pub(super) fn check(&self) -> Result<(), Error> {
        let dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        let (named, held) = fs::metadata(&self.path)
            .and_then(|named| Ok((named, dir.metadata()?)))
            .map_err(failed)?;
        if (named.dev(), named.ino()) != (held.dev(), held.ino()) {
            return Err(failed(io::Error::other("another directory is in the store's place")));
        }
        if is_empty(&dir).map_err(failed)? {
            Ok(())
        } else {
            Err(Error::damaged("a value lies outside the database file"))
        }
    }
}

fn is_empty(dir: &File) -> io::Result<bool> {
    seek(dir, SeekFrom::Start(0))?;
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut entries = RawDir::new(dir, &mut room);
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(error: io::Error) -> Error {
    Error::io("looking for stray values", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("blobs")).unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        (dir, blobs)
    }

    #[test]
    fn a_value_outside_the_database_file_is_noticed_whenever_it_comes() {
        let (dir, blobs) = fresh();
        for _ in 0..2 {
            blobs.check().unwrap();
            fs::write(dir.path().join("blobs/7"), b"lost").unwrap();
            assert!(matches!(blobs.check(), Err(Error::Damaged(_))));
            fs::remove_file(dir.path().join("blobs/7")).unwrap();
        }
        // However many there are.
        (0..200).for_each(|n| fs::write(dir.path().join(format!("blobs/{n}")), b"").unwrap());
        assert!(matches!(blobs.check(), Err(Error::Damaged(_))));
    }

    #[test]
    fn a_directory_that_was_removed_moved_or_replaced_is_noticed() {
        let (dir, blobs) = fresh();
        let (place, away) = (dir.path().join("blobs"), dir.path().join("away"));
        fs::rename(&place, &away).unwrap();
        assert!(blobs.check().is_err());
        fs::create_dir(&place).unwrap();
        assert!(blobs.check().is_err());
        fs::remove_dir(&place).unwrap();
        fs::rename(&away, &place).unwrap();
        blobs.check().unwrap();
        fs::remove_dir(&place).unwrap();
        assert!(blobs.check().is_err());
    }
}
