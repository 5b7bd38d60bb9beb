//! Backups: the whole store in a stream that checks itself, and a new store made from one.
//!
//! A backup holds what the ledger holds, frame by frame: digests, never secrets. It is what
//! opening would check, in a form that needs no memory to check: meta record, scope names, the
//! audit trail, the records in the order of their digests, and a hash over all of it. With a pepper
//! every seal in it is keyed, and whoever keeps the file can forge nothing; without one they are
//! checksums, and the file is to be kept as the directory is.

mod format;
mod read;
mod take;

pub(crate) use self::{
    read::{Item, Reader},
    take::take,
};

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
        if told.done % TOLD_EACH == 0 {
            progress(told);
        }
    }
}
