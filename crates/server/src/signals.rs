//! What signals do: read the certificate again, or stop without dropping anybody.

use super::{guard::Guard, notify, tls::Certificate};
use std::{io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

/// SIGINT, SIGTERM and SIGHUP, which have no other effect on the process once this is made.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Installs the handlers. To be called within a tokio runtime, before a store is opened: the
    /// first process of a container has no default actions and would not notice a signal until then.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Returns the name of the first signal to stop. There is nothing to read again before a server
    /// serves, so SIGHUP does nothing.
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

    /// Says that the server is ready, and returns when it is time to stop accepting. Until then,
    /// for `drain_delay` after the signal, it says that it is not ready and answers all the same,
    /// so that whoever balances the load can send the next requests elsewhere.
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
