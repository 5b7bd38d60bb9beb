//! The writer thread's life: it commits what is queued, applies it, tells who waits, and in between
//! syncs the anchor, sweeps what was cut from the trail and writes when keys were last used.

use super::{Core, KeyChange, MutexGuard, Plans, Queued};
use crate::{error::Error, ledger::Commit, store::uses::Uses, sync};
use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::PoisonError,
    time::{Duration, Instant},
};

/// How old the anchor on disk may get, which is what a power cut can hide from it.
const ANCHOR_SYNC: Duration = Duration::from_secs(1);
/// How long a batch waits for more: less than a disk takes for the sync that this saves.
const GATHERING: Duration = Duration::from_micros(80);
/// Of a crowd larger than this half is enough: to write its changes takes longer than to sync them,
/// and the other half comes meanwhile.
const SMALL_CROWD: usize = 16;

impl Core {
    /// The thread's life.
    pub(super) fn run(&self, uses_every: Duration) {
        let life = catch_unwind(AssertUnwindSafe(|| {
            let mut uses = Uses::new(uses_every, self.index.minute());
            let mut kept = Instant::now();
            while let Some(batch) = self.next_batch(&uses) {
                let is_idle = batch.is_empty();
                if !is_idle {
                    let outcome = self.write(batch);
                    self.settle(outcome);
                }
                // Not only when it is idle: under load the anchor would grow old. And not between
                // the parts of a round of uses.
                if kept.elapsed() >= ANCHOR_SYNC || is_idle && !uses.are_under_way() {
                    let outcome = self.keep_up();
                    self.settle(outcome);
                    kept = Instant::now();
                    self.write_due_refusals(kept);
                }
                if let Err(error) = uses.step(self) {
                    self.settle(Err(error));
                }
            }
            self.write_all_refusals();
            uses.finish(self)?;
            self.ledger.sync_anchor()
        }));
        let end = life.unwrap_or_else(|_| {
            Err(Error::io("writing a change", io::Error::other("the writer panicked")))
        });
        self.settle(end.map(|()| self.plan().committed));
    }

    /// Syncs the anchor, and sweeps away some of what was cut from the trail.
    fn keep_up(&self) -> Result<u64, Error> {
        if let Some(failure) = self.failure() {
            return Err(Error::Poisoned(failure));
        }
        self.ledger.sync_anchor()?;
        self.ledger.keep_reserve();
        let floor = self.ledger.floor().through;
        let more = self.ledger.sweep()?;
        let mut plans = self.plan();
        plans.sweeping = more || plans.floor > floor;
        if !plans.sweeping {
            self.swept.notify_all();
        }
        Ok(plans.committed)
    }

    /// All that is queued; or an empty batch when it is time to keep up or to write uses; or `None`
    /// at the end.
    fn next_batch(&self, uses: &Uses) -> Option<Vec<Queued>> {
        let mut plans = self.plan();
        let mut timed_out = plans.failure.is_none() && uses.are_under_way();
        while plans.queue.is_empty() && (!timed_out || plans.closing) {
            if plans.closing {
                return None;
            }
            let sweeps = plans.sweeping && plans.failure.is_none();
            let patience = if sweeps { Duration::ZERO } else { ANCHOR_SYNC };
            (plans, timed_out) = self.sleep(plans, 1, patience);
        }
        plans = self.gather(plans);
        Some(self.take_batch(&mut plans))
    }

    /// Takes what is queued, as much as goes into one transaction.
    #[cfg_attr(not(feature = "cluster"), expect(clippy::unused_self, reason = "one is for all"))]
    pub(super) fn take_batch(&self, plans: &mut Plans) -> Vec<Queued> {
        #[cfg(feature = "cluster")]
        let batch = if self.ledger.shared().is_some() {
            let Plans { common, queue, .. } = plans;
            common.takes(queue)
        } else {
            mem::take(&mut plans.queue)
        };
        #[cfg(not(feature = "cluster"))]
        let batch = mem::take(&mut plans.queue);
        if let Some(last) = batch.last() {
            plans.taken = last.commit.sequence;
            plans.batches += 1;
        }
        batch
    }

    /// Waits a little for those who were there when the last batch was done: they learn of it just
    /// now, and one sync for all of them is cheaper than one for each half, unless they are many.
    /// Whoever does not come back holds the others up once.
    fn gather<'p>(&'p self, plans: MutexGuard<'p, Plans>) -> MutexGuard<'p, Plans> {
        let Plans { crowd, ref queue, closing, .. } = *plans;
        let awaited = if crowd > SMALL_CROWD { crowd / 2 } else { crowd };
        // Under a model checker no wait ends by itself.
        if sync::MODELLED || queue.is_empty() || queue.len() >= awaited || closing {
            return plans;
        }
        self.sleep(plans, awaited, GATHERING).0
    }

    /// Sleeps until so many changes are queued, or so long; and whether it was so long.
    fn sleep<'p>(
        &'p self,
        mut plans: MutexGuard<'p, Plans>,
        awaited: usize,
        patience: Duration,
    ) -> (MutexGuard<'p, Plans>, bool) {
        plans.awaited = Some(awaited);
        let woken = self.wake.wait_timeout(plans, patience).unwrap_or_else(PoisonError::into_inner);
        let (mut plans, timeout) = woken;
        plans.awaited = None;
        (plans, timeout.timed_out())
    }

    /// Commits a batch and applies it; gives the number of the last committed change.
    pub(super) fn write(&self, batch: Vec<Queued>) -> Result<u64, Error> {
        let (commits, changes): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|q| (q.commit, q.changes)).unzip();
        let Some(last) = commits.last() else { return Ok(self.plan().committed) };
        #[cfg(feature = "cluster")]
        if let Some(shared) = self.ledger.shared() {
            return Ok(self.write_shared(shared, commits, changes));
        }
        self.ledger.commit(&commits)?;
        self.clock.advance(last.at);
        self.publish(&commits, changes)?;
        Ok(last.sequence)
    }

    /// Applies committed changes.
    fn publish(&self, commits: &[Commit], changes: Vec<Vec<KeyChange>>) -> Result<(), Error> {
        let mut plans = self.plan();
        plans.crowd = commits.len() + plans.queue.len();
        for (commit, changes) in commits.iter().zip(changes) {
            for KeyChange { id, digest, after } in changes {
                self.index.apply(commit.sequence, id, digest, after.as_deref())?;
                if plans.pending_sequence(id) <= commit.sequence {
                    plans.pending.remove(&id);
                }
            }
        }
        Ok(())
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
        // One when it starts, as it may have to sweep.
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
    fn the_anchor_is_not_synced_between_the_parts_of_a_round_of_uses() {
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

    /// `prune_audit` returns when all of it is gone.
    #[test]
    fn a_cut_that_is_planned_during_a_sweep_is_swept_as_well() {
        let (store, _script) = scripted(uses::EVERY);
        store.writer.plan().floor = 1;
        store.writer.keep_up().unwrap();
        assert!(store.writer.plan().sweeping);
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
