//! Log lines about the disk: after a failed write, before it is full, while its reserve is in use, and when
//! it has room again.

use portcullis::{DiskSpace, Store};
use std::time::Duration;
use tokio::time::{Instant, interval};

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a state that lasts is logged again.
const REPEAT_INTERVAL: Duration = Duration::from_mins(10);

/// The logged states of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fine,
    Low,
    Full,
}

/// Logs each change of the state, and repeats a state other than `Fine` every ten minutes. A failed write is
/// logged once: only a restart ends that state.
pub(super) async fn watch(store: Store) {
    let mut seconds = interval(CHECK_INTERVAL);
    let (mut state, mut logged_at) = (State::Fine, Instant::now());
    let (mut is_first, mut logged_poisoned) = (true, false);
    loop {
        seconds.tick().await;
        let health = store.health();
        if let Some(reason) = health.poisoned.filter(|_| !logged_poisoned) {
            tracing::error!(
                %reason,
                "a write failed: nothing more is written until the server is restarted; keys are still checked"
            );
            logged_poisoned = true;
        }
        let Some(disk) = health.disk else { return };
        if is_first && !disk.can_reserve {
            tracing::warn!(
                "the file system cannot allocate blocks ahead, so there is no disk reserve: a full disk ends all writing"
            );
        }
        is_first = false;
        let now = state_of(&disk);
        if now == state && (now == State::Fine || logged_at.elapsed() < REPEAT_INTERVAL) {
            continue;
        }
        log(now, &disk);
        (state, logged_at) = (now, Instant::now());
    }
}

fn state_of(disk: &DiskSpace) -> State {
    match (disk.is_reserve_in_use, disk.is_low) {
        (true, _) => State::Full,
        (false, true) => State::Low,
        (false, false) => State::Fine,
    }
}

fn log(state: State, disk: &DiskSpace) {
    let (free_mib, reserve_mib) = (disk.free >> 20, disk.reserve_held >> 20);
    match state {
        State::Full => tracing::error!(
            free_mib,
            reserve_mib,
            "the disk is full: only revocations and other stricter changes are written; make room on the volume"
        ),
        State::Low => tracing::warn!(
            free_mib,
            reserve_mib,
            "the disk is nearly full; make room on the volume before only revocations are written"
        ),
        State::Fine => tracing::info!(free_mib, reserve_mib, "the disk has room again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::{Expiry, Grant, NewKey};
    use std::{
        io::{self, Seek},
        sync::Arc,
    };

    /// Returns the lines of half a minute.
    fn log_of(store: Store) -> String {
        let mut lines = tempfile::tempfile().unwrap();
        let writer = Arc::new(lines.try_clone().unwrap());
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let watched = async {
            tokio::time::timeout(Duration::from_secs(30), watch(store)).await.unwrap_err();
        };
        tracing::subscriber::with_default(subscriber, || runtime.block_on(watched));
        lines.rewind().unwrap();
        io::read_to_string(lines).unwrap()
    }

    #[test]
    fn full_disk_is_logged_once() {
        let (store, script) = portcullis::testing::scripted_store();
        script.fill_disk();
        let log = log_of(store);
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("ERROR") && log.contains("the disk is full"), "{log}");
        assert!(log.contains("free_mib=0") && log.contains("reserve_mib=8"), "{log}");
    }

    #[test]
    fn failed_write_is_logged_once() {
        let (store, script) = portcullis::testing::scripted_store();
        script.verdict(false);
        store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap_err();
        let log = log_of(store);
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("ERROR") && log.contains("a write failed"), "{log}");
        assert!(log.contains("reason=scripted"), "{log}");
    }
}
