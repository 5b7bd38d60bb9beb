//! Keys that a request sent over plain HTTP: others may have read them, so a valid one is revoked.
//!
//! The response is sent before the request is read, and is the same for every request. So neither its bytes
//! nor its time show whether a key is valid. Only a whole valid key is revoked, and nobody can guess one.
//!
//! | event | effect |
//! |---|---|
//! | a request with a valid key arrives | 403 is sent; then the key is refused in memory, and revoked durably |
//! | the key is the last root key | the log has an error with the remedy |
//! | the eleventh key within a minute | nothing is revoked until the restart: the clients or the network are misconfigured |

use crate::metrics::{ExposedResult, Metrics};
use portcullis::{Actor, Error, KeyId, Store, wipe_stack_below};
use portcullis_admin::RateLimitedLog;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

const MAX_PER_MINUTE: u32 = 10;
/// The part of a request that is searched.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How far below the search copies of a key may be on the stack.
const WIPED_STACK_BYTES: usize = 64 * 1024;

/// Revokes the keys that arrive over plain HTTP.
pub(crate) struct ExposedKeys {
    store: Store,
    metrics: Metrics,
    quota: Mutex<Quota>,
}

/// How many keys may still be revoked.
struct Quota {
    minute: Instant,
    revoked: u32,
    is_exhausted: bool,
}

impl Quota {
    /// Whether one more key may be revoked.
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.minute) >= Duration::from_mins(1) {
            (self.minute, self.revoked) = (now, 0);
        }
        self.is_exhausted |= self.revoked >= MAX_PER_MINUTE;
        self.revoked += u32::from(!self.is_exhausted);
        !self.is_exhausted
    }
}

impl ExposedKeys {
    pub(crate) fn new(store: Store, metrics: Metrics) -> Arc<Self> {
        let quota = Quota { minute: Instant::now(), revoked: 0, is_exhausted: false };
        Arc::new(Self { store, metrics, quota: Mutex::new(quota) })
    }

    /// Revokes the valid keys in the head of a request.
    fn revoke_all(&self, head: &[u8], source: Option<IpAddr>) {
        let acting = self.store.acting_as(Actor::PlainHttp);
        let acting = source.map_or(acting, |address| acting.with_address(address));
        let leaked = match acting.find_leaked(head) {
            Ok(leaked) => leaked,
            Err(error) => return self.record(None, source, ExposedResult::Failed, Some(&error)),
        };
        for record in leaked.records {
            if !record.active || record.expiry.has_come(self.store.now()) {
                continue;
            }
            let mut quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
            let is_permitted = quota.take(Instant::now());
            drop(quota);
            let (result, error) = if is_permitted {
                match acting.revoke(record.id) {
                    Ok(_) => (ExposedResult::Revoked, None),
                    Err(Error::LastRoot(_)) => (ExposedResult::LastRootKey, None),
                    Err(error) => (ExposedResult::Failed, Some(error)),
                }
            } else {
                (ExposedResult::Limit, None)
            };
            self.record(Some(record.id), source, result, error.as_ref());
        }
    }

    /// Counts and logs the result for a key.
    fn record(
        &self,
        key: Option<KeyId>,
        source: Option<IpAddr>,
        result: ExposedResult,
        error: Option<&Error>,
    ) {
        static LOG: RateLimitedLog = RateLimitedLog::new();
        self.metrics.record_exposed(result);
        let Some(suppressed) = LOG.permit() else { return };
        let (key, source) = (key.map(tracing::field::display), source.map(tracing::field::display));
        let error = error.map(tracing::field::display);
        match result {
            ExposedResult::Revoked => {
                tracing::warn!(
                    key,
                    source,
                    suppressed,
                    "revoked a key that was sent over plain HTTP"
                );
            }
            ExposedResult::LastRootKey => tracing::error!(
                key,
                source,
                suppressed,
                "the last root key was sent over plain HTTP and cannot be revoked; rotate it now with portcullis key rotate"
            ),
            ExposedResult::Limit => tracing::error!(
                key,
                source,
                suppressed,
                "too many keys are sent over plain HTTP, so no more are revoked until the restart; find out which clients \
                 use http"
            ),
            ExposedResult::Failed => tracing::error!(
                key,
                source,
                error,
                suppressed,
                "a key that was sent over plain HTTP could not be revoked"
            ),
        }
    }
}

/// The beginning of a request over plain HTTP, in wiped memory. Its keys are revoked when the head is
/// complete, or when this is dropped.
pub(super) struct Head {
    exposed: Option<Arc<ExposedKeys>>,
    text: Zeroizing<Vec<u8>>,
    source: Option<IpAddr>,
}

impl Head {
    /// Without `exposed` nothing is kept.
    pub(super) fn new(exposed: Option<Arc<ExposedKeys>>, source: Option<IpAddr>) -> Self {
        let capacity = if exposed.is_some() { MAX_HEAD_BYTES } else { 0 };
        Self { exposed, text: Zeroizing::new(Vec::with_capacity(capacity)), source }
    }

    /// Adds bytes of the request.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.exposed.is_none() {
            return;
        }
        let room = MAX_HEAD_BYTES - self.text.len();
        self.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        let is_complete = self.text.windows(4).any(|end| end == b"\r\n\r\n");
        if is_complete || self.text.len() == MAX_HEAD_BYTES {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let Some(exposed) = self.exposed.take() else { return };
        let (text, source) = (std::mem::take(&mut self.text), self.source);
        if !text.is_empty() {
            spawn_blocking(move || {
                exposed.revoke_all(&text, source);
                drop(text);
                wipe_stack_below::<WIPED_STACK_BYTES>();
            });
        }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_ten_keys_within_a_minute_no_more_are_revoked() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quota = Quota { minute: start, revoked: 0, is_exhausted: false };
        let slowly = (0..30).all(|n| quota.take(at(n * 7)));
        assert!(slowly);
        let mut quota = Quota { minute: start, revoked: 0, is_exhausted: false };
        assert_eq!((0..30).filter(|n| quota.take(at(*n))).count(), 10);
        assert!(!quota.take(at(3600)));
    }
}
