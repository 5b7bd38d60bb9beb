//! Who waits for a change, and how they are told.

use super::{Condvar, Core, MutexGuard, Plans};
use crate::error::Error;
use std::sync::PoisonError;

impl Core {
    /// Waits until this change is durable and applied.
    pub(in crate::store) fn wait(
        &self,
        mut plans: MutexGuard<'_, Plans>,
        sequence: u64,
    ) -> Result<(), Error> {
        #[cfg(feature = "cluster")]
        let line = plans.common.line;
        loop {
            #[cfg(feature = "cluster")]
            if plans.common.line != line {
                return plans.common.fate(line, sequence);
            }
            if plans.committed >= sequence {
                return Ok(());
            }
            if let Some(failure) = &plans.failure {
                return Err(Error::NotDurable(failure.clone()));
            }
            let batch = plans.batches + usize::from(sequence > plans.taken);
            plans = self.settled(batch).wait(plans).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What those wait on whose change is in this batch.
    fn settled(&self, batch: usize) -> &Condvar {
        let [even, odd] = &self.settled;
        if batch.is_multiple_of(2) { even } else { odd }
    }

    /// Waits until all that was cut from the trail is gone.
    pub(in crate::store) fn wait_until_swept(&self) -> Result<(), Error> {
        let mut plans = self.plan();
        while plans.sweeping {
            if let Some(failure) = &plans.failure {
                return Err(Error::NotDurable(failure.clone()));
            }
            plans = self.swept.wait(plans).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Tells those who wait for this batch, or everyone where more may have ended with it. A failure
    /// is for good, and what is queued behind it goes with it.
    pub(super) fn settle(&self, outcome: Result<u64, Error>) {
        let mut plans = self.plan();
        let is_for_all = match outcome {
            Ok(committed) => {
                plans.committed = committed;
                self.ledger.is_shared()
            }
            Err(error) => {
                plans.failure.get_or_insert_with(|| error.to_string().into());
                plans.queue.clear();
                self.swept.notify_all();
                true
            }
        };
        let batch = plans.batches;
        drop(plans);
        self.settled(batch).notify_all();
        if is_for_all {
            self.settled(batch + 1).notify_all();
        }
    }
}
