//! The etcd keys of a store, all below its space.
//!
//! ```text
//! a/<sequence>   an entry of the audit log
//! e              the epoch
//! f              where the audit log starts
//! k/<digest>     a record
//! n/<number>     a scope name
//! s/a/<id>       the revision that a member has acknowledged
//! s/m/<id>       a member
//! u/<key id>     when a key was last used
//! x              the import in progress
//! ```
//!
//! The order matters: one watch over the range from `e` to `s` delivers everything that replicas
//! follow, and each transaction as a whole. It omits the audit log and the acknowledgements.

use portcullis::cluster::{Key, MemberId};
use std::ops::{Range, RangeInclusive};

/// The etcd keys that begin with a store's space.
pub(super) struct Keyspace(Vec<u8>);

impl Keyspace {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.as_bytes().to_vec())
    }

    pub(super) fn key(&self, key: Key) -> Vec<u8> {
        match key {
            Key::AuditEntry(sequence) => self.at(b"a/", &sequence.to_be_bytes()),
            Key::AuditStart => self.at(b"f", &[]),
            Key::Record(digest) => self.at(b"k/", &digest),
            Key::ScopeName(number) => self.at(b"n/", &[number]),
            Key::LastUse(id) => self.at(b"u/", &id.to_be_bytes()),
        }
    }

    pub(super) fn epoch(&self) -> Vec<u8> {
        self.at(b"e", &[])
    }

    pub(super) fn member(&self, id: MemberId) -> Vec<u8> {
        self.at(b"s/m/", id.to_string().as_bytes())
    }

    pub(super) fn acknowledgement(&self, id: MemberId) -> Vec<u8> {
        self.at(b"s/a/", id.to_string().as_bytes())
    }

    /// All members and acknowledgements.
    pub(super) fn members(&self) -> Range<Vec<u8>> {
        self.at(b"s/", &[])..self.at(b"s0", &[])
    }

    /// The marker of the import in progress.
    pub(super) fn import(&self) -> Vec<u8> {
        self.at(b"x", &[])
    }

    /// A key that is never written.
    pub(super) fn unused(&self) -> Vec<u8> {
        self.at(b"0", &[])
    }

    /// Everything that replicas follow.
    pub(super) fn state(&self) -> Range<Vec<u8>> {
        self.epoch()..self.at(b"s", &[])
    }

    pub(super) fn scope_names(&self) -> Range<Vec<u8>> {
        self.at(b"n/", &[])..self.at(b"n0", &[])
    }

    /// The audit entries after the first number, up to and including the last.
    pub(super) fn audit_entries(&self, numbers: RangeInclusive<u64>) -> Range<Vec<u8>> {
        let after_all = || self.at(b"a0", &[]);
        let of = |number: u64| {
            number.checked_add(1).map_or_else(after_all, |n| self.key(Key::AuditEntry(n)))
        };
        of(*numbers.start())..of(*numbers.end())
    }

    pub(super) fn last_uses(&self) -> Range<Vec<u8>> {
        self.at(b"u/", &[])..self.at(b"u0", &[])
    }

    /// The last uses of keys whose id begins with this byte.
    pub(super) fn last_uses_from(&self, first: u8) -> Range<Vec<u8>> {
        let end = first.checked_add(1).map(|next| self.at(b"u/", &[next]));
        self.at(b"u/", &[first])..end.unwrap_or_else(|| self.last_uses().end)
    }

    pub(super) fn records(&self) -> Range<Vec<u8>> {
        self.at(b"k/", &[])..self.at(b"k0", &[])
    }

    /// The records whose digest begins with this byte.
    pub(super) fn records_from(&self, first: u8) -> Range<Vec<u8>> {
        let end = first.checked_add(1).map(|next| self.at(b"k/", &[next]));
        self.at(b"k/", &[first])..end.unwrap_or_else(|| self.records().end)
    }

    /// Parses an etcd key; `None` if it is not a key of this store.
    pub(super) fn read(&self, key: &[u8]) -> Option<Row> {
        let rest = key.strip_prefix(self.0.as_slice())?;
        let key = if rest == b"e" {
            return Some(Row::Epoch);
        } else if rest == b"f" {
            Key::AuditStart
        } else if let Some(digest) = rest.strip_prefix(b"k/") {
            Key::Record(digest.try_into().ok()?)
        } else if let Some(&[number]) = rest.strip_prefix(b"n/") {
            Key::ScopeName(number)
        } else if let Some(sequence) = rest.strip_prefix(b"a/") {
            Key::AuditEntry(u64::from_be_bytes(sequence.try_into().ok()?))
        } else if let Some(id) = rest.strip_prefix(b"u/") {
            Key::LastUse(u64::from_be_bytes(id.try_into().ok()?))
        } else if let Some(id) = rest.strip_prefix(b"s/m/") {
            return member_id(id).map(Row::Member);
        } else {
            return member_id(rest.strip_prefix(b"s/a/")?).map(Row::Acknowledgement);
        };
        Some(Row::Value(key))
    }

    fn at(&self, kind: &[u8], rest: &[u8]) -> Vec<u8> {
        [&self.0, kind, rest].concat()
    }
}

