//! Counts expired keys on request, because no event reaches the index when a key expires.

use super::{Index, order};
use crate::time::Timestamp;

impl Index {
    /// Counts the active keys that have expired. Reads eight bytes a key, and releases the lock after some
    /// thousand keys. Rejected: a tree of expiries, which would need several times these bytes.
    pub(crate) fn count_expired(&self, now: Timestamp) -> usize {
        let (mut expired, mut from) = (0, Some(order::FIRST));
        while let Some(place) = from {
            let (found, next) = self.directory.read().count_expired(place, now);
            (expired, from) = (expired + found, next);
        }
        expired
    }
}
