//! How many keys have ended: nobody tells the index when one does, so they are counted when asked.

use super::{Index, order};
use crate::time::Timestamp;

impl Index {
    /// How many active keys have ended. Eight bytes a key are read, some thousand keys at a time;
    /// changes go in between. Rejected: a count by end, which would be right at every moment and
    /// take several times those bytes all the time.
    pub(crate) fn count_expired(&self, now: Timestamp) -> usize {
        let (mut expired, mut from) = (0, Some(order::FIRST));
        while let Some(place) = from {
            let (found, next) = self.directory.read().count_expired(place, now);
            (expired, from) = (expired + found, next);
        }
        expired
    }
}
