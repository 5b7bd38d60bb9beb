//! Notifications to the service manager (`Type=notify`): ready, reloading, stopping.

use sd_notify::NotifyState;
use std::{env, io};

/// Reports that the server accepts requests.
pub(super) fn ready() {
    send(|| Ok(vec![NotifyState::Ready]));
}

/// Reports that the server is stopping.
pub(super) fn stopping() {
    send(|| Ok(vec![NotifyState::Stopping]));
}

/// Reports that the server is reading its certificate again, until [`ready`].
pub(super) fn reloading() {
    send(|| Ok(vec![NotifyState::Reloading, NotifyState::monotonic_usec_now()?]));
}

fn send(state: impl FnOnce() -> io::Result<Vec<NotifyState<'static>>>) {
    // A unit or a compose file may set an empty variable.
    if env::var_os("NOTIFY_SOCKET").is_none_or(|name| name.is_empty()) {
        return;
    }
    if let Err(error) = state().and_then(|state| sd_notify::notify(&state)) {
        tracing::warn!(%error, "the service manager could not be notified");
    }
}
