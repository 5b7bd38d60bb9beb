//! The limit on concurrent connections, in total and for each source. A connection beyond the limit
//! is closed without a response: a response would cost what the limit saves.

use super::connection::{Connection, Watched};
use crate::{limits::Overload, metrics::Metrics, source::source_network};
use axum::{Extension, middleware::AddExtension};
use axum_server::accept::Accept;
use portcullis::Network;
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

/// How long a client may read nothing of the responses that wait for it.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take until its connection can carry a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A socket whose other end may have an address.
pub(crate) trait Peer {
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

/// The right to one connection, returned when its service and its requests are dropped.
#[derive(Clone)]
pub(crate) struct ConnectionPermit {
    shared: Arc<Shared>,
}

impl ConnectionPermit {
    /// The connection that has this permit.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.shared.connection
    }
}

struct Shared {
    connection: Arc<Connection>,
    _of_source: Option<SourcePermit>,
    _permit: OwnedSemaphorePermit,
}

/// The connections of each source that has some.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One connection of a source.
struct SourcePermit {
    counts: Counts,
    source: IpAddr,
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SourcePermit {
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

impl Drop for SourcePermit {
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

/// Accepts at most this many connections at once.
#[derive(Clone)]
pub(crate) struct Limit<A> {
    free: Arc<Semaphore>,
    /// The limit of one source. A trusted proxy carries every client and is not limited.
    of_source: Option<(usize, Counts, Arc<[Network]>)>,
    when_full: Overload,
    send_timeout: Option<Duration>,
    metrics: Metrics,
    next: A,
}

impl<A> Limit<A> {
    pub(crate) fn new(connections: usize, when_full: Overload, metrics: Metrics, next: A) -> Self {
        let free = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { free, of_source: None, when_full, send_timeout: Some(SEND_TIMEOUT), metrics, next }
    }

    /// Limits one source to half of the connections, unless it is a trusted proxy.
    pub(crate) fn shared_fairly(mut self, connections: usize, trusted: &[Network]) -> Self {
        self.of_source = Some((connections.div_ceil(2), Counts::default(), trusted.into()));
        self
    }

    /// Waits without a timeout for clients that do not read: they are local commands.
    pub(crate) fn without_send_timeout(mut self) -> Self {
        self.send_timeout = None;
        self
    }

    fn permit(&self, source: Option<IpAddr>) -> Result<ConnectionPermit, Overload> {
        let of_source = match (&self.of_source, source) {
            (Some((most, counts, trusted)), Some(source))
                if !trusted.iter().any(|network| network.contains(source)) =>
            {
                let taken = SourcePermit::take(counts, source_network(source), *most);
                Some(taken.ok_or(Overload::SourceConnections)?)
            }
            _ => None,
        };
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| self.when_full)?;
        let connection = Connection::new(self.metrics.clone(), source, self.send_timeout);
        let shared = Shared { connection, _of_source: of_source, _permit: permit };
        Ok(ConnectionPermit { shared: Arc::new(shared) })
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
    type Service = AddExtension<A::Service, ConnectionPermit>;
    type Future = Accepting<Self::Stream, Self::Service>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let source = stream.source();
        let permit = match self.permit(source) {
            Ok(permit) => permit,
            Err(overload) => {
                self.metrics.connections_refused.inc();
                self.metrics.overloaded(overload, source);
                return Box::pin(async { Err(io::Error::other("too many connections")) });
            }
        };
        let watched = Watched::new(stream, Arc::clone(permit.connection()));
        let accepted = self.next.accept(watched, service);
        Box::pin(async move {
            let accepted = timeout(HANDSHAKE_TIMEOUT, accepted).await;
            let (stream, service) = accepted.map_err(|_| io::ErrorKind::TimedOut)??;
            Ok((stream, Extension(permit).layer(service)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_source_are_counted_and_returned() {
        let counts = Counts::default();
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let first = SourcePermit::take(&counts, source, 2);
        let second = SourcePermit::take(&counts, source, 2);
        assert!(first.is_some() && second.is_some());
        assert!(SourcePermit::take(&counts, source, 2).is_none());
        assert!(SourcePermit::take(&counts, "192.0.2.2".parse().unwrap(), 2).is_some());
        drop(first);
        assert!(SourcePermit::take(&counts, source, 2).is_some());
        drop(second);
        assert!(lock(&counts).is_empty());
    }
}
