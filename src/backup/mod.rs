//! Backups: the whole store in a stream that checks itself, and a new store made from one.
//!
//! A backup holds what the ledger holds, frame by frame: digests, never secrets. It is what
//! opening would check, in a form that needs no memory to check: meta record, scope names, the
//! audit trail, the records in the order of their digests, and a hash over all of it. With a pepper
//! every seal in it is keyed, and whoever keeps the file can forge nothing; without one they are
//! checksums, and the file is to be kept as the directory is.

mod format;
mod later;
mod old;
mod read;
mod restore;
mod take;
#[cfg(test)]
mod tests;

pub use self::{
    later::{LaterChange, LaterEffect},
    restore::{LaterEvidence, Restored},
};

pub(crate) use self::{
    read::{Item, Reader},
    restore::{Into, restore},
    take::take,
};

use self::format::Trailer;
use crate::{digest::Seals, error::Error, time::Timestamp};
use std::io::Read;

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// When it was taken.
    pub taken: Timestamp,
    /// The last change that is in it, and so the last entry of its trail.
    pub sequence: u64,
    /// How many keys.
    pub records: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Summary {
    /// What every backup begins with, whatever its version.
    pub const BEGINS: &'static [u8] = format::MAGIC;
    /// How many bytes at its end tell what a backup holds.
    pub const END: usize = format::END;

    /// What the end of a backup of so many bytes says of it, for who has just written it; `None` if
    /// it is not the end of one. Only reading all of it shows that it is whole.
    pub fn at_end(end: &[u8], bytes: u64) -> Option<Self> {
        let Trailer { sequence, records, taken, .. } = Trailer::at_end(end)?;
        Some(Self { taken, sequence, records, bytes })
    }
}

/// How far the work has come, in values: entries of the trail and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// So many are done.
    pub done: u64,
    /// So many there are.
    pub all: u64,
}

/// How often progress is told while a backup is read.
const TOLD_EACH: u64 = 1000;

/// Reads a backup to its end, and whatever is wrong with it is an error.
pub(crate) fn verify(
    from: impl Read,
    seals: &Seals,
    mut progress: impl FnMut(Progress),
) -> Result<Summary, Error> {
    let mut reader = Reader::open(from, seals)?;
    let mut told = Progress { done: 0, all: reader.values() };
    loop {
        if let Item::End(summary) = reader.next()? {
            return Ok(summary);
        }
        told.done += 1;
        if told.done.is_multiple_of(TOLD_EACH) {
            progress(told);
        }
    }
}
