//! Replicas that share a ledger: what is reported about them, and what the store asks of them.

use super::commit::CommitOutcome;
use crate::{error::Error, time::Timestamp};
use std::time::Duration;

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

/// What can be said of a member. A replica that died or was cut off stays as it was until a
/// revocation has to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It said that it has applied the newest change.
    Current,
    /// It has not said so yet.
    Behind,
    /// It is counted out.
    Fenced,
}

impl MemberState {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Current, Self::Behind, Self::Fenced];

    /// `current`, `behind` or `fenced`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Fenced => "fenced",
        }
    }
}

impl Member {
    /// What can be said of it.
    pub fn state(&self) -> MemberState {
        match (self.is_fenced, self.behind) {
            (true, _) => MemberState::Fenced,
            (false, 0) => MemberState::Current,
            (false, _) => MemberState::Behind,
        }
    }
}

/// How a replica follows the others, as far as it knows by itself: nobody is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Following {
    /// How long it goes on answering if it reaches the engine no more; zero while it answers
    /// nobody.
    pub answers_for: Duration,
    /// How far what it has applied is behind the newest change that it has heard of, in revisions of
    /// the engine.
    pub behind: u64,
    /// How often it has read all keys: once when it was opened, and anew where what comes next was
    /// no longer kept, or is another history.
    pub bootstraps: u64,
}

/// Called with the duration and the result of each wait for the other replicas.
pub(crate) type WaitObserver = Box<dyn Fn(Duration, Settled) + Send + Sync>;

/// What a ledger offers that replicas share. What any of them commits, this process included, is
/// applied to the store by its replica.
pub(crate) trait Replicas: Send + Sync {
    /// Waits until no replica can act on a state older than everything that was committed through
    /// this replica, and than everything that it has applied.
    fn wait_for_all(&self) -> Settled;

    /// Asks the storage whether this replica has applied the newest change: `Durable` if so,
    /// `Conflict` if there is a newer one.
    fn confirm_newest(&self) -> CommitOutcome;

    /// The members, as the storage has them.
    fn members(&self) -> Result<Vec<Member>, Error>;

    /// How far this replica is. How long it may answer is the gate's to say.
    fn following(&self) -> Following;

    /// Reports each wait from now on to this observer. Only the first observer counts.
    fn observe_waits(&self, observer: WaitObserver);

    /// Why this replica does not follow the others, if it does not.
    fn trouble(&self) -> Option<Box<str>>;

    /// Stops following, for good.
    fn leave(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_counted_out_is_fenced_however_far_it_is() {
        let state = |behind, is_fenced| {
            let (incarnation, freshness) = ("00".into(), Duration::from_secs(3));
            let (about, applied, is_this) = (None, 7, false);
            let member =
                Member { incarnation, about, freshness, applied, behind, is_fenced, is_this };
            member.state().as_str()
        };
        assert_eq!([state(0, false), state(1, false)], ["current", "behind"]);
        assert_eq!([state(0, true), state(1, true)], ["fenced"; 2]);
    }
}
