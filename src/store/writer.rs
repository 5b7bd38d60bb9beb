//! The writer thread: commits what is queued, and in between maintains the ledger and writes uses.
//!
//! Changes are planned one at a time under a mutex, without I/O. The thread takes everything that is
//! queued, commits it as one transaction, applies it to the index, and wakes its callers; meanwhile
//! the next batch gathers. After a failed commit it writes nothing more: the outcome is unknown, so
//! what the changes deny stays denied and what they allow stays unseen.

use super::{
    core::{Core, Parts},
    plans::{Plans, Queued},
    requests::{self, Requests, UNLINKED_LIMIT},
    scope_names::ScopeNames,
    uses::Uses,
};
use crate::{
    clock::Clock,
    digest::Seals,
    error::Error,
    gate::Gate,
    index::Index,
    ledger::{Ledger, Tip},
    sync::{
        self,
        waiting::{
            MutexGuard,
            thread::{self, JoinHandle},
        },
    },
};
use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// The maximum age of the anchor on disk, which is what a power cut can hide from it.
const ANCHOR_SYNC: Duration = Duration::from_secs(1);
/// How long a batch waits for more changes: less than a disk takes for the sync that this saves.
const GATHERING: Duration = Duration::from_micros(80);
/// Of more callers than this half is enough: to write their changes takes longer than to sync them,
/// and the other half comes meanwhile.
const FEW_CALLERS: usize = 16;

/// The parts of a store, and the thread that writes.
pub(super) struct Writer {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts to write to a ledger that only this process writes to, and that has come to `tip`.
    pub(super) fn start(
        ledger: Box<dyn Ledger>,
        index: Index,
        seals: Arc<Seals>,
        names: ScopeNames,
        tip: Tip,
        uses_every: Duration,
    ) -> Result<Self, Error> {
        let clock = Clock::new(tip.newest);
        let pruned_through = ledger.audit_start().through;
        let audit = |after, limit| ledger.audit(after, limit, names.catalogue());
        let all = pruned_through..tip.sequence;
        let requests = Requests::of(&requests::read(audit, all, clock.now(), UNLINKED_LIMIT)?);
        let mut plans = Plans::new(Some(tip), requests);
        plans.base_pruned_through = pruned_through;
        plans.restart_from_base(&index);
        let parts = Parts { gate: Gate::always_open(), index, ledger, clock, seals, names };
        Self::begin(Arc::new(Core::new(parts, plans)), uses_every)
    }

    /// Starts the thread.
    pub(super) fn begin(core: Arc<Core>, uses_every: Duration) -> Result<Self, Error> {
        core.index.tick(core.clock.now());
        let thread = thread::Builder::new().name("portcullis-writer".into()).spawn({
            let core = Arc::clone(&core);
            move || core.run(uses_every)
        });
        Ok(Self {
            core,
            thread: Some(thread.map_err(|e| Error::io("starting the writer thread", e))?),
        })
    }
}

impl Deref for Writer {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Drop for Writer {
    /// Writes everything that is queued, and syncs the anchor, before the store is closed.
    fn drop(&mut self) {
        self.plan().closing = true;
        self.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in it was contained and reported to the callers.
            let _ = thread.join();
        }
        if let Some(replicas) = self.ledger.replicas() {
            replicas.leave();
        }
    }
}

