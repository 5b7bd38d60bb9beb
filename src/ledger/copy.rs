//! A private copy of a database, removed when it is dropped.

use crate::{error::Error, files::Dir, random};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const DOING: &str = "copying the database";

/// Whether a copy includes the engine's snapshots of its page table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Snapshots {
    Include,
    Omit,
}

/// A copy in a directory of mode 0700, which is removed on drop.
pub(super) struct DatabaseCopy(PathBuf);

impl DatabaseCopy {
    /// Copies the engine's files. Partial snapshots are never copied.
    pub(super) fn create(
        sled_dir: &Path,
        scratch: &Path,
        snapshots: Snapshots,
    ) -> Result<Self, Error> {
        let name = u64::from_le_bytes(random::array()?);
        let name = format!("portcullis-{name:016x}");
        // Refused in a directory where another user could create a directory with this name.
        let created =
            Dir::open_shared(scratch).and_then(|scratch| scratch.create_dir(name.as_ref()));
        let copy = Self(created.map_err(|e| Error::io(DOING, e))?.path().to_path_buf());
        copy.fill(sled_dir, snapshots).map_err(|e| Error::io(DOING, e))?;
        Ok(copy)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn fill(&self, sled_dir: &Path, snapshots: Snapshots) -> io::Result<()> {
        for entry in fs::read_dir(sled_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_snapshot = name.to_string_lossy().starts_with("snap.");
            let is_complete = !name.to_string_lossy().ends_with(".generating");
            if entry.file_type()?.is_file()
                && is_complete
                && (snapshots == Snapshots::Include || !is_snapshot)
            {
                fs::copy(entry.path(), self.0.join(name))?;
            }
        }
        Ok(())
    }
}

impl Drop for DatabaseCopy {
    fn drop(&mut self) {
        // Files that cannot be removed stay private, in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
