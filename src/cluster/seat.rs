//! A replica's runtime, on a thread of its own, and the store's handle to it.

use super::{
    bootstrap::{Applied, bootstrap},
    committer::{Committer, Fate},
    follower::Follower,
    journal::{Fault, Journal, Outcome, Transaction},
    member::{self, Card},
    replica::{Membership, Replica, Trouble},
    revoker::Revoker,
    timing::Timing,
    uses::Uses,
};
use crate::{
    audit::AuditEntry,
    codec::{self, Mark, Meta},
    digest::Seals,
    error::Error,
    id::KeyId,
    ledger::{
        Commit,
        shared::{Following, Member, Onlooker, Settled, Shared, Verdict},
    },
    random,
    scope::Catalogue,
    secret::Prefix,
};
use std::{
    future::Future,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};
use tokio::{
    runtime, select,
    sync::{mpsc, watch},
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
    pub(crate) card: Card,
    pub(crate) wanted: Wanted,
    pub(crate) prefix: Option<Prefix>,
}

/// Frames of the trail, each with its number.
type Frames = Vec<(u64, Vec<u8>)>;

/// What the store asks of its replica, each with where the answer goes.
enum Ask {
    Commit(Vec<Commit>, SyncSender<Verdict>),
    Settle(SyncSender<Settled>),
    Witness(SyncSender<Verdict>),
    Trail(u64, usize, SyncSender<Result<Frames, Error>>),
    Uses(Vec<(KeyId, u32)>, SyncSender<Result<(), Error>>),
    Members(SyncSender<Result<Vec<Member>, Error>>),
}

/// The store's side.
pub(crate) struct Handle {
    asks: mpsc::UnboundedSender<Ask>,
    leave: watch::Sender<bool>,
    seals: Arc<Seals>,
    shared: Arc<State>,
}

