//! A simulated process: an index and its replica. Changes are made through it.

use super::link::Link;
use crate::{
    audit_entry::{Act, AuditEntry},
    cluster::{
        self,
        bootstrap::bootstrap,
        committer::{CommitResult, Committer, Receipt},
        consensus::{ConsensusStore, Transaction, TransactionOutcome},
        follower::{Follower, KeyState},
        membership::ReplicationError,
        position::AppliedPosition,
        replica::ReplicaTask,
        revocation_barrier::RevocationBarrier,
        timing::Timing,
    },
    codec::{self, AuditStart, DbKey, Meta},
    digest::{Digest, Seals},
    error::Error,
    gate::Gate,
    id::KeyId,
    index::Index,
    ledger::{Commit, Put, ReplicaWait},
    record::{Actor, Record, Standing},
    scope::{Catalogue, NumberedScope},
    time::Timestamp,
};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// A minimal store: gate and index only.
pub(super) struct Keys {
    gate: Gate,
    index: Index,
    seals: Arc<Seals>,
    catalogue: Mutex<&'static Catalogue>,
    scopes: Mutex<Vec<NumberedScope>>,
}

impl Keys {
    pub(super) fn gate_remaining(&self) -> u64 {
        self.gate.remaining()
    }

    /// Returns the applied state of a key, even if the gate is shut.
    pub(super) fn find(&self, digest: &Digest) -> Option<Standing> {
        self.index.find(digest).map(|(_, standing)| standing)
    }
}

impl Follower for Keys {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn index(&self) -> &Index {
        &self.index
    }

    fn seals(&self) -> &Seals {
        &self.seals
    }

    fn catalogue(&self) -> &'static Catalogue {
        *self.catalogue.lock().unwrap()
    }

    fn scope(&self, number: u8) -> Option<NumberedScope> {
        self.scopes.lock().unwrap().get(usize::from(number)).cloned()
    }

    fn set_scopes(&self, scopes: &[NumberedScope]) -> Result<(), Error> {
        *self.catalogue.lock().unwrap() = Catalogue::new(scopes.to_vec(), None)?;
        *self.scopes.lock().unwrap() = scopes.to_vec();
        Ok(())
    }

    fn set_audit_start(&self, _: &AuditStart) {}

    fn apply(&self, _: &Meta, states: Vec<KeyState>) -> Result<(), Error> {
        for KeyState { sequence, id, digest, record } in states {
            self.index.apply(sequence, id, digest, record.as_deref())?;
        }
        Ok(())
    }

    fn clear(&self) {
        self.index.clear();
    }

    fn end_watches(&self) {}
}

/// A simulated process.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) keys: Arc<Keys>,
    pub(super) timing: Timing,
    leave: watch::Sender<bool>,
    task: JoinHandle<()>,
    position: Arc<AppliedPosition>,
    committer: Committer<Link, Keys>,
    replication_error: ReplicationError,
    barrier: Arc<RevocationBarrier<Link>>,
}

impl Node {
    /// Starts a process. Returns once it has read the consensus store.
    pub(super) async fn start(name: String, link: Link, timing: Timing, seals: Arc<Seals>) -> Self {
        let keys = Arc::new(Keys {
            gate: Gate::shut_at_first(timing.clock().clone()),
            index: Index::new(),
            seals,
            catalogue: Mutex::new(Catalogue::with_preset()),
            scopes: Mutex::default(),
        });
        let start = loop {
            match bootstrap(&link, &*keys, &mut None).await {
                Ok(position) => break position,
                Err(_) => sleep(timing.call_timeout() / 8).await,
            }
        };
        let consensus = Arc::new(link.clone());
        let replica = ReplicaTask::new(
            Arc::clone(&consensus),
            Arc::clone(&keys),
            timing.clone(),
            cluster::Replica::named(name.clone())
                .freshness(Duration::from_nanos(timing.freshness()))
                .info()
                .unwrap(),
            start,
        );
        let (position, replication_error) = (replica.position(), replica.replication_error());
        let (leave, is_leaving) = watch::channel(false);
        let task = tokio::spawn(replica.run(is_leaving));
        let follower = Arc::clone(&keys);
        let committer =
            Committer::new(Arc::clone(&consensus), follower, timing.clone(), Arc::clone(&position));
        let barrier = RevocationBarrier::new(consensus, timing.clone());
        Self {
            name,
            link,
            keys,
            timing,
            leave,
            task,
            position,
            committer,
            replication_error,
            barrier,
        }
    }

