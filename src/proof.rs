//! A range of the audit log that can be verified without its store.
//!
//! A range has a start, entries and an end. The store seals the start and the end. The start states
//! the entry before the range and that entry's chain head. The end states the last entry of the
//! whole audit log and its chain head, at one time. Each entry is chained to the one before it. So
//! no entry of the range can be edited, removed, added or reordered unnoticed, and a truncated range
//! does not reach its end. Without a pepper the seals are checksums: they detect accidents, but
//! not a person who recomputes them.

use crate::{
    audit_entry::AuditEntry,
    codec,
    digest::{Seal, Seals},
    scope::{Catalogue, NumberedScope, Scope},
    time::Timestamp,
};

/// The start of an [`AuditRange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRangeStart {
    /// The id of the store.
    pub store: [u8; 16],
    /// The number of the entry before the range; 0 if the range begins with the first entry.
    pub after: u64,
    /// The chain head of that entry.
    pub head: [u8; 32],
    /// Identifies the pepper; zero without one.
    pub pepper_check: [u8; 16],
    /// The scope names by number. The entries contain the numbers.
    pub scopes: Vec<Scope>,
    /// The seal on the fields above.
    pub seal: [u8; 16],
}

/// The end of the whole audit log when an [`AuditRange`] was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRangeEnd {
    /// The id of the store.
    pub store: [u8; 16],
    /// The number of the last entry.
    pub sequence: u64,
    /// The chain head of the last entry.
    pub head: [u8; 32],
    /// The store's time when the range was read.
    pub at: Timestamp,
    /// The seal on the fields above.
    pub seal: [u8; 16],
}

/// A range of the audit log, with the frames of its entries as they are on disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditRange {
    /// The start of the range.
    pub start: AuditRangeStart,
    /// Each entry, unverified, and its frame. An entry that cannot be decoded is `None`.
    pub entries: Vec<(Option<AuditEntry>, Vec<u8>)>,
    /// The end of the whole audit log, which may be beyond the last of these entries.
    pub end: AuditRangeEnd,
}

/// Why a range of the audit log is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditVerifyError {
    /// The range was written with another pepper.
    #[error("the pepper does not match this part of the audit log; give the one of its store")]
    WrongPepper,
    /// The start was altered.
    #[error("the header is not as it was written")]
    Start,
    /// The end was altered.
    #[error("the trailer is not as it was written")]
    End,
    /// An entry was altered or added.
    #[error("entry {0} is not as it was written, or does not belong here")]
    Entry(u64),
    /// An entry was removed.
    #[error("entry {missing} is missing: entry {found} is in its place")]
    Missing {
        /// The first missing entry.
        missing: u64,
        /// The entry in its place.
        found: u64,
    },
    /// An entry was moved or repeated.
    #[error("entry {found} is in the place of entry {expected}")]
    OutOfOrder {
        /// The entry at this place.
        found: u64,
        /// The entry that belongs at this place.
        expected: u64,
    },
    /// The last entries were removed.
    #[error("it ends at entry {last}, but its trailer names entry {recorded}: it was truncated")]
    Truncated {
        /// The last entry of the range.
        last: u64,
        /// The last entry that the end names.
        recorded: u64,
    },
    /// The last entry has another chain head than the end states.
    #[error("entry {0} is not the one that the trailer names")]
    EndMismatch(u64),
    /// A continuation comes from another store.
    #[error("it is of another store than the part before it")]
    OtherStore,
    /// A continuation begins after a gap, or its history differs.
    #[error("it begins after entry {after}, but does not continue the part before it")]
    NotContinuous {
        /// The entry that the continuation begins after.
        after: u64,
    },
}

/// Verifies a range of the audit log entry by entry. Created by
/// [`Offline::audit_verifier`](crate::Offline::audit_verifier).
pub struct AuditVerifier {
    seal: Seal,
    catalogue: &'static Catalogue,
    store: [u8; 16],
    /// The chain heads of the entry before the range and of each entry verified so far.
    heads: Vec<[u8; 32]>,
    /// The entry that the first of `heads` belongs to.
    first: u64,
    /// The number of the next entry. A continuation may repeat entries.
    next: u64,
}

impl std::fmt::Debug for AuditVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditVerifier").finish_non_exhaustive()
    }
}

impl AuditRangeStart {
    fn sealed(&self, seal: &Seal) -> [u8; 16] {
        let names: Vec<u8> =
            self.scopes.iter().flat_map(|s| [s.as_str().as_bytes(), b"\n"].concat()).collect();
        let after = self.after.to_le_bytes();
        seal.tag(&[b"trail start", &self.store, &after, &self.head, &self.pepper_check, &names])
    }

