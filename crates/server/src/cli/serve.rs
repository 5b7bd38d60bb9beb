//! `serve`: the server in the foreground.

use super::{
    args::Serve,
    delivery::{self, Reader, Undelivered},
    failure::Failure,
    init,
    location::Location,
    log, output,
};
use portcullis::{Store, scope::catalogue, wipe_stack};
use portcullis_admin::{
    LeakReports,
    control::{self, ControlSocket},
};
use portcullis_server::{Certificate, CertificateError, Operation, Signals, Transport, serve};
use std::{
    fs::{self, DirBuilder},
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    process::ExitCode,
    time::Duration,
};
use tokio::{runtime::Builder, task::spawn_blocking};

pub(crate) fn run(location: &Location, options: &Serve) -> Result<ExitCode, Failure> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(wipe_stack)
        .build()
        .map_err(Failure::io("starting"))?;
    // First of all: the first process of a container has no default actions, so a signal without a
    // handler is lost.
    let signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(Failure::io("waiting for signals"))?
    };
    log::of_server(options.log_level, options.log_json);
    let is_loopback = options.listen.ip().to_canonical().is_loopback();
    if !is_loopback && options.behind_proxy && options.trusted_proxies.is_empty() {
        return Err(Failure::usage(format!(
            "{} can be reached from other machines by plain HTTP: name the proxy with --trusted-proxy, or listen on \
             loopback",
            options.listen
        )));
    }
    if !is_loopback && options.tls_cert.is_none() && !options.behind_proxy {
        return Err(Failure::usage(format!(
            "{} can be reached from other machines: pass a certificate with --tls-cert and --tls-key, or pass \
             --behind-proxy if a proxy terminates TLS",
            options.listen
        )));
    }
    if options.metrics_listen == Some(options.listen) && options.listen.port() != 0 {
        return Err(Failure::usage(format!(
            "--listen and --metrics-listen are both {}; give each an address of its own",
            options.listen
        )));
    }
    match runtime.block_on(run_until_signal(location, options, signals))? {
        // Waits for changes in flight; the store closes after them.
        End::Served => drop(runtime),
        // Nothing was acknowledged, so there is nothing to wait for.
        End::BeforeItServed => runtime.shutdown_background(),
    }
    Ok(ExitCode::SUCCESS)
}

/// How a server ended without a failure.
enum End {
    Served,
    BeforeItServed,
}

/// Binds every listener before anything is created or printed: if a port is taken, there must be no new
/// store and no printed root key.
async fn run_until_signal(
    location: &Location,
    options: &Serve,
    mut signals: Signals,
) -> Result<End, Failure> {
    let leaks = leak_reports(options)?;
    let listener = bind(location, options.listen)?;
    let metrics = options.metrics_listen.map(|address| bind(location, address)).transpose()?;
    let configured = configured_transport(options).await?;
    let (store, control) = if may_initialise(location, options) {
        let owned_location = location.clone();
        let Some(builder) = unless_stopped(&mut signals, move || owned_location.builder()).await?
        else {
            return Ok(End::BeforeItServed);
        };
        initialise(location, builder, &listener).await?
    } else {
        if location.etcd.are_given() {
            location.prepare_for_replica()?;
        }
        let owned_location = location.clone();
        let Some(store) = unless_stopped(&mut signals, move || owned_location.open()).await? else {
            return Ok(End::BeforeItServed);
        };
        (store, bind_control(location)?)
    };
    let store = store.with_credentials(options.credentials());
    let transport = match configured {
        Some(transport) => transport,
        None => self_signed(location).await?,
    };
    // This thread handled a new root key, and only waits from now on.
    wipe_stack();
    let address = address(&listener)?;
    let scheme = transport.scheme();
    let ready = move || {
        let _ = output::line(format!("listening on {scheme}://{address}").as_bytes());
        tracing::info!(%address, scheme, "listening");
    };
    let operation = operation(options, metrics, leaks)?;
    serve(store, listener, transport, control, operation, signals, ready)
        .await
        .map_err(Failure::io("serving"))?;
    Ok(End::Served)
}

/// Runs work that may take long. Returns `None` if a signal to stop arrives first.
async fn unless_stopped<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<Option<T>, Failure> {
    let wiped = move || {
        let done = work();
        // This thread read the pepper, and the pool reuses it.
        wipe_stack();
        done
    };
    tokio::select! {
        done = spawn_blocking(wiped) => {
            done.map_err(|_| Failure::failed("opening the store panicked"))?.map(Some)
        }
        signal = signals.stop() => {
            tracing::info!(signal, "stopped before the store was open");
            Ok(None)
        }
    }
}

/// Reads the public keys of a secret-scanning service.
fn leak_reports(options: &Serve) -> Result<Option<LeakReports>, Failure> {
    let Some(file) = &options.leaks.leak_keys else { return Ok(None) };
    let reports = LeakReports::open(file.as_path());
    let reports = reports.map_err(|error| Failure::usage(format!("--leak-keys: {error}")))?;
    Ok(Some(if options.leaks.leak_feedback { reports.with_feedback() } else { reports }))
}

