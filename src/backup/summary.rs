//! The contents of a backup as counts, and the progress of a pass over it.

use super::format::{self, Trailer};
use crate::time::Timestamp;

/// Describes a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// When the backup was taken.
    pub taken: Timestamp,
    /// The last change in the backup, and so the last entry of its audit log.
    pub sequence: u64,
    /// The number of keys.
    pub records: u64,
    /// The size in bytes.
    pub bytes: u64,
}

impl Summary {
    /// The first bytes of every backup of any version.
    pub const BEGINS: &'static [u8] = format::MAGIC;
    /// The number of bytes at the end of a backup that [`at_end`](Self::at_end) needs.
    pub const END: usize = format::END;

    /// Returns the summary from the last bytes of a backup; `None` if they are not the end of a backup.
    /// `bytes` is the length of the whole backup. This does not verify the backup: use it only for a file
    /// that was just written.
    pub fn at_end(end: &[u8], bytes: u64) -> Option<Self> {
        let Trailer { sequence, records, taken, .. } = Trailer::at_end(end)?;
        Some(Self { taken, sequence, records, bytes })
    }
}

/// The progress of a backup or a restore, counted in entries of the audit log and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The number of values done.
    pub done: u64,
    /// The number of all values.
    pub all: u64,
}

impl Progress {
    /// The number of values between two reports while a backup is read.
    const REPORT_INTERVAL: u64 = 1000;

    pub(super) fn of(all: u64) -> Self {
        Self { done: 0, all }
    }

    /// Counts a value that was read, and reports from time to time.
    pub(super) fn count(&mut self, report: &mut impl FnMut(Self)) {
        self.done += 1;
        if self.done.is_multiple_of(Self::REPORT_INTERVAL) {
            report(*self);
        }
    }
}
