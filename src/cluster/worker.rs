//! The worker thread of a replica: runs its main task, and answers the store's requests.

use super::{
    bootstrap::bootstrap,
    committer::{CommitResult, Committer},
    consensus::{ConsensusStore, MemberId, Transaction, TransactionOutcome},
    follower::Follower,
    handle::{ClusterLedger, Receiver, Request, channel, stopped},
    last_uses::SharedUses,
    member::{self, MemberInfo},
    membership::CurrentMembership,
    replica::ReplicaTask,
    revocation_barrier::RevocationBarrier,
    timing::Timing,
    version,
};
use crate::{
    codec::{self, Mark, Meta},
    digest::Seals,
    error::Error,
    ledger::{CommitOutcome, Mode},
    random,
    secret::Prefix,
};
use std::{
    path::Path,
    sync::{
        Arc, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};
use tokio::{runtime, select, time::timeout};

/// The options that a replica is started with.
pub(crate) struct StartOptions {
    pub(crate) timing: Timing,
    pub(crate) info: MemberInfo,
    pub(crate) mode: Mode,
    pub(crate) prefix: Option<Prefix>,
}

/// A replica that has no thread yet.
pub(crate) struct Worker(Receiver);

/// Creates the store's handle and the worker behind it.
pub(crate) fn new(seals: Arc<Seals>) -> (ClusterLedger, Worker) {
    let (handle, receiver) = channel(seals);
    (handle, Worker(receiver))
}

impl Worker {
    /// Starts the replica. Returns the prefix of the store's keys once everything is applied.
    pub(crate) fn start<C: ConsensusStore, F: Follower>(
        self,
        consensus: C,
        follower: Arc<F>,
        options: StartOptions,
    ) -> Result<Prefix, Error> {
        let (ready, is_ready) = sync_channel(1);
        let state = Arc::clone(&self.0.state);
        let thread = thread::Builder::new().name("portcullis-replica".into()).spawn(move || {
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(Error::io("starting a runtime", error)))),
            };
            runtime.block_on(self.run(consensus, follower, options, ready));
        });
        let thread = thread.map_err(|e| Error::io("starting the replica's thread", e))?;
        *state.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        is_ready.recv().unwrap_or_else(|_| Err(stopped()))
    }

    async fn run<C: ConsensusStore, F: Follower>(
        self,
        consensus: C,
        follower: Arc<F>,
        options: StartOptions,
        ready: SyncSender<Result<Prefix, Error>>,
    ) {
        let Receiver { mut requests, leave, state } = self.0;
        let timing = options.timing.clone();
        let (consensus, replica) = match begin(consensus, &follower, options).await {
            Ok(begun) => begun,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let position = replica.position();
        *state.replication_error.lock().unwrap_or_else(PoisonError::into_inner) =
            replica.replication_error();
        let _ = state.position.set(Arc::clone(&position));
        let prefix = Prefix::new(&position.current().meta.prefix);
        let this = replica.current_membership();
        let mut leaves = leave.clone();
        let replica_task = tokio::spawn(replica.run(leave));
        let uses =
            SharedUses::new(Arc::clone(&consensus), Arc::clone(&follower), Arc::clone(&position));
        let uses = Arc::new(uses);
        // A store validates as soon as it is open, so wait for the first proof.
        let start = timing.now();
        while !follower.gate().is_open() && timing.now() < start + timing.hold() {
            timing.sleep(timing.freshness() / 256).await;
        }
        let prefix = prefix.map_err(|_| Error::damaged("its prefix is invalid"));
        // So that a used key is not reported as never used. No decision depends on it, so the wait is
        // short.
        let _ = timeout(timing.call_timeout(), uses.read()).await;
        let _ = ready.send(prefix);
        // This task ends with the runtime.
        tokio::spawn(Arc::clone(&uses).read_periodically());
        let server = Arc::new(Server {
            committer: Committer::new(
                Arc::clone(&consensus),
                follower,
                timing.clone(),
                Arc::clone(&position),
            ),
            barrier: RevocationBarrier::new(Arc::clone(&consensus), timing),
            consensus,
            uses,
            this,
        });
        loop {
            select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => drop(tokio::spawn(Arc::clone(&server).serve(request))),
                    None => break,
                },
                _ = leaves.wait_for(|leave| *leave) => break,
            }
        }
        let _ = replica_task.await;
    }
}

