//! Following etcd: every change after a revision, each transaction whole, in order.
//!
//! A watch may fall silent without an error: its node hangs. So after half a second without a message
//! the node is asked, on the same stream, for another watch over a key that nobody writes, which it
//! answers at once; a node that leaves that without an answer is given up. Rejected: to ask for
//! progress. Before etcd's fix of #15220 what the answer says ran ahead of the events, later versions
//! do not answer while a watch waits for its first event (#17507, #20245), and pings of the
//! connection are not allowed as often. Only events move a follower on.

use super::{
    journal::Shared,
    nodes::{self, Trouble},
    rows,
    space::Lies,
};
use crate::{
    cluster::journal::{Batch, Event, Revision, Roll, Tail, Turn},
    codec::Place,
};
use etcd_client::{
    Event as Row, EventType, ResponseHeader, WatchOptions, WatchResponse, WatchStream,
};
use std::{
    ops::Range,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// So long a watch may be silent before its node is asked whether it lives, and then once more
/// before the node is given up.
const SILENCE: Duration = Duration::from_millis(500);

/// The watch that counts, and the one that only asks for a sign of life. Zero would mean any.
const OURS: i64 = 1;
const PING: i64 = 2;

/// Records, scope names and the epoch.
pub(crate) struct EtcdTail(Watch);

/// Members and their acknowledgements.
///
/// etcd brings a watch that begins in the past up to date ten times a second, and a revocation that
/// waited for that would take a tenth of one instead of some milliseconds. So this one begins with
/// the present. Where something happened before it was there, it says that it is lost, and whoever
/// reads all members then goes on with the very watch that was opened.
pub(crate) struct EtcdRoll {
    watch: Watch,
    after: Revision,
}

/// A watch that was open before the members were read which its user goes on from.
pub(super) struct Spare {
    open: Open,
    since: Revision,
    opened: Instant,
}

/// One that is older has more to tell than there is to read.
const OLDEST_SPARE: Duration = Duration::from_secs(1);

impl EtcdTail {
    pub(super) fn after(shared: &Arc<Shared>, revision: Revision) -> Self {
        Self(Watch::over(shared.space.state(), shared, Some(revision)))
    }

    fn batches(&self, message: &WatchResponse) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        for event in message.events() {
            let Some(pair) = event.kv() else { continue };
            let revision = rows::revision(pair.mod_revision());
            if batches.last().is_none_or(|batch| batch.revision != revision) {
                batches.push(Batch { revision, epoch: None, changes: Vec::new() });
            }
            let value = (event.event_type() == EventType::Put).then(|| pair.value().to_vec());
            let (Some(batch), Some(Lies::Value(place))) =
                (batches.last_mut(), self.0.shared.space.read(pair.key()))
            else {
                continue;
            };
            match place {
                Place::Meta => batch.epoch = value,
                place => batch.changes.push((place, value)),
            }
        }
        batches
    }
}

impl Tail for EtcdTail {
    async fn next(&mut self) -> Event {
        match self.0.message().await {
            Ok(message) => Event::Batches(self.batches(&message)),
            Err(Trouble::Compacted) => Event::Compacted,
            Err(_) => Event::Lost,
        }
    }
}

impl EtcdRoll {
    pub(super) fn after(shared: &Arc<Shared>, revision: Revision) -> Self {
        let mut watch = Watch::over(shared.space.members(), shared, None);
        let spare = shared.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fits = |spare: &Spare| spare.since <= revision && spare.opened.elapsed() < OLDEST_SPARE;
        if let Some(spare) = spare.filter(fits) {
            (watch.open, watch.since) = (Some(spare.open), Some(spare.since));
        }
        Self { watch, after: revision }
    }

    /// Leaves the watch to the next one.
    fn leave(&mut self, since: Revision) {
        if let Some(open) = self.watch.open.take() {
            let spare = Spare { open, since, opened: Instant::now() };
            let shared = &self.watch.shared;
            *shared.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare);
        }
    }
}

