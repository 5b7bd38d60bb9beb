//! A private copy of a database, removed when it is dropped.

use crate::{error::Error, files::Dir, random};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const DOING: &str = "copying the database";

/// A directory of our own, 0700; removed on drop.
pub(super) struct Copy(PathBuf);

impl Copy {
    /// Copies the engine's files, without the snapshot where that is not wanted. A snapshot that is
    /// only half there is never wanted.
    pub(super) fn make(sled_dir: &Path, scratch: &Path, snapshot: bool) -> Result<Self, Error> {
        let name = u64::from_le_bytes(random::array()?);
        let name = format!("portcullis-{name:016x}");
        // In a place where nobody can put a directory of theirs under this name.
        let made = Dir::open_shared(scratch).and_then(|scratch| scratch.create_dir(name.as_ref()));
        let copy = Self(made.map_err(|e| Error::io(DOING, e))?.path().to_path_buf());
        copy.fill(sled_dir, snapshot).map_err(|e| Error::io(DOING, e))?;
        Ok(copy)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn fill(&self, sled_dir: &Path, snapshot: bool) -> io::Result<()> {
        for entry in fs::read_dir(sled_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_snapshot = name.to_string_lossy().starts_with("snap.");
            let is_whole = !name.to_string_lossy().ends_with(".generating");
            if entry.file_type()?.is_file() && is_whole && (snapshot || !is_snapshot) {
                fs::copy(entry.path(), self.0.join(name))?;
            }
        }
        Ok(())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Files that remain are closed to others, in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
