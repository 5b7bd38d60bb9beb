//! The mark: a summary of a whole store, which detects a missing or an old value.

use super::db_key::DbKey;
use crate::digest::SetHash;
use serde::{Deserialize, Serialize};

/// A summary of the whole store after one change. The meta record and the anchor both contain it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The id of the store: random, chosen when the store is created.
    pub(crate) store: [u8; 16],
    /// The number of the last change.
    pub(crate) sequence: u64,
    /// The number of records.
    pub(crate) records: u64,
    /// The number of scope names.
    pub(crate) scopes: u64,
    /// The order-free hash of all records and scope names.
    pub(crate) sum: [u8; 32],
    /// The chain head of the last entry of the audit log.
    pub(crate) head: [u8; 32],
}

impl Mark {
    /// The same mark without records and scope names, to add them one by one.
    pub(crate) fn emptied(self) -> Self {
        Self { records: 0, scopes: 0, sum: [0; 32], ..self }
    }

    /// The mark of the same store before its first entry, to add its values one by one.
    pub(crate) fn before(self, start: &AuditStart) -> Self {
        Self { sequence: start.through, head: start.head, ..self.emptied() }
    }

    pub(crate) fn add(&mut self, frame_hash: [u8; 32]) {
        let mut sum = SetHash::from_bytes(self.sum);
        sum.insert(frame_hash);
        self.sum = sum.to_bytes();
    }

    pub(crate) fn subtract(&mut self, frame_hash: [u8; 32]) {
        let mut sum = SetHash::from_bytes(self.sum);
        sum.remove(frame_hash);
        self.sum = sum.to_bytes();
    }

    /// Updates the counts and the sum for the new value of a record or scope name. `before` and `after`
    /// are the hashes of its frames; `None`: there is no value.
    pub(crate) fn replace(
        &mut self,
        key: DbKey,
        before: Option<[u8; 32]>,
        after: Option<[u8; 32]>,
    ) {
        let count =
            if matches!(key, DbKey::Scope(_)) { &mut self.scopes } else { &mut self.records };
        match (before.is_some(), after.is_some()) {
            (false, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            _ => {}
        }
        if let Some(hash) = before {
            self.subtract(hash);
        }
        if let Some(hash) = after {
            self.add(hash);
        }
    }
}

/// The start of the audit log after a prune. It contains the chain head that the first remaining
/// entry continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditStart {
    /// The last pruned entry; 0 if none was pruned.
    pub(crate) through: u64,
    /// The chain head of that entry.
    pub(crate) head: [u8; 32],
    /// The entry that records the prune.
    pub(crate) pruned_by: u64,
}
