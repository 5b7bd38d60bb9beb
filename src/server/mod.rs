//! The server: API and portal over HTTPS and over the control socket, until a signal.

pub mod control;
mod plain;
mod tls;

use crate::{
    Store,
    admin::{self, Origin, Portal},
};
use axum::{Router, extract::MatchedPath, extract::Request, middleware, response::Response};
use axum_server::{Address, Handle, Server};
use control::{Control, OwnerOnly};
use plain::TlsOnly;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::SocketAddr as SocketPath,
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use tls::{Certificate, CertificateError};

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection may have this many requests under way; each may wait for the disk.
const STREAMS: u32 = 64;

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

/// Serves the API and the portal of a store, which browsers reach under `public_origin`, until SIGINT or SIGTERM, then lets requests under way finish, for at most ten
/// seconds. `ready` is called once, when requests are answered.
pub async fn serve(
    store: Store,
    listener: TcpListener,
    transport: Transport,
    control: Control,
    public_origin: Option<Origin>,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let mut portal = Portal::new(store.clone());
    if let Some(origin) = public_origin.or_else(|| own_origin(&listener, &transport)) {
        portal = portal.at(origin);
    }
    let app = admin::router(store).merge(portal.router()).layer(middleware::from_fn(log));
    let (interrupt, terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);

    // One control, so that one signal ends both.
    let stop = axum_server::Control::new();
    let local = Handle::<SocketPath>::with_control(stop.clone());
    let remote = Handle::<SocketAddr>::with_control(stop.clone());
    let (socket, removed_at_the_end) = control.into_parts();
    let at_home = limited(axum_server::from_unix(socket)?)
        .handle(local)
        .acceptor(OwnerOnly)
        .serve(app.clone().into_make_service());
    let at_home = tokio::spawn(at_home);

    let server = limited(axum_server::from_tcp(listener)?).handle(remote.clone());
    let outside = match transport {
        Transport::Tls(certificate) => {
            let app = app.into_make_service_with_connect_info::<SocketAddr>();
            let acceptor = certificate.acceptor().acceptor(TlsOnly);
            tokio::spawn(server.acceptor(acceptor).serve(app))
        }
        Transport::BehindProxy => {
            let app = app.layer(middleware::from_fn(plain::refuse_forwarded_plain_http));
            let app: Router = app;
            tokio::spawn(server.serve(app.into_make_service_with_connect_info::<SocketAddr>()))
        }
    };
    remote.listening().await;
    ready();

    let stopper = stop.clone();
    let signal = tokio::spawn(async move {
        let name = first(interrupt, terminate).await;
        tracing::info!(signal = name, "finishing the requests under way");
        stopper.graceful_shutdown(Some(DRAIN_TIMEOUT));
    });
    let outside = outside.await;
    // Should one of the two have failed by itself, the other does not outlive it.
    stop.graceful_shutdown(Some(DRAIN_TIMEOUT));
    let at_home = at_home.await;
    signal.abort();
    drop(removed_at_the_end);
    outside.map_err(io::Error::other)??;
    at_home.map_err(io::Error::other)?
}

/// The origin of a server that browsers reach on this machine and without a proxy.
fn own_origin(listener: &TcpListener, transport: &Transport) -> Option<Origin> {
    let address = listener.local_addr().ok().filter(|address| address.ip().is_loopback())?;
    match transport {
        Transport::Tls(_) => format!("https://{address}").parse().ok(),
        Transport::BehindProxy => None,
    }
}

/// Which of the two signals came first.
async fn first(mut interrupt: Signal, mut terminate: Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// A client that says nothing must not keep a connection.
fn limited<A: Address>(mut server: Server<A>) -> Server<A> {
    let http = server.http_builder();
    http.http1().header_read_timeout(HEADER_TIMEOUT);
    http.http2()
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HEADER_TIMEOUT)
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
