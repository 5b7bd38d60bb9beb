//! Reads the audit log of a directory that may be damaged, and verifies each entry.

use super::{Doing, Inspection, contained};
use crate::{
    audit_entry::AuditEntry,
    codec::{self, DbKey},
};

/// Why an entry of the audit log is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryFault {
    /// The entry is missing.
    Missing,
    /// The entry does not continue the chain: it or the entry before it was altered.
    ChainMismatch,
    /// The entry before it is missing, so its chain head cannot be verified.
    Unverifiable,
    /// The entry has another number than its key.
    Misplaced,
}

/// An entry, or the gap at its number.
pub(crate) struct InspectedEntry {
    pub(crate) sequence: u64,
    pub(crate) entry: Option<AuditEntry>,
    /// Its stored chain head.
    pub(crate) head: Option<[u8; 32]>,
    pub(crate) fault: Option<EntryFault>,
}

impl Inspection {
    /// Passes every entry from the audit start on to `each`. The end is the last entry in the database or
    /// `through`, whichever is later. An entry is proved by its own head and by the next head. So if the
    /// last head is trusted, all entries after the last fault are trusted.
    pub(crate) fn audit_entries(&self, through: u64, mut each: impl FnMut(InspectedEntry)) {
        let start = self.audit_start.as_ref().ok().copied().unwrap_or_default();
        let end = self.last_entry().max(through);
        let mut previous = self.audit_start.is_ok().then_some(start.head);
        for sequence in start.through + 1..=end {
            let entry = self.inspect_entry(sequence, previous);
            previous = entry.head;
            each(entry);
        }
    }

    /// Reads the frame of an entry.
    pub(crate) fn frame(&self, sequence: u64) -> Option<Vec<u8>> {
        self.get(DbKey::Entry(sequence)).map(|frame| frame.to_vec())
    }

    fn inspect_entry(&self, sequence: u64, previous: Option<[u8; 32]>) -> InspectedEntry {
        let Some(frame) = self.get(DbKey::Entry(sequence)) else {
            return InspectedEntry {
                sequence,
                entry: None,
                head: None,
                fault: Some(EntryFault::Missing),
            };
        };
        let head = codec::entry_head(&frame, sequence).ok();
        let entry = codec::decode_entry_unchecked(&frame, sequence, self.catalogue);
        let follows = previous.map(|previous| {
            codec::decode_entry(&frame, sequence, &previous, &self.seals.audit, self.catalogue)
                .is_ok()
        });
        let fault = match (follows, &entry) {
            (Some(true), _) => None,
            (_, Some(entry)) if entry.sequence != sequence => Some(EntryFault::Misplaced),
            (Some(false), _) => Some(EntryFault::ChainMismatch),
            (None, _) => Some(EntryFault::Unverifiable),
        };
        InspectedEntry { sequence, entry, head, fault }
    }

    /// The number of the last entry in the database.
    fn last_entry(&self) -> u64 {
        let after_entries = [DbKey::ENTRIES, &[0xff; 9]].concat();
        if let Ok(Some((key, _))) =
            contained(Doing::Reading, || self.db.get()?.get_lt(after_entries))
            && let Some(DbKey::Entry(sequence)) = DbKey::from_bytes(&key)
        {
            sequence
        } else {
            0
        }
    }
}
