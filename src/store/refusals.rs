//! Counts repeated refusals, and writes the counts to the audit log.

use super::{
    core::Core,
    refusal_counters::{CountedActs, RefusalCounters, RefusedAct},
};
use crate::{error::Error, sync::waiting::MutexGuard};
use std::{sync::PoisonError, time::Instant};

impl Core {
    /// Counts a refused act if it repeats one of the last minute. Otherwise returns `false`: the caller
    /// writes the act, and calls [`refusal_failed`](Self::refusal_failed) if that fails.
    pub(super) fn refusal_is_repeated(&self, act: &RefusedAct<'_>) -> bool {
        self.refusals().is_repeated(act, self.clock.now(), Instant::now())
    }

    /// Counts a refused act that could not be written. Returns whether it is the first one, which is
    /// logged.
    pub(super) fn refusal_failed(&self, act: &RefusedAct<'_>) -> bool {
        self.refusals().failed(act, self.clock.now(), Instant::now())
    }

    /// Writes the counts whose minute is over.
    pub(super) fn write_due_refusals(&self, now: Instant) {
        if !self.has_space() {
            return;
        }
        let counted = self.refusals().take_due(now);
        if let Err(error) = self.write_refusals(&counted) {
            match error {
                // These were certainly not written.
                Error::Contended | Error::ConsensusRefused(_) | Error::NoRoom { .. } => {
                    self.refusals().put_back(counted, now);
                }
                error => log_missing(&counted, &error),
            }
        }
    }

    /// Writes all counts when the store closes.
    pub(super) fn write_all_refusals(&self) {
        let counted = self.refusals().take_all();
        if let Err(error) = self.retry(|| self.write_refusals(&counted)) {
            log_missing(&counted, &error);
        }
    }

    /// Queues the entries, and commits everything that is queued. Only the writer thread calls this, so no
    /// other thread commits meanwhile.
    fn write_refusals(&self, counted: &[CountedActs]) -> Result<(), Error> {
        if counted.is_empty() {
            return Ok(());
        }
        self.check_space()?;
        let mut plans = self.plan();
        plans.check_writable()?;
        let mut sequence = 0;
        for counted in counted {
            sequence = self.queue(&mut plans, counted.entry(), Vec::new(), Vec::new())?;
        }
        let generation = plans.generation;
        drop(plans);
        loop {
            let batch = self.take_batch(&mut self.plan());
            self.write(batch);
            let plans = self.plan();
            if plans.generation != generation {
                return plans.outcome(generation, sequence);
            }
            if plans.committed >= sequence {
                return Ok(());
            }
            if let Some(reason) = &plans.poisoned {
                return Err(Error::NotDurable(reason.clone()));
            }
        }
    }

    pub(super) fn refusals(&self) -> MutexGuard<'_, RefusalCounters> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the number of refused acts that are missing from the audit log.
#[cfg_attr(not(feature = "axum"), expect(unused_variables, reason = "there is no log"))]
fn log_missing(counted: &[CountedActs], error: &Error) {
    #[cfg(feature = "axum")]
    {
        let count: u64 = counted.iter().map(CountedActs::count).sum();
        tracing::error!(count, %error, "refused acts that were counted are missing from the audit log");
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        audit_entry::{Act, Attempt},
        record::Actor,
        store::Store,
    };
    use std::{thread, time::Duration};

    #[test]
    fn counted_refusals_are_written_after_one_minute() {
        let room = tempfile::tempdir().unwrap();
        let store = Store::builder()
            .scopes(crate::scope::catalogue::financial_data())
            .open(room.path().join("keys"))
            .unwrap();
        let acting = store.acting_as(Actor::Local(7));
        for _ in 0..5 {
            acting.refuse(Attempt::List, None, "no").unwrap();
        }
        assert_eq!(store.audit(1, 10).unwrap().len(), 1);
        store.writer.refusals().age();
        while store.audit(1, 10).unwrap().len() < 2 {
            thread::sleep(Duration::from_millis(10));
        }
        let entry = &store.audit(2, 10).unwrap()[0];
        assert_eq!(entry.actor, Actor::Local(7));
        assert!(matches!(entry.act, Act::RefuseRepeated { count: 4, .. }), "{entry:?}");
        // The next one is an entry again.
        acting.refuse(Attempt::List, None, "no").unwrap();
        let entry = &store.audit(3, 10).unwrap()[0];
        assert!(matches!(entry.act, Act::Refuse { .. }), "{entry:?}");
    }
}
