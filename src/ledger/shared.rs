//! What the store asks of a ledger that it shares with other processes.

use super::Commit;
use crate::{audit::AuditEntry, error::Error, scope::Catalogue};

/// What became of changes to a shared ledger.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// They are durable.
    Durable,
    /// Others came first: nothing was written, and nothing ever will be. Plan again.
    Overtaken,
    /// They may be durable, or may still become so.
    Unknown(Box<str>),
}

/// How the wait for the other replicas ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settled {
    /// So many replicas have applied the change and said so.
    pub acknowledged: usize,
    /// So many did not say so in time. They had shut by themselves when the wait ended.
    pub waited_out: usize,
}

/// A ledger that others write to as well. What is committed comes back to the store by itself.
pub(crate) trait Shared: Send + Sync {
    /// Writes changes, if they build on what is committed.
    fn commit(&self, batch: Vec<Commit>) -> Verdict;

    /// Waits until no replica can act on less than what was committed through this one, and than
    /// what it has applied.
    fn settle(&self) -> Settled;

    /// Whether what is applied here is the newest that there is.
    fn witness(&self) -> Verdict;

    /// Entries of the trail after `sequence`, each checked against the one before.
    fn trail(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error>;

    /// Why this replica does not follow the others, if it does not.
    fn trouble(&self) -> Option<Box<str>>;

    /// Stops following, for good.
    fn leave(&self);
}
