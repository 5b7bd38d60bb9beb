//! Signals: read the certificate again, or stop after the requests in flight.

use super::{guard::Guard, notify, tls::Certificate};
use std::{io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

/// Handlers of SIGINT, SIGTERM and SIGHUP, which replace the default actions.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Installs the handlers. Call this within a tokio runtime, before the store is opened: the first
    /// process of a container has no default actions, so a signal before the call is lost.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Returns the name of the first signal to stop. SIGHUP does nothing before the server serves.
    pub async fn stop(&mut self) -> &'static str {
        let name = loop {
            tokio::select! {
                _ = self.interrupt.recv() => break "SIGINT",
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.hang_up.recv() => {}
            }
        };
        notify::stopping();
        name
    }

    /// Reports that the server is ready, and returns when it should stop accepting connections. For
    /// `drain_delay` after the signal the server reports that it is not ready and still answers, so
    /// that a load balancer can send further requests elsewhere.
    pub(super) async fn attend(
        mut self,
        certificate: Option<Certificate>,
        guard: &Guard,
        drain_delay: Duration,
    ) {
        notify::ready();
        loop {
            let name = tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.hang_up.recv() => {
                    notify::reloading();
                    reload(certificate.as_ref()).await;
                    notify::ready();
                    continue;
                }
            };
            tracing::info!(signal = name, "finishing the requests under way");
            break;
        }
        guard.drain();
        notify::stopping();
        tokio::select! {
            () = sleep(drain_delay) => {}
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn reload(certificate: Option<&Certificate>) {
    let Some(certificate) = certificate else {
        tracing::info!("SIGHUP: there is no certificate to read again");
        return;
    };
    match certificate.reload().await {
        Ok(()) => tracing::info!("read the certificate again"),
        Err(error) => tracing::error!(%error, "the old certificate stays"),
    }
}
