//! When keys were last used, as the replicas tell each other by way of the engine.
//!
//! It decides nothing: it is no change, has no epoch, and nobody waits for it. So what fails here is
//! left for the next time, and what cannot be read is left out.

use super::{
    bootstrap::Applied,
    follower::Follower,
    journal::{Fault, Journal, Revision},
};
use crate::{codec, id::KeyId, ledger::shared::MOST_VALUES};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

/// How often a replica learns what the others have written.
#[cfg(not(test))]
const EVERY: Duration = Duration::from_mins(10);
#[cfg(test)]
const EVERY: Duration = Duration::from_millis(300);

/// What was told so far.
pub(super) struct Uses<J, F> {
    journal: Arc<J>,
    follower: Arc<F>,
    position: Arc<Applied>,
    /// Up to where it was learnt, and how often everything had been read anew by then.
    learnt: Mutex<(Revision, u64)>,
}

impl<J: Journal, F: Follower> Uses<J, F> {
    pub(super) fn new(journal: Arc<J>, follower: Arc<F>, position: Arc<Applied>) -> Self {
        Self { journal, follower, position, learnt: Mutex::default() }
    }

    /// Learns again and again.
    pub(super) async fn keep_learning(self: Arc<Self>) {
        loop {
            let _ = self.learn().await;
            sleep(EVERY).await;
        }
    }

    /// Learns what was written since the last time.
    pub(super) async fn learn(&self) -> Result<(), Fault> {
        let (learnt, known) = *self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever read everything anew may have forgotten what it had learnt.
        let bootstraps = self.position.bootstraps();
        let after = if bootstraps == known { learnt } else { Revision::default() };
        let (upto, uses) = self.journal.uses(after).await?;
        let seal = &self.follower.seals().frame;
        for (id, frame) in uses {
            if let Ok(minute) = codec::decode_use(&frame, id, seal) {
                self.follower.index().note_use(id, minute);
            }
        }
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = (upto, bootstraps);
        Ok(())
    }

    /// Writes those that are later than what is there: others may have seen the same keys.
    pub(super) async fn note(&self, uses: &[(KeyId, u32)]) -> Result<(), Fault> {
        let seal = &self.follower.seals().frame;
        for part in uses.chunks(MOST_VALUES) {
            let ids: Vec<_> = part.iter().map(|(id, _)| *id).collect();
            let there = self.journal.uses_of(&ids).await?;
            let is_later = |(id, minute): &&(KeyId, u32)| {
                let found = there.iter().find(|(other, _)| other == id);
                let found = found.and_then(|(_, frame)| codec::decode_use(frame, *id, seal).ok());
                found.is_none_or(|found| found < *minute)
            };
            let frame = |(id, minute): &(KeyId, u32)| {
                codec::encode_use(*minute, *id, seal).map(|frame| (*id, frame))
            };
            let later: Vec<_> =
                part.iter().filter(is_later).map(frame).collect::<Result<_, _>>()?;
            if !later.is_empty() {
                self.journal.note_uses(later).await?;
            }
        }
        Ok(())
    }
}
