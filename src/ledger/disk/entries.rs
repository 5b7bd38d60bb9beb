//! Single audit entries in the database.

use crate::{
    codec::{self, AuditStart, DbKey},
    error::Error,
    ledger::engine::{Database, Doing, contained},
};

/// The frame of an entry.
pub(super) fn frame(db: &Database, sequence: u64) -> Result<sled::IVec, Error> {
    contained(Doing::Reading, || db.get()?.get(DbKey::Entry(sequence).to_bytes()))?
        .ok_or_else(|| Error::damaged(format!("entry {sequence} of the audit log is missing")))
}

/// The chain head of an entry, or of the last one that was pruned.
pub(super) fn head(db: &Database, start: &AuditStart, sequence: u64) -> Result<[u8; 32], Error> {
    if sequence == start.through {
        return Ok(start.head);
    }
    codec::entry_head(&frame(db, sequence)?, sequence)
}
