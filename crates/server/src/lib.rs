//! The server: API and portal over HTTPS and over the control socket, until a signal.

#![cfg_attr(docsrs, feature(doc_cfg))]

// ── values
mod key_check;
mod secret_file;
mod source;

// ── limits and metrics
mod limits;
mod metrics;

// ── a connection
mod accept;
mod control;
mod self_signed;
mod tls;

// ── a request and its response
mod headers;
mod request_body;
mod response_body;
mod guard;
mod backup;

// ── the process
mod disk;
mod notify;
mod signals;

use accept::{ConnectionLimit, ExposedKeys, TlsOnly, refuse_forwarded_plain_http};
use axum::{
    Extension,
    extract::{MatchedPath, Request},
    middleware,
    response::Response,
};
use axum_server::{Address, Handle, Server, accept::DefaultAcceptor};
use control::OwnerOnly;
use guard::Guard;
use limits::Overload;
use metrics::Metrics;
use portcullis::{Network, Store};
use portcullis_admin::{LeakReports, Origin, Portal, StreamStop, control::ControlSocket};
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
/// The socket's send buffer; Linux doubles it. It bounds how many responses the server prepares for a
/// client that pipelines requests and does not read.
const SOCKET_SEND_BUFFER: usize = 128 << 10;
/// A silent HTTP/2 client is sent a ping after the interval, and is disconnected if no reply arrives
/// within the timeout.
const PING_INTERVAL: Duration = Duration::from_secs(4);
const PING_TIMEOUT: Duration = Duration::from_secs(8);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent requests of one HTTP/2 connection; each may wait for the disk.
const MAX_STREAMS: u32 = 64;
/// Flow-control windows of an HTTP/2 stream and connection: the largest body that any handler reads,
/// and four of them.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Bytes that may wait for a slow client, for each HTTP/2 stream.
const STREAM_SEND_BUFFER: usize = 64 * 1024;
/// The largest head of an HTTP/1.1 request, and the size of the read buffer.
const READ_BUFFER: usize = 128 * 1024;
/// Concurrent connections to the metrics listener, and to the control socket.
const MAX_LOCAL_CONNECTIONS: usize = 64;

/// How keys are encrypted on the network.
#[derive(Debug)]
pub enum Transport {
    /// The server speaks TLS itself and refuses anything else.
    Tls(Certificate),
    /// A proxy terminates TLS. A request that reached the proxy by plain HTTP is refused.
    BehindProxy,
}

impl Transport {
    /// Returns the URL scheme of the server's own address.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tls(_) => "https",
            Self::BehindProxy => "http",
        }
    }
}

/// The operator's settings for a server.
#[derive(Debug)]
pub struct Operation {
    /// The origin by which browsers reach the portal, if it is not the server's own address.
    pub public_origin: Option<Origin>,
    /// The listener for metrics, which needs no key. Without it there are no metrics.
    pub metrics: Option<TcpListener>,
    /// Proxies whose `X-Forwarded-For` header is trusted.
    pub trusted_proxies: Vec<Network>,
    /// After this many bad keys from one address, further ones are answered with 429.
    pub max_bad_keys: NonZeroU32,
    /// The most concurrent connections; further ones are closed.
    pub max_connections: usize,
    /// For how many seconds browsers should use only HTTPS for this host.
    pub hsts: Option<u32>,
    /// Reports of a secret-scanning service at `/v1/leaks`. Without it that path does not exist.
    pub leaks: Option<LeakReports>,
    /// Whether a valid key that arrives over plain HTTP is revoked, with [`Transport::Tls`] only.
    pub revoke_exposed: bool,
    /// For how long after the signal to stop `/readyz` answers 503 while requests are still served.
    pub drain_delay: Duration,
}

