//! Rehearses the engine's opening on a copy, so that the new snapshot is durable before sled relies on it.
//!
//! While sled opens, it
//!
//! 1. writes a snapshot of its page table,
//! 2. renames it to its final name without syncing the directory,
//! 3. removes the previous snapshot, and
//! 4. clears the segments of its log that the new snapshot does not need.
//!
//! A power cut may keep step 4 and lose step 2. If the last segment but one was cleared, sled treats
//! the last segment as torn and opens an empty database. The meta record and the anchor detect that, but
//! the store cannot be opened any more.
//!
//! So a copy is opened first. The snapshot that this creates is then moved to the original, durably. The
//! real opening finds it and writes no other snapshot.
//!
//! Only a log with little live data can lack its last segment but one: in a longer log, pages of the
//! audit log remain there. So a larger database is not copied.

use super::{
    copy::{DatabaseCopy, Snapshots},
    data_dir::sync_dir,
    engine,
};
use crate::error::Error;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// A log of one segment has no segment to clear.
const SEGMENT_BYTES: u64 = 512 << 10;
/// A larger database is not rehearsed.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// Creates the snapshot that opening `sled_dir` would create. `dir` is the data directory, for errors;
/// `scratch` is a directory for the copy.
pub(super) fn rehearse(sled_dir: &Path, dir: &Path, scratch: &Path) -> Result<(), Error> {
    let opening = |e| Error::io("opening the store", e);
    // From an opening that was interrupted here.
    remove(scratch).map_err(opening)?;
    let length = fs::metadata(sled_dir.join("db")).map_err(opening)?.len();
    if length <= SEGMENT_BYTES || length > MAX_BYTES {
        return Ok(());
    }
    let rehearsed = open_copy(sled_dir, dir, scratch);
    // Also after an error: the copy is useless, and it may have filled the disk.
    let removed = remove(scratch).map_err(opening);
    rehearsed.and(removed)
}

fn open_copy(sled_dir: &Path, dir: &Path, scratch: &Path) -> Result<(), Error> {
    let opening = |e| Error::io("opening the store", e);
    DirBuilder::new().mode(0o700).create(scratch).map_err(opening)?;
    let copy = DatabaseCopy::create(sled_dir, scratch, Snapshots::Include)?;
    // Without it, a part that sled cannot read would be missing from the snapshot, without an error.
    engine::fill_page_cache(copy.path()).map_err(opening)?;
    match engine::open(copy.path(), dir) {
        Ok(db) => drop(db),
        // The original is damaged as well: the real opening reports it with more detail.
        Err(Error::Damaged(_)) => return Ok(()),
        Err(other) => return Err(other),
    }
    move_snapshot(copy.path(), sled_dir).map_err(opening)
}

/// Moves the new snapshot of the copy to the original, durably.
fn move_snapshot(copy: &Path, sled_dir: &Path) -> io::Result<()> {
    let (created, before) = (snapshots(copy)?, snapshots(sled_dir)?);
    // sled reads the snapshot with the greatest number. The numbers have a fixed width.
    let Some(newest) = created.last().filter(|newest| !before.contains(*newest)) else {
        return Ok(());
    };
    let mut unfinished = newest.clone();
    unfinished.push(".generating");
    let unfinished = sled_dir.join(unfinished);
    // `fs::copy` copies the mode as well.
    fs::set_permissions(copy.join(newest), Permissions::from_mode(0o600))?;
    fs::copy(copy.join(newest), &unfinished)?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, sled_dir.join(newest))?;
    sync_dir(sled_dir)?;
    before.iter().try_for_each(|older| fs::remove_file(sled_dir.join(older)))
}

fn snapshots(sled_dir: &Path) -> io::Result<BTreeSet<OsString>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(sled_dir)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("snap.") && !text.ends_with(".generating") {
            found.insert(name);
        }
    }
    Ok(found)
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