    pub(super) fn replication_error(&self) -> Option<Box<str>> {
        self.replication_error.lock().unwrap().clone()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.task.is_finished()
    }

    /// Leaves as a process does on SIGTERM. Its validations may still be called.
    pub(super) fn leave(&self) {
        self.leave.send_replace(true);
    }

    /// Ends at once. It must not be used afterwards.
    pub(super) fn crash(&self) {
        self.task.abort();
    }

    pub(super) fn is_open(&self) -> bool {
        self.keys.gate.is_open()
    }

    /// Whether it accepts this key now.
    pub(super) fn accepts(&self, digest: &Digest) -> bool {
        let found = self.keys.gate.pass(|| self.keys.index.find(digest));
        matches!(found, Ok(Some((_, standing))) if standing.active)
    }

    /// The same for a thread that is delayed between reading the gate and reading the index.
    pub(super) async fn accepts_slowly(&self, digest: &Digest, stall: u64) -> bool {
        let found = || {
            let found = self.keys.index.find(digest);
            found.is_some_and(|(_, standing)| standing.active)
        };
        let pause = Duration::from_millis(stall);
        let is_open = self.is_open();
        sleep(pause).await;
        is_open && found()
    }

    pub(super) fn record(&self, id: KeyId) -> Option<(Arc<Record>, Digest)> {
        self.keys.index.get(id)
    }

    /// Returns the applied records, as they are encoded in the consensus store.
    pub(super) fn frames(&self) -> std::collections::BTreeMap<[u8; 32], Vec<u8>> {
        let frame = |(id, digest): (KeyId, Digest)| {
            let (record, _) = self.keys.index.get(id).unwrap();
            let frame = codec::encode_record(&record, digest, &self.keys.seals.frame).unwrap();
            (*digest.as_bytes(), frame)
        };
        let all = self.keys.index.keys_except(&std::collections::HashSet::new());
        all.into_iter().map(frame).collect()
    }

    /// Writes a record, planned on the applied state. `None`: another replica committed first.
    pub(super) async fn write(
        &self,
        digest: Digest,
        plan: impl FnOnce(u64) -> Option<Record>,
        id: KeyId,
    ) -> Result<Option<Receipt>, Box<str>> {
        let position = self.position.current();
        let mark = &position.meta.mark;
        let sequence = mark.sequence + 1;
        let record = plan(sequence);
        let frame = record
            .as_ref()
            .map(|record| codec::encode_record(record, digest, &self.keys.seals.frame).unwrap());
        // Entries must differ. In production their times and fields differ.
        let written = self.timing.simulated.members.fetch_add(1, Ordering::Relaxed);
        let at = Timestamp::from_millis(written);
        let act = AuditEntry::new(Actor::Host, Act::Update);
        let entry = AuditEntry { sequence, at, key: Some(id), ..act };
        let (entry, head) =
            codec::encode_entry(&entry, &mark.head, &self.keys.seals.audit).unwrap();
        let puts = vec![Put { key: DbKey::Record(digest), frame }];
        let commits = [Commit { sequence, at, entry, head, puts }];
        match self.committer.commit(&commits).await.unwrap() {
            CommitResult::Durable(receipt) => Ok(Some(receipt)),
            CommitResult::Conflict => Ok(None),
            CommitResult::Refused(why) | CommitResult::Unknown(why) => Err(why),
        }
    }

    pub(super) async fn wait(&self, receipt: Receipt) -> ReplicaWait {
        let Receipt { revision, members, answered } = receipt;
        self.barrier.wait(revision, members, answered).await
    }

    /// Waits as the store does, without a receipt.
    pub(super) async fn wait_for_all(&self) -> ReplicaWait {
        self.committer.wait_for_all(&self.barrier).await
    }

    pub(super) async fn confirm_newest(&self) -> Option<Receipt> {
        match self.committer.confirm_newest().await {
            CommitResult::Durable(receipt) => Some(receipt),
            CommitResult::Conflict | CommitResult::Refused(_) | CommitResult::Unknown(_) => None,
        }
    }
}

/// Creates an empty store in the consensus store.
pub(super) async fn create(link: &Link, seals: &Seals) {
    let mark = codec::Mark { store: [7; 16], ..codec::Mark::default() };
    let meta = Meta { pepper_check: seals.pepper_check, mark, newest: 0, prefix: "pcl".into() };
    let epoch = codec::encode_epoch(&meta, &[0; 32], &seals.meta).unwrap();
    let transaction = Transaction { expected: None, writes: Vec::new(), epoch };
    assert!(matches!(link.commit(transaction).await, TransactionOutcome::Committed { .. }));
}
