//! The store's handle to its replica, the state that both share, and the requests between them.

use super::{
    consensus::{Latest, RecordPage, Revision},
    membership::ReplicationError,
    position::AppliedPosition,
};
use crate::{
    codec::AuditStart,
    digest::Seals,
    error::Error,
    id::KeyId,
    ledger::{
        Commit, CommitOutcome, Member, ReplicaWait, known_uses::KnownUses, replicas::WaitObserver,
    },
};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::AtomicU64,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};
use tokio::sync::{mpsc, watch};

/// Frames of audit entries, each with its number.
pub(super) type Frames = Vec<(u64, Vec<u8>)>;

/// The newest state in the consensus store, and the frame of the audit start.
pub(super) type NewestWithStart = (Latest, Option<Vec<u8>>);

/// The channel for the answer to a request.
pub(super) type Reply<T> = SyncSender<Result<T, Error>>;

/// A request of the store to its replica.
pub(super) enum Request {
    Commit(Vec<Commit>, SyncSender<CommitOutcome>),
    WaitForAll(SyncSender<ReplicaWait>),
    ConfirmNewest(SyncSender<CommitOutcome>),
    Newest(Reply<NewestWithStart>),
    Names(Revision, Reply<Vec<Vec<u8>>>),
    Audit(Revision, u64, usize, Reply<Frames>),
    Records(Revision, Option<[u8; 32]>, Reply<RecordPage>),
    RemovePruned(u64, Vec<u8>, Reply<bool>),
    WriteUses(Vec<(KeyId, u32)>, Reply<()>),
    ReadUses(Reply<()>),
    ReportUses { minute: u32, is_leaving: bool, to: Reply<()> },
    KnownUses(u32, Reply<KnownUses>),
    Members(Reply<Vec<Member>>),
}

/// The store's end of the channel.
pub(crate) struct ClusterLedger {
    pub(super) requests: mpsc::UnboundedSender<Request>,
    pub(super) leave: watch::Sender<bool>,
    pub(super) seals: Arc<Seals>,
    pub(super) state: Arc<State>,
}

/// The replica's end of the channel.
pub(super) struct Receiver {
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    pub(super) leave: watch::Receiver<bool>,
    pub(super) state: Arc<State>,
}

/// The state that store and replica share.
#[derive(Default)]
pub(super) struct State {
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) replication_error: Mutex<ReplicationError>,
    pub(super) position: OnceLock<Arc<AppliedPosition>>,
    pub(super) observer: OnceLock<WaitObserver>,
    /// The last entry up to which all pruned entries are removed.
    pub(super) removed: AtomicU64,
}

/// Creates both ends of the channel.
pub(super) fn channel(seals: Arc<Seals>) -> (ClusterLedger, Receiver) {
    let (sender, requests) = mpsc::unbounded_channel();
    let (leave, leaves) = watch::channel(false);
    let state = Arc::<State>::default();
    let receiver = Receiver { requests, leave: leaves, state: Arc::clone(&state) };
    (ClusterLedger { requests: sender, leave, seals, state }, receiver)
}

impl ClusterLedger {
    /// Sends a request and waits for the answer; `None` if the replica has stopped.
    pub(super) fn send<T>(&self, request: impl FnOnce(SyncSender<T>) -> Request) -> Option<T> {
        let (to, from) = sync_channel(1);
        self.requests.send(request(to)).ok()?;
        from.recv().ok()
    }

    pub(super) fn try_send<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Error> {
        self.send(request).unwrap_or_else(|| Err(stopped()))
    }

    pub(super) fn read_audit(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Frames, Error> {
        self.try_send(|to| Request::Audit(at, after, limit, to))
    }

    /// Returns the applied audit start, and its frame.
    pub(super) fn applied_audit_start(&self) -> (AuditStart, Option<Vec<u8>>) {
        let position = self.state.position.get();
        position.map(|position| position.current().audit_start.clone()).unwrap_or_default()
    }
}

pub(super) fn stopped() -> Error {
    Error::Consensus("the replica has stopped".into())
}
