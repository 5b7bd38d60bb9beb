//! The limit on concurrent connections, in total and for each source. A connection beyond the limit
//! is closed without a response, because sending one would cost the resources that the limit protects.

use super::connection::{Connection, MonitoredStream};
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
    inner: Arc<PermitInner>,
}

impl ConnectionPermit {
    /// Returns the connection that has this permit.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.inner.connection
    }
}

struct PermitInner {
    connection: Arc<Connection>,
    _source_permit: Option<SourcePermit>,
    _permit: OwnedSemaphorePermit,
}

/// The number of connections of each source; a source without connections is absent.
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
    fn take(counts: &Counts, source: IpAddr, max: usize) -> Option<Self> {
        let mut all = lock(counts);
        let count = all.entry(source).or_default();
        if *count >= max {
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
pub(crate) struct ConnectionLimit<A> {
    free: Arc<Semaphore>,
    /// The limit of one source. A trusted proxy carries every client and is not limited.
    per_source: Option<(usize, Counts, Arc<[Network]>)>,
    when_full: Overload,
    send_timeout: Option<Duration>,
    metrics: Metrics,
    next: A,
}

impl<A> ConnectionLimit<A> {
    pub(crate) fn new(connections: usize, when_full: Overload, metrics: Metrics, next: A) -> Self {
        let free = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { free, per_source: None, when_full, send_timeout: Some(SEND_TIMEOUT), metrics, next }
    }

    /// Limits each source to half of the connections. A trusted proxy is not limited.
    pub(crate) fn with_source_limit(mut self, connections: usize, trusted: &[Network]) -> Self {
        self.per_source = Some((connections.div_ceil(2), Counts::default(), trusted.into()));
        self
    }

    /// Removes the send timeout, for local commands, which may read slowly.
    pub(crate) fn without_send_timeout(mut self) -> Self {
        self.send_timeout = None;
        self
    }

    fn permit(&self, source: Option<IpAddr>) -> Result<ConnectionPermit, Overload> {
        let source_permit = match (&self.per_source, source) {
            (Some((max, counts, trusted)), Some(source))
                if !trusted.iter().any(|network| network.contains(source)) =>
            {
                let taken = SourcePermit::take(counts, source_network(source), *max);
                Some(taken.ok_or(Overload::SourceConnections)?)
            }
            _ => None,
        };
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| self.when_full)?;
        let connection = Connection::new(self.metrics.clone(), source, self.send_timeout);
        let inner = PermitInner { connection, _source_permit: source_permit, _permit: permit };
        Ok(ConnectionPermit { inner: Arc::new(inner) })
    }
}

type AcceptFuture<T, S> = Pin<Box<dyn Future<Output = io::Result<(T, S)>> + Send>>;

impl<I, S, A> Accept<I, S> for ConnectionLimit<A>
where
    I: Peer,
    A: Accept<MonitoredStream<I>, S>,
    A::Future: Send + 'static,
    A::Service: Send + 'static,
    A::Stream: Send + 'static,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, ConnectionPermit>;
    type Future = AcceptFuture<Self::Stream, Self::Service>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let source = stream.source();
        let permit = match self.permit(source) {
            Ok(permit) => permit,
            Err(overload) => {
                self.metrics.connections_refused.inc();
                self.metrics.record_overload(overload, source);
                return Box::pin(async { Err(io::Error::other("too many connections")) });
            }
        };
        let watched = MonitoredStream::new(stream, Arc::clone(permit.connection()));
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
    fn source_is_limited_until_it_closes_a_connection() {
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
