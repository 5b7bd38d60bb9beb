//! The ledger of a store in memory: it stores nothing.

use super::{Commit, CommitOutcome, Ledger};

/// Discards every commit.
pub(crate) struct Memory;

impl Ledger for Memory {
    fn commit(&self, _: Vec<Commit>) -> CommitOutcome {
        CommitOutcome::Durable
    }
}
