//! The seam to the engine that all replicas share: what the protocol asks of it, and no more.
//!
//! An engine numbers its transactions: a *revision*. It has linearizable transactions that compare
//! and set, a tail that resumes after a revision, and snapshots at one. Under its keys lie
//!
//! ```text
//! k/<digest>     a record, in its frame
//! n/<number>     a scope name, in its frame
//! e              the epoch: the meta record and the chain head before it, in each transaction
//! f              where the trail begins, in its frame, once something was cut from it
//! a/<sequence>   an entry of the audit trail
//! s/m/<id>       a member: one life of one replica
//! s/a/<id>       the revision that this member has applied
//! u/<key id>     when a key was last used, in its frame
//! ```
//!
//! The first four are one range, so that a tail brings all of a transaction at once; trail, members
//! and uses lie outside it. A use is no change: what writes uses alone puts no epoch. Every transaction that changes a key, a scope name or the trail puts `e`.

use super::member::{self, Card};
use crate::{codec::Place, digest::Digest, error::Error, id::KeyId, ledger::Commit, random};
use std::{fmt, future::Future, time::Duration};

/// A number of the engine's history; it rises with each transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Revision(pub(crate) u64);

/// The name of one life of one replica: fresh for each, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Incarnation(pub(crate) [u8; 16]);

impl Incarnation {
    pub(crate) fn fresh() -> Result<Self, Error> {
        Ok(Self(random::array()?))
    }
}

/// Hexadecimal, as in the engine's keys.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why the engine did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody answered, or nobody who could. What was asked may have been done.
    Unreachable(Box<str>),
    /// The revision that was asked for is no longer kept.
    Compacted,
    /// It answered what no patience will change: access, damage, another's data.
    Refused(Error),
}

/// The epoch as it lies in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Of its last change.
    pub(crate) revision: Revision,
    pub(crate) frame: Vec<u8>,
}

/// Where a snapshot is taken.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) revision: Revision,
    /// `None` where there is no store in the engine.
    pub(crate) epoch: Option<Epoch>,
}

/// Some records of a snapshot, in the order of their digests.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<(Digest, Vec<u8>)>,
    pub(crate) is_last: bool,
}

/// All that one transaction did to records, scope names and the epoch: never a part of it.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) revision: Revision,
    /// The new value of `e`. A batch without one was written by nobody who keeps the rules.
    pub(crate) epoch: Option<Vec<u8>>,
    /// Records, scope names and where the trail begins; without a frame they were deleted.
    pub(crate) changes: Vec<(Place, Option<Vec<u8>>)>,
}

/// What a tail brings.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// What was committed after the last one, in order, without a gap.
    Batches(Vec<Batch>),
    /// The connection is gone; a new tail goes on where this one ended.
    Lost,
    /// What comes next is no longer kept.
    Compacted,
}

/// One atomic write: all of it, if the epoch is still the one that it builds on.
pub(crate) struct Transaction<'c> {
    /// What `e` must be, its revision and its value; `None`: it must not be there. The revision
    /// alone would not do: an engine that was put back counts on from an earlier one.
    pub(crate) expected: Option<&'c Epoch>,
    /// Records, scope names and entries of the trail.
    pub(crate) commits: &'c [Commit],
    /// The new value of `e`.
    pub(crate) epoch: Vec<u8>,
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is durable at this revision, at which there were these members.
    Committed { revision: Revision, members: Vec<Member> },
    /// The epoch was another: nothing was written, and nothing ever will be.
    Conflict,
    /// It was turned down as it is: nothing was written, and nothing ever will be.
    Refused(Box<str>),
    /// Nobody could say: it may have been written, or may still be.
    Unknown(Box<str>),
}

/// One life of one replica, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) incarnation: Incarnation,
    /// What it said of itself; `None` where that cannot be read.
    pub(crate) card: Option<Card>,
    /// Of the last change of its row: it joined then, or was fenced then.
    pub(crate) revision: Revision,
    /// It may prove nothing any more.
    pub(crate) is_fenced: bool,
    /// What it has applied, as far as it said.
    pub(crate) applied: Revision,
}

impl Member {
    /// How long its proofs are good for, at most.
    pub(crate) fn freshness(&self) -> Duration {
        self.card.as_ref().map_or(member::LONGEST, |card| card.freshness)
    }
}

/// All members at one revision.
#[derive(Debug)]
pub(crate) struct Muster {
    pub(crate) revision: Revision,
    /// When the epoch was last changed; `None` where there is no store.
    pub(crate) epoch: Option<Revision>,
    pub(crate) members: Vec<Member>,
}

