//! Watches: work in flight, such as a stream or a socket, waits for the revocation of its key.
//!
//! Design. A [`Revocation`] is registered under the id of its key. A change of a key reads one counter,
//! and only if there are watches, those of the key. Validation does not touch any of this.
//!
//! A watch has these states:
//!
//! | state | event | next |
//! |---|---|---|
//! | registered | it reads the key: as allowed as its holder | live, with the key's expiry |
//! | registered | it reads the key: inactive, deleted, narrowed, or of other networks | over |
//! | live | a change: the key is still as allowed as the holder | live, with the new expiry |
//! | live | a change: revoked, deleted, narrowed, or of other networks | over |
//! | live | the expiry passes | over, without a wake-up: the owner polls after `remaining` |
//! | live | the store closes, or the replica cannot prove that it is up to date | over |
//! | over | any change, also a reactivation | over |
//!
//! No wake-up is lost. A watch is registered first and reads its key second, under the directory's
//! lock. A change is made under the same lock, and the counter is read after it. So either the watch
//! sees the change or the change sees the watch.

use crate::{
    id::KeyId,
    principal::Principal,
    record::{Expiry, Standing},
    scope::Grant,
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Timestamp,
};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// The value for a key that never expires.
const NEVER: u64 = u64::MAX;

struct Watch {
    grant: Grant,
    /// The address of the request, of a key with networks.
    address: Option<IpAddr>,
    over: AtomicBool,
    /// The key's expiry in milliseconds.
    end: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

/// All watches of a store.
#[derive(Default)]
pub(super) struct Watches {
    count: AtomicUsize,
    next: AtomicU64,
    by_key: Mutex<BTreeMap<(KeyId, u64), Arc<Watch>>>,
}

impl Watches {
    /// Ends the watches that a change denies. The caller holds the directory's lock, and wakes the wakers
    /// after it has released the lock.
    pub(super) fn notify(&self, id: KeyId, visible: Option<&Standing>) -> Vec<Waker> {
        if self.count.load(Relaxed) == 0 {
            return Vec::new();
        }
        let watches = self.by_key.lock();
        let of_key = watches.range((id, 0)..=(id, u64::MAX));
        of_key.filter_map(|(_, watch)| watch.notify(visible)).collect()
    }

    /// Ends all watches, since revocations can no longer be observed: the store is closed, or the replica is
    /// out of date.
    pub(super) fn end_all(&self) {
        let watches: Vec<_> = self.by_key.lock().values().cloned().collect();
        watches.iter().filter_map(|watch| watch.notify(None)).for_each(Waker::wake);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        assert_eq!(self.count.load(Relaxed), self.by_key.lock().len());
        self.count.load(Relaxed)
    }
}

impl Watch {
    fn notify(&self, visible: Option<&Standing>) -> Option<Waker> {
        let admits = |standing: &&Standing| {
            standing.active
                && self.grant.is_within(&standing.grant)
                && standing.networks.admit(self.address)
        };
        match visible.filter(admits) {
            Some(standing) => self.end.store(millis(standing.expiry), Release),
            None => self.over.store(true, Release),
        }
        self.waker.lock().take()
    }
}

fn millis(expiry: Expiry) -> u64 {
    match expiry {
        Expiry::At(end) => end.as_millis(),
        Expiry::Never => NEVER,
    }
}

/// A watch on an authenticated key. It is over when the key is revoked, expired, deleted, has fewer
/// scopes than at its authentication, or networks without the address of the request. A watch on a key that
/// had no networks knows no address, so it is over when the key gets networks. Created by [`Store::revocation`](crate::Store::revocation).
///
/// As a future it needs no particular runtime. Changes wake it, the clock does not: for a key that
/// expires, poll it again after [`remaining`](Self::remaining). `portcullis::web` (feature `axum`) does
/// this, and ends bodies and sockets.
///
/// Once over, it stays over, even if the key is reactivated.
#[must_use = "a watch does nothing unless it is polled"]
pub struct Revocation {
    watches: Arc<Watches>,
    place: (KeyId, u64),
    watch: Arc<Watch>,
    /// The store's time when the watch was created, from which its time never runs backwards.
    created: (Instant, Timestamp),
}

impl Revocation {
    /// Registers a watch. [`see`](Self::see) reads the key.
    pub(super) fn register(watches: &Arc<Watches>, holder: &Principal, now: Timestamp) -> Self {
        let watch = Arc::new(Watch {
            grant: *holder.grant(),
            address: holder.address(),
            over: AtomicBool::new(false),
            end: AtomicU64::new(NEVER),
            waker: Mutex::new(None),
        });
        let place = (holder.id(), watches.next.fetch_add(1, Relaxed));
        watches.by_key.lock().insert(place, Arc::clone(&watch));
        watches.count.fetch_add(1, Relaxed);
        Self { watches: Arc::clone(watches), place, watch, created: (Instant::now(), now) }
    }

    /// Compares the watch with the key for the first time.
    pub(super) fn see(&self, visible: Option<&Standing>) {
        self.watch.notify(visible);
    }

    /// Ends the watch, since the state of the key is not known.
    pub(crate) fn end(&self) {
        self.watch.notify(None);
    }

    /// Returns the id of the key.
    pub fn id(&self) -> KeyId {
        self.place.0
    }

    /// Whether the watch is over.
    pub fn is_over(&self) -> bool {
        self.watch.over.load(Acquire) || self.remaining() == Some(Duration::ZERO)
    }

    /// Returns the current expiry of the key.
    pub fn expires_at(&self) -> Expiry {
        match self.watch.end.load(Acquire) {
            NEVER => Expiry::Never,
            end => Expiry::At(Timestamp::from_millis(end)),
        }
    }

    /// Returns the time until the key expires, zero from then on; `None` if it never expires.
    pub fn remaining(&self) -> Option<Duration> {
        let Expiry::At(end) = self.expires_at() else { return None };
        let (instant, then) = self.created;
        let passed = u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = then.as_millis().saturating_add(passed);
        let now = now.max(Timestamp::now().as_millis());
        Some(Duration::from_millis(end.as_millis().saturating_sub(now)))
    }
}

impl Future for Revocation {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        // The waker is stored before the second check, so a change in between finds it.
        let mut waker = self.watch.waker.lock();
        match &mut *waker {
            Some(left) => left.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        drop(waker);
        if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        self.watches.by_key.lock().remove(&self.place);
        self.watches.count.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Revocation");
        debug.field("id", &self.id()).field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}
