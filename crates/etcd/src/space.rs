//! The keys of a store in etcd, all below its space.
//!
//! `a/` trail, `e` epoch, `f` where the trail begins, `k/` records, `n/` scope names, `s/` members, `u/` last uses, `x` an import: in this order, so that one
//! watch over what lies between trail and members sees all that an index is made of, each
//! transaction whole, and neither the trail nor what other replicas acknowledge.

use crate::{cluster::journal::Incarnation, codec::Place, digest::Digest, id::KeyId};
use std::ops::{Range, RangeInclusive};

/// A store's part of etcd's keys.
#[derive(Clone)]
pub(super) struct Space(Vec<u8>);

impl Space {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.as_bytes().to_vec())
    }

    /// Where a value of the store lies.
    pub(super) fn key(&self, place: &Place) -> Vec<u8> {
        match place {
            Place::Entry(sequence) => self.at(b"a/", &sequence.to_be_bytes()),
            Place::Meta => self.at(b"e", &[]),
            Place::AuditStart => self.at(b"f", &[]),
            Place::Record(digest) => self.at(b"k/", digest.as_bytes()),
            Place::Scope(number) => self.at(b"n/", &[*number]),
            Place::Use(id) => self.at(b"u/", &id.as_u64().to_be_bytes()),
        }
    }

    pub(super) fn member(&self, who: Incarnation) -> Vec<u8> {
        self.at(b"s/m/", who.to_string().as_bytes())
    }

    pub(super) fn acknowledged(&self, who: Incarnation) -> Vec<u8> {
        self.at(b"s/a/", who.to_string().as_bytes())
    }

    /// Members and what they acknowledged.
    pub(super) fn members(&self) -> Range<Vec<u8>> {
        self.at(b"s/", &[])..self.at(b"s0", &[])
    }

    /// What is being imported, and how far that has come.
    pub(super) fn import(&self) -> Vec<u8> {
        self.at(b"x", &[])
    }

    /// A key that nobody writes.
    pub(super) fn nothing(&self) -> Vec<u8> {
        self.at(b"0", &[])
    }

    /// All that an index is made of.
    pub(super) fn state(&self) -> Range<Vec<u8>> {
        self.key(&Place::Meta)..self.at(b"s", &[])
    }

    /// The names of scopes.
    pub(super) fn names(&self) -> Range<Vec<u8>> {
        self.at(b"n/", &[])..self.at(b"n0", &[])
    }

    /// The entries after the one, up to and with the other.
    pub(super) fn entries(&self, numbers: RangeInclusive<u64>) -> Range<Vec<u8>> {
        let after_all = || self.at(b"a0", &[]);
        let of = |number: u64| {
            number.checked_add(1).map_or_else(after_all, |n| self.key(&Place::Entry(n)))
        };
        of(*numbers.start())..of(*numbers.end())
    }

    /// When keys were last used.
    pub(super) fn uses(&self) -> Range<Vec<u8>> {
        self.at(b"u/", &[])..self.at(b"u0", &[])
    }

    /// The same of keys whose id begins with this byte.
    pub(super) fn uses_from(&self, first: u8) -> Range<Vec<u8>> {
        let end = first.checked_add(1).map(|next| self.at(b"u/", &[next]));
        self.at(b"u/", &[first])..end.unwrap_or_else(|| self.uses().end)
    }

    /// All records.
    pub(super) fn records(&self) -> Range<Vec<u8>> {
        self.at(b"k/", &[])..self.at(b"k0", &[])
    }

    /// The records whose digest begins with this byte.
    pub(super) fn records_from(&self, first: u8) -> Range<Vec<u8>> {
        let end = first.checked_add(1).map(|next| self.at(b"k/", &[next]));
        self.at(b"k/", &[first])..end.unwrap_or_else(|| self.records().end)
    }

    /// What lies under a key.
    pub(super) fn read(&self, key: &[u8]) -> Option<Lies> {
        let rest = key.strip_prefix(self.0.as_slice())?;
        let place = if rest == b"e" {
            Place::Meta
        } else if rest == b"f" {
            Place::AuditStart
        } else if let Some(digest) = rest.strip_prefix(b"k/") {
            Place::Record(Digest::from_bytes(digest.try_into().ok()?))
        } else if let Some(&[number]) = rest.strip_prefix(b"n/") {
            Place::Scope(number)
        } else if let Some(sequence) = rest.strip_prefix(b"a/") {
            Place::Entry(u64::from_be_bytes(sequence.try_into().ok()?))
        } else if let Some(id) = rest.strip_prefix(b"u/") {
            Place::Use(KeyId::from_u64(u64::from_be_bytes(id.try_into().ok()?)))
        } else if let Some(who) = rest.strip_prefix(b"s/m/") {
            return incarnation(who).map(Lies::Member);
        } else {
            return incarnation(rest.strip_prefix(b"s/a/")?).map(Lies::Acknowledged);
        };
        Some(Lies::Value(place))
    }

    fn at(&self, kind: &[u8], rest: &[u8]) -> Vec<u8> {
        [&self.0, kind, rest].concat()
    }
}

