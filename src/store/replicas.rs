//! The state of a store as one of several replicas, and the list of all members.

use super::handle::Store;
use crate::{
    error::Error,
    ledger::{Following, Member, ReplicaWait, Replicas},
};
use std::time::Duration;

impl Store {
    /// Returns the replicas that share this store, by name, as the consensus store has them now. Empty
    /// if the store is not shared.
    ///
    /// ```
    /// let store = portcullis::Store::in_memory()?; // not shared
    /// assert!(store.members()?.is_empty());
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        self.writer.ledger.replicas().map_or_else(|| Ok(Vec::new()), Replicas::members)
    }

    /// Returns how this replica follows the others; `None` if the store is not shared.
    ///
    /// ```
    /// let store = portcullis::Store::in_memory()?; // not shared
    /// assert!(store.following().is_none());
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn following(&self) -> Option<Following> {
        let following = self.writer.ledger.replicas()?.following();
        let answers_for = Duration::from_nanos(self.writer.gate.remaining());
        Some(Following { answers_for, ..following })
    }

    /// Sets a function that is called after each wait for the other replicas, with its duration and its
    /// result. Only the first such function counts.
    ///
    /// ```
    /// use std::time::Duration;
    /// # let store = portcullis::Store::in_memory()?; // not shared
    /// store.on_replica_wait(|took, wait| {
    ///     if wait.timed_out > 0 || took > Duration::from_secs(1) {
    ///         eprintln!("{} replicas timed out, after {took:?}", wait.timed_out);
    ///     }
    /// });
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn on_replica_wait(
        &self,
        observer: impl Fn(Duration, ReplicaWait) + Send + Sync + 'static,
    ) {
        if let Some(replicas) = self.writer.ledger.replicas() {
            replicas.observe_waits(Box::new(observer));
        }
    }
}
