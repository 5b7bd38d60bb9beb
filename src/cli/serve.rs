//! `serve`: the server in the foreground.

use super::{
    args::{Place, Serve},
    delivery::{self, Reader, Undelivered},
    failure::Failure,
    init, log, output,
};
use portcullis::{
    Store,
    server::{Certificate, Operation, Transport, control::Control, serve},
};
use std::{
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    time::Duration,
};
use tokio::runtime::Builder;

pub(crate) fn run(place: &Place, asked: &Serve) -> Result<ExitCode, Failure> {
    log::of_server(asked.log_level, asked.log_json);
    if !asked.listen.ip().is_loopback() && asked.tls_cert.is_none() && !asked.behind_proxy {
        return Err(Failure::usage(format!(
            "{} can be reached from other machines: give a certificate with --tls-cert and --tls-key, or say that a \
             proxy speaks TLS to the clients with --behind-proxy",
            asked.listen
        )));
    }
    let runtime =
        Builder::new_multi_thread().enable_all().build().map_err(Failure::io("starting"))?;
    let served = runtime.block_on(run_until_signal(place, asked));
    // Waits for changes that are still on their way to the disk; the store closes after them.
    drop(runtime);
    served.map(|()| ExitCode::SUCCESS)
}

async fn run_until_signal(place: &Place, asked: &Serve) -> Result<(), Failure> {
    let (store, listener) = if may_initialise(place, asked) {
        // The address comes first: a root key that was printed and then not served helps nobody.
        let listener = bind(asked.listen)?;
        let store = initialise(place, &listener).await?;
        (store, listener)
    } else {
        // The store comes first: whether it is locked matters more than whether a port is taken.
        if place.etcd.are_given() {
            place.prepare_for_replica()?;
        }
        let store = place.open()?;
        (store, bind(asked.listen)?)
    };
    let transport = transport(place, asked).await?;
    let control = Control::bind(&place.data)
        .map_err(Failure::io(format!("making the control socket in {}", place.data.display())))?;
    let address = address(&listener)?;
    let scheme = transport.scheme();
    let ready = move || {
        let _ = output::line(format!("listening on {scheme}://{address}").as_bytes());
        tracing::info!(%address, scheme, "listening");
    };
    serve(store, listener, transport, control, operation(asked)?, ready)
        .await
        .map_err(Failure::io("serving"))
}

fn operation(asked: &Serve) -> Result<Operation, Failure> {
    let metrics = asked.metrics_listen.map(bind).transpose()?;
    if let Some(listener) = &metrics {
        let address = address(listener)?;
        tracing::info!(%address, "serving metrics");
    }
    if asked.behind_proxy && asked.trusted_proxies.is_empty() {
        tracing::warn!(
            "no --trusted-proxy: all clients seem to come from the proxy, in the trail and where bad keys are counted"
        );
    }
    Ok(Operation {
        public_origin: asked.public_origin.clone(),
        metrics,
        trusted_proxies: asked.trusted_proxies.clone(),
        max_bad_keys: asked.max_bad_keys,
        max_connections: asked.max_connections,
        drain_delay: Duration::from_secs(asked.drain_delay.into()),
    })
}

/// Only for development does a server make its own store: a volume that failed to mount must not
/// bring forth a root key.
fn may_initialise(place: &Place, asked: &Serve) -> bool {
    let is_development =
        asked.listen.ip().is_loopback() && asked.tls_cert.is_none() && !asked.behind_proxy;
    is_development && place.anchor.is_none() && !place.etcd.are_given() && place.is_absent()
}

async fn initialise(place: &Place, listener: &TcpListener) -> Result<Store, Failure> {
    let address = address(listener)?;
    let reader = delivery::check_standard_output()?;
    let store = place.builder()?.create(&place.data)?;
    let answer = init::root_key(store.clone()).await?;
    let key = delivery::new_key(&answer).map_err(|undelivered| init::lost_root(&undelivered))?;
    let secret = key.secret.unwrap_or_default();
    let data = place.data.display();
    let text = format!(
        "made a store in {data}\n\
         its root key, shown only this once:\n\n  {secret}\n\n\
         try it:\n\n  curl -k -u {secret}: https://{address}/v1/keys -d '{{\"name\":\"Nightly export\",\
         \"scopes\":[\"api.read\"]}}' -H 'content-type: application/json'\n\n"
    );
    delivery::write(text.as_bytes()).map_err(|error| {
        let why = format!("writing to standard output: {error}");
        init::lost_root(&Undelivered { id: Some(key.id.clone()), why })
    })?;
    if reader == Reader::NobodyByChoice {
        tracing::warn!(key = key.id, "standard output is /dev/null, so nobody has the root key");
    }
    Ok(store)
}

async fn transport(place: &Place, asked: &Serve) -> Result<Transport, Failure> {
    if asked.behind_proxy {
        return Ok(Transport::BehindProxy);
    }
    let certificate = match (&asked.tls_cert, &asked.tls_key) {
        (Some(cert), Some(key)) => Certificate::read(cert, key).await,
        _ => Certificate::self_signed(&place.data.join("tls")).await,
    };
    certificate.map(Transport::Tls).map_err(|error| Failure::failed(error.to_string()))
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(Failure::io(format!("listening on {address}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(Failure::io("asking for the port"))
}
