//! Counts expired keys on request: no event reaches the index when a key expires.

use super::{Index, order};
use crate::time::Timestamp;

impl Index {
    /// Counts the active keys that have expired. Reads eight bytes a key, some thousand keys at a time, and
    /// lets changes in between. Rejected: a tree of expiries, which would be exact at any time and need
    /// several times these bytes all the time.
    pub(crate) fn count_expired(&self, now: Timestamp) -> usize {
        let (mut expired, mut from) = (0, Some(order::FIRST));
        while let Some(place) = from {
            let (found, next) = self.directory.read().count_expired(place, now);
            (expired, from) = (expired + found, next);
        }
        expired
    }
}
