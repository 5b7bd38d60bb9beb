//! Replicas that share a ledger: the reports about them, and the trait by which the store uses them.

use super::{commit::CommitOutcome, known_uses::KnownUses};
use crate::{error::Error, time::Timestamp};
use std::time::Duration;

/// The result of a wait for the other replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaWait {
    /// The number of replicas that acknowledged the change.
    pub acknowledged: usize,
    /// The number of replicas that did not acknowledge it in time. They had stopped answering when the
    /// wait ended.
    pub timed_out: usize,
}

/// The report of a replica about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// The name for operators.
    pub name: Box<str>,
    /// The version of Portcullis that it runs.
    pub version: Box<str>,
    /// When it joined, by its own wall clock.
    pub joined_at: Timestamp,
}

/// A member as the consensus store records it: one replica from its start to its end. A replica that
/// was restarted, or was disconnected for long, is another member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The id of this member, 32 hexadecimal digits. No other member has it.
    pub incarnation: Box<str>,
    /// Its report about itself; `None` if this version cannot read it.
    pub about: Option<About>,
    /// How long it may answer after it last reached the consensus store. A revocation waits a little
    /// longer for it. A value that cannot be read counts as a minute.
    pub freshness: Duration,
    /// The revision of the consensus store up to which it acknowledged everything; 0 before its first
    /// acknowledgement.
    pub applied: u64,
    /// How many revisions that is behind the newest change; 0 if it has applied it. Acknowledgements of
    /// other replicas count as revisions, so that one change may be several.
    pub behind: u64,
    /// Whether it is fenced: it has stopped answering or soon will, and is then removed.
    pub is_fenced: bool,
    /// Whether it is the replica that made this report.
    pub is_this: bool,
}

/// The state of a member. A replica that died or was disconnected keeps its state until a revocation has
/// to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberState {
    /// It acknowledged the newest change.
    Current,
    /// It has not acknowledged the newest change yet.
    Behind,
    /// It is fenced.
    Fenced,
}

impl MemberState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Current, Self::Behind, Self::Fenced];

    /// Returns `current`, `behind` or `fenced`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Fenced => "fenced",
        }
    }
}

impl Member {
    /// Returns the state of this member.
    pub fn state(&self) -> MemberState {
        match (self.is_fenced, self.behind) {
            (true, _) => MemberState::Fenced,
            (false, 0) => MemberState::Current,
            (false, _) => MemberState::Behind,
        }
    }
}

/// How a replica follows the others, from its own memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Following {
    /// How long it continues to answer if it cannot reach the consensus store; zero while it refuses all
    /// requests.
    pub answers_for: Duration,
    /// How many revisions of the consensus store it is behind the newest known change.
    pub behind: u64,
    /// How often it has read all keys. It reads them when it is opened, and whenever the next changes are
    /// no longer kept or belong to another history.
    pub bootstraps: u64,
}

/// Called with the duration and the result of each wait for the other replicas.
pub(crate) type WaitObserver = Box<dyn Fn(Duration, ReplicaWait) + Send + Sync>;

/// A ledger that replicas share. The replica applies the changes of all replicas to the store, those of
/// this process included.
pub(crate) trait Replicas: Send + Sync {
    /// Waits until no replica can act on a state older than everything that was committed through
    /// this replica, and than everything that it has applied.
    fn wait_for_all(&self) -> ReplicaWait;

    /// Asks the storage whether this replica has applied the newest change: `Durable` if so,
    /// `Conflict` if there is a newer one.
    fn confirm_newest(&self) -> CommitOutcome;

    /// The members, as the storage has them.
    fn members(&self) -> Result<Vec<Member>, Error>;

    /// How far this replica is. The store adds how long its gate stays open.
    fn following(&self) -> Following;

    /// Reports each wait from now on to this observer. Only the first observer counts.
    fn observe_waits(&self, observer: WaitObserver);

    /// Reports that all uses of this replica before this minute are written, and, if it is leaving, that no more
    /// come.
    fn report_uses(&self, minute: u32, is_leaving: bool) -> Result<(), Error>;

    /// The time over which all uses of all replicas are known. Reads them too.
    fn known_uses(&self, now: u32) -> Result<KnownUses, Error>;

    /// Why this replica does not follow the others, if it does not.
    fn replication_error(&self) -> Option<Box<str>>;

    /// Stops following permanently.
    fn leave(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fenced_member_has_the_state_fenced_at_any_lag() {
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
