//! The engine's opening, rehearsed on a copy, so that its snapshot is safe before it counts.
//!
//! sled writes a snapshot of its page table while it opens, gives it its name without syncing the
//! directory, removes the one before, and then clears the segments of its log that the new one does
//! not need. Where the power goes in between, the segments may be cleared and no snapshot be there
//! that knows why. If it is the last segment but one, sled takes the log for torn before the last
//! and opens an empty database: meta and anchor notice, and nobody can open the store any more.
//!
//! So a copy is opened first, and the snapshot that this makes gets its name here for good. The
//! engine's own opening then finds it and has no reason to write another.
//!
//! Only a log with little live data can lack its last segment but one; with more, the pages of the
//! audit log stay there. A larger database is not copied.

use super::{copy::Copy, engine, home::sync_dir};
use crate::error::Error;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// As long as the log has one segment, there is none to clear.
const SEGMENT_BYTES: u64 = 512 << 10;
pub(super) const LARGEST_BYTES: u64 = 16 << 20;

/// Makes the snapshot that opening `sled_dir` would make. `dir` is the data directory, for errors;
/// `place` is where the copy may lie.
pub(super) fn rehearse(sled_dir: &Path, dir: &Path, place: &Path) -> Result<(), Error> {
    let opening = |e| Error::io("opening the store", e);
    // Of an opening that ended here.
    remove(place).map_err(opening)?;
    let length = fs::metadata(sled_dir.join("db")).map_err(opening)?.len();
    if length <= SEGMENT_BYTES || length > LARGEST_BYTES {
        return Ok(());
    }
    let rehearsed = act_out(sled_dir, dir, place);
    // However it went: what is left is of no use, and may be what fills the disk.
    let removed = remove(place).map_err(opening);
    rehearsed.and(removed)
}

fn act_out(sled_dir: &Path, dir: &Path, place: &Path) -> Result<(), Error> {
    let opening = |e| Error::io("opening the store", e);
    DirBuilder::new().mode(0o700).create(place).map_err(opening)?;
    let copy = Copy::make(sled_dir, place, true)?;
    // A part that sled could not read would be missing from the snapshot, without a word.
    engine::read_through(copy.path()).map_err(opening)?;
    match engine::open(copy.path(), dir) {
        Ok(db) => drop(db),
        // The original is so too: its own opening will say it, and more.
        Err(Error::Damaged(_)) => return Ok(()),
        Err(other) => return Err(other),
    }
    adopt(copy.path(), sled_dir).map_err(opening)
}

/// Takes over the snapshot that the copy has and the original lacks.
fn adopt(copy: &Path, sled_dir: &Path) -> io::Result<()> {
    let (made, before) = (snapshots(copy)?, snapshots(sled_dir)?);
    // sled reads the one with the greatest number, which has the same digits in each name.
    let Some(newest) = made.last().filter(|newest| !before.contains(*newest)) else {
        return Ok(());
    };
    let mut unfinished = newest.clone();
    unfinished.push(".generating");
    let unfinished = sled_dir.join(unfinished);
    // A copy has the mode of what it is a copy of.
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

fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