impl Core {
    /// The main loop of the thread.
    fn run(&self, uses_every: Duration) {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut uses = Uses::new(uses_every, self.index.minute());
            let mut maintained = Instant::now();
            while let Some(batch) = self.next_batch(&uses) {
                let is_idle = batch.is_empty();
                self.write(batch);
                // Not only when it is idle: under load the anchor would grow old. And not between
                // the batches of a round of uses.
                if maintained.elapsed() >= ANCHOR_SYNC || is_idle && !uses.are_under_way() {
                    if let Err(error) = self.maintain() {
                        self.fail(&mut self.plan(), &error);
                    }
                    maintained = Instant::now();
                    self.write_due_refusals(maintained);
                }
                if let Err(error) = uses.step(self) {
                    self.fail(&mut self.plan(), &error);
                }
            }
            self.write_all_refusals();
            uses.finish(self)?;
            self.ledger.sync_anchor()
        }));
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(&mut self.plan(), &error),
            Err(_) => self.fail(&mut self.plan(), &"the writer panicked"),
        }
    }

    /// Syncs the anchor, refills the disk reserve, and removes some pruned entries.
    fn maintain(&self) -> Result<(), Error> {
        if self.failure().is_some() {
            return Ok(());
        }
        self.ledger.sync_anchor()?;
        self.ledger.keep_reserve();
        let pruned_through = self.ledger.audit_start().through;
        let are_more = self.ledger.remove_pruned()?;
        let mut plans = self.plan();
        plans.has_pruned_entries = are_more || plans.pruned_through > pruned_through;
        if !plans.has_pruned_entries {
            self.removed.notify_all();
        }
        Ok(())
    }

    /// Everything that is queued; or an empty batch when maintenance or uses are due; or `None` at
    /// the end.
    fn next_batch(&self, uses: &Uses) -> Option<Vec<Queued>> {
        let mut plans = self.plan();
        let mut timed_out = plans.failure.is_none() && uses.are_under_way();
        while plans.queue.is_empty() && (!timed_out || plans.closing) {
            if plans.closing {
                return None;
            }
            let removes = plans.has_pruned_entries && plans.failure.is_none();
            let patience = if removes { Duration::ZERO } else { ANCHOR_SYNC };
            (plans, timed_out) = self.sleep(plans, 1, patience);
        }
        plans = self.gather(plans);
        Some(self.take_batch(&mut plans))
    }

    /// Waits a little for the callers of the last batch, who are just being woken: one sync for all of
    /// them is cheaper than one for each half, unless they are many. A caller who does not come back
    /// delays the others once.
    fn gather<'p>(&'p self, plans: MutexGuard<'p, Plans>) -> MutexGuard<'p, Plans> {
        let Plans { callers, ref queue, closing, .. } = *plans;
        let length = if callers > FEW_CALLERS { callers / 2 } else { callers };
        // Under a model checker no wait ends by itself.
        if sync::MODELLED || queue.is_empty() || queue.len() >= length || closing {
            return plans;
        }
        self.sleep(plans, length, GATHERING).0
    }

    /// Sleeps until the queue has this length, or for so long; and whether the time ran out.
    fn sleep<'p>(
        &'p self,
        mut plans: MutexGuard<'p, Plans>,
        length: usize,
        patience: Duration,
    ) -> (MutexGuard<'p, Plans>, bool) {
        plans.wakes_at = Some(length);
        let woken = self.wake.wait_timeout(plans, patience).unwrap_or_else(PoisonError::into_inner);
        let (mut plans, timeout) = woken;
        plans.wakes_at = None;
        (plans, timeout.timed_out())
    }
}

#[cfg(test)]
mod tests {
    use super::ANCHOR_SYNC;
    use crate::{
        Change,
        ledger::scripted::Script,
        store::{
            testing::scripted,
            tests::{issue, new_key},
            uses,
        },
    };
    use std::{
        collections::HashSet,
        thread,
        time::{Duration, Instant},
    };

    /// Counts how often the anchor is synced meanwhile, and how often it may be at most.
    fn syncs_during(script: &Script, act: impl FnOnce()) -> (usize, usize) {
        let (begun, before) = (Instant::now(), script.anchor_syncs());
        act();
        // Counted first, so that the time covers all that is counted.
        let syncs = script.anchor_syncs() - before;
        let most = begun.elapsed().as_secs() / ANCHOR_SYNC.as_secs() + 1;
        (syncs, usize::try_from(most).unwrap())
    }

    #[test]
    fn the_anchor_is_synced_each_second_under_load_and_not_at_each_change() {
        let (store, script) = scripted(uses::EVERY);
        let (id, _) = issue(&store, &script, new_key(&store, &["api.read"], true));
        // One when it starts, as there may be pruned entries.
        while script.anchor_syncs() == 0 {
            thread::yield_now();
        }
        let (syncs, most) = syncs_during(&script, || {
            for change in 0..40 {
                script.verdict(true);
                let name = Some(change.to_string());
                store.update(id, Change { name, ..Change::default() }).unwrap();
                thread::sleep(Duration::from_millis(40));
            }
        });
        assert!((1..=most).contains(&syncs), "{syncs} of at most {most}");
    }

    #[test]
    fn the_anchor_is_not_synced_between_the_batches_of_a_round_of_uses() {
        let (store, script) = scripted(Duration::ZERO);
        let made = || issue(&store, &script, new_key(&store, &["api.read"], true));
        let keys: Vec<_> = (0..160).map(|_| made()).collect();
        let (syncs, most) = syncs_during(&script, || {
            for (_, key) in &keys {
                store.authenticate_key(key.as_bytes()).unwrap();
            }
            let mut noted = HashSet::new();
            while noted.len() < keys.len() {
                noted.extend(script.noted().into_iter().map(|(id, _)| id));
            }
        });
        assert!(syncs <= most, "{syncs} of at most {most}");
    }

    /// `prune_audit` returns when all pruned entries are removed.
    #[test]
    fn entries_of_a_prune_that_is_planned_during_a_removal_are_removed_as_well() {
        let (store, _script) = scripted(uses::EVERY);
        store.writer.plan().pruned_through = 1;
        store.writer.maintain().unwrap();
        assert!(store.writer.plan().has_pruned_entries);
    }

    /// Else each would wait until the anchor is synced again.
    #[test]
    fn a_change_wakes_the_writer_from_its_sleep() {
        let (store, script) = scripted(uses::EVERY);
        let begun = Instant::now();
        for _ in 0..40 {
            issue(&store, &script, new_key(&store, &["api.read"], true));
        }
        assert!(begun.elapsed() < 10 * ANCHOR_SYNC);
    }
}
