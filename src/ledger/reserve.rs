//! The disk reserve: blocks that are allocated in advance, so that a full disk can still revoke keys.
//!
//! The reserve has two parts:
//!
//! - **Ahead**: blocks of the engine's file `db` beyond its end. The engine appends to this file, so every
//!   change is written into allocated blocks, which no other process can take. More blocks
//!   are allocated before each write. If the disk has none left, the reserve is in use, and the store
//!   accepts only stricter changes and pruning (`room` has the states).
//! - **Spare**: the file `ledger/reserve`. Opening needs space for new files, so opening removes the
//!   spare file if space is short, and allocates it again afterwards.
//!
//! Both parts have blocks but no length (`FALLOC_FL_KEEP_SIZE`). So copies and older versions ignore
//! them.
//!
//! Sometimes the engine shortens its file, which frees the blocks beyond the end. They are allocated
//! again before the next change.
//!
//! Rejected:
//!
//! - One file that is removed when the disk is nearly full: another process can take its blocks at once.
//! - A check of the free space before each write: the space can be gone when the write happens.

use super::{
    rehearsal::MAX_BYTES as MAX_REHEARSED_BYTES,
    room::{Gauge, Room},
};
use crate::files::Dir;
use rustix::{
    fs::{FallocateFlags, Mode, OFlags, fallocate, fstatvfs},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{
        self,
        ErrorKind::{QuotaExceeded, StorageFull},
    },
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// The name of the spare file.
const SPARE: &str = "reserve";
/// The default size: the smaller of this and a twentieth of the volume.
const DEFAULT_BYTES: u64 = 64 << 20;
const VOLUME_DIVISOR: u64 = 20;
/// The most that one batch appends to the file, with the pages that the engine moves meanwhile.
const MAX_BATCH_BYTES: u64 = 1 << 20;
/// The minimum beyond the end of the file.
const MIN_AHEAD_BYTES: u64 = 3 * MAX_BATCH_BYTES;
/// The engine extends its file by segments of this size.
const SEGMENT_BYTES: u64 = 512 << 10;
/// The unit of allocation.
const CHUNK_BYTES: u64 = 256 << 10;
/// The unit of allocation with ample free space: each allocation costs a file system transaction.
const LARGE_CHUNK_BYTES: u64 = 4 << 20;
const AMPLE_BYTES: u64 = 16 << 20;
/// Free space that allocation leaves to others.
const MIN_FREE_BYTES: u64 = 512 << 10;
/// The number of page table snapshots that a rehearsed opening writes. Another opening writes one.
const SNAPSHOTS: u64 = 3;
/// A snapshot was measured at 1/160 of the database. This is a safe bound.
const BYTES_PER_SNAPSHOT_BYTE: u64 = 100;
/// The unit of `st_blocks`.
const SECTOR_BYTES: u64 = 512;

/// The reserve of an open ledger. Only the writer changes it.
pub(super) struct Reserve {
    /// The engine's file, open for writing.
    file: File,
    /// The spare file. It is kept open, so that it can grow without a new file handle.
    spare: Option<File>,
    ledger: Dir,
    spare_held: u64,
    /// The intended size of both parts; 0 if the reserve is switched off.
    wanted: u64,
    /// The length of the engine's file.
    length: u64,
    /// The offset up to which the engine's file has blocks.
    allocated_to: u64,
    /// The blocks of the engine's file when it was last examined.
    blocks: u64,
    gauge: Arc<Gauge>,
}

impl Reserve {
    /// Allocates the reserve of a store that has just been opened. `size` is in bytes; `None` for the
    /// default. Without enough free space, the reserve is in use from the start.
    pub(super) fn open(ledger: &Path, file: File, size: Option<u64>) -> io::Result<Self> {
        let about = file.metadata()?;
        let volume = fstatvfs(&file)?;
        let volume = volume.f_blocks.saturating_mul(volume.f_frsize);
        let (length, default) = (about.len(), DEFAULT_BYTES.min(volume / VOLUME_DIVISOR));
        let minimum = MIN_AHEAD_BYTES + opening_bytes(length + MIN_AHEAD_BYTES);
        let mut reserve = Self {
            spare: None,
            ledger: Dir::open(ledger)?,
            spare_held: 0,
            wanted: match size {
                Some(0) => 0,
                size => size.unwrap_or(default).max(minimum),
            },
            length,
            allocated_to: 0,
            blocks: about.blocks(),
            gauge: Arc::default(),
            file,
        };
        reserve.gauge.volume.store(volume, Relaxed);
        if reserve.wanted == 0 {
            remove(&reserve.ledger)?;
        } else {
            reserve.open_spare()?;
            reserve.allocate_ahead_again();
        }
        reserve.refill();
        Ok(reserve)
    }

    pub(super) fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }

    /// Allocates the blocks for the next write. Called before each write.
    pub(super) fn before_write(&mut self) {
        if self.is_off() {
            return;
        }
        self.examine_file();
        if self.gauge.room() == Room::Enough && self.ahead() < self.wanted_ahead() {
            let is_complete = self.extend_ahead(Leave::SomeFree) && self.extend_spare();
            self.publish(is_complete);
        }
    }

    /// Publishes the state of the reserve if it is in use. Called after each write.
    pub(super) fn after_write(&mut self) {
        if !self.is_off() && self.gauge.room() != Room::Enough {
            self.examine_file();
            self.publish(false);
        }
    }

    /// Whether pruning may use the reserve: half of it is left for revocations.
    pub(super) fn has_room_to_prune(&self) -> bool {
        self.gauge.room() == Room::Enough || self.is_off() || self.ahead() > self.wanted_ahead() / 2
    }

    /// Completes the reserve if there is free space, and publishes its state. Called each second.
    pub(super) fn refill(&mut self) {
        self.gauge.free.store(free(&self.file), Relaxed);
        if self.is_off() {
            return;
        }
        self.examine_file();
        let is_complete = self.ahead() >= self.wanted_ahead() || self.extend_ahead(Leave::SomeFree);
        let is_complete = is_complete && self.extend_spare();
        self.publish(is_complete);
    }

    fn is_off(&self) -> bool {
        self.wanted == 0 || self.gauge.cannot_allocate.load(Relaxed)
    }

    fn ahead(&self) -> u64 {
        self.allocated_to.saturating_sub(self.length)
    }

    /// The intended bytes beyond the end of the file.
    fn wanted_ahead(&self) -> u64 {
        let spare = opening_bytes(self.length.max(MAX_REHEARSED_BYTES));
        self.wanted.saturating_sub(spare).max(MIN_AHEAD_BYTES)
    }

    /// The intended bytes of the spare file: enough for opening after all blocks ahead are used.
    fn wanted_spare(&self) -> u64 {
        let longest = self.length + self.wanted_ahead();
        if self.length <= MAX_REHEARSED_BYTES {
            opening_bytes(longest.min(MAX_REHEARSED_BYTES))
        } else {
            opening_bytes(longest)
        }
    }

    /// Publishes the state to other threads.
    fn publish(&mut self, is_complete: bool) {
        self.gauge.free.store(free(&self.file), Relaxed);
        self.gauge.wanted.store(self.wanted_ahead() + self.wanted_spare(), Relaxed);
        self.gauge.held.store(self.ahead() + self.spare_held, Relaxed);
        self.gauge.set_room(if is_complete {
            Room::Enough
        } else if self.ahead() >= MAX_BATCH_BYTES {
            Room::Reserve
        } else {
            Room::Nothing
        });
    }

    /// Reads the length of the file. If it has fewer blocks than before, the engine has shortened it, which
    /// freed the blocks beyond the end. The file may have grown again since.
    fn examine_file(&mut self) {
        let Ok(about) = self.file.metadata() else { return };
        self.length = about.len();
        let was_shortened = about.blocks() + CHUNK_BYTES / SECTOR_BYTES < self.blocks;
        self.blocks = about.blocks();
        if was_shortened {
            self.allocate_ahead_again();
        }
    }

    /// Allocates from the end of the file on. This also determines which blocks exist: allocating an
    /// existing block needs no space.
    fn allocate_ahead_again(&mut self) {
        self.allocated_to = self.length - self.length % CHUNK_BYTES;
        self.extend_ahead(Leave::Nothing);
    }

    /// Allocates blocks beyond the end of the file. Returns whether there are enough.
    fn extend_ahead(&mut self, leave: Leave) -> bool {
        let (minimum, target) =
            (self.wanted_ahead(), self.wanted_ahead() + self.wanted_ahead() / 8);
        let from = self.allocated_to.max(self.length - self.length % CHUNK_BYTES);
        let reached = allocate(&self.file, from, self.length + target, leave);
        match reached {
            Ok(to) => self.allocated_to = to,
            Err(Unsupported) => self.gauge.cannot_allocate.store(true, Relaxed),
        }
        if let Ok(about) = self.file.metadata() {
            self.blocks = about.blocks();
        }
        self.ahead() + CHUNK_BYTES >= minimum || reached.is_err()
    }

    /// Opens the spare file. If the disk has no space for its name, a later call tries again.
    fn open_spare(&mut self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let spare = match self.ledger.open_file(SPARE.as_ref(), flags) {
            Ok(spare) => spare,
            Err(e) if matches!(e.kind(), StorageFull | QuotaExceeded) => return Ok(()),
            Err(e) => return Err(e),
        };
        self.spare_held = spare.metadata()?.blocks() * SECTOR_BYTES;
        self.spare = Some(spare);
        Ok(())
    }

    /// Allocates blocks of the spare file. Returns whether there are enough.
    fn extend_spare(&mut self) -> bool {
        let needed = self.wanted_spare();
        if self.spare.is_none() && self.open_spare().is_err() {
            return false;
        }
        let Some(spare) = &self.spare else { return false };
        // A database that has outgrown the rehearsal needs less space to open: shrink the spare file.
        if self.gauge.room() == Room::Enough
            && self.spare_held > needed + MAX_BATCH_BYTES
            && spare.set_len(0).is_ok()
        {
            self.spare_held = 0;
        }
        match allocate(spare, self.spare_held, needed, Leave::SomeFree) {
            Ok(to) => self.spare_held = to,
            Err(Unsupported) => return true,
        }
        self.spare_held >= needed
    }
}

