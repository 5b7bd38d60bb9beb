//! The position up to which a replica has applied the history of the store.

use super::consensus::{Epoch, Revision};
use crate::{
    codec::{AuditStart, Meta},
    ledger::Following,
    scope::NumberedScope,
};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;

/// The state that a replica has applied.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    /// All transactions up to this revision are applied.
    pub(crate) applied: Revision,
    /// The epoch at that revision, and its content.
    pub(crate) epoch: Epoch,
    pub(crate) meta: Meta,
    /// Where the audit log starts, and the frame of that if it was ever pruned.
    pub(crate) audit_start: (AuditStart, Option<Vec<u8>>),
    /// The scopes that have a number.
    pub(crate) scopes: Vec<NumberedScope>,
}

/// The current position, and the tasks that wait for later ones. Tasks wake in the order of their waits,
/// so that a simulation replays. The tasks of a `tokio::sync::watch` wake in any order.
pub(crate) struct AppliedPosition {
    current: Mutex<Arc<Position>>,
    advanced: Notify,
    /// The revision of the newest epoch that is known to exist.
    newest: AtomicU64,
    /// The number of times that the whole store was read.
    bootstraps: AtomicU64,
}

impl AppliedPosition {
    pub(crate) fn new(start: Position) -> Arc<Self> {
        let (newest, bootstraps) = (AtomicU64::new(start.epoch.revision.0), AtomicU64::new(1));
        let current = Mutex::new(Arc::new(start));
        Arc::new(Self { current, advanced: Notify::new(), newest, bootstraps })
    }

    pub(crate) fn current(&self) -> Arc<Position> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn advance_to(&self, position: Position) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(position);
        self.advanced.notify_waiters();
    }

    /// Sets the position after the whole store was read again. The consensus store may have been restored
    /// to an earlier revision.
    pub(super) fn restart_at(&self, position: Position) {
        self.newest.store(position.epoch.revision.0, Relaxed);
        self.bootstraps.fetch_add(1, Relaxed);
        self.advance_to(position);
    }

    /// Returns the number of times that the whole store was read.
    pub(super) fn bootstraps(&self) -> u64 {
        self.bootstraps.load(Relaxed)
    }

    /// Records that an epoch of this revision exists.
    pub(super) fn note_epoch(&self, epoch: Revision) {
        self.newest.fetch_max(epoch.0, Relaxed);
    }

    /// Returns how far this replica is behind, and how often it read the whole store. The caller adds the
    /// state of the gate.
    pub(super) fn following(&self) -> Following {
        let (newest, applied) = (self.newest.load(Relaxed), self.current().applied.0);
        let (behind, bootstraps) = (newest.saturating_sub(applied), self.bootstraps());
        Following { behind, bootstraps, ..Following::default() }
    }

    /// Waits until an epoch of this revision or a later one is applied.
    pub(crate) async fn reach(&self, revision: Revision) {
        loop {
            let mut advanced = pin!(self.advanced.notified());
            advanced.as_mut().enable();
            if self.current().epoch.revision >= revision {
                return;
            }
            advanced.await;
        }
    }
}
