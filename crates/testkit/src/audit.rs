//! A store whose audit log is read entry by entry, and the times that tests of the log use.

use super::{home, issue, new_key};
use portcullis::{
    Actor, KeyId, Store, Timestamp,
    audit::{Act, AuditEntry},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::SystemTime,
};

/// The address that the acts come from.
pub const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Returns the milliseconds since 1970.
pub fn now() -> u64 {
    Timestamp::from(SystemTime::now()).as_millis()
}

/// Returns the time that was this many hours ago.
pub fn hours_ago(hours: u64) -> Timestamp {
    Timestamp::from_millis(now() - hours * 3_600_000)
}

/// Adds keys, and with each an entry, until the log of a new store has ten entries.
pub fn fill_to_ten_entries(store: &Store) {
    for n in 2..=10 {
        issue(store, new_key(store, &format!("key {n}"), &["api.read"]));
    }
}

/// Creates a store with ten entries that are four days old and one new entry.
pub fn store_with_old_entries() -> (tempfile::TempDir, PathBuf, Store) {
    let (dir, home) = home();
    fill_to_ten_entries(&crate::builder().open(&home).unwrap());
    super::surgery::age(&home, 100);
    let store = crate::builder().open(&home).unwrap();
    issue(&store, new_key(&store, "new", &["api.read"]));
    (dir, home, store)
}

/// A store, and how much of its audit log the test has read.
pub struct AuditedStore {
    _dir: tempfile::TempDir,
    /// The store.
    pub store: Store,
    /// The sequence of the last entry that the test has read.
    pub read: u64,
}

impl AuditedStore {
    /// Creates a store without keys.
    pub fn new() -> Self {
        let (dir, home) = home();
        Self { _dir: dir, store: crate::builder().open(home).unwrap(), read: 1 }
    }

    /// Issues a key and skips its entry.
    pub fn key(&mut self, name: &str, names: &[&str]) -> (KeyId, Vec<u8>) {
        let issued = issue(&self.store, new_key(&self.store, name, names));
        self.read += 1;
        issued
    }

    /// Returns the only entry that was written since the last read.
    #[track_caller]
    pub fn entry(&mut self) -> AuditEntry {
        let before = now();
        let mut entries = self.store.audit(self.read, 100).unwrap();
        assert_eq!(entries.len(), 1, "{entries:?}");
        self.read += 1;
        let entry = entries.pop().unwrap();
        assert!(entry.at.as_millis().abs_diff(before) < 60_000);
        entry
    }

    /// Whether the next entry is the refusal of this attempt, from `SOURCE`.
    #[track_caller]
    pub fn assert_refused(&mut self, actor: Actor, attempt: &str, key: Option<KeyId>) {
        let entry = self.entry();
        let Act::Refuse { attempt: recorded, .. } = &entry.act else { panic!("{entry:?}") };
        assert_eq!(
            (recorded.as_str(), entry.actor, entry.source, entry.key),
            (attempt, actor, Some(SOURCE), key)
        );
    }
}
