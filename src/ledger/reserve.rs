//! The disk reserve: blocks that are allocated before they are needed, so that a full disk can
//! still revoke.
//!
//! The engine appends to its file `db`. The reserve's larger part lies there, beyond the end of the
//! file: blocks that belong to the file and that no other process can take. Every change is written
//! into such blocks. After a change the next blocks are allocated; when there are none left on the
//! disk, the reserve is in use, and the store plans only what makes a key stricter, and pruning.
//! So no write fails for want of room, whoever fills the disk.
//!
//! The other part is the file `ledger/reserve`, for opening: the engine writes new files then. It is
//! removed when an opening would lack room, and allocated again afterwards. Both parts have blocks
//! but no length (`FALLOC_FL_KEEP_SIZE`), so copies and older versions see nothing of them.
//!
//! Rejected: one file that is removed when the disk is nearly full. Another process takes its blocks
//! at once. Also rejected: to look at the free space before each write. It may be gone at the write.
//!
//! The engine shortens its file now and then, and the blocks beyond the end go with that. They are
//! taken anew before the next change.

use super::{
    rehearsal::LARGEST_BYTES,
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

/// The name of the file for opening.
const SPARE: &str = "reserve";
/// The default: the smaller of this and a part of the volume.
const DEFAULT_BYTES: u64 = 64 << 20;
const PART_OF_VOLUME: u64 = 20;
/// The most that one batch takes of the file, and what the engine moves beside it.
const BATCH: u64 = 1 << 20;
/// The least that lies beyond the end of the file.
const LEAST_AHEAD: u64 = 3 * BATCH;
/// The engine's file grows by such pieces.
const SEGMENT: u64 = 512 << 10;
/// Blocks are allocated in such pieces.
const CHUNK: u64 = 256 << 10;
/// In larger ones where there is plenty of room: each is a part of a transaction of the file system.
const LARGE_CHUNK: u64 = 4 << 20;
const PLENTY: u64 = 16 << 20;
/// Left to others when the reserve is allocated, so that it never takes the last block.
const LEFT_FREE: u64 = 512 << 10;
/// A rehearsed opening writes the snapshot of the pages this often, another one once.
const SNAPSHOTS: u64 = 3;
/// A snapshot takes one byte for 160 of the database as it was measured.
const BYTES_PER_SNAPSHOT_BYTE: u64 = 100;
/// What `st_blocks` counts.
const SECTOR: u64 = 512;

/// The reserve of an open ledger. The writer alone changes it.
pub(super) struct Reserve {
    /// The engine's file, open for writing.
    file: File,
    /// The file for opening; open, so that it can grow where no handles are left.
    spare: Option<File>,
    ledger: Dir,
    spare_held: u64,
    /// In all; 0 where it is switched off.
    wanted: u64,
    length: u64,
    /// The offset up to which the file has blocks.
    allocated_to: u64,
    blocks: u64,
    gauge: Arc<Gauge>,
}

impl Reserve {
    /// Takes the reserve of a store that has just been opened. `asked` is its size in bytes, or the
    /// default. Where there is no room for it, the reserve is in use from the beginning.
    pub(super) fn take(ledger: &Path, file: File, asked: Option<u64>) -> io::Result<Self> {
        let about = file.metadata()?;
        let volume = fstatvfs(&file)?;
        let volume = volume.f_blocks.saturating_mul(volume.f_frsize);
        let (length, default) = (about.len(), DEFAULT_BYTES.min(volume / PART_OF_VOLUME));
        let least = LEAST_AHEAD + needed_to_open(length + LEAST_AHEAD);
        let mut reserve = Self {
            spare: None,
            ledger: Dir::open(ledger)?,
            spare_held: 0,
            wanted: match asked {
                Some(0) => 0,
                size => size.unwrap_or(default).max(least),
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
            reserve.find_blocks();
        }
        reserve.keep();
        Ok(reserve)
    }

    pub(super) fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }

    /// Before something is written: allocates the next blocks.
    pub(super) fn before_write(&mut self) {
        if self.is_off() {
            return;
        }
        self.look();
        if self.gauge.room() == Room::Enough && self.ahead() < self.wanted_ahead() {
            let is_whole = self.extend(true) && self.extend_spare();
            self.judge(is_whole);
        }
    }

    /// After something was written: whether the reserve has room for more.
    pub(super) fn after_write(&mut self) {
        if !self.is_off() && self.gauge.room() != Room::Enough {
            self.look();
            self.judge(false);
        }
    }

    /// Whether pruning may take some of the reserve: the rest is for revocations.
    pub(super) fn has_room_to_prune(&self) -> bool {
        self.gauge.room() == Room::Enough || self.is_off() || self.ahead() > self.wanted_ahead() / 2
    }

    /// Each second: notes the free space, and makes the reserve whole where there is room.
    pub(super) fn keep(&mut self) {
        self.gauge.free.store(free(&self.file), Relaxed);
        if self.is_off() {
            return;
        }
        self.look();
        let is_whole = self.ahead() >= self.wanted_ahead() || self.extend(true);
        let is_whole = is_whole && self.extend_spare();
        self.judge(is_whole);
    }

    fn is_off(&self) -> bool {
        self.wanted == 0 || self.gauge.cannot_allocate.load(Relaxed)
    }

    fn ahead(&self) -> u64 {
        self.allocated_to.saturating_sub(self.length)
    }

    /// What should lie beyond the end of the file.
    fn wanted_ahead(&self) -> u64 {
        let opening = needed_to_open(self.length.max(LARGEST_BYTES));
        self.wanted.saturating_sub(opening).max(LEAST_AHEAD)
    }

    /// What the file for opening should have: enough after all of the other part is written to.
    fn wanted_spare(&self) -> u64 {
        let longest = self.length + self.wanted_ahead();
        if self.length <= LARGEST_BYTES {
            needed_to_open(longest.min(LARGEST_BYTES))
        } else {
            needed_to_open(longest)
        }
    }

    fn judge(&mut self, is_whole: bool) {
        self.gauge.free.store(free(&self.file), Relaxed);
        self.gauge.wanted.store(self.wanted_ahead() + self.wanted_spare(), Relaxed);
        self.gauge.held.store(self.ahead() + self.spare_held, Relaxed);
        self.gauge.set_room(if is_whole {
            Room::Enough
        } else if self.ahead() >= BATCH {
            Room::Reserve
        } else {
            Room::Nothing
        });
    }

    /// Looks how long the file is now. It has fewer blocks than before only where the engine
    /// shortened it; then those beyond its end are gone, whatever its length is by now.
    fn look(&mut self) {
        let Ok(about) = self.file.metadata() else { return };
        self.length = about.len();
        let was_shortened = about.blocks() + CHUNK / SECTOR < self.blocks;
        self.blocks = about.blocks();
        if was_shortened {
            self.find_blocks();
        }
    }

    /// Finds the blocks that the file has beyond its end, and takes what it lacks. To allocate what
    /// is allocated already needs no room.
    fn find_blocks(&mut self) {
        self.allocated_to = self.length - self.length % CHUNK;
        self.extend(false);
    }

    /// Allocates blocks beyond the end of the file; whether there are enough now.
    fn extend(&mut self, leaves_some: bool) -> bool {
        let (least, most) = (self.wanted_ahead(), self.wanted_ahead() + self.wanted_ahead() / 8);
        let from = self.allocated_to.max(self.length - self.length % CHUNK);
        let reached = allocate(&self.file, from, self.length + most, leaves_some);
        match reached {
            Ok(to) => self.allocated_to = to,
            Err(Unsupported) => self.gauge.cannot_allocate.store(true, Relaxed),
        }
        if let Ok(about) = self.file.metadata() {
            self.blocks = about.blocks();
        }
        self.ahead() + CHUNK >= least || reached.is_err()
    }

    /// Opens the file for opening. A disk may have no room for its name; then that is tried again.
    fn open_spare(&mut self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let spare = match self.ledger.open_file(SPARE.as_ref(), flags) {
            Ok(spare) => spare,
            Err(e) if matches!(e.kind(), StorageFull | QuotaExceeded) => return Ok(()),
            Err(e) => return Err(e),
        };
        self.spare_held = spare.metadata()?.blocks() * SECTOR;
        self.spare = Some(spare);
        Ok(())
    }

    /// The same for the file that is removed when an opening lacks room.
    fn extend_spare(&mut self) -> bool {
        let needed = self.wanted_spare();
        if self.spare.is_none() && self.open_spare().is_err() {
            return false;
        }
        let Some(spare) = &self.spare else { return false };
        // A larger database is not rehearsed, so that its opening needs less.
        if self.gauge.room() == Room::Enough
            && self.spare_held > needed + BATCH
            && spare.set_len(0).is_ok()
        {
            self.spare_held = 0;
        }
        match allocate(spare, self.spare_held, needed, true) {
            Ok(to) => self.spare_held = to,
            Err(Unsupported) => return true,
        }
        self.spare_held >= needed
    }
}

/// Before a store is opened: gives up as much of the reserve as the opening lacks room. What is
/// not wanted any more goes as well.
pub(super) fn make_way(ledger: &Path, asked: Option<u64>) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(ledger.join("sled").join("db"))?;
    let length = file.metadata()?.len();
    let (needed, ledger) = (needed_to_open(length), Dir::open(ledger)?);
    if asked == Some(0) || free(&file) < needed {
        remove(&ledger)?;
    }
    if asked == Some(0) || free(&file) < needed {
        // The same length, without the blocks beyond it.
        file.set_len(length)?;
    }
    Ok(())
}

