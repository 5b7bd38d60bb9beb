//! Commits changes to the consensus store, each on top of what this replica has applied.

use super::{
    consensus::{
        ConsensusError, ConsensusStore, Key, MemberList, MemberRow, Revision, Transaction,
        TransactionOutcome, Write,
    },
    follower::Follower,
    keys,
    member::LONGEST,
    position::AppliedPosition,
    revoker::Revoker,
    timing::{self, Timing},
};
use crate::{
    codec::{self, Meta, Place},
    error::Error,
    ledger::{Commit, Put, Settled},
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
    /// that commit, or has waited for it in vain.
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

/// The writer of a replica.
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

    /// Writes the changes as one transaction, and waits until this replica has applied them too.
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
    pub(crate) async fn wait_for_all(&self, revoker: &Arc<Revoker<C>>) -> Settled {
        let since = self.timing.now();
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let committed = newest.as_ref().map_or(Revision::default(), |receipt| receipt.revision);
        let revision = self.position.current().epoch.revision.max(committed);
        let found = timeout(self.timing.patience(), self.consensus.members()).await;
        if let Ok(Ok(MemberList { members, .. })) = found {
            return revoker.wait(revision, members, since).await;
        }
        // The answer to the change listed the members, if this replica made the change.
        if let Some(Receipt { revision, members, answered }) =
            newest.filter(|receipt| receipt.revision == revision)
        {
            return revoker.wait(revision, members, answered).await;
        }
        // The members are unknown: one that has not applied the change has shut after the longest hold.
        let end = since.saturating_add(timing::hold(LONGEST));
        select! {
            biased;
            MemberList { members, .. } = revoker.read_members() => {
                revoker.wait(revision, members, since).await
            }
            () = self.timing.sleep_until(end) => Settled::default(),
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

    /// Waits until an epoch of this revision is applied, or until this replica must have shut.
    async fn applied(&self, revision: Revision) {
        let hold = Duration::from_nanos(self.timing.hold());
        let _ = timeout(hold, self.position.reach(revision)).await;
    }

    /// The epoch after these changes; `None` where they do not continue what is applied.
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
                self.account(&mut meta, put, &mut written)?;
            }
        }
        codec::encode_epoch(&meta, &known.mark.head, &seals.meta).map(Some)
    }

    /// Keeps count and sum in step with one write. What was there before it is what is applied, or
    /// what this transaction has put there.
    fn account(
        &self,
        meta: &mut Meta,
        put: &Put,
        written: &mut HashMap<Vec<u8>, Option<[u8; 32]>>,
    ) -> Result<(), Error> {
        if !matches!(put.place, Place::Record(_) | Place::Scope(_)) {
            return Ok(());
        }
        let seal = &self.follower.seals().frame;
        let after = put
            .frame
            .as_deref()
            .map(|frame| codec::frame_hash(frame, put.place, seal))
            .transpose()?;
        let before = match written.insert(put.place.key(), after) {
            Some(before) => before,
            None => self.applied_frame(put.place)?,
        };
        let mark = &mut meta.mark;
        let count =
            if matches!(put.place, Place::Scope(_)) { &mut mark.scopes } else { &mut mark.records };
        match (before.is_some(), after.is_some()) {
            (false, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            _ => {}
        }
        if let Some(hash) = before {
            mark.subtract(hash);
        }
        if let Some(hash) = after {
            mark.add(hash);
        }
        Ok(())
    }

    /// The hash of the frame that a record has in the consensus store. Each record has one encoding, so
    /// the frame can be computed from the record.
    fn applied_frame(&self, place: Place) -> Result<Option<[u8; 32]>, Error> {
        let Place::Record(digest) = place else { return Ok(None) };
        let (index, seal) = (self.follower.index(), &self.follower.seals().frame);
        let found = index.find(&digest).and_then(|(id, _)| index.get(id));
        let Some((record, _)) = found else { return Ok(None) };
        let frame = codec::encode_record(&record, digest, seal)?;
        codec::frame_hash(&frame, place, seal).map(Some)
    }
}

/// The writes of these changes. If they write a key several times, the last one counts.
pub(super) fn writes(commits: &[Commit]) -> Vec<Write> {
    let mut writes = BTreeMap::new();
    for commit in commits {
        writes.insert(Key::AuditEntry(commit.sequence), Some(commit.entry.clone()));
        for put in &commit.puts {
            if let Some(key) = keys::key(put.place) {
                writes.insert(key, put.frame.clone());
            }
        }
    }
    writes.into_iter().map(|(key, value)| Write { key, value }).collect()
}
