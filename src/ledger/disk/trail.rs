//! The trail in the database: read from its floor on, and what lies below the floor swept away.

use super::{Disk, Doing, contained};
use crate::{
    audit::AuditEntry,
    codec::{self, AuditStart, Place},
    error::Error,
    ledger::{Commit, Stretch},
    scope::Catalogue,
    time::Timestamp,
};
use sled::transaction::TransactionError;

/// How many entries are swept away at once, so that changes get in between.
const STRIDE: usize = 1000;

impl Disk {
    /// Where the trail begins.
    pub(crate) fn floor(&self) -> AuditStart {
        self.state().floor
    }

    pub(in crate::ledger) fn trail(
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
        let mut head = self.head_of(after)?;
        let mut entries = Vec::new();
        for sequence in (after + 1..=last).take(limit) {
            let frame = match self.entry(sequence) {
                Ok(frame) => frame,
                // It was cut away meanwhile.
                Err(_) if self.floor().through > floor.through => {
                    return self.trail(after, limit, catalogue);
                }
                Err(missing) => return Err(missing),
            };
            let (entry, next) =
                codec::decode_entry(&frame, sequence, &head, &self.seals.trail, catalogue)?;
            entries.push(entry);
            head = next;
        }
        Ok(entries)
    }

    /// The frames as they lie there, unchecked: whoever gets them checks them. A missing one is
    /// left out.
    pub(in crate::ledger) fn stretch(&self, after: u64, limit: usize) -> Result<Stretch, Error> {
        let (mark, floor) = {
            let state = self.state();
            (state.meta.mark, state.floor)
        };
        let after = after.max(floor.through).min(mark.sequence);
        let previous = self.head_of(after)?;
        let mut frames = Vec::new();
        for sequence in (after + 1..=mark.sequence).take(limit) {
            let frame = contained(Doing::Reading, || self.db()?.get(Place::Entry(sequence).key()))?;
            frames.extend(frame.map(|frame| (sequence, frame.to_vec())));
        }
        if self.floor().through > after {
            // Some were cut away meanwhile.
            return self.stretch(after, limit);
        }
        Ok(Stretch { after, previous, frames, mark })
    }

    /// The last entry before this moment that may be cut away, and its head: one that the anchor
    /// will still know to be past after a power cut. `None` where there is none above the floor.
    pub(in crate::ledger) fn place_of_cut(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<(u64, [u8; 32])>, Error> {
        let (floor, mut end) = {
            let state = self.state();
            (state.floor.through, state.anchor.vouched())
        };
        let mut start = floor;
        // Times never fall along the trail.
        while start < end {
            let middle = start + (end - start).div_ceil(2);
            let frame = match self.entry(middle) {
                Err(_) if self.floor().through > floor => {
                    return self.place_of_cut(before, catalogue);
                }
                found => found?,
            };
            let entry = codec::decode_entry_unchecked(&frame, middle, catalogue);
            let entry = entry.ok_or_else(|| {
                Error::damaged(format!(
                    "entry {middle} of the audit trail is not as it was written"
                ))
            })?;
            if entry.at < before {
                start = middle;
            } else {
                end = middle - 1;
            }
        }
        if start > floor { Ok(Some((start, self.head_of(start)?))) } else { Ok(None) }
    }

    /// Removes entries below the floor, some at a time; true while there are more. Not while a
    /// snapshot is read, which may be of a moment before the cut; then a later call does.
    pub(in crate::ledger) fn sweep(&self) -> Result<bool, Error> {
        let doing = Doing::Writing;
        let mut state = self.state();
        if state.kept.is_wanted() || !state.reserve.has_room_to_prune() {
            return Ok(false);
        }
        state.reserve.before_write();
        let above = Place::Entry(state.floor.through + 1).key();
        let below = contained(doing, || {
            let first = Place::Entry(0).key();
            self.db()?.range(first..above).keys().take(STRIDE).collect::<sled::Result<Vec<_>>>()
        })?;
        if below.is_empty() {
            return Ok(false);
        }
        contained(doing, || {
            let swept = self.db()?.transaction(|tree| {
                for key in &below {
                    tree.remove(key)?;
                }
                Ok(())
            });
            swept.map_err(|e: TransactionError<()>| match e {
                TransactionError::Storage(e) => e,
                TransactionError::Abort(()) => sled::Error::Unsupported("aborted".into()),
            })?;
            self.db()?.flush()
        })?;
        self.file.sync_data().map_err(|e| Error::io(doing.as_str(), e))?;
        state.reserve.after_write();
        Ok(below.len() == STRIDE)
    }

    /// The floor that these changes bring.
    pub(super) fn floor_in(&self, batch: &[Commit]) -> Result<Option<AuditStart>, Error> {
        let puts = batch.iter().flat_map(|commit| &commit.puts);
        let mut frame =
            puts.filter(|put| put.place == Place::AuditStart).filter_map(|put| put.frame.as_ref());
        frame
            .next_back()
            .map(|frame| codec::decode_audit_start(frame, &self.seals.meta))
            .transpose()
    }

    /// The chain head of an entry, or of the last one that was cut away.
    pub(super) fn head_of(&self, sequence: u64) -> Result<[u8; 32], Error> {
        let floor = self.floor();
        if sequence == floor.through {
            return Ok(floor.head);
        }
        codec::entry_head(&self.entry(sequence)?, sequence)
    }

    fn entry(&self, sequence: u64) -> Result<sled::IVec, Error> {
        contained(Doing::Reading, || self.db()?.get(Place::Entry(sequence).key()))?.ok_or_else(
            || Error::damaged(format!("entry {sequence} of the audit trail is missing")),
        )
    }
}