/// Serves the API and the portal until SIGINT or SIGTERM, then waits at most ten seconds for requests
/// in flight. SIGHUP reads the certificate again. A signal that arrived before the call takes effect.
/// `ready` is called once, when the server accepts requests.
pub async fn serve(
    store: Store,
    listener: TcpListener,
    transport: Transport,
    control: ControlSocket,
    operation: Operation,
    signals: Signals,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let clock = tokio::spawn(log_clock_errors(store.clone()));
    let disk = tokio::spawn(disk::watch(store.clone()));
    let unused = tokio::spawn(deactivate_unused(store.clone()));
    let metrics = Metrics::new(&store, operation.leaks.clone());
    let trusted = operation.trusted_proxies;
    let guard = Guard::new(store.clone(), metrics.clone(), trusted.clone(), operation.max_bad_keys);
    let guard = Arc::new(guard.with_hsts(operation.hsts));
    let mut portal = Portal::new(store.clone());
    if let Some(origin) = operation.public_origin.or_else(|| own_origin(&listener, &transport)) {
        portal = portal.at(origin);
    }
    let streams = StreamStop::new();
    let local_app = portcullis_admin::router(store.clone())
        .merge(portal.router())
        .layer(Extension(streams.clone()))
        .layer(middleware::from_fn(log));
    let mut app = local_app.clone();
    if let Some(leaks) = operation.leaks {
        app = app.merge(leaks.router(store.clone()).layer(middleware::from_fn(log)));
    }
    if matches!(transport, Transport::BehindProxy) {
        app = app.layer(middleware::from_fn(refuse_forwarded_plain_http));
    }
    let app = app.layer(middleware::from_fn_with_state(Arc::clone(&guard), guard::middleware));

    let control_app =
        local_app.merge(backup::router(store.clone()).layer(middleware::from_fn(log)));

    // One handle, so that one signal stops all listeners.
    let stop = axum_server::Control::new();
    let local = Handle::<SocketPath>::with_control(stop.clone());
    let remote = Handle::<SocketAddr>::with_control(stop.clone());
    let (socket, socket_file) = control.into_parts();
    let when_full = Overload::ControlConnections;
    let control_limit =
        ConnectionLimit::new(MAX_LOCAL_CONNECTIONS, when_full, metrics.clone(), OwnerOnly);
    let control_server = with_limits(axum_server::from_unix(socket)?)
        .handle(local)
        .acceptor(control_limit.without_send_timeout())
        .serve(control_app.into_make_service());
    let control_server = tokio::spawn(control_server);
    if let Some(listener) = operation.metrics {
        listener.set_nonblocking(true)?;
        let metrics_server = with_limits(axum_server::from_tcp(listener)?)
            .handle(Handle::with_control(stop.clone()))
            .acceptor(ConnectionLimit::new(
                MAX_LOCAL_CONNECTIONS,
                Overload::MetricsConnections,
                metrics.clone(),
                DefaultAcceptor::new(),
            ))
            .serve(metrics.clone().router(store.clone()).into_make_service());
        tokio::spawn(metrics_server);
    }

    // Connections inherit this size. The kernel would otherwise grow each buffer to megabytes.
    set_socket_send_buffer_size(&listener, SOCKET_SEND_BUFFER)?;
    let server = with_limits(axum_server::from_tcp(listener)?).handle(remote.clone());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let max = operation.max_connections;
    let mut certificate = None;
    let public_server = match transport {
        Transport::Tls(own) => {
            let exposed =
                operation.revoke_exposed.then(|| ExposedKeys::new(store, metrics.clone()));
            let acceptor = own.acceptor().acceptor(TlsOnly::new(exposed));
            certificate = Some(own);
            let limit = ConnectionLimit::new(max, Overload::Connections, metrics, acceptor);
            tokio::spawn(server.acceptor(limit.with_source_limit(max, &trusted)).serve(app))
        }
        Transport::BehindProxy => {
            let next = DefaultAcceptor::new();
            let limit = ConnectionLimit::new(max, Overload::Connections, metrics, next);
            tokio::spawn(server.acceptor(limit.with_source_limit(max, &trusted)).serve(app))
        }
    };
    remote.listening().await;
    ready();

    let stopper = stop.clone();
    let signal = tokio::spawn(async move {
        signals.run_until_shutdown(certificate, &guard, operation.drain_delay).await;
        streams.stop();
        stopper.graceful_shutdown(Some(DRAIN_TIMEOUT));
    });
    let public_server = public_server.await;
    // If one of the two servers failed, the other stops as well.
    stop.graceful_shutdown(Some(DRAIN_TIMEOUT));
    let control_server = control_server.await;
    signal.abort();
    clock.abort();
    unused.abort();
    disk.abort();
    drop(socket_file);
    public_server.map_err(io::Error::other)??;
    control_server.map_err(io::Error::other)?
}

