//! The directory for values that are too long for sled's database file. It must stay empty: sled does
//! not sync it.
//!
//! It is checked before each acknowledgement, through a handle that is kept open. So a process without
//! free file handles can still revoke keys.

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

/// The buffer size for directory entries; an empty directory has two.
const BUFFER_BYTES: usize = 1024;

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

    /// Checks that the directory is empty and was not moved, removed or replaced.
    pub(super) fn check(&self) -> Result<(), Error> {
        let dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        let (named, held) = fs::metadata(&self.path)
            .and_then(|named| Ok((named, dir.metadata()?)))
            .map_err(failed)?;
        if (named.dev(), named.ino()) != (held.dev(), held.ino()) {
            return Err(failed(io::Error::other("the directory was replaced by another one")));
        }
        if is_empty(&dir).map_err(failed)? {
            Ok(())
        } else {
            Err(Error::damaged("a value is outside the database file"))
        }
    }
}

fn is_empty(dir: &File) -> io::Result<bool> {
    seek(dir, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(error: io::Error) -> Error {
    Error::io("checking for values outside the database file", error)
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
    fn value_outside_the_database_file_is_detected() {
        let (dir, blobs) = fresh();
        for _ in 0..2 {
            blobs.check().unwrap();
            fs::write(dir.path().join("blobs/7"), b"lost").unwrap();
            assert!(matches!(blobs.check(), Err(Error::Damaged(_))));
            fs::remove_file(dir.path().join("blobs/7")).unwrap();
        }
        (0..200).for_each(|n| fs::write(dir.path().join(format!("blobs/{n}")), b"").unwrap());
        assert!(matches!(blobs.check(), Err(Error::Damaged(_))));
    }

    #[test]
    fn removed_moved_or_replaced_directory_is_detected() {
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
