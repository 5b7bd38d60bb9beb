//! Watches over etcd: every change after a revision, each transaction as a whole, in order.
//!
//! | state of a watch | on | next state |
//! |---|---|---|
//! | not connected | the first `next` | open, or ended if no node answers in time |
//! | open | events | open; they are delivered |
//! | open | silence for half a second | questioned: the node is asked on the same stream for a second watch over a key that nobody writes |
//! | questioned | any message | open; the second watch is cancelled |
//! | questioned | silence for half a second | ended; the next connection uses another node |
//! | any | an error, or the end of the stream | ended |
//! | any | compaction | ended |
//!
//! The question is needed because a watch whose node hangs falls silent without an error. Rejected:
//! progress requests. Before etcd's fix of #15220 their answers ran ahead of the events, and later
//! versions do not answer while a watch waits for its first event (#17507, #20245). Pings of the
//! connection are not allowed as often. Only events advance a replica.

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

/// How long a watch may be silent before its node is questioned, and then before the node is given up.
const SILENCE: Duration = Duration::from_millis(500);

/// The ids of the watch itself and of the one that questions the node. Zero would mean any.
const WATCH: i64 = 1;
const QUESTION: i64 = 2;

/// A watch over records, scope names, the audit start and the epoch.
pub struct EtcdWatch(Stream);

/// A watch over members and acknowledgements.
///
/// etcd brings a watch that begins in the past up to date ten times a second, so a revocation that
/// waited for that would take a tenth of a second instead of some milliseconds. So this watch begins
/// with the present. If something happened before it was open, it ends, and whoever then reads all
/// members continues with the same stream.
pub struct EtcdMemberWatch {
    stream: Stream,
    after: Revision,
}

/// An older spare watch has more events than there are members to read.
const OLDEST_SPARE: Duration = Duration::from_secs(1);

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
            |spare: &SpareWatch| spare.since <= revision && spare.opened.elapsed() < OLDEST_SPARE;
        if let Some(spare) = spare.filter(fits) {
            (stream.open, stream.since) = (Some(spare.open), Some(spare.since));
        }
        Self { stream, after: revision }
    }

    /// Leaves the stream to the next watch.
    fn leave(&mut self, since: Revision) {
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
                self.leave(since);
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

/// A watch over a range of keys, on whichever node is preferred when it opens.
struct Stream {
    connection: Arc<Connection>,
    range: Range<Vec<u8>>,
    /// `None`: it begins with the present.
    after: Option<Revision>,
    open: Option<OpenWatch>,
    /// If it begins with the present: after which revision.
    since: Option<Revision>,
    is_questioned: bool,
}

impl Stream {
    fn over(range: Range<Vec<u8>>, connection: &Arc<Connection>, after: Option<Revision>) -> Self {
        let connection = Arc::clone(connection);
        Self { connection, range, after, open: None, since: None, is_questioned: false }
    }

    /// The next message with events. A watch that begins with the present also returns the message
    /// that says after which revision. After an error the watch has ended. A dropped wait loses
    /// nothing: a message that was read is returned without another wait in between.
    async fn message(&mut self) -> Result<WatchResponse, RequestError> {
        let unanswered = |text: &str| Err(RequestError::Unanswered(text.into()));
        let (stream, node) = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(connect(&self.connection, &self.range, self.after).await?),
        };
        let next = loop {
            let message = match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => break unanswered("the watch ended"),
                Ok(Err(error)) => break Err(RequestError::of(&error)),
                Err(_) if self.is_questioned => break unanswered("the watch fell silent"),
                Err(_) => {
                    self.is_questioned = true;
                    let options = WatchOptions::new().with_watch_id(QUESTION);
                    let question = stream.watch(self.connection.keys.unused(), Some(options));
                    match question.await {
                        Ok(()) => continue,
                        Err(error) => break Err(RequestError::of(&error)),
                    }
                }
            };
            self.is_questioned = false;
            if message.watch_id() != WATCH {
                if message.created() && !message.canceled() {
                    // The node has answered.
                    if let Err(error) = stream.cancel(QUESTION).await {
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
            self.connection.nodes.give_up_on(*node);
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
        match timeout(SILENCE * 2, client.watch(range.start.as_slice(), Some(options))).await {
            Ok(Ok(stream)) => return Ok((stream, node)),
            Ok(Err(error)) => RequestError::of(&error),
            Err(_) => RequestError::Unanswered("no watch in time".into()),
        };
    connection.nodes.give_up_on(node);
    Err(error)
}