/// What happened to a member.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    /// It joined or was fenced; of a member that was known, what it has applied is not told anew.
    Changed(Member),
    Applied(Incarnation, Revision),
    Gone(Incarnation),
}

/// What a linearizable read of a member found.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// The engine's revision at the read.
    pub(crate) revision: Revision,
    pub(crate) epoch: Epoch,
    /// The member's own acknowledgement row, to be recognised.
    pub(crate) applied: Option<Revision>,
}

/// When keys were last used, each in its frame.
pub(crate) type Uses = Vec<(KeyId, Vec<u8>)>;

/// The engine. Every call ends by itself within a few seconds, and may be dropped before.
pub(crate) trait Journal: Send + Sync + 'static {
    type Tail: Tail;
    type Roll: Roll;

    /// The newest revision and the epoch at it: linearizable.
    fn newest(&self) -> impl Future<Output = Result<Newest, Fault>> + Send;

    /// All scope names as they were at a revision, in the order of their numbers.
    fn names(&self, at: Revision) -> impl Future<Output = Result<Vec<Vec<u8>>, Fault>> + Send;

    /// Records as they were at a revision, after this digest.
    fn records(
        &self,
        at: Revision,
        after: Option<Digest>,
    ) -> impl Future<Output = Result<Page, Fault>> + Send;

    /// Where the trail began at a revision, in its frame; `None` where it was never cut.
    fn floor(&self, at: Revision) -> impl Future<Output = Result<Option<Vec<u8>>, Fault>> + Send;

    /// Up to `limit` entries of the trail after the one numbered `after`, as they were at a revision:
    /// their numbers and frames. Those that came later may be among them.
    fn trail(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(u64, Vec<u8>)>, Fault>> + Send;

    /// Removes some entries of the trail up to `through`, if it still begins where this frame says;
    /// true while there are more.
    fn sweep(&self, through: u64, floor: &[u8])
    -> impl Future<Output = Result<bool, Fault>> + Send;

    /// When keys were last used, as far as that was written after a revision; and the revision after
    /// which to ask next.
    fn uses(&self, after: Revision)
    -> impl Future<Output = Result<(Revision, Uses), Fault>> + Send;

    /// The same of these keys.
    fn uses_of(&self, keys: &[KeyId]) -> impl Future<Output = Result<Uses, Fault>> + Send;

    /// Writes when keys were last used, at most as many as go into one transaction.
    fn note_uses(&self, uses: Uses) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Everything that was committed after a revision. It connects when it is first asked.
    fn tail(&self, after: Revision) -> Self::Tail;

    /// Writes, and reads all members at the revision of that write.
    fn commit(&self, transaction: Transaction<'_>) -> impl Future<Output = Outcome> + Send;

    /// Makes a member; gives the revision of its row. Where nobody answered it may exist, and
    /// nobody will ever prove anything with it.
    fn join(
        &self,
        who: Incarnation,
        card: &Card,
    ) -> impl Future<Output = Result<Revision, Fault>> + Send;

    /// If the member's row still has the revision `joined`: the epoch. One linearizable read that
    /// was asked after this was called. `None`: it is no member, or is fenced.
    fn prove(
        &self,
        who: Incarnation,
        joined: Revision,
    ) -> impl Future<Output = Result<Option<Proof>, Fault>> + Send;

    /// Notes what a member has applied, if its row still has the revision `joined`.
    fn acknowledge(
        &self,
        who: Incarnation,
        joined: Revision,
        applied: Revision,
    ) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// All members: linearizable.
    fn members(&self) -> impl Future<Output = Result<Muster, Fault>> + Send;

    /// What happens to members after a revision.
    fn roll(&self, after: Revision) -> Self::Roll;

    /// Fences a member, if its row still has its revision; gives the new one.
    fn fence(
        &self,
        member: &Member,
    ) -> impl Future<Output = Result<Option<Revision>, Fault>> + Send;

    /// Removes both rows of a member, if its row still has this revision.
    fn remove(
        &self,
        who: Incarnation,
        revision: Revision,
    ) -> impl Future<Output = Result<bool, Fault>> + Send;
}

/// What is committed, as it comes.
pub(crate) trait Tail: Send {
    /// Waits for the next event. After `Lost` or `Compacted` it is not asked again. What a dropped
    /// wait would have brought, the next one brings.
    fn next(&mut self) -> impl Future<Output = Event> + Send;
}

/// What happens to members, as it comes.
pub(crate) trait Roll: Send {
    /// Waits for the next events, in order, without a gap; `None` where the connection is gone.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Turn>>> + Send;
}