fn operation(
    options: &Serve,
    metrics: Option<TcpListener>,
    leaks: Option<LeakReports>,
) -> Result<Operation, Failure> {
    if let Some(listener) = &metrics {
        let address = address(listener)?;
        tracing::info!(%address, "serving metrics");
    }
    if options.behind_proxy && options.trusted_proxies.is_empty() {
        tracing::warn!(
            "no --trusted-proxy: the audit log and the limit on bad keys see only the address of the proxy"
        );
    }
    Ok(Operation {
        public_origin: options.public_origin.clone(),
        metrics,
        trusted_proxies: options.trusted_proxies.clone(),
        max_bad_keys: options.max_bad_keys,
        max_connections: usize::try_from(options.max_connections).unwrap_or(usize::MAX),
        hsts: options.hsts,
        leaks,
        revoke_exposed: options.leaks.revoke_exposed,
        drain_delay: Duration::from_secs(options.drain_delay.into()),
    })
}

/// Whether this server may create its store, which it does only for development: an unmounted volume must
/// not cause a new root key.
fn may_initialise(location: &Location, options: &Serve) -> bool {
    let is_development = options.listen.ip().to_canonical().is_loopback()
        && options.tls_cert.is_none()
        && !options.behind_proxy;
    is_development
        && location.anchor.is_none()
        && !location.etcd.are_given()
        && location.is_absent()
}

/// Creates a store and prints its root key.
async fn initialise(
    location: &Location,
    builder: portcullis::Builder,
    listener: &TcpListener,
) -> Result<(Store, ControlSocket), Failure> {
    let address = address(listener)?;
    let reader = delivery::check_standard_output()?;
    // Bind the socket before the store is created. If the directory is unusable, creating the store
    // reports it.
    let is_new_directory = DirBuilder::new().mode(0o700).create(&location.data).is_ok();
    let control = is_new_directory.then(|| bind_control(location)).transpose();
    let created = match control {
        Ok(control) => {
            let builder = builder.scopes(catalogue::financial_data());
            builder.create(&location.data).map(|store| (store, control)).map_err(Failure::from)
        }
        Err(failure) => Err(failure),
    };
    if is_new_directory && created.is_err() {
        // A server creates a store only in an absent directory, so the next attempt must find none.
        let _ = fs::remove_dir(&location.data);
    }
    let (store, control) = created?;
    let control = control.map_or_else(|| bind_control(location), Ok)?;
    let answer = init::root_key(store.clone()).await?;
    let key = delivery::new_key(&answer).map_err(|undelivered| init::lost_root(&undelivered))?;
    let secret = key.secret.unwrap_or_default();
    let data = location.data.display();
    let text = format!(
        "created a store in {data}\n\
         its root key, shown only this once:\n\n  {secret}\n\n\
         try it:\n\n  curl -k -u {secret}: https://{address}/v1/keys -d '{{\"name\":\"Nightly export\",\
         \"scopes\":[\"api.read\"]}}' -H 'content-type: application/json'\n\n"
    );
    delivery::write(text.as_bytes()).map_err(|error| {
        let why = format!("writing to standard output: {error}");
        init::lost_root(&Undelivered { id: Some(key.id.clone()), why })
    })?;
    if reader == Reader::NullDevice {
        tracing::warn!(key = key.id, "standard output is /dev/null, so the root key is lost");
    }
    Ok((store, control))
}

/// Returns the transport that the options name, without creating anything.
async fn configured_transport(options: &Serve) -> Result<Option<Transport>, Failure> {
    if options.behind_proxy {
        return Ok(Some(Transport::BehindProxy));
    }
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let certificate = Certificate::read(cert, key).await;
    certificate.map(Transport::Tls).map(Some).map_err(certificate_failure)
}

async fn self_signed(location: &Location) -> Result<Transport, Failure> {
    let certificate = Certificate::self_signed(&location.data).await;
    certificate.map(Transport::Tls).map_err(certificate_failure)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
fn certificate_failure(error: CertificateError) -> Failure {
    Failure::failed(error.to_string())
}

fn bind_control(location: &Location) -> Result<ControlSocket, Failure> {
    let doing = format!("creating the control socket in {}", location.data.display());
    ControlSocket::bind(&location.data).map_err(Failure::io(doing))
}

/// Binds an address. If the port is taken by a server of this store, the failure names the server.
fn bind(location: &Location, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        if control::connect(&location.data).is_ok() {
            let data = location.data.display();
            return Failure::unreachable(format!(
                "{data} is already open in a server; stop that one first"
            ));
        }
        Failure::io(format!("listening on {address}"))(error)
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(Failure::io("reading the bound port"))
}
