//! Commits changes to the consensus store, each on top of what this replica has applied.

use super::{
    consensus::{
        ConsensusError, ConsensusStore, Key, MemberList, MemberRow, Revision, Transaction,
        TransactionOutcome, Write,
    },
    follower::Follower,
    keys,
    member::MAX_FRESHNESS,
    position::AppliedPosition,
    revocation_barrier::RevocationBarrier,
    timing::{self, Timing},
};
use crate::{
    codec::{self, DbKey, Meta},
    error::Error,
    ledger::{Commit, Put, ReplicaWait},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{select, time::timeout};

/// The outcome of a commit.
pub(crate) enum CommitResult {
    /// The changes are durable.
    #[cfg_attr(not(test), expect(dead_code, reason = "the simulation waits by its receipt"))]
    Durable(Receipt),
    /// Another replica committed first: nothing was written, and nothing will be. This replica has applied
    /// that commit, unless the wait for it timed out.
    Conflict,
    /// The consensus store refused: nothing was written, and nothing will be.
    Refused(Box<str>),
    /// The changes may be durable, or may still become so.
    Unknown(Box<str>),
}

/// A durable change, and the members that must apply it.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) revision: Revision,
    pub(crate) members: Vec<MemberRow>,
    /// When the answer came, on this replica's clock.
    pub(crate) answered: u64,
}

/// Commits the changes of a replica.
pub(crate) struct Committer<C, F> {
    consensus: Arc<C>,
    follower: Arc<F>,
    timing: Timing,
    position: Arc<AppliedPosition>,
    /// The newest commit of this replica.
    newest: Mutex<Option<Receipt>>,
}

impl<C: ConsensusStore, F: Follower> Committer<C, F> {
    pub(crate) fn new(
        consensus: Arc<C>,
        follower: Arc<F>,
        timing: Timing,
        position: Arc<AppliedPosition>,
    ) -> Self {
        Self { consensus, follower, timing, position, newest: Mutex::default() }
    }

    /// Writes the changes as one transaction, and waits until this replica has applied them.
    pub(crate) async fn commit(&self, commits: &[Commit]) -> Result<CommitResult, Error> {
        let known = self.position.current();
        let Some(epoch) = self.next_epoch(&known.meta, commits)? else {
            return Ok(CommitResult::Conflict);
        };
        let expected = Some(known.epoch.clone());
        let transaction = Transaction { expected, writes: writes(commits), epoch };
        Ok(match self.consensus.commit(transaction).await {
            TransactionOutcome::Committed { revision, members } => {
                let answered = self.timing.now();
                let receipt = Receipt { revision, members, answered };
                *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(receipt.clone());
                self.applied(revision).await;
                CommitResult::Durable(receipt)
            }
            TransactionOutcome::Conflict => {
                self.applied(Revision(known.epoch.revision.0.saturating_add(1))).await;
                CommitResult::Conflict
            }
            TransactionOutcome::Refused(why) => CommitResult::Refused(why),
            TransactionOutcome::Unknown(why) => CommitResult::Unknown(why),
        })
    }

    /// Waits until no replica can act on a state older than the newest commit and the applied state of
    /// this replica. A replica that joins from now on begins with both.
    pub(crate) async fn wait_for_all(&self, barrier: &Arc<RevocationBarrier<C>>) -> ReplicaWait {
        let since = self.timing.now();
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let committed = newest.as_ref().map_or(Revision::default(), |receipt| receipt.revision);
        let revision = self.position.current().epoch.revision.max(committed);
        let found = timeout(self.timing.call_timeout(), self.consensus.members()).await;
        if let Ok(Ok(MemberList { members, .. })) = found {
            return barrier.wait(revision, members, since).await;
        }
        // If this replica made the change, the answer to it listed the members.
        if let Some(Receipt { revision, members, answered }) =
            newest.filter(|receipt| receipt.revision == revision)
        {
            return barrier.wait(revision, members, answered).await;
        }
        // The members are unknown: one that has not applied the change has shut after the longest hold.
        let end = since.saturating_add(timing::hold(MAX_FRESHNESS));
        select! {
            biased;
            MemberList { members, .. } = barrier.read_members() => {
                barrier.wait(revision, members, since).await
            }
            () = self.timing.sleep_until(end) => ReplicaWait::default(),
        }
    }

