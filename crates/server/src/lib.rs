//! The server: API and portal over HTTPS and over the control socket, until a signal.

#![cfg_attr(docsrs, feature(doc_cfg))]

// ── values, and what needs no other module
mod key_check;
mod secret_file;
mod source;

// ── limits and metrics
mod limits;
mod metrics;

// ── a connection
mod accept;
pub mod control;
mod own_certificate;
mod tls;

// ── a request and its response
mod headers;
mod request_body;
mod answer_body;
mod guard;
mod backup;

// ── the process
mod disk;
mod notify;
mod signals;

use accept::{Limit, TlsOnly, refuse_forwarded_plain_http};
use axum::{
    extract::{MatchedPath, Request},
    middleware,
    response::Response,
};
use axum_server::{Address, Handle, Server, accept::DefaultAcceptor};
use control::{Control, OwnerOnly};
use guard::Guard;
use limits::Overload;
use metrics::Metrics;
use portcullis::{Network, Store};
use portcullis_admin::{Origin, Portal};
use rustix::net::sockopt::set_socket_send_buffer_size;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    os::unix::net::SocketAddr as SocketPath,
    sync::Arc,
    time::{Duration, Instant},
};

pub use secret_file::read_private;
pub use signals::Signals;
pub use tls::{Certificate, CertificateError};

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// What the kernel keeps of answers that a client has not received; Linux doubles it. It bounds how far
/// the server works ahead for a client that pipelines requests and does not read.
const KERNEL_BUFFER: usize = 128 << 10;
/// An HTTP/2 client that is silent for so long is asked whether it is there, and has the next time for its
/// answer.
const PING_INTERVAL: Duration = Duration::from_secs(4);
const PING_TIMEOUT: Duration = Duration::from_secs(8);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection may have this many requests under way; each may wait for the disk.
const STREAMS: u32 = 64;
/// What a client may send ahead on a stream and on an HTTP/2 connection: the largest body that any
/// handler reads, and a few of them.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What waits for a slow client, for each stream of HTTP/2.
const SEND_BUFFER: usize = 64 * 1024;
/// The largest head of an HTTP/1.1 request, and what is read ahead.
const READ_BUFFER: usize = 128 * 1024;
/// Connections to the metrics listener, and to the control socket.
const INNER_CONNECTIONS: usize = 64;

/// How a key is kept from crossing the wire in the clear.
pub enum Transport {
    /// The server speaks TLS itself and refuses anything else.
    Tls(Certificate),
    /// A proxy on the way speaks TLS; what it says came by plain HTTP is refused.
    BehindProxy,
}

impl Transport {
    /// The scheme of the server's own address.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tls(_) => "https",
            Self::BehindProxy => "http",
        }
    }
}

/// How the server behaves towards its operator and its network.
pub struct Operation {
    /// The origin that browsers reach the portal by, where it is not the server's own.
    pub public_origin: Option<Origin>,
    /// Where the metrics are, for whoever reaches that address; nowhere without one.
    pub metrics: Option<TcpListener>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// After so many bad keys from one address more of them are answered with 429.
    pub max_bad_keys: NonZeroU32,
    /// So many connections at once; one more is closed.
    pub max_connections: usize,
    /// Tells browsers for so many seconds to use nothing but HTTPS for this host.
    pub hsts: Option<u32>,
    /// After the signal to stop `/readyz` says 503 for so long while everything is still served.
    pub drain_delay: Duration,
}

/// Serves the API and the portal until SIGINT or SIGTERM, then lets requests under way finish, for at most ten
/// seconds. SIGHUP reads the certificate again. Signals that came before the call count. `ready` is called once, when requests are answered.
pub async fn serve(
    store: Store,
    listener: TcpListener,
    transport: Transport,
    control: Control,
    operation: Operation,
    signals: Signals,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let clock = tokio::spawn(watch_the_clock(store.clone()));
    let disk = tokio::spawn(disk::watch(store.clone()));
    let metrics = Metrics::new(&store);
    let trusted = operation.trusted_proxies;
    let guard = Guard::new(store.clone(), metrics.clone(), trusted.clone(), operation.max_bad_keys);
    let guard = Arc::new(guard.with_hsts(operation.hsts));
    let mut portal = Portal::new(store.clone());
    if let Some(origin) = operation.public_origin.or_else(|| own_origin(&listener, &transport)) {
        portal = portal.at(origin);
    }
    let local_app = portcullis_admin::router(store.clone())
        .merge(portal.router())
        .layer(middleware::from_fn(log));
    let mut app = local_app.clone();
    if matches!(transport, Transport::BehindProxy) {
        app = app.layer(middleware::from_fn(refuse_forwarded_plain_http));
    }
    let app = app.layer(middleware::from_fn_with_state(Arc::clone(&guard), guard::middleware));

    let control_app =
        local_app.merge(backup::router(store.clone()).layer(middleware::from_fn(log)));

    // One control, so that one signal ends all.
    let stop = axum_server::Control::new();
    let local = Handle::<SocketPath>::with_control(stop.clone());
    let remote = Handle::<SocketAddr>::with_control(stop.clone());
    let (socket, socket_file) = control.into_parts();
    let full = Overload::ControlConnections;
    let control_limit = Limit::new(INNER_CONNECTIONS, full, metrics.clone(), OwnerOnly);
    let control_server = limited(axum_server::from_unix(socket)?)
        .handle(local)
        .acceptor(control_limit.without_send_timeout())
        .serve(control_app.into_make_service());
    let control_server = tokio::spawn(control_server);
    if let Some(listener) = operation.metrics {
        listener.set_nonblocking(true)?;
        let watched = limited(axum_server::from_tcp(listener)?)
            .handle(Handle::with_control(stop.clone()))
            .acceptor(Limit::new(
                INNER_CONNECTIONS,
                Overload::MetricsConnections,
                metrics.clone(),
                DefaultAcceptor::new(),
            ))
            .serve(metrics.clone().router(store).into_make_service());
        tokio::spawn(watched);
    }

    // The connections inherit it. The kernel would grow it to megabytes for each.
    set_socket_send_buffer_size(&listener, KERNEL_BUFFER)?;
    let server = limited(axum_server::from_tcp(listener)?).handle(remote.clone());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let most = operation.max_connections;
    let mut certificate = None;
    let outside = match transport {
        Transport::Tls(own) => {
            let acceptor = own.acceptor().acceptor(TlsOnly);
            certificate = Some(own);
            let limit = Limit::new(most, Overload::Connections, metrics, acceptor);
            tokio::spawn(server.acceptor(limit.shared_fairly(most, &trusted)).serve(app))
        }
        Transport::BehindProxy => {
            let next = DefaultAcceptor::new();
            let limit = Limit::new(most, Overload::Connections, metrics, next);
            tokio::spawn(server.acceptor(limit.shared_fairly(most, &trusted)).serve(app))
        }
    };
    remote.listening().await;
    ready();

    let stopper = stop.clone();
    let signal = tokio::spawn(async move {
        signals.attend(certificate, &guard, operation.drain_delay).await;
        stopper.graceful_shutdown(Some(DRAIN_TIMEOUT));
    });
    let outside = outside.await;
    // Should one of the two have failed by itself, the other does not outlive it.
    stop.graceful_shutdown(Some(DRAIN_TIMEOUT));
    let control_server = control_server.await;
    signal.abort();
    clock.abort();
    disk.abort();
    drop(socket_file);
    outside.map_err(io::Error::other)??;
    control_server.map_err(io::Error::other)?
}

