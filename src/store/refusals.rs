//! Counting refused acts that repeat, and writing what was counted.

use super::{
    core::Core,
    refused::{Closed, Refusals, Refused},
};
use crate::{error::Error, sync::waiting::MutexGuard};
use std::{sync::PoisonError, time::Instant};

impl Core {
    /// Counts a refused act if it repeats one of the last minute. Otherwise it is to be written, and
    /// if that fails, [`refusal_failed`](Self::refusal_failed) is to be called.
    pub(super) fn refusal_is_repeated(&self, act: &Refused<'_>) -> bool {
        self.refusals().is_repeated(act, self.clock.now(), Instant::now())
    }

    /// Counts a refused act that could not be written; and whether the log has no line about such
    /// acts yet.
    pub(super) fn refusal_failed(&self, act: &Refused<'_>) -> bool {
        self.refusals().failed(act, self.clock.now(), Instant::now())
    }

    /// Writes what was counted for a minute.
    pub(super) fn write_due_refusals(&self, now: Instant) {
        if !self.has_room() {
            return;
        }
        let closed = self.refusals().close_due(now);
        if let Err(error) = self.write_refusals(&closed) {
            match error {
                // These were certainly not written.
                Error::Contended | Error::ConsensusRefused(_) | Error::NoRoom { .. } => {
                    self.refusals().put_back(closed, now);
                }
                error => log_missing(&closed, &error),
            }
        }
    }

    /// Writes all that was counted, at the end.
    pub(super) fn write_all_refusals(&self) {
        let closed = self.refusals().close_all();
        if let Err(error) = self.again(|| self.write_refusals(&closed)) {
            log_missing(&closed, &error);
        }
    }

    /// Queues the entries, and commits all that is queued. The writer's own thread calls this, so
    /// nobody else commits meanwhile.
    fn write_refusals(&self, closed: &[Closed]) -> Result<(), Error> {
        if closed.is_empty() {
            return Ok(());
        }
        self.check_room()?;
        let mut plans = self.plan();
        plans.check_writable()?;
        let mut sequence = 0;
        for closed in closed {
            sequence = self.queue(&mut plans, closed.entry(), Vec::new(), Vec::new())?;
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
            if let Some(failure) = &plans.failure {
                return Err(Error::NotDurable(failure.clone()));
            }
        }
    }

    pub(super) fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where there is a log, it says how many refused acts the audit log does not have.
#[cfg_attr(not(feature = "axum"), expect(unused_variables, reason = "there is no log"))]
fn log_missing(closed: &[Closed], error: &Error) {
    #[cfg(feature = "axum")]
    {
        let count: u64 = closed.iter().map(Closed::count).sum();
        tracing::error!(count, %error, "refused acts that were counted are missing from the audit log");
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        audit::{Act, Attempt},
        record::Actor,
        store::Store,
    };
    use std::{thread, time::Duration};

    #[test]
    fn refused_acts_that_were_counted_are_written_when_their_minute_is_over() {
        let room = tempfile::tempdir().unwrap();
        let store = Store::open(room.path().join("keys")).unwrap();
        let acting = store.acting_as(Actor::Local(7), None);
        for _ in 0..5 {
            acting.refuse(Attempt::List, None, "no").unwrap();
        }
        assert_eq!(store.audit(1, 10).unwrap().len(), 1);
        store.writer.refusals().age();
        while store.audit(1, 10).unwrap().len() < 2 {
            thread::sleep(Duration::from_millis(10));
        }
        let told = &store.audit(2, 10).unwrap()[0];
        assert_eq!(told.actor, Actor::Local(7));
        assert!(matches!(told.act, Act::RefuseRepeated { count: 4, .. }), "{told:?}");
        // The next one is an entry again.
        acting.refuse(Attempt::List, None, "no").unwrap();
        let told = &store.audit(3, 10).unwrap()[0];
        assert!(matches!(told.act, Act::Refuse { .. }), "{told:?}");
    }
}
