//! How many connections there may be at once. One too many is closed without a word: answering it
//! would cost what is meant to be saved.

use super::metrics::Metrics;
use axum::{Extension, middleware::AddExtension};
use axum_server::accept::Accept;
use std::{future::Future, io, pin::Pin, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

/// Room for one connection, given back when its service and its requests are gone.
#[derive(Clone)]
pub(super) struct Room {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Lets so many connections in at once.
#[derive(Clone)]
pub(super) struct Limit<A> {
    free: Arc<Semaphore>,
    metrics: Metrics,
    next: A,
}

impl<A> Limit<A> {
    pub(super) fn new(connections: usize, metrics: Metrics, next: A) -> Self {
        let free = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { free, metrics, next }
    }
}

type Accepting<T, S> = Pin<Box<dyn Future<Output = io::Result<(T, S)>> + Send>>;

impl<I, S, A> Accept<I, S> for Limit<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
    A::Service: Send + 'static,
    A::Stream: Send + 'static,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, Room>;
    type Future = Accepting<Self::Stream, Self::Service>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            self.metrics.connections_refused.inc();
            return Box::pin(async { Err(io::Error::other("too many connections")) });
        };
        let room = Room { _permit: Arc::new(permit) };
        let accepted = self.next.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((stream, Extension(room).layer(service)))
        })
    }
}