/// Frees as much of the reserve as opening needs. A reserve that is switched off is removed. Called before
/// a store is opened.
pub(super) fn release_for_opening(ledger: &Path, size: Option<u64>) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(ledger.join("sled").join("db"))?;
    let length = file.metadata()?.len();
    let (needed, ledger) = (opening_bytes(length), Dir::open(ledger)?);
    if size == Some(0) || free(&file) < needed {
        remove(&ledger)?;
    }
    if size == Some(0) || free(&file) < needed {
        // Setting the same length frees the blocks beyond it.
        file.set_len(length)?;
    }
    Ok(())
}

/// The allocated bytes of the reserve, read from the metadata of the files.
pub(super) fn allocated_bytes(ledger: &Path) -> u64 {
    let blocks = |path: &str| {
        let about = fs::metadata(ledger.join(path)).ok();
        about.map_or(0, |about| (about.blocks() * SECTOR_BYTES).saturating_sub(about.len()))
    };
    blocks("sled/db") + blocks(SPARE)
}

/// Whether the file system of a directory can allocate blocks ahead. Tries it on an unnamed file; `None`
/// if such a file cannot be created.
pub(super) fn can_allocate(dir: &Path) -> Option<bool> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR).ok()?);
    match allocate(&file, 0, CHUNK_BYTES, Leave::SomeFree) {
        Ok(CHUNK_BYTES) => Some(true),
        Ok(_) => None,
        Err(Unsupported) => Some(false),
    }
}

