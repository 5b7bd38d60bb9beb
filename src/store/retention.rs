//! Retention: the older part of the trail is cut away, and who did it, when and how far stays.
//!
//! The cut is an entry of the trail, and the new floor lies beside it, both in one change; only
//! then are the entries below the floor removed, some at a time. The floor keeps the chain head of
//! the last entry that went, so that what stays is still proved, and an exported older part can be
//! joined on to it.

use super::{Store, acting::Acting, requests::KEPT};
use crate::{
    audit::{Act, Attempt},
    codec::{self, AuditStart, Mark, Place},
    error::{Error, Field, Forbidden},
    ledger::{PrunePoint, Put},
    proof::{AuditRange, AuditRangeEnd, AuditRangeStart},
    record::Change,
    time::Timestamp,
};

/// What was cut from the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The entry that tells of it.
    pub sequence: u64,
    /// The last entry that went.
    pub through: u64,
    /// How many went.
    pub removed: u64,
}

impl Store {
    /// Up to `limit` entries of the trail after the one numbered `after`, with what proves them
    /// away from this store: see [`AuditVerifier`](crate::AuditVerifier).
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

impl Acting<'_> {
    /// Removes the entries of the trail that are older than `before`, for good; `None` where there
    /// are none. Export them first if they may be asked for. What the last day's requests need
    /// stays, and so does what the anchor has not seen. Only the host and users of the machine may:
    /// no key wipes out its traces.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = Store::open(dir.path().join("keys"))?;
    /// let long_ago = Timestamp::from_secs(1_700_000_000);
    /// let acting = store.acting_as(Actor::Host, None);
    /// assert_eq!(acting.prune_audit(long_ago)?, None); // nothing is that old
    /// # Ok::<(), Error>(())
    /// ```
    pub fn prune_audit(&self, before: Timestamp) -> Result<Option<Pruned>, Error> {
        let core = self.core();
        if let (plans, Some(_)) = self.begin(Attempt::Prune, None)? {
            drop(plans);
            let refused = Forbidden::PruneIsLocal.into();
            return Err(self.refused(Attempt::Prune, None, Change::default(), refused));
        }
        let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        if before.as_millis() > core.clock.now().as_millis().saturating_sub(kept) {
            return Err(Error::invalid(
                Field::Before,
                "must be at least a day ago; what is younger is needed to do requests only once",
            ));
        }
        core.again(|| match core.ledger.prune_point(before, core.catalogue())? {
            Some(point) => self.cut_through(point),
            None => Ok(None),
        })
    }

    /// Cuts through the entry with this number and head, unless the trail begins behind it already.
    fn cut_through(&self, point: PrunePoint) -> Result<Option<Pruned>, Error> {
        let PrunePoint { through, head } = point;
        let core = self.core();
        let mut plans = core.plan();
        plans.check_writable()?;
        core.check_room_to_prune()?;
        let floor = plans.pruned_through;
        if through <= floor {
            return Ok(None);
        }
        let sequence = plans.next_sequence();
        let frame = codec::encode_audit_start(
            &AuditStart { through, head, pruned_by: sequence },
            &core.seals.meta,
        )?;
        let puts = vec![Put { place: Place::AuditStart, frame: Some(frame) }];
        let nothing = Change::default();
        let note = self.note(Act::Prune { through, head }, None, nothing.clone(), nothing);
        core.queue(&mut plans, note, puts, Vec::new())?;
        (plans.pruned_through, plans.has_pruned_entries) = (through, true);
        core.wait(plans, sequence)?;
        core.wait_until_removed()?;
        Ok(Some(Pruned { sequence, through, removed: through - floor }))
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests;
