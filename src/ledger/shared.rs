//! What the store asks of a ledger that it shares with other processes.

use super::Commit;
use crate::{audit::AuditEntry, error::Error, scope::Catalogue, time::Timestamp};
use std::time::Duration;

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

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// What operators call it.
    pub name: Box<str>,
    /// The version of Portcullis that it runs.
    pub version: Box<str>,
    /// When it joined, by its own wall clock.
    pub joined_at: Timestamp,
}

/// One life of one replica, as the engine knows it. A replica that was cut off for long, or was
/// started anew, is another member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The name of this life, 32 hexadecimal digits: fresh for each.
    pub incarnation: Box<str>,
    /// What it said of itself; `None` where this version cannot read that.
    pub about: Option<About>,
    /// How long it may answer after it last reached the engine. A revocation waits a little longer
    /// for it; where it cannot be read it counts as a minute.
    pub freshness: Duration,
    /// The revision of the engine up to which it has applied everything, as far as it said; 0 if it
    /// has said nothing yet.
    pub applied: u64,
    /// How far that is behind the newest change; 0 where it has applied it. Revisions also count
    /// what other replicas acknowledge, so that one change may be several.
    pub behind: u64,
    /// It is counted out: it answers nobody any more, or soon will not, and then is removed.
    pub is_fenced: bool,
    /// It is the one that was asked.
    pub is_this: bool,
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

    /// The replicas that there are: asked of the engine.
    fn members(&self) -> Result<Vec<Member>, Error>;

    /// Why this replica does not follow the others, if it does not.
    fn trouble(&self) -> Option<Box<str>>;

    /// Stops following, for good.
    fn leave(&self);
}
