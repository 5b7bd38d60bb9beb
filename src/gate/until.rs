//! The gate's state in one word: the time until which it is open. `tests/gate_order.rs` runs this file
//! under loom.

use super::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Always open.
const ALWAYS: u64 = u64::MAX;
/// Shut until it is extended.
const SHUT: u64 = 0;
/// Shut permanently. `pass` treats a clock below this value as this value.
const CLOSED: u64 = 1;

/// A time on the gate's clock.
pub(super) struct Until(AtomicU64);

impl Until {
    pub(super) fn always() -> Self {
        Self(AtomicU64::new(ALWAYS))
    }

    /// Runs `look` if the gate is open.
    ///
    /// The gate's word is read first, and with Acquire. So a reader that sees a time also sees everything
    /// that was applied before the time was written. If the word were read after the index, it could be
    /// newer than the index state. Then a key that was revoked in between could pass.
    #[inline]
    pub(super) fn pass<T>(&self, now: impl FnOnce() -> u64, look: impl FnOnce() -> T) -> Option<T> {
        let until = self.0.load(Acquire);
        if until == ALWAYS || now().max(CLOSED) < until { Some(look()) } else { None }
    }

    pub(super) fn end(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg_attr(
    not(any(test, feature = "cluster")),
    expect(dead_code, reason = "a store without replicas")
)]
impl Until {
    pub(super) fn shut_at_first() -> Self {
        Self(AtomicU64::new(SHUT))
    }

    /// Release: a reader that sees this time sees everything that was applied before.
    pub(super) fn extend(&self, until: u64) {
        self.change(|now| (now != CLOSED && now < until).then_some(until));
    }

    pub(super) fn shut(&self) {
        self.change(|now| (now != CLOSED).then_some(SHUT));
    }

    pub(super) fn close(&self) {
        self.0.swap(CLOSED, Release);
    }

    fn change(&self, next: impl Fn(u64) -> Option<u64>) {
        let _ = self.0.fetch_update(Release, Relaxed, next);
    }
}