/// Checks each minute whether a clock was ahead, and logs it. Keys then expire too early, because the
/// store's time does not go back.
async fn log_clock_errors(store: Store) {
    let mut minutes = tokio::time::interval(Duration::from_mins(1));
    let (mut logged_ahead, mut logged_jump) = (false, false);
    loop {
        minutes.tick().await;
        let health = store.health();
        if let Some(ahead) = health.clock_jump.filter(|_| !logged_jump) {
            let hours = ahead.as_secs() / 3600;
            tracing::error!(
                hours,
                "the wall clock jumped ahead; correct it and restart before more is written"
            );
            logged_jump = true;
        }
        if let Some(ahead) = health.clock_ahead.filter(|_| !logged_ahead) {
            let seconds = ahead.as_secs();
            tracing::error!(
                seconds,
                "a change was made while a clock was ahead; keys expire that much too early until \
                 the wall clock reaches the time of that change"
            );
        }
        logged_ahead = health.clock_ahead.is_some();
    }
}

/// Deactivates unused keys by the policy, and logs it. The store does it once a day.
async fn deactivate_unused(store: Store) {
    let mut hours = tokio::time::interval(Duration::from_hours(1));
    loop {
        hours.tick().await;
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.deactivate_unused()).await {
            Ok(Ok(report)) if report.done.is_empty() && report.not_done.is_empty() => {}
            Ok(Ok(report)) => {
                let (keys, not_done) = (report.done.len(), report.not_done.len());
                tracing::warn!(keys, not_done, "the policy deactivated unused keys");
            }
            Ok(Err(error)) => tracing::error!(%error, "unused keys cannot be deactivated"),
            Err(_) => tracing::error!("deactivating unused keys panicked"),
        }
    }
}

/// Returns the server's own origin, if browsers on the local host reach it without a proxy.
fn own_origin(listener: &TcpListener, transport: &Transport) -> Option<Origin> {
    let address = listener.local_addr().ok().filter(|address| address.ip().is_loopback())?;
    match transport {
        Transport::Tls(_) => format!("https://{address}").parse().ok(),
        Transport::BehindProxy => None,
    }
}

/// Sets the timeouts and buffer sizes of a server, so that a silent client cannot hold a connection.
fn with_limits<A: Address>(mut server: Server<A>) -> Server<A> {
    let http = server.http_builder();
    http.http1().header_read_timeout(HEADER_TIMEOUT).max_buf_size(READ_BUFFER);
    http.http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS);
    server.first_request_timeout(HEADER_TIMEOUT).accept_error_handler(|peer, error| {
        // A failed handshake is the client's error; a failed listener is the server's.
        if peer.is_some() {
            tracing::debug!(%error, "a connection was not accepted");
        } else {
            tracing::error!(%error, "connections cannot be accepted");
        }
    })
}

/// Logs each request by its route only: the path, the query and the headers may hold a key.
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

    /// Returns the lines that the first checks log.
    fn log_of_clock_errors(store: Store) -> String {
        let mut lines = tempfile::tempfile().unwrap();
        let writer = Arc::new(lines.try_clone().unwrap());
        let log = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let checks = async {
            // The paused clock advances by itself: this runs the first checks only.
            tokio::time::timeout(Duration::from_secs(150), log_clock_errors(store)).await
        };
        tracing::subscriber::with_default(log, || runtime.block_on(checks)).unwrap_err();
        lines.rewind().unwrap();
        io::read_to_string(lines).unwrap()
    }

    #[test]
    fn jump_of_the_wall_clock_is_logged() {
        let store = store_with_clock_jump(Duration::from_mins(48 * 60 + 30));
        let log = log_of_clock_errors(store);
        assert!(log.contains("ERROR") && log.contains("the wall clock jumped ahead"), "{log}");
        assert!(log.contains("hours=48"), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }

    #[test]
    fn time_ahead_of_the_wall_clock_is_logged_once() {
        let log = log_of_clock_errors(store_with_time_ahead(Duration::from_hours(72)));
        assert!(log.contains("ERROR") && log.contains("while a clock was ahead"), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}
