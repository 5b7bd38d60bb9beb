//! The commit of a batch: the outcome from the ledger, its effect on the plans, and the waiting callers.

use super::{
    core::Core,
    plans::{Denial, PlannedKey, Plans, Queued, SentOutcome, denials},
};
use crate::{
    error::Error,
    ledger::{CommitOutcome, Replicas, Tip},
    sync::waiting::{Condvar, MutexGuard},
};
use std::{fmt::Display, sync::PoisonError};

/// The changes of one commit, with its sequence.
type Changes = (u64, Vec<PlannedKey>);

impl Core {
    /// Takes as many queued changes as fit into one commit.
    pub(super) fn take_batch(&self, plans: &mut Plans) -> Vec<Queued> {
        plans.take_batch(|queued| self.ledger.batch_size(queued))
    }

    /// Commits a batch, records the outcome, and wakes the callers whose changes are in it.
    pub(super) fn write(&self, batch: Vec<Queued>) {
        let Some(last) = batch.last().map(|queued| queued.commit.tip()) else { return };
        let (commits, changes): (Vec<_>, Vec<Changes>) = batch
            .into_iter()
            .map(|Queued { commit, changes }| {
                let sequence = commit.sequence;
                (commit, (sequence, changes))
            })
            .unzip();
        let outcome = self.ledger.commit(commits);
        let is_shared = self.ledger.replicas().is_some();
        let pruned_through = self.ledger.audit_start().through;
        let mut plans = self.plan();
        match outcome {
            CommitOutcome::Durable => {
                // Where replicas share the ledger, this replica has applied the changes, or its gate is
                // shut.
                let applied = if is_shared {
                    Ok(())
                } else {
                    plans.base_pruned_through = pruned_through;
                    self.apply(&mut plans, last, &changes)
                };
                match applied {
                    Ok(()) => {
                        let ids = changes.iter().flat_map(|(_, changes)| changes);
                        plans.confirm(last.sequence, ids.map(|change| change.id), &self.index);
                    }
                    Err(error) => self.poison(&mut plans, &error),
                }
            }
            CommitOutcome::Conflict => {
                self.discard(&mut plans, None);
                self.retract(&changes);
            }
            CommitOutcome::Refused(why) => {
                self.discard(&mut plans, Some((last.sequence, SentOutcome::Refused(why))));
                self.retract(&changes);
            }
            CommitOutcome::Unknown(why) if is_shared => {
                self.discard(&mut plans, Some((last.sequence, SentOutcome::Unknown(why))));
                plans.in_doubt.extend(changes.iter().flat_map(denials_of));
                plans.decide_doubts(&self.index);
            }
            CommitOutcome::Unknown(why) => self.poison(&mut plans, &why),
        }
        let batch = plans.batches;
        drop(plans);
        self.done(batch).notify_all();
    }

    /// Applies a batch that is durable on a ledger with no other writer.
    fn apply(&self, plans: &mut Plans, last: Tip, changes: &[Changes]) -> Result<(), Error> {
        self.clock.advance(last.newest);
        plans.callers = changes.len() + plans.queue.len();
        for (sequence, changes) in changes {
            for PlannedKey { id, digest, after } in changes {
                self.index.apply(*sequence, *id, *digest, after.as_deref())?;
            }
        }
        plans.base = Some(last);
        plans.requests_read_through = last.sequence;
        self.audit_signal.announce(last.sequence);
        Ok(())
    }

    /// Ends the generation of plans, and wakes all its callers.
    fn discard(&self, plans: &mut Plans, sent: Option<(u64, SentOutcome)>) {
        plans.discard(&self.index, sent);
        self.done.iter().for_each(Condvar::notify_all);
    }

    fn retract(&self, changes: &[Changes]) {
        for denial in changes.iter().flat_map(denials_of) {
            denial.retract(&self.index);
        }
    }

    /// Poisons the store: nothing is written until it is reopened, because the content of the disk is
    /// unknown. Clears the queue; what its changes deny stays denied.
    pub(super) fn poison(&self, plans: &mut Plans, why: &dyn Display) {
        plans.poisoned.get_or_insert_with(|| why.to_string().into());
        plans.queue.clear();
        self.removed.notify_all();
        self.done.iter().for_each(Condvar::notify_all);
    }

    /// Waits until this change is durable and applied.
    pub(super) fn wait(
        &self,
        mut plans: MutexGuard<'_, Plans>,
        sequence: u64,
    ) -> Result<(), Error> {
        let generation = plans.generation;
        loop {
            if plans.generation != generation {
                return plans.outcome(generation, sequence);
            }
            if plans.committed >= sequence {
                return Ok(());
            }
            if let Some(reason) = &plans.poisoned {
                return Err(Error::NotDurable(reason.clone()));
            }
            let batch = plans.batches + usize::from(sequence > plans.taken);
            plans = self.done(batch).wait(plans).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until each of these changes of one generation is durable and applied, or has failed.
    pub(super) fn wait_each(&self, generation: u64, sequences: &[u64]) -> Vec<Result<(), Error>> {
        let last = sequences.iter().copied().max().unwrap_or(0);
        let mut plans = self.plan();
        while plans.generation == generation && plans.committed < last && plans.poisoned.is_none() {
            let batch = plans.batches + usize::from(last > plans.taken);
            plans = self.done(batch).wait(plans).unwrap_or_else(PoisonError::into_inner);
        }
        let outcome = |sequence: &u64| match &plans.poisoned {
            _ if plans.generation != generation => plans.outcome(generation, *sequence),
            _ if plans.committed >= *sequence => Ok(()),
            reason => Err(Error::NotDurable(reason.clone().unwrap_or_default())),
        };
        sequences.iter().map(outcome).collect()
    }

    /// Fails unless this replica has applied the newest state.
    pub(super) fn confirm_newest(&self) -> Result<(), Error> {
        match self.ledger.replicas().map_or(CommitOutcome::Durable, Replicas::confirm_newest) {
            CommitOutcome::Durable => Ok(()),
            CommitOutcome::Conflict => Err(Error::Contended),
            CommitOutcome::Refused(why) => Err(Error::ConsensusRefused(why)),
            CommitOutcome::Unknown(why) => Err(Error::Consensus(why)),
        }
    }

    /// Returns the condition variable of the callers with a change in this batch.
    fn done(&self, batch: usize) -> &Condvar {
        let [even, odd] = &self.done;
        if batch.is_multiple_of(2) { even } else { odd }
    }

    /// Waits until all pruned entries are removed.
    pub(super) fn wait_until_removed(&self) -> Result<(), Error> {
        let mut plans = self.plan();
        while plans.has_pruned_entries {
            if let Some(reason) = &plans.poisoned {
                return Err(Error::NotDurable(reason.clone()));
            }
            plans = self.removed.wait(plans).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

fn denials_of((sequence, changes): &Changes) -> impl Iterator<Item = Denial> {
    denials(*sequence, changes)
}
