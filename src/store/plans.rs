//! The plans: changes that are planned and not committed yet, and the state that they build on.
//!
//! A change is planned under the writers' mutex, on the committed state and everything that is queued
//! before it. Then it is in one of these states:
//!
//! | state | readers see | next |
//! |---|---|---|
//! | queued | the key as committed, less what the change denies | *in flight*, when the writer takes a batch |
//! | in flight | the same | one of the states below, when the ledger answers |
//! | durable (`Durable`) | the change | – |
//! | discarded (`Conflict`) | the key as committed | its caller plans it again |
//! | refused (`Refused`) | the key as committed | its caller gets the error |
//! | in doubt (`Unknown` of a shared ledger) | the key as committed, less what the change denies | decided when the store has passed its number |
//! | poisoned (`Unknown` of a ledger with one writer) | the same | none: nothing is written until the store is reopened, which reads the outcome from the disk |
//!
//! All plans since the last discard are one *generation*. They build on one another, so the discard of
//! one batch also discards everything that is queued behind it. The next generation begins with the
//! *base*, the newest committed state. A caller waits for a sequence number of its generation. Numbers
//! of a discarded generation are used again.
//!
//! The changes queued behind a batch share its fate. If the batch is discarded, refused or in doubt,
//! they are discarded and their callers plan them again. If the store is poisoned, their callers get
//! [`Error::NotDurable`], and what they deny stays denied.

mod generations;

pub(super) use self::generations::SentOutcome;
use self::generations::{EndedGeneration, Generations};
use super::requests::Requests;
use crate::{
    digest::Digest,
    error::Error,
    id::KeyId,
    index::Index,
    ledger::{Commit, Tip},
    record::{Record, Standing},
};
use std::{collections::HashMap, mem, sync::Arc};

/// The sequence of a denial that no commit removes.
const UNWRITTEN: u64 = u64::MAX;

/// The planned changes, and the state after them.
pub(super) struct Plans {
    /// The sequence and chain head after everything that is queued.
    pub(super) tip: Tip,
    /// The newest committed state. `None` until a replica has applied one.
    pub(super) base: Option<Tip>,
    /// Active root keys that never expire, after everything that is queued.
    pub(super) lasting_roots: usize,
    /// The keys with a change that is queued or in flight.
    pub(super) pending: HashMap<KeyId, Pending>,
    pub(super) requests: Requests,
    /// The last entry of the audit log whose request is remembered.
    pub(super) requests_read_through: u64,
    /// The last pruned entry after everything that is queued, and as committed.
    pub(super) pruned_through: u64,
    pub(super) base_pruned_through: u64,
    /// Whether there may be pruned entries that are still to be removed.
    pub(super) has_pruned_entries: bool,
    pub(super) queue: Vec<Queued>,
    /// The last sequence of the batch that the ledger is committing.
    pub(super) in_flight: Option<u64>,
    /// The denials of changes whose outcome is unknown.
    pub(super) in_doubt: Vec<Denial>,
    /// Rises with each discard.
    pub(super) generation: u64,
    ended: Generations,
    /// The number of batches taken from the queue, and the last sequence of the last batch.
    pub(super) batches: usize,
    pub(super) taken: u64,
    pub(super) committed: u64,
    /// Why nothing is written until the store is reopened.
    pub(super) poisoned: Option<Box<str>>,
    /// Denials that are in the index but not on disk, because the disk reserve was used up.
    pub(super) unwritten: Vec<(KeyId, Standing)>,
    /// The length of the queue that wakes the writer thread; `None` while it is awake.
    pub(super) wakes_at: Option<usize>,
    /// The number of callers with a change in the last batch or in the queue behind it.
    pub(super) callers: usize,
    pub(super) closing: bool,
}

/// The planned state of a key.
pub(super) struct Pending {
    /// The last change of the key.
    pub(super) sequence: u64,
    /// `None`: the key is deleted.
    pub(super) record: Option<Arc<Record>>,
    pub(super) digest: Digest,
}

/// A planned change.
pub(super) struct Queued {
    pub(super) commit: Commit,
    pub(super) changes: Vec<PlannedKey>,
}

/// The new state of one key.
pub(super) struct PlannedKey {
    pub(super) id: KeyId,
    pub(super) digest: Digest,
    /// `None` deletes the key.
    pub(super) after: Option<Arc<Record>>,
}

/// A denial in the index that belongs to a change.
pub(super) struct Denial {
    pub(super) sequence: u64,
    pub(super) id: KeyId,
    pub(super) standing: Standing,
}

impl Denial {
    pub(super) fn retract(&self, index: &Index) {
        index.retract(self.sequence, self.id, &self.standing);
    }
}

impl Plans {
    /// Creates an empty queue. `base` is the committed state, if it is known.
    pub(super) fn new(base: Option<Tip>, requests: Requests) -> Self {
        let tip = base.unwrap_or_default();
        Self {
            tip,
            base,
            lasting_roots: 0,
            pending: HashMap::new(),
            requests,
            requests_read_through: tip.sequence,
            pruned_through: 0,
            base_pruned_through: 0,
            has_pruned_entries: true,
            queue: Vec::new(),
            in_flight: None,
            in_doubt: Vec::new(),
            generation: 0,
            ended: Generations::default(),
            batches: 0,
            taken: tip.sequence,
            committed: tip.sequence,
            poisoned: None,
            unwritten: Vec::new(),
            wakes_at: None,
            callers: 0,
            closing: false,
        }
    }

