//! Reading the audit log.

use super::{audit_follow::NewerAuditEntry, handle::Store};
use crate::{
    audit_entry::AuditEntry,
    codec::{self, Mark},
    error::Error,
    proof::{AuditRange, AuditRangeEnd, AuditRangeStart},
};
use std::sync::Arc;

impl Store {
    /// Returns up to `limit` audit entries after the one numbered `after`, oldest first, each checked
    /// against the chain. This reads the disk.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).open(dir.path().join("keys"))?;
    /// let first = &store.audit(0, 10)?[0];
    /// assert_eq!((first.sequence, first.act.as_str()), (1, "extend_catalogue"));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, Error> {
        self.writer.ledger.audit(after, limit, self.writer.catalogue())
    }

    /// Waits for an entry after the one numbered `after` that is durable and applied in this process. Read it
    /// with [`Acting::audit_batch`](crate::Acting::audit_batch).
    pub fn newer_audit_entry(&self, after: u64) -> NewerAuditEntry {
        NewerAuditEntry::new(Arc::clone(&self.writer.audit_signal), after)
    }

    /// Returns up to `limit` audit entries after the one numbered `after`, with the proof of them that
    /// needs no store: see [`AuditVerifier`](crate::audit::AuditVerifier).
    pub fn audit_range(&self, after: u64, limit: usize) -> Result<AuditRange, Error> {
        let (seals, catalogue) = (&self.writer.seals, self.writer.catalogue());
        let Some(range) = self.writer.ledger.audit_range(after, limit)? else {
            let start = AuditRangeStart::new(seals, [0; 16], (0, [0; 32]), catalogue);
            let end = AuditRangeEnd::new(seals, [0; 16], (0, [0; 32]), self.writer.clock.now());
            return Ok(AuditRange { start, entries: Vec::new(), end });
        };
        let Mark { store, sequence, head, .. } = range.mark;
        let before = (range.after, range.previous);
        let entries = range.frames.into_iter().map(|(number, frame)| {
            (codec::decode_entry_unchecked(&frame, number, catalogue), frame)
        });
        Ok(AuditRange {
            start: AuditRangeStart::new(seals, store, before, catalogue),
            entries: entries.collect(),
            end: AuditRangeEnd::new(seals, store, (sequence, head), self.writer.clock.now()),
        })
    }
}
