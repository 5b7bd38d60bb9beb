//! The health of a store: whether it can write, whether it validates, and whether its clock is right.

use super::handle::Store;
use crate::{
    index::OwnerCount,
    ledger::{DiskSpace, Replicas},
    time::Timestamp,
};
use std::time::Duration;

/// The health of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Why nothing is written until the store is reopened; `None` while the store can write. Validation
    /// continues.
    pub poisoned: Option<Box<str>>,
    /// Whether the store validates keys. A replica that cannot reach the others does not: it refuses every
    /// request with [`Refusal::Unavailable`](crate::Refusal::Unavailable).
    pub is_answering: bool,
    /// Why this replica cannot apply the changes of the others; `None` while it can.
    pub replication_error: Option<Box<str>>,
    /// How far the wall clock has jumped ahead of the elapsed time, if by more than a day. Keys
    /// may have expired early, and the store's time does not go back.
    pub clock_jump: Option<Duration>,
    /// How far the store's time is ahead of the wall clock, if by more than a minute. A change was
    /// made while a clock was wrong. [`Store::now`] stays at the time of that change until the wall
    /// clock reaches it. Keys that expire before that time have expired early.
    pub clock_ahead: Option<Duration>,
    /// The space on the disk, as of the last second or change; `None` for a store in memory and for one
    /// that replicas share.
    pub disk: Option<DiskSpace>,
}

/// The number of keys of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Keys that are active, expired ones included.
    pub active: usize,
    /// Keys that are not active.
    pub inactive: usize,
}

impl Count {
    pub(super) fn of(count: OwnerCount) -> Self {
        Self { active: count.active, inactive: count.keys - count.active }
    }
}

/// An owner, and the number of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerKeys {
    /// The owner.
    pub owner: Box<str>,
    /// The number of keys.
    pub keys: Count,
}

impl Store {
    /// Returns the health of this store.
    pub fn health(&self) -> Health {
        Health {
            poisoned: self.writer.poisoned(),
            is_answering: self.writer.gate.pass(|| ()).is_ok(),
            replication_error: self.writer.ledger.replicas().and_then(Replicas::replication_error),
            clock_jump: self.writer.clock.jump(),
            clock_ahead: self.writer.clock.ahead(),
            disk: self.writer.ledger.disk_space(),
        }
    }

    /// Returns the store's time, by which keys expire: the wall clock, but never before the newest
    /// change.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never);
    /// let issued = store.issue(new)?;
    /// assert!(store.now() >= issued.record.created_at);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn now(&self) -> Timestamp {
        self.writer.clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Expiry, NewKey},
        store::testing::advance_time,
    };

    #[test]
    fn change_three_days_ahead_is_reported_at_every_opening() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("keys");
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).open(&dir).unwrap();
        assert_eq!(store.health().clock_ahead, None);
        let three_days = Duration::from_hours(72);
        let wrong = store.now().as_millis() + 72 * 3_600_000;
        advance_time(&store, Timestamp::from_millis(wrong));
        store.issue(NewKey::new("a", store.scopes(["api.read"]).unwrap(), Expiry::Never)).unwrap();
        drop(store);
        for _ in 0..2 {
            let store = Store::builder()
                .scopes(crate::scope::catalogue::financial_data())
                .open(&dir)
                .unwrap();
            let ahead = store.health().clock_ahead.unwrap();
            assert!(ahead <= three_days && ahead > Duration::from_hours(71));
            assert_eq!(store.now(), Timestamp::from_millis(wrong));
            assert_eq!(store.health().clock_jump, None);
        }
    }
}
