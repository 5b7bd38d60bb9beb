//! One client for each etcd node, and the choice of the node for a request.
//!
//! A client that balances its requests over all nodes keeps choosing a node that hangs. So each node has
//! its own client, and requests go to one preferred node until it fails, then to the next.

use super::config::{ConfigError, Etcd};
use etcd_client::{Client, ConnectOptions, GetOptions, GetResponse, Txn, TxnResponse};
use portcullis::cluster::ConsensusError;
use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

/// The time to connect to a node and, where etcd requires it, to authenticate.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after all nodes have failed once.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// etcd's message when it is full.
const NO_ROOM: &str = "database space exceeded";
/// etcd's own limit for a request is 1.5 MiB; answers have none, and a busy watch may batch.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// All nodes.
pub(super) struct Nodes {
    all: Vec<Node>,
    preferred: AtomicUsize,
}

struct Node {
    url: String,
    options: ConnectOptions,
    client: Mutex<Option<Client>>,
}

/// The timeouts of one attempt at one node, and of all attempts.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    attempt: Duration,
    all: Duration,
}

/// For calls that a gate depends on. Two silent nodes and an answer fit into the time that a gate stays open.
pub(super) const PROVING: Timeouts =
    Timeouts { attempt: Duration::from_millis(500), all: Duration::from_millis(2500) };
/// For reads, small or in pages.
pub(super) const READING: Timeouts =
    Timeouts { attempt: Duration::from_secs(5), all: Duration::from_secs(15) };
/// For changes. A new leader takes 1–2 s.
pub(super) const CHANGING: Timeouts =
    Timeouts { attempt: Duration::from_secs(2), all: Duration::from_secs(10) };

/// Why a request was not answered.
#[derive(Debug)]
pub(super) enum RequestError {
    /// etcd refused the request, which had no effect.
    Refused(String),
    /// etcd has no space. It reports this before a change, but also after a change that it made and that
    /// used the last space.
    Full(String),
    /// The requested revision is older than etcd's history.
    Compacted,
    /// No node answered: the request may have taken effect.
    Unanswered(String),
}

impl Nodes {
    pub(super) fn new(etcd: &Etcd) -> Result<Self, ConfigError> {
        let options = etcd.options()?;
        let node = |url: &String| Node {
            url: url.clone(),
            options: options.clone(),
            client: Mutex::new(None),
        };
        let all: Vec<_> = etcd.urls.iter().map(node).collect();
        // Replicas with the same list of nodes do not all start with the first node.
        let [first, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        Ok(Self { preferred: AtomicUsize::new(usize::from(first) % all.len().max(1)), all })
    }

    /// Reads a key or a range.
    pub(super) async fn get(
        &self,
        timeouts: Timeouts,
        key: &[u8],
        options: &GetOptions,
    ) -> Result<GetResponse, RequestError> {
        let work = |client: Client| {
            let (key, options) = (key.to_vec(), options.clone());
            async move { kv(&client).get(key, Some(options)).await }
        };
        self.try_nodes(timeouts, work).await
    }

    /// Runs a transaction. Returns the answer, and the number of times that it was sent.
    pub(super) async fn txn(
        &self,
        timeouts: Timeouts,
        txn: &Txn,
    ) -> Result<(TxnResponse, usize), RequestError> {
        let mut sent = 0;
        let work = |client: Client| {
            sent += 1;
            let txn = txn.clone();
            async move { kv(&client).txn(txn).await }
        };
        match self.try_nodes(timeouts, work).await {
            Ok(answer) => Ok((answer, sent)),
            // An earlier attempt without an answer may have taken effect.
            Err(RequestError::Refused(text) | RequestError::Full(text)) if sent > 1 => {
                Err(RequestError::Unanswered(text))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a request to one node after the other until one answers or refuses. `work` may run again although
    /// an earlier run took effect.
    async fn try_nodes<T, F>(
        &self,
        Timeouts { attempt, all }: Timeouts,
        mut work: impl FnMut(Client) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let start = Instant::now();
        let mut last = String::from("no node was tried");
        let mut tried = 0;
        loop {
            let left = all.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(RequestError::Unanswered(last));
            }
            let number = self.preferred.load(Relaxed);
            let Some(node) = self.all.get(number) else {
                return Err(RequestError::Unanswered(last));
            };
            let work_once = async {
                let client = node.client().await?;
                work(client).await
            };
            match timeout(left.min(attempt), work_once).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => match RequestError::of(&error) {
                    RequestError::Unanswered(text) => last = format!("{}: {text}", node.url),
                    error => return Err(error),
                },
                Err(_) => last = format!("{}: no answer in time", node.url),
            }
            self.demote(number);
            tried += 1;
            if tried % self.all.len() == 0 {
                sleep(ROUND_PAUSE.min(all.saturating_sub(start.elapsed()))).await;
            }
        }
    }

    /// Returns the client of the preferred node, and its number for [`demote`](Self::demote).
    pub(super) async fn preferred(&self) -> Result<(usize, Client), RequestError> {
        let number = self.preferred.load(Relaxed);
        let silence = || RequestError::Unanswered("no node is known".into());
        let node = self.all.get(number).ok_or_else(silence)?;
        let client = timeout(CONNECT_TIMEOUT, node.client()).await;
        let connected = match client {
            Ok(Ok(client)) => return Ok((number, client)),
            Ok(Err(error)) => RequestError::of(&error),
            Err(_) => RequestError::Unanswered(format!("{}: no answer in time", node.url)),
        };
        self.demote(number);
        Err(connected)
    }

    /// Prefers the next node from now on, if this node is still the preferred one.
    pub(super) fn demote(&self, number: usize) {
        let next = (number + 1) % self.all.len().max(1);
        let _ = self.preferred.compare_exchange(number, next, Relaxed, Relaxed);
        // A hanging connection would hang again, and a new one is cheap.
        if let Some(node) = self.all.get(number)
            && let Ok(mut client) = node.client.try_lock()
        {
            *client = None;
        }
    }
}

impl Node {
    async fn client(&self) -> Result<Client, etcd_client::Error> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = Client::connect([&self.url], Some(self.options.clone())).await?;
        Ok(client.insert(made).clone())
    }
}

/// Returns a client of the key-value service with a limit for large answers.
fn kv(client: &Client) -> etcd_client::KvClient {
    client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES)
}

