//! How many connections there may be at once, in all and from one source. One too many is closed
//! without an answer: answering it would cost what is meant to be saved.

use super::{
    connection::{Connection, Watched},
    flood,
    metrics::Metrics,
    overload::Overload,
    source::Network,
};
use axum::{Extension, middleware::AddExtension};
use axum_server::accept::Accept;
use std::{
    collections::HashMap,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tower::Layer;

/// How long a client may take none of what is there for it.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take until its connection can carry a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A socket whose other end may have an address.
pub(super) trait Peer {
    fn source(&self) -> Option<IpAddr>;
}

impl Peer for TcpStream {
    fn source(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|address| address.ip().to_canonical())
    }
}

impl Peer for UnixStream {
    fn source(&self) -> Option<IpAddr> {
        None
    }
}

/// Room for one connection, given back when its service and its requests are gone.
#[derive(Clone)]
pub(super) struct Room {
    shared: Arc<Shared>,
}

impl Room {
    /// The connection that has this room.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.shared.connection
    }
}

struct Shared {
    connection: Arc<Connection>,
    _of_source: Option<OfSource>,
    _permit: OwnedSemaphorePermit,
}

/// The connections of each source that has some.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One connection of a source.
struct OfSource {
    counts: Counts,
    source: IpAddr,
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OfSource {
    fn take(counts: &Counts, source: IpAddr, most: usize) -> Option<Self> {
        let mut all = lock(counts);
        let count = all.entry(source).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { counts: Arc::clone(counts), source })
    }
}

impl Drop for OfSource {
    fn drop(&mut self) {
        let mut all = lock(&self.counts);
        if let Some(count) = all.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.source);
            }
        }
    }
}

/// Lets so many connections in at once.
#[derive(Clone)]
pub(super) struct Limit<A> {
    free: Arc<Semaphore>,
    /// What one source may have; a trusted proxy carries everybody and may have all.
    of_source: Option<(usize, Counts, Arc<[Network]>)>,
    when_full: Overload,
    patience: Option<Duration>,
    metrics: Metrics,
    next: A,
}

impl<A> Limit<A> {
    pub(super) fn new(connections: usize, when_full: Overload, metrics: Metrics, next: A) -> Self {
        let free = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { free, of_source: None, when_full, patience: Some(SEND_TIMEOUT), metrics, next }
    }

    /// Lets one source have at most half of the connections, unless it is a trusted proxy.
    pub(super) fn shared_fairly(mut self, connections: usize, trusted: &[Network]) -> Self {
        self.of_source = Some((connections.div_ceil(2), Counts::default(), trusted.into()));
        self
    }

    /// Waits for clients that do not read: they are the server's own.
    pub(super) fn patient(mut self) -> Self {
        self.patience = None;
        self
    }

    fn room(&self, source: Option<IpAddr>) -> Result<Room, Overload> {
        let of_source = match (&self.of_source, source) {
            (Some((most, counts, trusted)), Some(source))
                if !trusted.iter().any(|network| network.contains(source)) =>
            {
                let taken = OfSource::take(counts, flood::account(source), *most);
                Some(taken.ok_or(Overload::SourceConnections)?)
            }
            _ => None,
        };
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| self.when_full)?;
        let connection = Connection::new(self.metrics.clone(), source, self.patience);
        let shared = Shared { connection, _of_source: of_source, _permit: permit };
        Ok(Room { shared: Arc::new(shared) })
    }
}

type Accepting<T, S> = Pin<Box<dyn Future<Output = io::Result<(T, S)>> + Send>>;

impl<I, S, A> Accept<I, S> for Limit<A>
where
    I: Peer,
    A: Accept<Watched<I>, S>,
    A::Future: Send + 'static,
    A::Service: Send + 'static,
    A::Stream: Send + 'static,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, Room>;
    type Future = Accepting<Self::Stream, Self::Service>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let source = stream.source();
        let room = match self.room(source) {
            Ok(room) => room,
            Err(overload) => {
                self.metrics.connections_refused.inc();
                overload.report(&self.metrics, source);
                return Box::pin(async { Err(io::Error::other("too many connections")) });
            }
        };
        let watched = Watched::new(stream, Arc::clone(room.connection()));
        let accepted = self.next.accept(watched, service);
        Box::pin(async move {
            let accepted = timeout(HANDSHAKE_TIMEOUT, accepted).await;
            let (stream, service) = accepted.map_err(|_| io::ErrorKind::TimedOut)??;
            Ok((stream, Extension(room).layer(service)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_source_are_counted_and_given_back() {
        let counts = Counts::default();
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let first = OfSource::take(&counts, source, 2);
        let second = OfSource::take(&counts, source, 2);
        assert!(first.is_some() && second.is_some());
        assert!(OfSource::take(&counts, source, 2).is_none());
        assert!(OfSource::take(&counts, "192.0.2.2".parse().unwrap(), 2).is_some());
        drop(first);
        assert!(OfSource::take(&counts, source, 2).is_some());
        drop(second);
        assert!(lock(&counts).is_empty());
    }
}