/// Logs each minute's news of the clock. A clock that is ahead ends keys before their time, and the
/// store's time does not go back.
async fn watch_the_clock(store: Store) {
    let mut minutes = tokio::time::interval(Duration::from_mins(1));
    let (mut told_ahead, mut told_jump) = (false, false);
    loop {
        minutes.tick().await;
        let health = store.health();
        if let Some(ahead) = health.clock_jump.filter(|_| !told_jump) {
            let hours = ahead.as_secs() / 3600;
            tracing::error!(
                hours,
                "the wall clock jumped ahead; correct it and restart before more is written"
            );
            told_jump = true;
        }
        if let Some(ahead) = health.clock_ahead.filter(|_| !told_ahead) {
            let seconds = ahead.as_secs();
            tracing::error!(
                seconds,
                "a change was made while a clock was ahead; keys expire that much too early until \
                 the wall clock reaches the time of that change"
            );
        }
        told_ahead = health.clock_ahead.is_some();
    }
}

/// The origin of a server that browsers reach on this machine and without a proxy.
fn own_origin(listener: &TcpListener, transport: &Transport) -> Option<Origin> {
    let address = listener.local_addr().ok().filter(|address| address.ip().is_loopback())?;
    match transport {
        Transport::Tls(_) => format!("https://{address}").parse().ok(),
        Transport::BehindProxy => None,
    }
}

/// A client that says nothing must not keep a connection.
fn limited<A: Address>(mut server: Server<A>) -> Server<A> {
    let http = server.http_builder();
    http.http1().header_read_timeout(HEADER_TIMEOUT).max_buf_size(READ_BUFFER);
    http.http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS);
    server.first_request_timeout(HEADER_TIMEOUT).accept_error_handler(|peer, error| {
        // A handshake that fails is the client's affair; a listener that fails is ours.
        if peer.is_some() {
            tracing::debug!(%error, "a connection was not accepted");
        } else {
            tracing::error!(%error, "no connection can be accepted");
        }
    })
}

/// One line a request, of its route only: its path, its query and its headers may hold a key.
async fn log(request: Request, next: middleware::Next) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    let status = response.status().as_u16();
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(%method, route, status, ms, "answered");
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::testing::{store_with_clock_jump, store_with_time_ahead};
    use std::io::Seek;

    /// The lines of the first look at the clock.
    fn said_of_the_clock(store: Store) -> String {
        let mut lines = tempfile::tempfile().unwrap();
        let writer = Arc::new(lines.try_clone().unwrap());
        let log = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let told = async {
            // The paused clock goes on by itself: the first looks, and not a moment more.
            tokio::time::timeout(Duration::from_secs(150), watch_the_clock(store)).await
        };
        tracing::subscriber::with_default(log, || runtime.block_on(told)).unwrap_err();
        lines.rewind().unwrap();
        io::read_to_string(lines).unwrap()
    }

    #[test]
    fn a_wall_clock_that_jumped_ahead_is_in_the_log() {
        let store = store_with_clock_jump(Duration::from_mins(48 * 60 + 30));
        let said = said_of_the_clock(store);
        assert!(said.contains("ERROR") && said.contains("the wall clock jumped ahead"), "{said}");
        assert!(said.contains("hours=48"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn store_whose_time_is_ahead_of_the_wall_clock_is_in_the_log_once() {
        let said = said_of_the_clock(store_with_time_ahead(Duration::from_hours(72)));
        assert!(said.contains("ERROR") && said.contains("while a clock was ahead"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
