//! The signals of a server: read the certificate again, or stop after the requests in flight.
//!
//! | state | event | effect | next state |
//! |---|---|---|---|
//! | opening the store | SIGHUP | none | opening the store |
//! | opening the store | SIGINT, SIGTERM | nothing was acknowledged, so nothing is waited for | ended, exit code 0 |
//! | serving | SIGHUP | reads the certificate again; the old one stays on an error | serving |
//! | serving | SIGINT, SIGTERM | `/readyz` responds 503; requests are still served | draining |
//! | draining | SIGHUP | none | draining |
//! | draining | SIGINT, SIGTERM, or the drain delay has passed | listeners close | stopping |
//! | stopping | any signal | none | stopping |
//! | stopping | all requests are done, or ten seconds have passed | the store closes | ended, exit code 0 |

use super::{guard::Guard, notify, tls::Certificate};
use std::{io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

/// Handlers of SIGINT, SIGTERM and SIGHUP, which replace the default actions.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Installs the handlers. Call this within a tokio runtime, before the store is opened. The first
    /// process of a container has no default actions, so a signal before the call is lost.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGINT or SIGTERM and returns its name. Ignores SIGHUP: no certificate is loaded yet.
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

    /// Reports that the server is ready, and returns when the listeners should close. For `drain_delay`
    /// after the signal the server still serves and reports that it is not ready. A load balancer can then
    /// send further requests elsewhere.
    pub(super) async fn run_until_shutdown(
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
            tracing::info!(signal = name, "finishing the requests in flight");
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
