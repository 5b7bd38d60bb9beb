//! When keys were last used, exchanged between the replicas through the consensus store.
//!
//! No validation depends on last uses. They change no epoch, and no call waits for them. So a failure is
//! retried at the next interval, and unreadable values are skipped.

use super::{
    consensus::{ConsensusStore, Revision, Transaction},
    follower::Follower,
    position::AppliedPosition,
    use_reports::UseReports,
};
use crate::{codec, error::Error, id::KeyId};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

/// The interval at which a replica reads the uses of the others.
#[cfg(not(test))]
const INTERVAL: Duration = Duration::from_mins(10);
#[cfg(test)]
const INTERVAL: Duration = Duration::from_millis(300);

/// The last uses that this replica reads and writes.
pub(super) struct SharedUses<C, F> {
    pub(super) consensus: Arc<C>,
    pub(super) follower: Arc<F>,
    pub(super) position: Arc<AppliedPosition>,
    /// The revision up to which they are read, and the number of bootstraps by then.
    read: Mutex<(Revision, u64)>,
    reports: Mutex<UseReports>,
}

impl<C: ConsensusStore, F: Follower> SharedUses<C, F> {
    pub(super) fn new(consensus: Arc<C>, follower: Arc<F>, position: Arc<AppliedPosition>) -> Self {
        let (read, reports) = (Mutex::default(), Mutex::default());
        Self { consensus, follower, position, read, reports }
    }

    pub(super) fn reports(&self) -> MutexGuard<'_, UseReports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn read_periodically(self: Arc<Self>) {
        loop {
            let _ = self.read().await;
            sleep(INTERVAL).await;
        }
    }

    /// Reads the uses that were written since the last read.
    pub(super) async fn read(&self) -> Result<(), Error> {
        let (read, known) = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // A bootstrap may have emptied the index.
        let bootstraps = self.position.bootstraps();
        let after = if bootstraps == known { read } else { Revision::default() };
        let found = self.consensus.last_uses(after).await?;
        let seal = &self.follower.seals().frame;
        for (id, frame) in found.uses {
            let id = KeyId::from_u64(id);
            match codec::decode_use(&frame, id, seal) {
                Ok(minute) if id.is_reserved() => drop(self.reports().found.insert(id, minute)),
                Ok(minute) => self.follower.index().record_use(id, minute),
                Err(_) => {}
            }
        }
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = (found.revision, bootstraps);
        Ok(())
    }

    /// Writes the uses that are later than those in the consensus store. Other replicas may have used the
    /// same keys.
    pub(super) async fn write(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        let seal = &self.follower.seals().frame;
        for batch in uses.chunks(Transaction::MAX_WRITES) {
            let ids: Vec<_> = batch.iter().map(|(id, _)| id.as_u64()).collect();
            let stored = self.consensus.last_uses_of(&ids).await?;
            let is_later = |(id, minute): &&(KeyId, u32)| {
                let found = stored.iter().find(|(other, _)| *other == id.as_u64());
                let found = found.and_then(|(_, frame)| codec::decode_use(frame, *id, seal).ok());
                found.is_none_or(|found| found < *minute)
            };
            let frame = |(id, minute): &(KeyId, u32)| {
                codec::encode_use(*minute, *id, seal).map(|frame| (id.as_u64(), frame))
            };
            let later: Vec<_> =
                batch.iter().filter(is_later).map(frame).collect::<Result<_, _>>()?;
            if !later.is_empty() {
                self.consensus.put_last_uses(later).await?;
            }
        }
        Ok(())
    }
}