    /// The sequence that the next change gets.
    pub(super) fn next_sequence(&self) -> u64 {
        self.tip.sequence + 1
    }

    /// The sequence of the newest committed change that is applied here.
    pub(super) fn applied(&self) -> u64 {
        self.base.map_or(0, |base| base.sequence)
    }

    /// Fails if nothing is written any more.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        self.poisoned.clone().map_or(Ok(()), |reason| Err(Error::Poisoned(reason)))
    }

    /// The last pending change of this key, or 0.
    pub(super) fn pending_sequence(&self, id: KeyId) -> u64 {
        self.pending.get(&id).map_or(0, |pending| pending.sequence)
    }

    /// Whether all requests that are committed are remembered.
    pub(super) fn knows_requests(&self) -> bool {
        self.requests_read_through >= self.applied()
    }

    /// Takes the next batch from the queue. `size` returns the number of changes in it.
    pub(super) fn take_batch(
        &mut self,
        size: impl FnOnce(&mut dyn Iterator<Item = &Commit>) -> usize,
    ) -> Vec<Queued> {
        let size = size(&mut self.queue.iter().map(|queued| &queued.commit));
        let rest = self.queue.split_off(size.min(self.queue.len()));
        let batch = mem::replace(&mut self.queue, rest);
        if let Some(last) = batch.last() {
            self.taken = last.commit.sequence;
            self.in_flight = Some(self.taken);
            self.batches += 1;
        }
        batch
    }

    /// Denies a key in memory, because the change cannot be written.
    pub(super) fn deny_unwritten(&mut self, index: &Index, id: KeyId, standing: Standing) {
        let denied = (id, standing);
        if !self.unwritten.contains(&denied) {
            index.deny(UNWRITTEN, id, denied.1.clone());
            self.unwritten.push(denied);
        }
    }

    /// Retracts the unwritten denials of a key that a queued change contains.
    pub(super) fn end_unwritten(&mut self, index: &Index, id: KeyId, standing: &Standing) {
        self.unwritten.retain(|(denied, unwritten)| {
            let is_included = *denied == id && standing.is_within(unwritten);
            if is_included {
                index.retract(UNWRITTEN, id, unwritten);
            }
            !is_included
        });
    }

    /// Records that the batch in flight is durable and applied, with these keys.
    pub(super) fn confirm(
        &mut self,
        through: u64,
        keys: impl Iterator<Item = KeyId>,
        index: &Index,
    ) {
        self.in_flight = None;
        self.committed = self.committed.max(through);
        for id in keys {
            if self.pending_sequence(id) <= through {
                self.pending.remove(&id);
            }
        }
        if self.queue.is_empty() && self.applied() >= through {
            self.restart_from_base(index);
        }
    }

    /// Ends the generation: discards the queue and retracts its denials. `sent` is the outcome of the
    /// batch in flight with its last sequence; `None` for a conflict.
    pub(super) fn discard(&mut self, index: &Index, sent: Option<(u64, SentOutcome)>) {
        let end = EndedGeneration { generation: self.generation, committed: self.committed, sent };
        self.ended.push(end);
        self.generation += 1;
        self.in_flight = None;
        for Queued { commit, changes } in mem::take(&mut self.queue) {
            denials(commit.sequence, &changes).for_each(|denial| denial.retract(index));
        }
        // Not up to the newest commit of other replicas: their changes have the same sequences as the
        // discarded ones.
        self.requests.forget_after(self.committed);
        self.requests_read_through = self.requests_read_through.min(self.committed);
        self.restart_from_base(index);
    }

    /// Makes the next change build on the base.
    pub(super) fn restart_from_base(&mut self, index: &Index) {
        if let Some(base) = self.base {
            (self.tip, self.committed) = (base, base.sequence);
        }
        self.taken = self.tip.sequence;
        self.pruned_through = self.base_pruned_through;
        self.pending.clear();
        self.lasting_roots = index.lasting_roots();
    }

    /// The outcome of a change of a generation that has ended.
    pub(super) fn outcome(&self, generation: u64, sequence: u64) -> Result<(), Error> {
        self.ended.outcome(generation, sequence)
    }

    /// Retracts the denials in doubt whose sequence is applied: the index has the outcome.
    pub(super) fn decide_doubts(&mut self, index: &Index) {
        let applied = self.applied();
        for denial in self.in_doubt.extract_if(.., |denial| denial.sequence <= applied) {
            denial.retract(index);
        }
    }
}

/// Returns the denials of a pending change.
pub(super) fn denials(sequence: u64, changes: &[PlannedKey]) -> impl Iterator<Item = Denial> {
    changes.iter().filter_map(move |change| {
        let record = change.after.as_ref()?;
        Some(Denial { sequence, id: change.id, standing: record.standing() })
    })
}
