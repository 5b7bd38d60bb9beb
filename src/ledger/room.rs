//! The space on the disk, as the writer publishes it to other threads.
//!
//! | state | condition | accepted changes |
//! |---|---|---|
//! | `Enough` | the reserve is complete | all |
//! | `Reserve` | the reserve is incomplete, with at least one batch left | stricter changes and pruning |
//! | `Nothing` | less than one batch is left | none |
//!
//! The writer sets the state before and after each write and once a second. The state
//! returns to `Enough` only when the reserve is complete again.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// Free space below this, or below a part of the volume if that is less, is low.
const LOW_BYTES: u64 = 256 << 20;
const LOW_PART: u64 = 10;

/// The changes that the disk has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// All changes.
    Enough,
    /// Only stricter changes and pruning: the reserve is in use.
    Reserve,
    /// None: the reserve is used up.
    Nothing,
}

/// The disk of a store, and the reserve that it has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskSpace {
    /// The free bytes of the volume.
    pub free: u64,
    /// The allocated bytes of the reserve.
    pub reserve_held: u64,
    /// The intended bytes of the reserve; 0 if the reserve is switched off.
    pub reserve_wanted: u64,
    /// Whether the file system can allocate blocks ahead. If it cannot, there is no reserve, and a full
    /// disk stops all writes.
    pub can_reserve: bool,
    /// Whether the free space is so low that an operator should free some.
    pub is_low: bool,
    /// Whether the reserve is in use: only stricter changes and pruning are written.
    pub is_reserve_in_use: bool,
}

/// The figures that other threads read while the writer works.
#[derive(Default)]
pub(crate) struct Gauge {
    room: AtomicU8,
    pub(super) free: AtomicU64,
    /// The bytes of the whole volume.
    pub(super) volume: AtomicU64,
    pub(super) held: AtomicU64,
    pub(super) wanted: AtomicU64,
    pub(super) cannot_allocate: AtomicBool,
}

impl Gauge {
    pub(crate) fn room(&self) -> Room {
        match self.room.load(Relaxed) {
            0 => Room::Enough,
            1 => Room::Reserve,
            _ => Room::Nothing,
        }
    }

    pub(crate) fn free(&self) -> u64 {
        self.free.load(Relaxed)
    }

    pub(crate) fn space(&self) -> DiskSpace {
        let free = self.free();
        DiskSpace {
            free,
            reserve_held: self.held.load(Relaxed),
            reserve_wanted: self.wanted.load(Relaxed),
            can_reserve: !self.cannot_allocate.load(Relaxed),
            is_low: free < LOW_BYTES.min(self.volume.load(Relaxed) / LOW_PART),
            is_reserve_in_use: self.room() != Room::Enough,
        }
    }

    pub(super) fn set_room(&self, room: Room) {
        self.room.store(room as u8, Relaxed);
    }
}