/// A parsed etcd key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    Value(Key),
    Epoch,
    Member(MemberId),
    Acknowledgement(MemberId),
}

fn member_id(hex: &[u8]) -> Option<MemberId> {
    let number = u128::from_str_radix(str::from_utf8(hex).ok()?, 16).ok()?;
    (hex.len() == 32).then(|| MemberId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8) -> Key {
        Key::Record([byte; 32])
    }

    const ID: MemberId = MemberId([0xab; 16]);

    #[test]
    fn one_range_holds_exactly_the_followed_keys() {
        let space = Keyspace::new("portcullis/");
        let state = space.state();
        assert!(state.contains(&space.epoch()));
        for inside in
            [Key::AuditStart, record(0), record(0xff), Key::ScopeName(0), Key::ScopeName(255)]
        {
            assert!(state.contains(&space.key(inside)), "{inside:?}");
        }
        for outside in [
            space.key(Key::AuditEntry(0)),
            space.key(Key::AuditEntry(u64::MAX)),
            space.member(ID),
            space.acknowledgement(ID),
            space.key(Key::LastUse(0)),
            Keyspace::new("portcullis2/").epoch(),
        ] {
            assert!(!state.contains(&outside));
        }
    }

    #[test]
    fn every_record_is_in_one_of_256_ranges() {
        let space = Keyspace::new("p/");
        for first in [0, 1, 0x2f, 0x30, 0xfe, 0xff] {
            let key = space.key(record(first));
            let holders: Vec<_> =
                (0..=255).filter(|&byte| space.records_from(byte).contains(&key)).collect();
            assert_eq!(holders, [first]);
        }
    }

    #[test]
    fn every_last_use_is_in_one_of_256_ranges() {
        let space = Keyspace::new("p/");
        for id in [0, 1 << 56, 0x2f << 56, 0x30 << 56, u64::MAX] {
            let key = space.key(Key::LastUse(id));
            let holders =
                (0..=255).filter(|&byte| space.last_uses_from(byte).contains(&key)).count();
            assert!(holders == 1 && space.last_uses().contains(&key), "{id:x}");
        }
    }

    #[test]
    fn keys_are_parsed_back_to_their_rows() {
        let space = Keyspace::new("p/");
        let last_use = Key::LastUse(0x0102_0304);
        for key in [Key::AuditStart, record(7), Key::ScopeName(3), Key::AuditEntry(9), last_use] {
            assert_eq!(space.read(&space.key(key)), Some(Row::Value(key)));
        }
        assert_eq!(space.read(&space.epoch()), Some(Row::Epoch));
        assert_eq!(space.read(&space.member(ID)), Some(Row::Member(ID)));
        assert_eq!(space.read(&space.acknowledgement(ID)), Some(Row::Acknowledgement(ID)));
        for stray in [&b"p/k/short"[..], b"q/e", b"p/", b"p/x", b"p/s/m/ab"] {
            assert_eq!(space.read(stray), None);
        }
    }
}
