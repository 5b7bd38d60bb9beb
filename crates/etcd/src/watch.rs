//! Watches over etcd: every change after a revision, each transaction as a whole, in order.
//!
//! | state of a watch | on | next state |
//! |---|---|---|
//! | not connected | the first `next` | open, or ended if no node answers in time |
//! | open | events | open; they are delivered |
//! | open | silence for half a second | probed: a second watch is requested on the same stream, over a key that is never written |
//! | probed | any message | open; the second watch is cancelled |
//! | probed | silence for half a second | ended; the next connection uses another node |
//! | any | an error, or the end of the stream | ended |
//! | any | compaction | ended |
//!
//! The probe is needed because a watch whose node hangs becomes silent without an error. Rejected: progress
//! requests. Before etcd's fix of #15220 their answers arrived before older events. Later versions do not answer
//! while a watch waits for its first event (#17507, #20245). Also rejected: pings of the connection, which
//! etcd does not allow as often. Only events advance a replica.

use super::{
    connection::{Connection, OpenWatch, SpareWatch, number, revision},
    keyspace::Row,
    members,
    nodes::{self, RequestError},
};
use etcd_client::{Event, EventType, ResponseHeader, WatchOptions, WatchResponse};
use portcullis::cluster::{
    Committed, MemberEvent, MemberWatch, Revision, Watch, WatchEvent, Write,
};
use std::{
    ops::Range,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// How long a watch may be silent before its node is probed, and how long the node may then take to answer.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(500);

/// The ids of the watch itself and of the probe. With 0, etcd would choose the id.
const WATCH: i64 = 1;
const PROBE: i64 = 2;

/// A watch over records, scope names, the audit start and the epoch.
pub struct EtcdWatch(Stream);

impl std::fmt::Debug for EtcdWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdWatch").finish_non_exhaustive()
    }
}

/// A watch over members and acknowledgements.
///
/// etcd updates a watch that begins in the past only ten times a second. A revocation that waited for that
/// would take a tenth of a second instead of some milliseconds. So this watch begins with the present. If a
/// member changed before it was open, it ends. The caller then reads all members and continues with the
/// same stream.
pub struct EtcdMemberWatch {
    stream: Stream,
    after: Revision,
}

impl std::fmt::Debug for EtcdMemberWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdMemberWatch").finish_non_exhaustive()
    }
}

/// An older spare watch has more events than there are members.
const MAX_SPARE_AGE: Duration = Duration::from_secs(1);

impl EtcdWatch {
    pub(super) fn after(connection: &Arc<Connection>, revision: Revision) -> Self {
        Self(Stream::over(connection.keys.state(), connection, Some(revision)))
    }

    fn transactions(&self, message: &WatchResponse) -> Vec<Committed> {
        let mut transactions: Vec<Committed> = Vec::new();
        for event in message.events() {
            let Some(pair) = event.kv() else { continue };
            let at = revision(pair.mod_revision());
            if transactions.last().is_none_or(|last| last.revision != at) {
                transactions.push(Committed { revision: at, epoch: None, writes: Vec::new() });
            }
            let Some(last) = transactions.last_mut() else { continue };
            let value = (event.event_type() == EventType::Put).then(|| pair.value().to_vec());
            match self.0.connection.keys.read(pair.key()) {
                Some(Row::Epoch) => last.epoch = value,
                Some(Row::Value(key)) => last.writes.push(Write { key, value }),
                _ => {}
            }
        }
        transactions
    }
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> WatchEvent {
        match self.0.message().await {
            Ok(message) => WatchEvent::Committed(self.transactions(&message)),
            Err(RequestError::Compacted) => WatchEvent::Compacted,
            Err(_) => WatchEvent::Lost,
        }
    }
}

impl EtcdMemberWatch {
    pub(super) fn after(connection: &Arc<Connection>, revision: Revision) -> Self {
        let mut stream = Stream::over(connection.keys.members(), connection, None);
        let spare = connection.spare_watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fits =
            |spare: &SpareWatch| spare.since <= revision && spare.opened.elapsed() < MAX_SPARE_AGE;
        if let Some(spare) = spare.filter(fits) {
            (stream.open, stream.since) = (Some(spare.open), Some(spare.since));
        }
        Self { stream, after: revision }
    }

