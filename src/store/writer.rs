//! The writer thread: commits queued changes, and in between maintains the ledger and writes uses.
//!
//! Changes are planned one at a time under a mutex, without I/O. The thread takes the queued changes,
//! commits them as one transaction, applies them to the index, and wakes their callers. Meanwhile the
//! next batch is queued.
//!
//! | state | on | next |
//! |---|---|---|
//! | asleep | a change is queued | gathers |
//! | asleep | maintenance or uses are due | commits an empty batch |
//! | gathers | the callers of the last batch have queued, or 80 µs have passed | commits |
//! | commits | success | maintains the ledger and writes uses if they are due; asleep |
//! | commits | an unknown outcome of a ledger with one writer | poisoned |
//! | poisoned | – | writes nothing: denials stay, and looser changes stay invisible |
//! | any but poisoned | the store closes | commits the queue, writes counted refusals and uses, syncs the anchor; ended |

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

/// The maximum age of the anchor on disk. A power cut hides at most this time from the anchor.
const ANCHOR_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How long a batch waits for more changes. The sync that this saves takes longer.
const GATHER_TIME: Duration = Duration::from_micros(80);
/// With more callers than this, a batch waits for half of them only. Writing so many changes takes longer
/// than a sync, and the other half queues meanwhile.
const FEW_CALLERS: usize = 16;

/// The parts of a store, and the thread that writes.
pub(super) struct Writer {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread for a ledger that only this process writes to. `tip` is its last change.
    pub(super) fn start(
        ledger: Box<dyn Ledger>,
        index: Index,
        seals: Arc<Seals>,
        names: ScopeNames,
        tip: Tip,
        uses_interval: Duration,
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
        Self::begin(Arc::new(Core::new(parts, plans)), uses_interval)
    }

    /// Starts the thread.
    pub(super) fn begin(core: Arc<Core>, uses_interval: Duration) -> Result<Self, Error> {
        core.index.tick(core.clock.now());
        let thread = thread::Builder::new().name("portcullis-writer".into()).spawn({
            let core = Arc::clone(&core);
            move || core.run(uses_interval)
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
            // `run` catches a panic and reports it to the callers.
            let _ = thread.join();
        }
        if let Some(replicas) = self.ledger.replicas() {
            replicas.leave();
        }
    }
}

impl Core {
    /// The main loop of the thread.
    fn run(&self, uses_interval: Duration) {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut uses = Uses::new(uses_interval, self.index.minute());
            let mut maintained = Instant::now();
            while let Some(batch) = self.next_batch(&uses) {
                let is_idle = batch.is_empty();
                self.write(batch);
                // Not only when idle, since under load the anchor would become too old. Not between the
                // batches of a round of uses.
                if maintained.elapsed() >= ANCHOR_SYNC_INTERVAL || is_idle && !uses.is_due() {
                    if let Err(error) = self.maintain() {
                        self.poison(&mut self.plan(), &error);
                    }
                    maintained = Instant::now();
                    self.write_due_refusals(maintained);
                }
                if let Err(error) = uses.step(self) {
                    self.poison(&mut self.plan(), &error);
                }
            }
            self.write_all_refusals();
            uses.finish(self)?;
            self.ledger.sync_anchor()
        }));
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.poison(&mut self.plan(), &error),
            Err(_) => self.poison(&mut self.plan(), &"the writer panicked"),
        }
    }

    /// Syncs the anchor, refills the disk reserve, and removes some pruned entries.
    fn maintain(&self) -> Result<(), Error> {
        if self.poisoned().is_some() {
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

    /// Returns the queued changes, or an empty batch when maintenance or uses are due. `None`: the store
    /// closes.
    fn next_batch(&self, uses: &Uses) -> Option<Vec<Queued>> {
        let mut plans = self.plan();
        let mut timed_out = plans.poisoned.is_none() && uses.is_due();
        while plans.queue.is_empty() && (!timed_out || plans.closing) {
            if plans.closing {
                return None;
            }
            let removes = plans.has_pruned_entries && plans.poisoned.is_none();
            let timeout = if removes { Duration::ZERO } else { ANCHOR_SYNC_INTERVAL };
            (plans, timed_out) = self.sleep(plans, 1, timeout);
        }
        plans = self.gather(plans);
        Some(self.take_batch(&mut plans))
    }

    /// Waits briefly for the callers of the last batch, which are just being woken. One sync for all of
    /// them is cheaper than two for a half each, unless they are many. A caller that does not return delays
    /// the others once.
    fn gather<'p>(&'p self, plans: MutexGuard<'p, Plans>) -> MutexGuard<'p, Plans> {
        let Plans { callers, ref queue, closing, .. } = *plans;
        let length = if callers > FEW_CALLERS { callers / 2 } else { callers };
        // Under a model checker no wait times out.
        if sync::MODELLED || queue.is_empty() || queue.len() >= length || closing {
            return plans;
        }
        self.sleep(plans, length, GATHER_TIME).0
    }

    /// Sleeps until the queue has this length or the timeout has passed. Returns whether it timed out.
    fn sleep<'p>(
        &'p self,
        mut plans: MutexGuard<'p, Plans>,
        length: usize,
        timeout: Duration,
    ) -> (MutexGuard<'p, Plans>, bool) {
        plans.wakes_at = Some(length);
        let woken = self.wake.wait_timeout(plans, timeout).unwrap_or_else(PoisonError::into_inner);
        let (mut plans, timeout) = woken;
        plans.wakes_at = None;
        (plans, timeout.timed_out())
    }
}

#[cfg(test)]
mod tests {
    use super::ANCHOR_SYNC_INTERVAL;
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

    /// Returns the number of anchor syncs during `act`, and the allowed maximum.
    fn syncs_during(script: &Script, act: impl FnOnce()) -> (usize, usize) {
        let (begun, before) = (Instant::now(), script.anchor_syncs());
        act();
        // Counted before the time is taken, so that the time covers every counted sync.
        let syncs = script.anchor_syncs() - before;
        let most = begun.elapsed().as_secs() / ANCHOR_SYNC_INTERVAL.as_secs() + 1;
        (syncs, usize::try_from(most).unwrap())
    }

    #[test]
    fn anchor_is_synced_once_a_second_under_load() {
        let (store, script) = scripted(uses::INTERVAL);
        let (id, _) = issue(&store, &script, new_key(&store, &["api.read"], true));
        // The start syncs once, because there may be pruned entries.
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
    fn anchor_is_not_synced_between_batches_of_uses() {
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
    fn prune_planned_during_a_removal_is_also_removed() {
        let (store, _script) = scripted(uses::INTERVAL);
        store.writer.plan().pruned_through = 1;
        store.writer.maintain().unwrap();
        assert!(store.writer.plan().has_pruned_entries);
    }

    /// Otherwise each change would wait for the next sync of the anchor.
    #[test]
    fn change_wakes_the_sleeping_writer() {
        let (store, script) = scripted(uses::INTERVAL);
        let begun = Instant::now();
        for _ in 0..40 {
            issue(&store, &script, new_key(&store, &["api.read"], true));
        }
        assert!(begun.elapsed() < 10 * ANCHOR_SYNC_INTERVAL);
    }
}
