//! Who waits for a key to be taken away: work in flight, such as a stream or a socket.
//!
//! Design. A [`Revocation`] is registered under its key's id. Whoever changes a key looks at one
//! counter, and only if somebody waits for anything at the key's own watches. Validation touches
//! none of this.
//!
//! Why no wake-up is lost: a watch is registered first and its key looked at second, under the
//! directory's lock; a change is made under the same lock and the counter read after it. So either
//! the watch sees the change or the change sees the watch. What ends a watch is latched: a key that
//! is back a moment later does not revive it.

use crate::{
    id::KeyId,
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
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

/// The value that stands for a key without an end.
const NEVER: u64 = u64::MAX;

struct Watch {
    grant: Grant,
    over: AtomicBool,
    /// The key's end in milliseconds.
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
    /// Ends what the change denies. The caller holds the directory's lock, and wakes the wakers
    /// without it.
    pub(super) fn tell(&self, id: KeyId, visible: Option<Standing>) -> Vec<Waker> {
        if self.count.load(Relaxed) == 0 {
            return Vec::new();
        }
        let watches = self.by_key.lock();
        let of_key = watches.range((id, 0)..=(id, u64::MAX));
        of_key.filter_map(|(_, watch)| watch.tell(visible)).collect()
    }

    /// The store is closed: nobody can take a key away any more, so nothing goes on.
    pub(super) fn end_all(&self) {
        let watches: Vec<_> = self.by_key.lock().values().cloned().collect();
        watches.iter().filter_map(|watch| watch.tell(None)).for_each(Waker::wake);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        assert_eq!(self.count.load(Relaxed), self.by_key.lock().len());
        self.count.load(Relaxed)
    }
}

impl Watch {
    fn tell(&self, visible: Option<Standing>) -> Option<Waker> {
        match visible {
            Some(standing) if standing.active && self.grant.is_within(&standing.grant) => {
                self.end.store(millis(standing.expiry), Release);
            }
            _ => self.over.store(true, Release),
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

/// Over when a key was taken away: revoked, expired, deleted, or narrowed below what its holder was
/// let in with; made by [`Store::revocation`](crate::Store::revocation).
///
/// As a future it needs no particular runtime. It is woken by changes, not by the clock: whoever
/// awaits it for a key with an end looks again after [`remaining`](Self::remaining).
/// `portcullis::web` (feature `axum`) does so, and ends bodies and sockets.
///
/// Once over it stays over, even if the key is active again.
#[must_use = "a watch ends nothing by itself"]
pub struct Revocation {
    watches: Arc<Watches>,
    place: (KeyId, u64),
    watch: Arc<Watch>,
    /// The store's time when this was made. From then on it does not run backwards either.
    made: (Instant, Timestamp),
}

impl Revocation {
    /// Registered, and not yet looked at.
    pub(super) fn register(
        watches: &Arc<Watches>,
        id: KeyId,
        grant: Grant,
        now: Timestamp,
    ) -> Self {
        let watch = Arc::new(Watch {
            grant,
            over: AtomicBool::new(false),
            end: AtomicU64::new(NEVER),
            waker: Mutex::new(None),
        });
        let place = (id, watches.next.fetch_add(1, Relaxed));
        watches.by_key.lock().insert(place, Arc::clone(&watch));
        watches.count.fetch_add(1, Relaxed);
        Self { watches: Arc::clone(watches), place, watch, made: (Instant::now(), now) }
    }

    /// Looks at the key for the first time.
    pub(super) fn see(&self, visible: Option<Standing>) {
        self.watch.tell(visible);
    }

    /// Ends it: nobody vouches for the key any more.
    pub(crate) fn end(&self) {
        self.watch.tell(None);
    }

    /// The key that is watched.
    pub fn id(&self) -> KeyId {
        self.place.0
    }

    /// Whether the key was taken away.
    pub fn is_over(&self) -> bool {
        self.watch.over.load(Acquire) || self.remaining() == Some(Duration::ZERO)
    }

    /// When the key ends by itself, as it stands now.
    pub fn expires_at(&self) -> Expiry {
        match self.watch.end.load(Acquire) {
            NEVER => Expiry::Never,
            end => Expiry::At(Timestamp::from_millis(end)),
        }
    }

    /// How long until the key ends by itself, if it does; zero from then on.
    pub fn remaining(&self) -> Option<Duration> {
        let Expiry::At(end) = self.expires_at() else { return None };
        let (instant, then) = self.made;
        let passed = u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = then.as_millis().saturating_add(passed);
        let now = now.max(Timestamp::from(SystemTime::now()).as_millis());
        Some(Duration::from_millis(end.as_millis().saturating_sub(now)))
    }
}

impl Future for Revocation {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        // Left first and looked at second, so that a change in between finds it.
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