    /// Keeps the stream for the next watch.
    fn release_stream(&mut self, since: Revision) {
        if let Some(open) = self.stream.open.take() {
            let spare = SpareWatch { open, since, opened: Instant::now() };
            let connection = &self.stream.connection;
            *connection.spare_watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare);
        }
    }
}

impl MemberWatch for EtcdMemberWatch {
    async fn next(&mut self) -> Option<Vec<MemberEvent>> {
        loop {
            let message = self.stream.message().await.ok()?;
            if let Some(since) = self.stream.since.filter(|since| *since > self.after) {
                self.release_stream(since);
                return None;
            }
            let is_later = |event: &&Event| {
                event.kv().is_some_and(|pair| revision(pair.mod_revision()) > self.after)
            };
            let keys = &self.stream.connection.keys;
            let events = message.events().iter().filter(is_later);
            let events: Vec<_> = events.filter_map(|event| members::event(event, keys)).collect();
            if !events.is_empty() {
                return Some(events);
            }
        }
    }
}

/// A watch over a range of keys, on the preferred node.
struct Stream {
    connection: Arc<Connection>,
    range: Range<Vec<u8>>,
    /// `None`: it begins with the present.
    after: Option<Revision>,
    open: Option<OpenWatch>,
    /// The revision after which it begins, if it begins with the present.
    since: Option<Revision>,
    is_probed: bool,
}

impl Stream {
    fn over(range: Range<Vec<u8>>, connection: &Arc<Connection>, after: Option<Revision>) -> Self {
        let connection = Arc::clone(connection);
        Self { connection, range, after, open: None, since: None, is_probed: false }
    }

    /// Waits for the next message with events. A watch that begins with the present also returns the message
    /// with the revision after which it begins. After an error the watch has ended. A dropped wait loses
    /// nothing: there is no further wait between reading a message and returning it.
    async fn message(&mut self) -> Result<WatchResponse, RequestError> {
        let unanswered = |text: &str| Err(RequestError::Unanswered(text.into()));
        let (stream, node) = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(connect(&self.connection, &self.range, self.after).await?),
        };
        let next = loop {
            let message = match timeout(SILENCE_TIMEOUT, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => break unanswered("the watch ended"),
                Ok(Err(error)) => break Err(RequestError::of(&error)),
                Err(_) if self.is_probed => break unanswered("the watch became silent"),
                Err(_) => {
                    self.is_probed = true;
                    let options = WatchOptions::new().with_watch_id(PROBE);
                    let probe = stream.watch(self.connection.keys.unused(), Some(options));
                    match probe.await {
                        Ok(()) => continue,
                        Err(error) => break Err(RequestError::of(&error)),
                    }
                }
            };
            self.is_probed = false;
            if message.watch_id() != WATCH {
                if message.created() && !message.canceled() {
                    // The node has answered.
                    if let Err(error) = stream.cancel(PROBE).await {
                        break Err(RequestError::of(&error));
                    }
                }
            } else if message.compact_revision() > 0 {
                break Err(RequestError::Compacted);
            } else if message.canceled() {
                break unanswered(message.cancel_reason());
            } else if message.created() && self.after.is_none() {
                let header = message.header().map_or(0, ResponseHeader::revision);
                self.since = Some(revision(header));
                break Ok(message);
            } else if !message.events().is_empty() {
                break Ok(message);
            }
        };
        if let Err(RequestError::Unanswered(_)) = next {
            self.connection.nodes.demote(*node);
        }
        next
    }
}

async fn connect(
    connection: &Connection,
    range: &Range<Vec<u8>>,
    after: Option<Revision>,
) -> Result<OpenWatch, RequestError> {
    let (node, client) = connection.nodes.preferred().await?;
    let mut options = WatchOptions::new().with_range(range.end.as_slice()).with_watch_id(WATCH);
    if let Some(after) = after {
        options = options.with_start_revision(number(after).saturating_add(1));
    }
    let mut client = nodes::watch(&client);
    let error =
        match timeout(SILENCE_TIMEOUT * 2, client.watch(range.start.as_slice(), Some(options)))
            .await
        {
            Ok(Ok(stream)) => return Ok((stream, node)),
            Ok(Err(error)) => RequestError::of(&error),
            Err(_) => RequestError::Unanswered("no watch in time".into()),
        };
    connection.nodes.demote(node);
    Err(error)
}
