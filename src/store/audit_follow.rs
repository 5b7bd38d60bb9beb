//! Following the audit log: the next batch of entries, and the wait for newer ones.
//!
//! A commit announces its last entry when the entry is durable and applied in this process. A reader that
//! waits is woken and reads the ledger itself. So nothing is queued for a slow reader.

use crate::{audit_entry::AuditEntry, sync::Mutex};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// A part of the audit log, read by [`Acting::audit_batch`](crate::Acting::audit_batch).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditBatch {
    /// The last pruned entry, if pruning has removed the entries that would come first.
    pub pruned_through: Option<u64>,
    /// The entries that the actor may see, oldest first.
    pub entries: Vec<AuditEntry>,
    /// The last entry that was searched, to continue after.
    pub last: u64,
    /// The newest entry that was durable and applied when the batch was read.
    pub newest: u64,
}

/// Announces the newest entry to the readers that wait for it.
#[derive(Default)]
pub(super) struct AuditSignal(Mutex<Announced>);

#[derive(Default)]
struct Announced {
    newest: u64,
    /// The number of the next reader.
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl AuditSignal {
    pub(super) fn new(newest: u64) -> Arc<Self> {
        let signal = Self::default();
        signal.0.lock().newest = newest;
        Arc::new(signal)
    }

    /// Wakes the readers: this entry and all before it are durable and applied.
    pub(super) fn announce(&self, newest: u64) {
        let mut announced = self.0.lock();
        announced.newest = newest;
        let waiting = mem::take(&mut announced.waiting);
        drop(announced);
        waiting.into_values().for_each(Waker::wake);
    }

    pub(super) fn newest(&self) -> u64 {
        self.0.lock().newest
    }
}

/// A future that completes when the audit log has a newer entry that is durable and applied in this
/// process. It needs no particular runtime. Created by
/// [`Store::newer_audit_entry`](crate::Store::newer_audit_entry).
#[must_use = "futures do nothing unless they are awaited"]
pub struct NewerAuditEntry {
    signal: Arc<AuditSignal>,
    after: u64,
    place: u64,
}

impl NewerAuditEntry {
    pub(super) fn new(signal: Arc<AuditSignal>, after: u64) -> Self {
        let mut announced = signal.0.lock();
        let place = announced.next;
        announced.next += 1;
        drop(announced);
        Self { signal, after, place }
    }
}

impl Future for NewerAuditEntry {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut announced = self.signal.0.lock();
        if announced.newest > self.after {
            return Poll::Ready(());
        }
        let replaced = announced.waiting.insert(self.place, cx.waker().clone());
        // A waker may own its task: it is dropped without the lock.
        drop(announced);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for NewerAuditEntry {
    fn drop(&mut self) {
        let removed = self.signal.0.lock().waiting.remove(&self.place);
        drop(removed);
    }
}

impl fmt::Debug for NewerAuditEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewerAuditEntry").field("after", &self.after).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Actor, Change,
        store::{
            Store,
            testing::scripted_store,
            tests::{issue, new_key},
        },
    };
    use std::{
        future::Future,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Context, Poll, Wake, Waker},
    };

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn waiting(store: &Store) -> usize {
        store.writer.audit_signal.0.lock().waiting.len()
    }

    #[test]
    fn newer_entry_is_announced_only_when_it_is_durable() {
        let (store, script) = scripted_store();
        let (id, _) = issue(&store, &script, new_key(&store, &["api.read"], true));
        let newest = store.acting_as(Actor::Host).audit_batch(0, 0).unwrap().newest;
        let count = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut newer = pin!(store.newer_audit_entry(newest));
        assert!(newer.as_mut().poll(&mut cx).is_pending());
        let revoking = {
            let store = store.clone();
            std::thread::spawn(move || store.revoke(id))
        };
        script.begun();
        // The revocation is in effect, and not durable yet.
        assert_eq!(count.0.load(Relaxed), 0);
        assert!(newer.as_mut().poll(&mut cx).is_pending());
        assert_eq!(store.acting_as(Actor::Host).audit_batch(0, 0).unwrap().newest, newest);
        script.verdict(true);
        revoking.join().unwrap().unwrap();
        assert_eq!(count.0.load(Relaxed), 1);
        assert_eq!(newer.as_mut().poll(&mut cx), Poll::Ready(()));
        assert_eq!(store.acting_as(Actor::Host).audit_batch(0, 0).unwrap().newest, newest + 1);
    }

    #[test]
    fn dropped_wait_leaves_no_waker() {
        let store = Store::in_memory().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut newer = Box::pin(store.newer_audit_entry(u64::MAX));
            assert!(newer.as_mut().poll(&mut cx).is_pending());
            assert!(newer.as_mut().poll(&mut cx).is_pending());
            assert_eq!(waiting(&store), 1);
        }
        assert_eq!(waiting(&store), 0);
    }

    #[test]
    fn batch_has_no_entry_that_is_not_announced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::builder().scopes(crate::scope::catalogue::financial_data());
        let store = store.open(dir.path().join("keys")).unwrap();
        let id = store.issue(new_key(&store, &["api.read"], true)).unwrap().record.id;
        store.update(id, Change::default().with_name("b")).unwrap();
        let batch = |after| store.acting_as(Actor::Host).audit_batch(after, 10).unwrap();
        assert_eq!((batch(0).entries.len(), batch(0).last, batch(0).newest), (3, 3, 3));
        // As if the commit of the newest entry were not applied yet.
        store.writer.audit_signal.announce(2);
        assert_eq!((batch(0).entries.len(), batch(0).last, batch(0).newest), (2, 2, 2));
        assert_eq!((batch(2).entries.len(), batch(2).last), (0, 2));
    }
}