#[derive(Default)]
struct State {
    thread: Mutex<Option<JoinHandle<()>>>,
    trouble: Mutex<Trouble>,
    position: OnceLock<Arc<Applied>>,
    onlooker: OnceLock<Onlooker>,
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
    pub(crate) fn start<J: Journal, F: Follower>(
        self,
        connect: impl Future<Output = Result<J, Error>> + Send + 'static,
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
            runtime.block_on(self.run(connect, follower, plan, ready));
        });
        let thread = thread.map_err(|e| Error::io("starting the replica's thread", e))?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        answer(&is_ready).unwrap_or_else(|| Err(stopped()))
    }

    async fn run<J: Journal, F: Follower>(
        mut self,
        connect: impl Future<Output = Result<J, Error>>,
        follower: Arc<F>,
        plan: Plan,
        ready: SyncSender<Result<Prefix, Error>>,
    ) {
        let timing = plan.timing.clone();
        let (journal, replica) = match begin(connect, &follower, plan).await {
            Ok(begun) => begun,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let position = replica.position();
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = replica.trouble();
        let _ = self.shared.position.set(Arc::clone(&position));
        let prefix = Prefix::new(&position.now().meta.prefix);
        let this = replica.seat();
        let mut leaves = self.leave.clone();
        let life = tokio::spawn(replica.run(self.leave));
        // Whoever opens a store asks it at once: the first proof takes a moment.
        let start = timing.now();
        while !follower.gate().is_open() && timing.now() < start + timing.hold() {
            timing.sleep(timing.freshness() / 256).await;
        }
        let prefix = prefix.map_err(|_| Error::damaged("its prefix is not one"));
        let _ = ready.send(prefix);
        let uses = Uses::new(Arc::clone(&journal), Arc::clone(&follower), Arc::clone(&position));
        let uses = Arc::new(uses);
        // It ends with the runtime.
        tokio::spawn(Arc::clone(&uses).keep_learning());
        let desk = Arc::new(Desk {
            committer: Committer::new(
                Arc::clone(&journal),
                follower,
                timing.clone(),
                Arc::clone(&position),
            ),
            revoker: Revoker::new(Arc::clone(&journal), timing),
            journal,
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
async fn begin<J: Journal, F: Follower>(
    connect: impl Future<Output = Result<J, Error>>,
    follower: &Arc<F>,
    plan: Plan,
) -> Result<(Arc<J>, Replica<J, F>), Error> {
    let journal = Arc::new(connect.await?);
    let place = Path::new("the engine of the replicas");
    let is_there = journal.newest().await?.epoch.is_some();
    match plan.wanted {
        Wanted::New if is_there => return Err(Error::AlreadyExists(place.into())),
        Wanted::There if !is_there => return Err(Error::NotFound(place.into())),
        _ if !is_there => create(&*journal, follower.seals(), plan.prefix).await?,
        _ => {}
    }
    let start = bootstrap(&*journal, &**follower, &mut None).await?;
    if plan.prefix.is_some_and(|prefix| prefix.as_str() != start.meta.prefix) {
        return Err(Error::WrongPrefix(start.meta.prefix.into()));
    }
    let replica =
        Replica::new(Arc::clone(&journal), Arc::clone(follower), plan.timing, plan.card, start);
    Ok((journal, replica))
}

/// Makes an empty store, unless another process was quicker.
async fn create<J: Journal>(
    journal: &J,
    seals: &Seals,
    prefix: Option<Prefix>,
) -> Result<(), Error> {
    let (sequence, records, scopes) = (0, 0, 0);
    let (sum, head) = ([0; 32], [0; 32]);
    let mark = Mark { store: random::array()?, sequence, records, scopes, sum, head };
    let prefix = prefix.unwrap_or_default().as_str().into();
    let meta = Meta { pepper_check: seals.pepper_check, mark, newest: 0, prefix };
    let epoch = codec::encode_epoch(&meta, &head, &seals.meta)?;
    match journal.commit(Transaction { expected: None, commits: &[], epoch }).await {
        Outcome::Committed { .. } | Outcome::Conflict => Ok(()),
        Outcome::Refused(why) => Err(Error::EngineRefused(why)),
        Outcome::Unknown(why) => Err(Error::Engine(why)),
    }
}

/// Who answers.
struct Desk<J, F> {
    journal: Arc<J>,
    committer: Committer<J, F>,
    revoker: Arc<Revoker<J>>,
    uses: Arc<Uses<J, F>>,
    this: Arc<Mutex<Option<Membership>>>,
}

impl<J: Journal, F: Follower> Desk<J, F> {
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
            Ask::Trail(after, limit, to) => {
                let _ = to.send(self.journal.trail(after, limit).await.map_err(Error::from));
            }
            Ask::Uses(uses, to) => {
                let _ = to.send(self.uses.note(&uses).await.map_err(Error::from));
            }
            Ask::Members(to) => {
                let muster = self.journal.members().await.map_err(Error::from);
                let this = *self.this.lock().unwrap_or_else(PoisonError::into_inner);
                let this = this.map(|membership| membership.who);
                let _ = to.send(muster.map(|muster| member::told(muster, this)));
            }
        }
    }
}

impl Handle {
    fn ask<T>(&self, ask: impl FnOnce(SyncSender<T>) -> Ask) -> Option<T> {
        let (to, from) = sync_channel(1);
        self.asks.send(ask(to)).ok()?;
        answer(&from)
    }
}

fn answer<T>(from: &Receiver<T>) -> Option<T> {
    from.recv().ok()
}

fn stopped() -> Error {
    Error::Engine("the replica has stopped".into())
}

#[cfg(test)]
thread_local! {
    /// What a test does just before this thread next asks whether there is anything newer.
    pub(crate) static BEFORE_WITNESS: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}

impl Shared for Handle {
    fn commit(&self, batch: Vec<Commit>) -> Verdict {
        let verdict = self.ask(|to| Ask::Commit(batch, to));
        verdict.unwrap_or_else(|| Verdict::Unknown(stopped().to_string().into()))
    }

    fn settle(&self) -> Settled {
        let start = Instant::now();
        let settled = self.ask(Ask::Settle).unwrap_or_default();
        if let Some(onlooker) = self.shared.onlooker.get() {
            onlooker(start.elapsed(), settled);
        }
        settled
    }

    fn witness(&self) -> Verdict {
        #[cfg(test)]
        if let Some(first) = BEFORE_WITNESS.take() {
            first();
        }
        let verdict = self.ask(Ask::Witness);
        verdict.unwrap_or_else(|| Verdict::Unknown(stopped().to_string().into()))
    }

    fn trail(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        // The entry before comes along for its head.
        let from = after.saturating_sub(1);
        let most = limit.saturating_add(usize::from(after > 0));
        let frames = self.ask(|to| Ask::Trail(from, most, to)).ok_or_else(stopped)??;
        let mut frames = frames.into_iter();
        let mut head = [0; 32];
        if after > 0 {
            match frames.next() {
                Some((sequence, frame)) if sequence == after => {
                    head = codec::entry_head(&frame, sequence)?;
                }
                _ => return Ok(Vec::new()),
            }
        }
        let mut entries = Vec::new();
        for ((sequence, frame), expected) in frames.zip(after + 1..) {
            if sequence != expected {
                let what = format!("entry {expected} of the audit trail is missing");
                return Err(Error::damaged(what));
            }
            let entry = codec::decode_entry(&frame, sequence, &head, &self.seals.trail, catalogue)?;
            entries.push(entry.0);
            head = entry.1;
        }
        Ok(entries)
    }

    fn note_uses(&self, uses: Vec<(KeyId, u32)>) -> Result<(), Error> {
        self.ask(|to| Ask::Uses(uses, to)).unwrap_or_else(|| Err(stopped()))
    }

    fn members(&self) -> Result<Vec<Member>, Error> {
        self.ask(Ask::Members).unwrap_or_else(|| Err(stopped()))
    }

    fn following(&self) -> Following {
        self.shared.position.get().map(|position| position.following()).unwrap_or_default()
    }

    fn tell_waits(&self, onlooker: Onlooker) {
        let _ = self.shared.onlooker.set(onlooker);
    }

    fn trouble(&self) -> Option<Box<str>> {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leave(&self) {
        self.leave.send_replace(true);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
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

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Unreachable(why) => Self::Engine(why),
            Fault::Compacted => Self::Engine("what was asked for is no longer kept".into()),
        }
    }
}