/// What lies under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// A value of the store.
    Value(Place),
    /// The member of this incarnation.
    Member(Incarnation),
    /// What this incarnation acknowledged.
    Acknowledged(Incarnation),
}

fn incarnation(hex: &[u8]) -> Option<Incarnation> {
    let number = u128::from_str_radix(str::from_utf8(hex).ok()?, 16).ok()?;
    (hex.len() == 32).then(|| Incarnation(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8) -> Place {
        Place::Record(Digest::from_bytes([byte; 32]))
    }

    const WHO: Incarnation = Incarnation([0xab; 16]);

    #[test]
    fn one_range_holds_what_an_index_is_made_of_and_nothing_else() {
        let space = Space::new("portcullis/");
        let state = space.state();
        for inside in [Place::Meta, record(0), record(0xff), Place::Scope(0), Place::Scope(255)] {
            assert!(state.contains(&space.key(&inside)), "{inside:?}");
        }
        for outside in [
            space.key(&Place::Entry(0)),
            space.key(&Place::Entry(u64::MAX)),
            space.member(WHO),
            space.acknowledged(WHO),
            space.key(&Place::Use(KeyId::from_u64(0))),
            Space::new("portcullis2/").key(&Place::Meta),
        ] {
            assert!(!state.contains(&outside));
        }
    }

    #[test]
    fn the_256_ranges_hold_every_record_once() {
        let space = Space::new("p/");
        for first in [0, 1, 0x2f, 0x30, 0xfe, 0xff] {
            let key = space.key(&record(first));
            let holders: Vec<_> =
                (0..=255).filter(|&byte| space.records_from(byte).contains(&key)).collect();
            assert_eq!(holders, [first]);
        }
    }

    #[test]
    fn the_256_ranges_of_uses_hold_every_one_once() {
        let space = Space::new("p/");
        for id in [0, 1 << 56, 0x2f << 56, 0x30 << 56, u64::MAX] {
            let key = space.key(&Place::Use(KeyId::from_u64(id)));
            let holders = (0..=255).filter(|&byte| space.uses_from(byte).contains(&key)).count();
            assert!(holders == 1 && space.uses().contains(&key), "{id:x}");
        }
    }

    #[test]
    fn a_key_says_what_lies_under_it() {
        let space = Space::new("p/");
        let of_a_key = Place::Use(KeyId::from_u64(0x0102_0304));
        for place in
            [Place::Meta, Place::AuditStart, record(7), Place::Scope(3), Place::Entry(9), of_a_key]
        {
            assert_eq!(space.read(&space.key(&place)), Some(Lies::Value(place)));
        }
        assert_eq!(space.read(&space.member(WHO)), Some(Lies::Member(WHO)));
        assert_eq!(space.read(&space.acknowledged(WHO)), Some(Lies::Acknowledged(WHO)));
        for stray in [&b"p/k/short"[..], b"q/e", b"p/", b"p/x", b"p/s/m/ab"] {
            assert_eq!(space.read(stray), None);
        }
    }
}
