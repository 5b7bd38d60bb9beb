//! One connection: its requests in flight, and the timeout for a client that does not read.
//!
//! | state of a response | event | effect |
//! |---|---|---|
//! | prepared by the server | a chunk is ready | the chunk waits for the client; the send timeout starts |
//! | waits for the client | the client grants window for the chunk | the next chunk is prepared |
//! | waits for the client | the send timeout passed | the connection ends |
//!
//! A write to the socket that makes no progress for the send timeout ends the connection as well. Over
//! HTTP/2 that check is not enough: a client that grants no flow-control window blocks a response, and no
//! write fails.

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

/// How long an HTTP/2 connection may stay without a request. Over HTTP/1.1 the timeout for a request's
/// head limits that time.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The state that a connection shares with its requests and responses.
pub(crate) struct Connection {
    in_flight: Mutex<InFlight>,
    shutdown: OnceLock<ConnectionShutdown>,
    metrics: Metrics,
    source: Option<IpAddr>,
    /// How long a client may read nothing of the responses that wait for it; `None` is no limit.
    send_timeout: Option<Duration>,
}

struct InFlight {
    requests: usize,
    /// When the last request ended.
    idle_since: Instant,
    /// Since when each response waits for the client; `None` is a free slot.
    waiting: Vec<Option<Instant>>,
}

impl Connection {
    pub(crate) fn new(
        metrics: Metrics,
        source: Option<IpAddr>,
        send_timeout: Option<Duration>,
    ) -> Arc<Self> {
        let in_flight = InFlight { requests: 0, idle_since: Instant::now(), waiting: Vec::new() };
        Arc::new(Self {
            in_flight: Mutex::new(in_flight),
            shutdown: OnceLock::new(),
            metrics,
            source,
            send_timeout,
        })
    }

    /// Counts a request until the value is dropped.
    pub(crate) fn begin_request(
        self: &Arc<Self>,
        shutdown: Option<&ConnectionShutdown>,
    ) -> ActiveRequest {
        if let Some(shutdown) = shutdown {
            self.shutdown.get_or_init(|| shutdown.clone());
        }
        self.lock().requests += 1;
        ActiveRequest { connection: Arc::clone(self), slot: None }
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the client does not read, which ends the connection. Closes an idle connection.
    fn check(&self) -> io::Result<()> {
        let in_flight = self.lock();
        let mut waiting = in_flight.waiting.iter().flatten();
        if waiting.any(|since| self.send_timeout.is_some_and(|timeout| since.elapsed() >= timeout))
        {
            drop(in_flight);
            return Err(self.send_timeout_error());
        }
        if in_flight.requests == 0
            && in_flight.idle_since.elapsed() >= IDLE_TIMEOUT
            && let Some(shutdown) = self.shutdown.get()
        {
            shutdown.graceful_shutdown();
        }
        Ok(())
    }

    fn send_timeout_error(&self) -> io::Error {
        self.metrics.record_overload(Overload::UnreadResponses, self.source);
        io::Error::new(io::ErrorKind::TimedOut, "the client does not read its responses")
    }
}

/// A request in flight, until its response is sent.
pub(crate) struct ActiveRequest {
    connection: Arc<Connection>,
    slot: Option<usize>,
}

impl ActiveRequest {
    /// Starts the send timeout: the response waits for the client.
    pub(crate) fn await_client(&mut self) {
        let now = Some(Instant::now());
        let waiting = &mut self.connection.lock().waiting;
        if let Some(since) = self.slot.and_then(|slot| waiting.get_mut(slot)) {
            *since = now;
            return;
        }
        let free = waiting.iter().position(Option::is_none);
        let slot = free.unwrap_or(waiting.len());
        match waiting.get_mut(slot) {
            Some(since) => *since = now,
            None => waiting.push(now),
        }
        self.slot = Some(slot);
    }

    /// Stops the send timeout: the client waits for the server, or the response is sent.
    pub(crate) fn await_server(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        if let Some(since) = self.connection.lock().waiting.get_mut(slot) {
            *since = None;
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.await_server();
        let mut in_flight = self.connection.lock();
        in_flight.requests = in_flight.requests.saturating_sub(1);
        in_flight.idle_since = Instant::now();
    }
}

/// A socket whose connection ends if its client does not read.
pub(crate) struct MonitoredStream<I> {
    io: I,
    connection: Arc<Connection>,
    tick: Pin<Box<Sleep>>,
    /// Ends the connection if no write makes progress until then.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<I> MonitoredStream<I> {
    pub(crate) fn new(io: I, connection: Arc<Connection>) -> Self {
        Self { io, connection, tick: Box::pin(sleep(CHECK_INTERVAL)), blocked: None }
    }

    pub(crate) fn get_ref(&self) -> &I {
        &self.io
    }

    pub(crate) fn into_inner(self) -> I {
        self.io
    }

    fn check_progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.blocked = None;
            return done;
        }
        let Some(send_timeout) = self.connection.send_timeout else { return Poll::Pending };
        let timer = self.blocked.get_or_insert_with(|| Box::pin(sleep(send_timeout)));
        ready!(timer.as_mut().poll(cx));
        self.blocked = None;
        Poll::Ready(Err(self.connection.send_timeout_error()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for MonitoredStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.tick.as_mut().poll(cx).is_ready() {
            self.connection.check()?;
            self.tick.as_mut().reset(Instant::now() + CHECK_INTERVAL);
        }
        // Read no more requests of a client that does not read. The write that makes progress wakes
        // the task.
        if self.blocked.is_some() {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check_progress(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.check_progress(cx, done)
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
