//! What the store asks of a ledger that it shares with other processes.

use super::{Commit, Reading, Stretch};
use crate::{
    audit::AuditEntry, codec::AuditStart, error::Error, id::KeyId, scope::Catalogue,
    time::Timestamp,
};
use std::time::Duration;

/// What became of changes to a shared ledger.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// They are durable.
    Durable,
    /// Others came first: nothing was written, and nothing ever will be. Plan again.
    Overtaken,
    /// They were turned down as they are, and never will be written: why.
    Refused(Box<str>),
    /// They may be durable, or may still become so.
    Unknown(Box<str>),
}

/// The most values of one transaction. etcd takes 128 operations unless it is told otherwise, and the
/// epoch and the members go with them.
pub(crate) const MOST_VALUES: usize = 120;
/// The most bytes of one transaction: etcd takes 1.5 MiB.
pub(crate) const MOST_BYTES: usize = 1 << 20;
/// The bytes of a key, and of what lies around a value.
pub(crate) const AROUND: usize = 128;

/// How many of these changes, from the first one on, go into one transaction. The first one always
/// does: no change has so many values or bytes by itself.
pub(crate) fn fitting<'c>(commits: impl Iterator<Item = &'c Commit>) -> usize {
    let (mut values, mut bytes) = (0, 0);
    let fits = |commit: &&Commit| {
        let frames = commit.puts.iter().map(|put| put.frame.as_ref().map_or(0, Vec::len));
        values += 1 + commit.puts.len();
        bytes += commit.entry.len() + frames.sum::<usize>() + (1 + commit.puts.len()) * AROUND;
        values <= MOST_VALUES && bytes <= MOST_BYTES
    };
    commits.take_while(fits).count().max(1)
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

/// Is told how long a wait for the other replicas took, and how it ended.
pub(crate) type Onlooker = Box<dyn Fn(Duration, Settled) + Send + Sync>;

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

    /// A stretch of the trail after `after`, unchecked.
    fn stretch(&self, after: u64, limit: usize) -> Result<Stretch, Error>;

    /// The newest moment that there is.
    fn snapshot(&self) -> Result<Box<dyn Reading + '_>, Error>;

    /// Where the trail begins, by what is applied here.
    fn floor(&self) -> AuditStart;

    /// Through which entry, and its head, the trail may be cut to lose what is older than `before`.
    fn place_of_cut(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<(u64, [u8; 32])>, Error>;

    /// Removes some of what was cut away; true while there is more. What cannot be removed now is
    /// tried again.
    fn sweep(&self) -> bool;

    /// Writes when keys were last used, in minutes since the epoch. It is no change, and where it
    /// fails no harm is done.
    fn note_uses(&self, uses: Vec<(KeyId, u32)>) -> Result<(), Error>;

    /// The replicas that there are: asked of the engine.
    fn members(&self) -> Result<Vec<Member>, Error>;

    /// How far it is; the gate is the store's.
    fn following(&self) -> Following;

    /// Has each wait told from now on; only to the first onlooker.
    fn tell_waits(&self, onlooker: Onlooker);

    /// Why this replica does not follow the others, if it does not.
    fn trouble(&self) -> Option<Box<str>>;

    /// Stops following, for good.
    fn leave(&self);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::Place, ledger::Put};

    fn change(puts: usize, bytes: usize) -> Commit {
        let put = |_| Put { place: Place::Use(KeyId::from_u64(1)), frame: Some(vec![0; bytes]) };
        let puts = (0..puts).map(put).collect();
        Commit { sequence: 1, at: Timestamp::default(), entry: vec![0; 300], head: [0; 32], puts }
    }

    #[test]
    fn a_group_is_cut_before_it_has_too_many_values_or_bytes_and_never_to_nothing() {
        let fit = |puts, bytes, count| {
            let changes: Vec<_> = (0..count).map(|_| change(puts, bytes)).collect();
            fitting(changes.iter())
        };
        assert_eq!([fit(1, 300, 60), fit(1, 300, 61), fit(2, 300, 90)], [60, 60, 40]);
        assert_eq!(fit(1, 100_000, 60), 10);
        assert_eq!([fit(500, 1, 3), fit(1, 2 << 20, 3)], [1, 1]);
    }

    #[cfg(feature = "cluster")]
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
