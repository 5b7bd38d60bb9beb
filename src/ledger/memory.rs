//! A ledger that keeps nothing, for stores in memory.

use super::{Commit, CommitOutcome, Ledger};

/// Forgets what is committed.
pub(crate) struct Memory;

impl Ledger for Memory {
    fn commit(&self, _: Vec<Commit>) -> CommitOutcome {
        CommitOutcome::Durable
    }
}