    pub(crate) fn new(
        seals: &Seals,
        store: [u8; 16],
        (after, head): (u64, [u8; 32]),
        catalogue: &Catalogue,
    ) -> Self {
        let scopes = catalogue.entries().iter().map(|entry| entry.scope.clone()).collect();
        let pepper_check = seals.pepper_check;
        let mut start = Self { store, after, head, pepper_check, scopes, seal: [0; 16] };
        start.seal = start.sealed(&seals.audit);
        start
    }
}

impl AuditRangeEnd {
    fn sealed(&self, seal: &Seal) -> [u8; 16] {
        let numbers = [self.sequence, self.at.as_millis()].map(u64::to_le_bytes);
        seal.tag(&[b"trail end", &self.store, numbers.as_flattened(), &self.head])
    }

    pub(crate) fn new(
        seals: &Seals,
        store: [u8; 16],
        (sequence, head): (u64, [u8; 32]),
        at: Timestamp,
    ) -> Self {
        let mut end = Self { store, sequence, head, at, seal: [0; 16] };
        end.seal = end.sealed(&seals.audit);
        end
    }

    /// Whether the store with these seals wrote it.
    pub(crate) fn is_sealed(&self, seals: &Seals) -> bool {
        self.sealed(&seals.audit) == self.seal
    }
}

impl AuditVerifier {
    pub(crate) fn new(start: &AuditRangeStart, seals: &Seals) -> Result<Self, AuditVerifyError> {
        if start.pepper_check != seals.pepper_check {
            return Err(AuditVerifyError::WrongPepper);
        }
        if start.sealed(&seals.audit) != start.seal {
            return Err(AuditVerifyError::Start);
        }
        let scopes = start.scopes.iter().cloned().map(NumberedScope::from).collect();
        let catalogue = Catalogue::new(scopes, None);
        Ok(Self {
            seal: seals.audit.clone(),
            catalogue: catalogue.map_err(|_| AuditVerifyError::Start)?,
            store: start.store,
            heads: vec![start.head],
            first: start.after,
            next: start.after.saturating_add(1),
        })
    }

    /// Continues with the range that follows. It may repeat entries that were verified before.
    pub fn continue_with(&mut self, start: &AuditRangeStart) -> Result<(), AuditVerifyError> {
        if start.sealed(&self.seal) != start.seal {
            return Err(AuditVerifyError::Start);
        }
        if start.store != self.store {
            return Err(AuditVerifyError::OtherStore);
        }
        if self.head(start.after) != Some(start.head) {
            return Err(AuditVerifyError::NotContinuous { after: start.after });
        }
        let scopes = start.scopes.iter().cloned().map(NumberedScope::from).collect();
        self.catalogue = Catalogue::new(scopes, None).map_err(|_| AuditVerifyError::Start)?;
        self.next = start.after.saturating_add(1);
        Ok(())
    }

    /// Verifies the frame of the next entry and returns the entry.
    pub fn verify(&mut self, frame: &[u8]) -> Result<AuditEntry, AuditVerifyError> {
        let expected = self.next;
        let invalid = AuditVerifyError::Entry(expected);
        let previous = self.head(expected.wrapping_sub(1)).ok_or(invalid.clone())?;
        let found = codec::decode_entry_unchecked(frame, expected, self.catalogue);
        match found.map(|entry| entry.sequence) {
            Some(found) if found > expected => {
                return Err(AuditVerifyError::Missing { missing: expected, found });
            }
            Some(found) if found < expected => {
                return Err(AuditVerifyError::OutOfOrder { found, expected });
            }
            _ => {}
        }
        let (entry, head) =
            codec::decode_entry(frame, expected, &previous, &self.seal, self.catalogue)
                .map_err(|_| invalid.clone())?;
        match self.head(expected) {
            Some(known) if known != head => return Err(invalid),
            Some(_) => {}
            None => self.heads.push(head),
        }
        self.next = expected.saturating_add(1);
        Ok(entry)
    }

    /// Whether the next entry repeats one that was verified before.
    pub fn is_next_repeated(&self) -> bool {
        self.head(self.next).is_some()
    }

    /// Verifies that the range reached the end of the audit log.
    pub fn verify_end(&self, end: &AuditRangeEnd) -> Result<(), AuditVerifyError> {
        if end.sealed(&self.seal) != end.seal {
            return Err(AuditVerifyError::End);
        }
        if end.store != self.store {
            return Err(AuditVerifyError::OtherStore);
        }
        let last = self.last();
        if last != end.sequence {
            return Err(AuditVerifyError::Truncated { last, recorded: end.sequence });
        }
        let is_same = self.head(last) == Some(end.head);
        is_same.then_some(()).ok_or(AuditVerifyError::EndMismatch(last))
    }

    /// Returns the number of the last verified entry.
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    fn head(&self, sequence: u64) -> Option<[u8; 32]> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.heads.get(at).copied()
    }
}
