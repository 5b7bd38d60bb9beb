//! One connection: what is under way on it, and the clock of a client that does not read.
//!
//! Two things end a connection. A write to the socket makes no progress. Or, over HTTP/2, an answer
//! waits and its client grants it no flow-control window: then no write fails, so that the answers
//! are watched as well.

use crate::{limits::Overload, metrics::Metrics};
use axum_server::ConnectionShutdown;
use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long an HTTP/2 connection may stay without a request. Over HTTP/1.1 the time for a request's
/// head bounds it.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_secs(2);

/// The state that a connection shares with its requests and answers.
pub(crate) struct Connection {
    under_way: Mutex<UnderWay>,
    shutdown: OnceLock<ConnectionShutdown>,
    metrics: Metrics,
    source: Option<IpAddr>,
    /// How long a client may read nothing of the responses that wait for it, if that is limited.
    send_timeout: Option<Duration>,
}

struct UnderWay {
    requests: usize,
    /// Since when there is no request.
    idle_since: Instant,
    /// Of each answer that waits for its client, since when.
    waiting: Vec<Option<Instant>>,
}

impl Connection {
    pub(crate) fn new(
        metrics: Metrics,
        source: Option<IpAddr>,
        send_timeout: Option<Duration>,
    ) -> Arc<Self> {
        let nothing = UnderWay { requests: 0, idle_since: Instant::now(), waiting: Vec::new() };
        Arc::new(Self {
            under_way: Mutex::new(nothing),
            shutdown: OnceLock::new(),
            metrics,
            source,
            send_timeout,
        })
    }

    /// Notes a request, until the value is dropped.
    pub(crate) fn begin(self: &Arc<Self>, shutdown: Option<&ConnectionShutdown>) -> Active {
        if let Some(shutdown) = shutdown {
            self.shutdown.get_or_init(|| shutdown.clone());
        }
        self.lock().requests += 1;
        Active { connection: Arc::clone(self), place: None }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that ends the connection, if a client does not take its answers.
    fn check(&self) -> io::Result<()> {
        let under_way = self.lock();
        let mut waiting = under_way.waiting.iter().flatten();
        if waiting.any(|since| self.send_timeout.is_some_and(|most| since.elapsed() >= most)) {
            drop(under_way);
            return Err(self.unread());
        }
        if under_way.requests == 0
            && under_way.idle_since.elapsed() >= IDLE_TIMEOUT
            && let Some(shutdown) = self.shutdown.get()
        {
            shutdown.graceful_shutdown();
        }
        Ok(())
    }

    fn unread(&self) -> io::Error {
        self.metrics.overloaded(Overload::UnreadAnswers, self.source);
        io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers")
    }
}

/// A request that is under way, until its answer is sent.
pub(crate) struct Active {
    connection: Arc<Connection>,
    place: Option<usize>,
}

impl Active {
    /// From now on the answer waits for its client.
    pub(crate) fn wait(&mut self) {
        let now = Some(Instant::now());
        let waiting = &mut self.connection.lock().waiting;
        if let Some(since) = self.place.and_then(|place| waiting.get_mut(place)) {
            *since = now;
            return;
        }
        let free = waiting.iter().position(Option::is_none);
        let place = free.unwrap_or(waiting.len());
        match waiting.get_mut(place) {
            Some(since) => *since = now,
            None => waiting.push(now),
        }
        self.place = Some(place);
    }

    /// The client waits for the answer, or it is gone.
    pub(crate) fn go_on(&mut self) {
        let Some(place) = self.place.take() else { return };
        if let Some(since) = self.connection.lock().waiting.get_mut(place) {
            *since = None;
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.go_on();
        let mut under_way = self.connection.lock();
        under_way.requests = under_way.requests.saturating_sub(1);
        under_way.idle_since = Instant::now();
    }
}

/// A socket that ends when its client does not read.
pub(crate) struct Watched<I> {
    io: I,
    connection: Arc<Connection>,
    tick: Pin<Box<Sleep>>,
    /// Since when no write makes progress.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<I> Watched<I> {
    pub(crate) fn new(io: I, connection: Arc<Connection>) -> Self {
        Self { io, connection, tick: Box::pin(sleep(TICK)), blocked: None }
    }

    pub(crate) fn get_ref(&self) -> &I {
        &self.io
    }

    pub(crate) fn into_inner(self) -> I {
        self.io
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.blocked = None;
            return done;
        }
        let Some(send_timeout) = self.connection.send_timeout else { return Poll::Pending };
        let timer = self.blocked.get_or_insert_with(|| Box::pin(sleep(send_timeout)));
        ready!(timer.as_mut().poll(cx));
        self.blocked = None;
        Poll::Ready(Err(self.connection.unread()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.tick.as_mut().poll(cx).is_ready() {
            self.connection.check()?;
            self.tick.as_mut().reset(Instant::now() + TICK);
        }
        // A client that does not read has no more of its requests read. The write that makes
        // progress wakes the task.
        if self.blocked.is_some() {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
