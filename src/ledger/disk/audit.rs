//! The audit log in the database: read from its start on; entries before the start are removed.

use super::{Disk, entries};
use crate::{
    audit_entry::AuditEntry,
    codec::{self, DbKey},
    error::Error,
    ledger::{
        PrunePoint, StoredRange,
        engine::{Doing, contained},
    },
    scope::Catalogue,
    time::Timestamp,
};
use sled::transaction::TransactionError;

/// The number of pruned entries that one call removes. Changes are committed between the calls.
const REMOVED_PER_CALL: usize = 1000;

impl Disk {
    pub(super) fn read_audit(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        let (last, start) = {
            let state = self.state();
            (state.meta.mark.sequence, state.audit_start)
        };
        let after = after.max(start.through);
        if after > last {
            return Ok(Vec::new());
        }
        let mut head = entries::head(&self.db, &start, after)?;
        let mut entries = Vec::new();
        for sequence in (after + 1..=last).take(limit) {
            let frame = match entries::frame(&self.db, sequence) {
                Ok(frame) => frame,
                // It was pruned meanwhile.
                Err(_) if self.state().audit_start.through > start.through => {
                    return self.read_audit(after, limit, catalogue);
                }
                Err(missing) => return Err(missing),
            };
            let (entry, next) =
                codec::decode_entry(&frame, sequence, &head, &self.seals.audit, catalogue)?;
            entries.push(entry);
            head = next;
        }
        Ok(entries)
    }

    /// Reads the stored frames without verifying them; the caller verifies them. A missing frame is
    /// left out.
    pub(super) fn read_audit_range(&self, after: u64, limit: usize) -> Result<StoredRange, Error> {
        let (mark, start) = {
            let state = self.state();
            (state.meta.mark, state.audit_start)
        };
        let after = after.max(start.through).min(mark.sequence);
        let previous = entries::head(&self.db, &start, after)?;
        let mut frames = Vec::new();
        for sequence in (after + 1..=mark.sequence).take(limit) {
            let frame =
                contained(Doing::Reading, || self.db()?.get(DbKey::Entry(sequence).to_bytes()))?;
            frames.extend(frame.map(|frame| (sequence, frame.to_vec())));
        }
        if self.state().audit_start.through > after {
            // Some were pruned meanwhile.
            return self.read_audit_range(after, limit);
        }
        Ok(StoredRange { after, previous, frames, mark })
    }

    /// Finds the last entry before this time that may be pruned. The anchor must record a later state
    /// even after a power cut. `None` if no entry after the audit start qualifies.
    pub(super) fn find_prune_point(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<PrunePoint>, Error> {
        let (start, end) = {
            let state = self.state();
            (state.audit_start, state.anchor.synced_sequence())
        };
        let frame = |number| entries::frame(&self.db, number);
        let through = match codec::last_entry_before(start.through, end, before, catalogue, frame) {
            // Some were pruned meanwhile.
            Err(_) if self.state().audit_start.through > start.through => {
                return self.find_prune_point(before, catalogue);
            }
            found => found?,
        };
        if through == start.through {
            return Ok(None);
        }
        Ok(Some(PrunePoint { through, head: entries::head(&self.db, &start, through)? }))
    }

    /// Removes some entries before the audit start. Returns true while there may be more. Removes none
    /// while a snapshot is being read, since the snapshot may be older than the prune.
    pub(super) fn remove_some_pruned(&self) -> Result<bool, Error> {
        let doing = Doing::Writing;
        let mut state = self.state();
        if state.before_images.has_readers() || !state.reserve.has_room_to_prune() {
            return Ok(false);
        }
        state.reserve.before_write();
        let above = DbKey::Entry(state.audit_start.through + 1).to_bytes();
        let below = contained(doing, || {
            let first = DbKey::Entry(0).to_bytes();
            self.db()?
                .range(first..above)
                .keys()
                .take(REMOVED_PER_CALL)
                .collect::<sled::Result<Vec<_>>>()
        })?;
        if below.is_empty() {
            return Ok(false);
        }
        contained(doing, || {
            let removed = self.db()?.transaction(|tree| {
                for key in &below {
                    tree.remove(key)?;
                }
                Ok(())
            });
            removed.map_err(|e: TransactionError<()>| match e {
                TransactionError::Storage(e) => e,
                TransactionError::Abort(()) => sled::Error::Unsupported("aborted".into()),
            })?;
            self.db()?.flush()
        })?;
        self.file.sync_data().map_err(|e| Error::io(doing.as_str(), e))?;
        state.reserve.after_write();
        Ok(below.len() == REMOVED_PER_CALL)
    }
}
