//! A replica's runtime, on a thread of its own, and the store's handle to it.

use super::{
    bootstrap::bootstrap,
    committer::{Committer, Fate},
    consensus::{ConsensusStore, Latest, RecordPage, Revision, Transaction, TransactionOutcome},
    follower::Follower,
    last_uses::SharedUses,
    member::{self, MemberInfo},
    membership::{CurrentMembership, Trouble},
    moment::moment,
    position::AppliedPosition,
    replica::ReplicaTask,
    revoker::Revoker,
    timing::Timing,
};
use crate::{
    codec::{self, Mark, Meta},
    digest::Seals,
    error::Error,
    id::KeyId,
    ledger::{
        Commit,
        shared::{Member, Onlooker, Settled, Verdict},
    },
    random,
    secret::Prefix,
};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::AtomicU64,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};
use tokio::{
    runtime, select,
    sync::{mpsc, watch},
    time::timeout,
};

/// Whether a store may be made, and must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    There,
    ThereOrNew,
    New,
}

/// What a replica is started with.
pub(crate) struct Plan {
    pub(crate) timing: Timing,
    pub(crate) info: MemberInfo,
    pub(crate) wanted: Wanted,
    pub(crate) prefix: Option<Prefix>,
}

/// Frames of the trail, each with its number.
pub(super) type Frames = Vec<(u64, Vec<u8>)>;

/// Where an answer goes.
pub(super) type To<T> = SyncSender<Result<T, Error>>;

/// What the store asks of its replica, each with where the answer goes.
pub(super) enum Ask {
    Commit(Vec<Commit>, SyncSender<Verdict>),
    Settle(SyncSender<Settled>),
    Witness(SyncSender<Verdict>),
    Moment(To<(Latest, Option<Vec<u8>>)>),
    Names(Revision, To<Vec<Vec<u8>>>),
    Trail(Revision, u64, usize, To<Frames>),
    Records(Revision, Option<[u8; 32]>, To<RecordPage>),
    Sweep(u64, Vec<u8>, To<bool>),
    Uses(Vec<(KeyId, u32)>, To<()>),
    LearnUses(To<()>),
    Members(To<Vec<Member>>),
}

/// The store's side.
pub(crate) struct Handle {
    pub(super) asks: mpsc::UnboundedSender<Ask>,
    pub(super) leave: watch::Sender<bool>,
    pub(super) seals: Arc<Seals>,
    pub(super) shared: Arc<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) trouble: Mutex<Trouble>,
    pub(super) position: OnceLock<Arc<AppliedPosition>>,
    pub(super) onlooker: OnceLock<Onlooker>,
    /// The trail holds nothing below this any more.
    pub(super) swept: AtomicU64,
}

/// The replica's side, before it runs.
pub(crate) struct Seat {
    asks: mpsc::UnboundedReceiver<Ask>,
    leave: watch::Receiver<bool>,
    shared: Arc<State>,
}

/// Both sides.
pub(crate) fn seat(seals: Arc<Seals>) -> (Handle, Seat) {
    let (asks, asked) = mpsc::unbounded_channel();
    let (leave, told) = watch::channel(false);
    let shared = Arc::<State>::default();
    let seat = Seat { asks: asked, leave: told, shared: Arc::clone(&shared) };
    (Handle { asks, leave, seals, shared }, seat)
}

impl Seat {
    /// Starts the replica; gives the prefix of the store's keys once everything is applied.
    pub(crate) fn start<C: ConsensusStore, F: Follower>(
        self,
        consensus: C,
        follower: Arc<F>,
        plan: Plan,
    ) -> Result<Prefix, Error> {
        let (ready, is_ready) = sync_channel(1);
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("portcullis-replica".into()).spawn(move || {
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(Error::io("starting a runtime", error)))),
            };
            runtime.block_on(self.run(consensus, follower, plan, ready));
        });
        let thread = thread.map_err(|e| Error::io("starting the replica's thread", e))?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        is_ready.recv().unwrap_or_else(|_| Err(stopped()))
    }

    async fn run<C: ConsensusStore, F: Follower>(
        mut self,
        consensus: C,
        follower: Arc<F>,
        plan: Plan,
        ready: SyncSender<Result<Prefix, Error>>,
    ) {
        let timing = plan.timing.clone();
        let (consensus, replica) = match begin(consensus, &follower, plan).await {
            Ok(begun) => begun,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let position = replica.position();
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = replica.trouble();
        let _ = self.shared.position.set(Arc::clone(&position));
        let prefix = Prefix::new(&position.current().meta.prefix);
        let this = replica.current_membership();
        let mut leaves = self.leave.clone();
        let life = tokio::spawn(replica.run(self.leave));
        let uses =
            SharedUses::new(Arc::clone(&consensus), Arc::clone(&follower), Arc::clone(&position));
        let uses = Arc::new(uses);
        // Whoever opens a store asks it at once: the first proof takes a moment.
        let start = timing.now();
        while !follower.gate().is_open() && timing.now() < start + timing.hold() {
            timing.sleep(timing.freshness() / 256).await;
        }
        let prefix = prefix.map_err(|_| Error::damaged("its prefix is not one"));
        // So that a key that was used is not said never to have been. It decides nothing, and so
        // nobody waits for it for long.
        let _ = timeout(timing.patience(), uses.read()).await;
        let _ = ready.send(prefix);
        // It ends with the runtime.
        tokio::spawn(Arc::clone(&uses).read_periodically());
        let desk = Arc::new(Desk {
            committer: Committer::new(
                Arc::clone(&consensus),
                follower,
                timing.clone(),
                Arc::clone(&position),
            ),
            revoker: Revoker::new(Arc::clone(&consensus), timing),
            consensus,
            uses,
            this,
        });
        loop {
            select! {
                biased;
                ask = self.asks.recv() => match ask {
                    Some(ask) => drop(tokio::spawn(Arc::clone(&desk).serve(ask))),
                    None => break,
                },
                _ = leaves.wait_for(|leave| *leave) => break,
            }
        }
        let _ = life.await;
    }
}