impl Roll for EtcdRoll {
    async fn next(&mut self) -> Option<Vec<Turn>> {
        loop {
            let message = self.watch.message().await.ok()?;
            if let Some(since) = self.watch.since.filter(|since| *since > self.after) {
                self.leave(since);
                return None;
            }
            let is_later = |event: &&Row| {
                event.kv().is_some_and(|row| rows::revision(row.mod_revision()) > self.after)
            };
            let events = message.events().iter().filter(is_later);
            let turns: Vec<_> =
                events.filter_map(|event| rows::turn(event, &self.watch.shared.space)).collect();
            if !turns.is_empty() {
                return Some(turns);
            }
        }
    }
}

/// A stream, and the node that it comes from.
type Open = (WatchStream, usize);

/// A watch over a range, on whichever node is asked first now.
struct Watch {
    shared: Arc<Shared>,
    range: Range<Vec<u8>>,
    /// `None`: after what there is when it opens.
    after: Option<Revision>,
    open: Option<Open>,
    /// Of one that begins with the present: after which revision that is.
    since: Option<Revision>,
    asked: bool,
}

impl Watch {
    fn over(range: Range<Vec<u8>>, shared: &Arc<Shared>, after: Option<Revision>) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, range, after, open: None, since: None, asked: false }
    }

    /// The next message with events; of a watch that begins with the present also the one that says
    /// after which revision. After an error the watch is over. A wait that is dropped loses nothing:
    /// what is read from the stream is given back without another wait in between.
    async fn message(&mut self) -> Result<WatchResponse, Trouble> {
        let silent = |text: &str| Err(Trouble::Silence(text.into()));
        let (stream, node) = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(connect(&self.shared, &self.range, self.after).await?),
        };
        let next = loop {
            let message = match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => break silent("the watch ended"),
                Ok(Err(error)) => break Err(Trouble::of(&error)),
                Err(_) if self.asked => break silent("the watch fell silent"),
                Err(_) => {
                    self.asked = true;
                    let options = WatchOptions::new().with_watch_id(PING);
                    let ping = stream.watch(self.shared.space.nothing(), Some(options));
                    match ping.await {
                        Ok(()) => continue,
                        Err(error) => break Err(Trouble::of(&error)),
                    }
                }
            };
            self.asked = false;
            if message.watch_id() != OURS {
                if message.created() && !message.canceled() {
                    // It has said what it was asked for.
                    if let Err(error) = stream.cancel(PING).await {
                        break Err(Trouble::of(&error));
                    }
                }
            } else if message.compact_revision() > 0 {
                break Err(Trouble::Compacted);
            } else if message.canceled() {
                break silent(message.cancel_reason());
            } else if message.created() && self.after.is_none() {
                let header = message.header().map_or(0, ResponseHeader::revision);
                self.since = Some(rows::revision(header));
                break Ok(message);
            } else if !message.events().is_empty() {
                break Ok(message);
            }
        };
        if let Err(Trouble::Silence(_)) = next {
            self.shared.nodes.give_up_on(*node);
        }
        next
    }
}

async fn connect(
    shared: &Shared,
    range: &Range<Vec<u8>>,
    after: Option<Revision>,
) -> Result<Open, Trouble> {
    let (node, client) = shared.nodes.preferred().await?;
    let mut options = WatchOptions::new().with_range(range.end.as_slice()).with_watch_id(OURS);
    if let Some(Revision(after)) = after {
        let from = i64::try_from(after).unwrap_or(i64::MAX).saturating_add(1);
        options = options.with_start_revision(from);
    }
    let mut client = nodes::watch(&client);
    let trouble =
        match timeout(SILENCE * 2, client.watch(range.start.as_slice(), Some(options))).await {
            Ok(Ok(stream)) => return Ok((stream, node)),
            Ok(Err(error)) => Trouble::of(&error),
            Err(_) => Trouble::Silence("no watch in time".into()),
        };
    shared.nodes.give_up_on(node);
    Err(trouble)
}