/// The bytes that opening a database of this length writes: snapshots, the rest of a segment, and a copy
/// if the opening is rehearsed.
fn opening_bytes(length: u64) -> u64 {
    let snapshot = length / BYTES_PER_SNAPSHOT_BYTE;
    let needed =
        if length <= MAX_REHEARSED_BYTES { length + SNAPSHOTS * snapshot } else { snapshot };
    (needed + SEGMENT_BYTES).next_multiple_of(CHUNK_BYTES)
}

/// The file system cannot allocate blocks ahead.
#[derive(Debug)]
struct Unsupported;

/// Whether an allocation may use the last free blocks of the volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// Leaves [`MIN_FREE_BYTES`] to others.
    SomeFree,
    /// Uses all free blocks.
    Nothing,
}

/// Allocates the blocks of a file between two offsets, and keeps its length. Returns the offset that was
/// reached.
fn allocate(file: &File, from: u64, to: u64, leave: Leave) -> Result<u64, Unsupported> {
    let mut reached = from;
    while reached < to {
        let free = free(file);
        let chunk = if free < AMPLE_BYTES { CHUNK_BYTES } else { LARGE_CHUNK_BYTES };
        let chunk = chunk.min(to - reached);
        if leave == Leave::SomeFree && free < chunk + MIN_FREE_BYTES {
            break;
        }
        match fallocate(file, FallocateFlags::KEEP_SIZE, reached, chunk) {
            Ok(()) => reached += chunk,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(Unsupported),
            Err(_) => break,
        }
    }
    Ok(reached)
}

/// The free bytes for a process without privileges; `u64::MAX` if unknown.
fn free(file: &File) -> u64 {
    fstatvfs(file).map_or(u64::MAX, |volume| volume.f_bavail.saturating_mul(volume.f_frsize))
}

fn remove(ledger: &Dir) -> io::Result<()> {
    match ledger.remove_file(SPARE.as_ref()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