    /// Confirms that the applied state is the newest, so that a caller can wait for an earlier change. If
    /// there is a newer state, it may have undone that change.
    pub(crate) async fn confirm_newest(&self) -> CommitResult {
        match self.read_newest().await {
            Ok(result) => result,
            Err(ConsensusError::Refused(why)) => CommitResult::Refused(why),
            Err(ConsensusError::Unavailable(why)) => CommitResult::Unknown(why),
            Err(ConsensusError::Compacted) => CommitResult::Conflict,
        }
    }

    async fn read_newest(&self) -> Result<CommitResult, ConsensusError> {
        let known = self.position.current();
        let newest = self.consensus.latest().await?.epoch;
        if newest.as_ref() != Some(&known.epoch) {
            self.applied(newest.map(|epoch| epoch.revision).unwrap_or_default()).await;
            return Ok(CommitResult::Conflict);
        }
        let MemberList { members, .. } = self.consensus.members().await?;
        let (revision, answered) = (known.epoch.revision, self.timing.now());
        Ok(CommitResult::Durable(Receipt { revision, members, answered }))
    }

    /// Waits until an epoch of this revision is applied, or until this replica must have shut its gate.
    async fn applied(&self, revision: Revision) {
        let hold = Duration::from_nanos(self.timing.hold());
        let _ = timeout(hold, self.position.reach(revision)).await;
    }

    /// Returns the epoch after these changes; `None` if they do not continue the applied state.
    fn next_epoch(&self, known: &Meta, commits: &[Commit]) -> Result<Option<Vec<u8>>, Error> {
        let seals = self.follower.seals();
        let mut meta = known.clone();
        let mut written = HashMap::new();
        for commit in commits {
            let mark = &mut meta.mark;
            let continues = commit.sequence == mark.sequence + 1
                && codec::verify_entry(&commit.entry, commit.sequence, &mark.head, &seals.audit)
                    .is_ok();
            if !continues {
                return Ok(None);
            }
            (mark.sequence, mark.head) = (commit.sequence, commit.head);
            meta.newest = meta.newest.max(commit.at.as_millis());
            for put in &commit.puts {
                self.update_mark(&mut meta, put, &mut written)?;
            }
        }
        codec::encode_epoch(&meta, &known.mark.head, &seals.meta).map(Some)
    }

    /// Updates the counts and the sum in the mark for one write. The value before it is the applied one, or
    /// the one that this transaction has written.
    fn update_mark(
        &self,
        meta: &mut Meta,
        put: &Put,
        written: &mut HashMap<Vec<u8>, Option<[u8; 32]>>,
    ) -> Result<(), Error> {
        if !matches!(put.key, DbKey::Record(_) | DbKey::Scope(_)) {
            return Ok(());
        }
        let seal = &self.follower.seals().frame;
        let after = put
            .frame
            .as_deref()
            .map(|frame| codec::frame_hash(frame, put.key, seal))
            .transpose()?;
        let before = match written.insert(put.key.to_bytes(), after) {
            Some(before) => before,
            None => self.applied_frame(put.key)?,
        };
        meta.mark.replace(put.key, before, after);
        Ok(())
    }

    /// Returns the hash of the frame of a record or scope in the consensus store. Each has one encoding, so
    /// the frame can be computed from the value.
    fn applied_frame(&self, key: DbKey) -> Result<Option<[u8; 32]>, Error> {
        let (index, seal) = (self.follower.index(), &self.follower.seals().frame);
        let frame = match key {
            DbKey::Record(digest) => {
                let found = index.find(&digest).and_then(|(id, _)| index.get(id));
                found.map(|(record, _)| codec::encode_record(&record, digest, seal))
            }
            DbKey::Scope(number) => {
                let scope = self.follower.scope(number);
                scope.map(|scope| codec::encode_scope(&scope, number, seal))
            }
            _ => None,
        };
        frame.transpose()?.map(|frame| codec::frame_hash(&frame, key, seal)).transpose()
    }
}

/// Returns the writes of these changes. If they write a key several times, the last write counts.
pub(super) fn writes(commits: &[Commit]) -> Vec<Write> {
    let mut writes = BTreeMap::new();
    for commit in commits {
        writes.insert(Key::AuditEntry(commit.sequence), Some(commit.entry.clone()));
        for put in &commit.puts {
            if let Some(key) = keys::key(put.key) {
                writes.insert(key, put.frame.clone());
            }
        }
    }
    writes.into_iter().map(|(key, value)| Write { key, value }).collect()
}