/// Bytes that are allocated for the store of this ledger, as far as its files show it from outside.
pub(super) fn held(ledger: &Path) -> u64 {
    let blocks = |path: &str| {
        let about = fs::metadata(ledger.join(path)).ok();
        about.map_or(0, |about| (about.blocks() * SECTOR).saturating_sub(about.len()))
    };
    blocks("sled/db") + blocks(SPARE)
}

/// Whether the file system of a directory can allocate blocks ahead. This is tried on a file that
/// never has a name; `None` where no such file can be made.
pub(super) fn can_allocate(dir: &Path) -> Option<bool> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR).ok()?);
    match allocate(&file, 0, CHUNK, true) {
        Ok(CHUNK) => Some(true),
        Ok(_) => None,
        Err(Unsupported) => Some(false),
    }
}

/// What the opening of a database of this length writes: a copy where it may be rehearsed,
/// snapshots, and the rest of a segment.
fn needed_to_open(length: u64) -> u64 {
    let snapshot = length / BYTES_PER_SNAPSHOT_BYTE;
    let needed = if length <= LARGEST_BYTES { length + SNAPSHOTS * snapshot } else { snapshot };
    (needed + SEGMENT).next_multiple_of(CHUNK)
}

/// The file system allocates no blocks ahead.
#[derive(Debug)]
struct Unsupported;

/// Allocates the blocks of a file between two offsets; the offset that was reached. Its length
/// stays.
fn allocate(file: &File, from: u64, to: u64, leaves_some: bool) -> Result<u64, Unsupported> {
    let mut reached = from;
    while reached < to {
        let free = free(file);
        let piece = if free < PLENTY { CHUNK } else { LARGE_CHUNK };
        let piece = piece.min(to - reached);
        if leaves_some && free < piece + LEFT_FREE {
            break;
        }
        match fallocate(file, FallocateFlags::KEEP_SIZE, reached, piece) {
            Ok(()) => reached += piece,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(Unsupported),
            Err(_) => break,
        }
    }
    Ok(reached)
}

/// Bytes that a process without privileges may still take; all where that is not known.
fn free(file: &File) -> u64 {
    fstatvfs(file).map_or(u64::MAX, |volume| volume.f_bavail.saturating_mul(volume.f_frsize))
}

fn remove(ledger: &Dir) -> io::Result<()> {
    match ledger.remove_file(SPARE.as_ref()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