/// Connects, creates the store if the mode requires it, and reads it.
async fn begin<C: ConsensusStore, F: Follower>(
    consensus: C,
    follower: &Arc<F>,
    options: StartOptions,
) -> Result<(Arc<C>, ReplicaTask<C, F>), Error> {
    let consensus = Arc::new(consensus);
    let place = Path::new("the consensus store");
    let is_there = consensus.latest().await?.epoch.is_some();
    match options.mode {
        Mode::Create if is_there => return Err(Error::AlreadyExists(place.into())),
        Mode::Open if !is_there => return Err(Error::NotFound(place.into())),
        _ if !is_there => create(&*consensus, follower.seals(), options.prefix).await?,
        _ => {}
    }
    let start = bootstrap(&*consensus, &**follower, &mut None).await?;
    if options.prefix.is_some_and(|prefix| prefix.as_str() != start.meta.prefix) {
        return Err(Error::WrongPrefix(start.meta.prefix.into()));
    }
    let replica = ReplicaTask::new(
        Arc::clone(&consensus),
        Arc::clone(follower),
        options.timing,
        options.info,
        start,
    );
    Ok((consensus, replica))
}

/// Creates an empty store, unless another process has created it meanwhile.
async fn create<C: ConsensusStore>(
    consensus: &C,
    seals: &Seals,
    prefix: Option<Prefix>,
) -> Result<(), Error> {
    let mark = Mark { store: random::array()?, ..Mark::default() };
    let prefix = prefix.unwrap_or_default().as_str().into();
    let meta = Meta { pepper_check: seals.pepper_check, mark, newest: 0, prefix };
    let epoch = codec::encode_epoch(&meta, &meta.mark.head, &seals.meta)?;
    match consensus.commit(Transaction { expected: None, writes: Vec::new(), epoch }).await {
        TransactionOutcome::Committed { .. } | TransactionOutcome::Conflict => Ok(()),
        TransactionOutcome::Refused(why) => Err(Error::ConsensusRefused(why)),
        TransactionOutcome::Unknown(why) => Err(Error::Consensus(why)),
    }
}

/// Answers the store's requests.
struct Server<C, F> {
    consensus: Arc<C>,
    committer: Committer<C, F>,
    barrier: Arc<RevocationBarrier<C>>,
    uses: Arc<SharedUses<C, F>>,
    this: CurrentMembership,
}

impl<C: ConsensusStore, F: Follower> Server<C, F> {
    /// Answers one request. If the caller is gone, the answer is dropped.
    async fn serve(self: Arc<Self>, request: Request) {
        match request {
            Request::Commit(batch, to) => {
                let result = self.committer.commit(&batch).await;
                // A transaction that could not be built was not sent.
                let result =
                    result.unwrap_or_else(|error| CommitResult::Refused(error.to_string().into()));
                let _ = to.send(result.into());
            }
            Request::WaitForAll(to) => {
                let _ = to.send(self.committer.wait_for_all(&self.barrier).await);
            }
            Request::ConfirmNewest(to) => {
                let _ = to.send(self.committer.confirm_newest().await.into());
            }
            Request::Newest(to) => {
                let _ = to.send(version::newest(&*self.consensus).await.map_err(Error::from));
            }
            Request::Names(at, to) => {
                let _ = to.send(self.consensus.scope_names(at).await.map_err(Error::from));
            }
            Request::Audit(at, after, limit, to) => {
                let _ = to.send(
                    self.consensus.audit_entries(at, after, limit).await.map_err(Error::from),
                );
            }
            Request::Records(at, after, to) => {
                let _ = to.send(self.consensus.records(at, after).await.map_err(Error::from));
            }
            Request::RemovePruned(through, audit_start, to) => {
                let _ = to.send(
                    self.consensus.prune_audit(through, &audit_start).await.map_err(Error::from),
                );
            }
            Request::WriteUses(uses, to) => {
                let _ = to.send(self.uses.write(&uses).await);
            }
            Request::ReadUses(to) => drop(to.send(self.uses.read().await)),
            Request::ReportUses { minute, is_leaving, to } => {
                let reported = match self.this() {
                    Some(this) => self.uses.report(this, minute, is_leaving).await,
                    None => Err(Error::Consensus("this replica is no member now".into())),
                };
                let _ = to.send(reported);
            }
            Request::KnownUses(now, to) => drop(to.send(self.uses.known(now).await)),
            Request::Members(to) => {
                let list = self.consensus.members().await.map_err(Error::from);
                let _ = to.send(list.map(|list| member::listed(list, self.this())));
            }
        }
    }

    /// The member that this replica is now.
    fn this(&self) -> Option<MemberId> {
        let this = *self.this.lock().unwrap_or_else(PoisonError::into_inner);
        this.map(|membership| membership.id)
    }
}

impl From<CommitResult> for CommitOutcome {
    fn from(result: CommitResult) -> Self {
        match result {
            CommitResult::Durable(_) => Self::Durable,
            CommitResult::Conflict => Self::Conflict,
            CommitResult::Refused(why) => Self::Refused(why),
            CommitResult::Unknown(why) => Self::Unknown(why),
        }
    }
}
