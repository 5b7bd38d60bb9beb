//! The audit log in the database: read from its start on; entries before the start are removed.

use super::{Disk, entries};
use crate::{
    audit::AuditEntry,
    codec::{self, Place},
    error::Error,
    ledger::{
        PrunePoint, StoredRange,
        engine::{Doing, contained},
    },
    scope::Catalogue,
    time::Timestamp,
};
use sled::transaction::TransactionError;

/// How many pruned entries are removed at once, so that changes get in between.
const REMOVED_AT_ONCE: usize = 1000;

impl Disk {
    pub(super) fn read_audit(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        let (last, floor) = {
            let state = self.state();
            (state.meta.mark.sequence, state.floor)
        };
        let after = after.max(floor.through);
        if after > last {
            return Ok(Vec::new());
        }
        let mut head = entries::head(&self.db, &floor, after)?;
        let mut entries = Vec::new();
        for sequence in (after + 1..=last).take(limit) {
            let frame = match entries::frame(&self.db, sequence) {
                Ok(frame) => frame,
                // It was pruned meanwhile.
                Err(_) if self.state().floor.through > floor.through => {
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

    /// The frames as they are stored. The receiver checks them. A missing one is left out.
    pub(super) fn read_audit_range(&self, after: u64, limit: usize) -> Result<StoredRange, Error> {
        let (mark, floor) = {
            let state = self.state();
            (state.meta.mark, state.floor)
        };
        let after = after.max(floor.through).min(mark.sequence);
        let previous = entries::head(&self.db, &floor, after)?;
        let mut frames = Vec::new();
        for sequence in (after + 1..=mark.sequence).take(limit) {
            let frame = contained(Doing::Reading, || self.db()?.get(Place::Entry(sequence).key()))?;
            frames.extend(frame.map(|frame| (sequence, frame.to_vec())));
        }
        if self.state().floor.through > after {
            // Some were pruned meanwhile.
            return self.read_audit_range(after, limit);
        }
        Ok(StoredRange { after, previous, frames, mark })
    }

    /// The last entry before this moment that may be pruned: one that the anchor still knows to be
    /// past after a power cut. `None` if there is none after the audit start.
    pub(super) fn find_prune_point(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<PrunePoint>, Error> {
        let (start, end) = {
            let state = self.state();
            (state.floor, state.anchor.vouched())
        };
        let frame = |number| entries::frame(&self.db, number);
        let through = match codec::last_entry_before(start.through, end, before, catalogue, frame) {
            // Some were pruned meanwhile.
            Err(_) if self.state().floor.through > start.through => {
                return self.find_prune_point(before, catalogue);
            }
            found => found?,
        };
        if through == start.through {
            return Ok(None);
        }
        Ok(Some(PrunePoint { through, head: entries::head(&self.db, &start, through)? }))
    }

    /// Removes entries before the audit start, some at a time; true while there are more. Removes
    /// none while a snapshot is read, which may be older than the prune; then a later call does.
    pub(super) fn remove_some_pruned(&self) -> Result<bool, Error> {
        let doing = Doing::Writing;
        let mut state = self.state();
        if state.kept.is_wanted() || !state.reserve.has_room_to_prune() {
            return Ok(false);
        }
        state.reserve.before_write();
        let above = Place::Entry(state.floor.through + 1).key();
        let below = contained(doing, || {
            let first = Place::Entry(0).key();
            self.db()?
                .range(first..above)
                .keys()
                .take(REMOVED_AT_ONCE)
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
        Ok(below.len() == REMOVED_AT_ONCE)
    }
}