pub(super) fn watch(client: &Client) -> etcd_client::WatchClient {
    client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES)
}

impl RequestError {
    /// Classifies an error. A refusal has one of the status codes that etcd returns before any effect.
    pub(super) fn of(error: &etcd_client::Error) -> Self {
        const OUT_OF_RANGE: i32 = 11;
        const UNIMPLEMENTED: i32 = 12;
        // Invalid argument, permission denied, resource exhausted, failed precondition,
        // unauthenticated.
        const REFUSALS: [i32; 5] = [3, 7, 8, 9, 16];
        match error {
            etcd_client::Error::GRpcStatus(status) => match i32::from(status.code()) {
                OUT_OF_RANGE if status.message().contains("compacted") => Self::Compacted,
                code if REFUSALS.contains(&code) && is_of_etcd(status.message()) => {
                    let text = status.message();
                    let refusal = if text.contains(NO_ROOM) { Self::Full } else { Self::Refused };
                    refusal(format!("{text}: {}", advice(text)))
                }
                UNIMPLEMENTED => Self::Refused(format!("this is no etcd: {}", status.message())),
                _ => Self::Unanswered(status.message().to_owned()),
            },
            etcd_client::Error::InvalidArgs(_) | etcd_client::Error::InvalidUri(_) => {
                Self::Refused(error.to_string())
            }
            _ => Self::Unanswered(causes(error)),
        }
    }
}

/// Formats an error with its causes. The error itself only reports that the connection failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Whether etcd itself refused the request before any effect. The same codes are used for a connection that
/// broke while a request was in flight; then the outcome is unknown.
fn is_of_etcd(message: &str) -> bool {
    message.starts_with("etcdserver: ") || message.starts_with("grpc: received message larger than")
}

/// The remedy for a refusal.
fn advice(message: &str) -> &'static str {
    let says = |what: &[&str]| what.iter().any(|what| message.contains(what));
    if says(&[NO_ROOM]) {
        "make room in etcd (compact, defragment, or raise its quota), then disarm the alarm"
    } else if says(&["permission denied"]) {
        "grant the etcd user read and write access to all keys in the space of this store"
    } else if says(&["auth", "user"]) {
        "check the etcd user and its password"
    } else if says(&["too many operations", "too large", "larger than"]) {
        "configure etcd to accept 128 operations and 1.5 MiB, which are its defaults"
    } else if says(&["too many requests"]) {
        "repeat it in a moment"
    } else {
        "see etcd's log"
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) | Self::Full(text) => write!(f, "etcd refused: {text}"),
            Self::Compacted => f.write_str("etcd no longer has this revision"),
            Self::Unanswered(text) => write!(f, "etcd does not answer ({text})"),
        }
    }
}

impl From<RequestError> for ConsensusError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(text) | RequestError::Full(text) => Self::Refused(text.into()),
            RequestError::Compacted => Self::Compacted,
            RequestError::Unanswered(text) => Self::Unavailable(text.into()),
        }
    }
}