/// Connects, makes the store where it is to be made, and reads all of it.
async fn begin<C: ConsensusStore, F: Follower>(
    consensus: C,
    follower: &Arc<F>,
    plan: Plan,
) -> Result<(Arc<C>, ReplicaTask<C, F>), Error> {
    let consensus = Arc::new(consensus);
    let place = Path::new("the engine of the replicas");
    let is_there = consensus.latest().await?.epoch.is_some();
    match plan.wanted {
        Wanted::New if is_there => return Err(Error::AlreadyExists(place.into())),
        Wanted::There if !is_there => return Err(Error::NotFound(place.into())),
        _ if !is_there => create(&*consensus, follower.seals(), plan.prefix).await?,
        _ => {}
    }
    let start = bootstrap(&*consensus, &**follower, &mut None).await?;
    if plan.prefix.is_some_and(|prefix| prefix.as_str() != start.meta.prefix) {
        return Err(Error::WrongPrefix(start.meta.prefix.into()));
    }
    let replica = ReplicaTask::new(
        Arc::clone(&consensus),
        Arc::clone(follower),
        plan.timing,
        plan.info,
        start,
    );
    Ok((consensus, replica))
}

/// Makes an empty store, unless another process was quicker.
async fn create<C: ConsensusStore>(
    consensus: &C,
    seals: &Seals,
    prefix: Option<Prefix>,
) -> Result<(), Error> {
    let (sequence, records, scopes) = (0, 0, 0);
    let (sum, head) = ([0; 32], [0; 32]);
    let mark = Mark { store: random::array()?, sequence, records, scopes, sum, head };
    let prefix = prefix.unwrap_or_default().as_str().into();
    let meta = Meta { pepper_check: seals.pepper_check, mark, newest: 0, prefix };
    let epoch = codec::encode_epoch(&meta, &head, &seals.meta)?;
    match consensus.commit(Transaction { expected: None, writes: Vec::new(), epoch }).await {
        TransactionOutcome::Committed { .. } | TransactionOutcome::Conflict => Ok(()),
        TransactionOutcome::Refused(why) => Err(Error::ConsensusRefused(why)),
        TransactionOutcome::Unknown(why) => Err(Error::Consensus(why)),
    }
}

/// Who answers.
struct Desk<C, F> {
    consensus: Arc<C>,
    committer: Committer<C, F>,
    revoker: Arc<Revoker<C>>,
    uses: Arc<SharedUses<C, F>>,
    this: CurrentMembership,
}

impl<C: ConsensusStore, F: Follower> Desk<C, F> {
    /// Whoever asked may be gone; then nobody needs the answer.
    async fn serve(self: Arc<Self>, ask: Ask) {
        match ask {
            Ask::Commit(batch, to) => {
                let fate = self.committer.commit(&batch).await;
                // What could not even be put together was not sent.
                let fate = fate.unwrap_or_else(|error| Fate::Refused(error.to_string().into()));
                let _ = to.send(fate.into());
            }
            Ask::Settle(to) => drop(to.send(self.committer.settle(&self.revoker).await)),
            Ask::Witness(to) => drop(to.send(self.committer.witness().await.into())),
            Ask::Moment(to) => drop(to.send(moment(&*self.consensus).await.map_err(Error::from))),
            Ask::Names(at, to) => {
                let _ = to.send(self.consensus.scope_names(at).await.map_err(Error::from));
            }
            Ask::Trail(at, after, limit, to) => {
                let _ = to.send(
                    self.consensus.audit_entries(at, after, limit).await.map_err(Error::from),
                );
            }
            Ask::Records(at, after, to) => {
                let _ = to.send(self.consensus.records(at, after).await.map_err(Error::from));
            }
            Ask::Sweep(through, floor, to) => {
                let _ =
                    to.send(self.consensus.prune_audit(through, &floor).await.map_err(Error::from));
            }
            Ask::Uses(uses, to) => {
                let _ = to.send(self.uses.write(&uses).await);
            }
            Ask::LearnUses(to) => drop(to.send(self.uses.read().await)),
            Ask::Members(to) => {
                let muster = self.consensus.members().await.map_err(Error::from);
                let this = *self.this.lock().unwrap_or_else(PoisonError::into_inner);
                let this = this.map(|membership| membership.id);
                let _ = to.send(muster.map(|muster| member::listed(muster, this)));
            }
        }
    }
}

pub(super) fn stopped() -> Error {
    Error::Consensus("the replica has stopped".into())
}

impl From<Fate> for Verdict {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Durable(_) => Self::Durable,
            Fate::Conflict => Self::Overtaken,
            Fate::Refused(why) => Self::Refused(why),
            Fate::Unknown(why) => Self::Unknown(why),
        }
    }
}
