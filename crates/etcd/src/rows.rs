//! Members and what they acknowledged, as two rows each.
//!
//! The row of a member is `m`, or `f` once it is fenced; 1, the number of this format; how long its
//! proofs are good for, in milliseconds (u32); when it joined, in milliseconds since the epoch
//! (u64); the length of its version's name (u8) and that name; and to the end what operators call
//! it. Numbers have their highest byte first, texts are UTF-8. An acknowledgement is a revision
//! (u64).

use super::space::{Lies, Space};
use crate::{
    cluster::{
        journal::{Incarnation, Member, Revision, Turn},
        member::Card,
    },
    ledger::shared::About,
    time::Timestamp,
};
use etcd_client::{Event, EventType, KeyValue};
use std::{collections::BTreeMap, time::Duration};

const LIVES: u8 = b'm';
const FENCED: u8 = b'f';
const FORMAT: u8 = 1;

/// The row of a member that joins.
pub(super) fn joined(card: &Card) -> Vec<u8> {
    row(LIVES, Some(card))
}

/// The row of a member that is fenced. What could not be read is not kept: it goes on counting as
/// what cannot be read.
pub(super) fn fenced(member: &Member) -> Vec<u8> {
    row(FENCED, member.card.as_ref())
}

fn row(state: u8, card: Option<&Card>) -> Vec<u8> {
    let mut row = vec![state];
    let Some(Card { about: About { name, version, joined_at, .. }, freshness }) = card else {
        return row;
    };
    // Rounded up: whoever waits must not wait too short.
    let millis = freshness.as_nanos().div_ceil(1_000_000);
    row.push(FORMAT);
    row.extend(u32::try_from(millis).unwrap_or(u32::MAX).to_be_bytes());
    row.extend(joined_at.as_millis().to_be_bytes());
    let version = version.as_bytes();
    let length = u8::try_from(version.len()).unwrap_or(u8::MAX);
    row.push(length);
    row.extend(version.iter().take(length.into()));
    row.extend(name.as_bytes());
    row
}

/// What a member said of itself, after the letter of its row.
fn card(bytes: &[u8]) -> Option<Card> {
    let (&[FORMAT], rest) = bytes.split_first_chunk()? else { return None };
    let (millis, rest) = rest.split_first_chunk()?;
    let (joined, rest) = rest.split_first_chunk()?;
    let (&[length], rest) = rest.split_first_chunk()?;
    let (version, name) = rest.split_at_checked(length.into())?;
    let about = About {
        name: str::from_utf8(name).ok()?.into(),
        version: str::from_utf8(version).ok()?.into(),
        joined_at: Timestamp::from_millis(u64::from_be_bytes(*joined)),
    };
    let freshness = Duration::from_millis(u32::from_be_bytes(*millis).into());
    Some(Card { about, freshness })
}

pub(super) fn acknowledgement(applied: Revision) -> Vec<u8> {
    applied.0.to_be_bytes().to_vec()
}

pub(super) fn applied(row: &[u8]) -> Option<Revision> {
    row.try_into().ok().map(u64::from_be_bytes).map(Revision)
}

pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

/// The members that rows tell of. An acknowledgement without a member is nobody's.
pub(super) fn members(rows: &[KeyValue], space: &Space) -> Vec<Member> {
    let mut members = BTreeMap::new();
    let mut acknowledged = Vec::new();
    for row in rows {
        match space.read(row.key()) {
            Some(Lies::Member(who)) => drop(members.insert(who, member(who, row))),
            Some(Lies::Acknowledged(who)) => acknowledged.push((who, applied(row.value()))),
            _ => {}
        }
    }
    for (who, applied) in acknowledged {
        if let (Some(member), Some(applied)) = (members.get_mut(&who), applied) {
            member.applied = applied;
        }
    }
    members.into_values().collect()
}

/// What an event tells of a member.
pub(super) fn turn(event: &Event, space: &Space) -> Option<Turn> {
    let row = event.kv()?;
    let is_put = event.event_type() == EventType::Put;
    match space.read(row.key())? {
        Lies::Member(who) if is_put => Some(Turn::Changed(member(who, row))),
        Lies::Member(who) => Some(Turn::Gone(who)),
        Lies::Acknowledged(who) if is_put => Some(Turn::Applied(who, applied(row.value())?)),
        _ => None,
    }
}

fn member(incarnation: Incarnation, row: &KeyValue) -> Member {
    let (is_fenced, card) = read(row.value());
    let (revision, applied) = (revision(row.mod_revision()), Revision::default());
    Member { incarnation, card, revision, is_fenced, applied }
}

/// Whether a member is fenced, and what it said. A letter that is none of ours is of one that
/// lives, for all that is known: it may prove until its row is changed.
fn read(row: &[u8]) -> (bool, Option<Card>) {
    let (letter, rest) = row.split_first().unwrap_or((&LIVES, &[]));
    (*letter == FENCED, card(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::member::LONGEST;

    fn known() -> Card {
        let about = About {
            name: "till-4 é".into(),
            version: "0.1.0".into(),
            joined_at: Timestamp::from_millis(0x0102_0304_0506),
        };
        Card { about, freshness: Duration::from_secs(3) }
    }

    #[test]
    fn a_members_row_has_these_bytes() {
        let row = joined(&known());
        let expected =
            [&b"m\x01\0\0\x0b\xb8\0\0\x01\x02\x03\x04\x05\x06\x050.1.0"[..], "till-4 é".as_bytes()];
        assert_eq!(row, expected.concat());
        assert_eq!(card(&row[1..]), Some(known()));
        let odd = Card { freshness: Duration::from_nanos(3_000_000_001), ..known() };
        assert_eq!(card(&joined(&odd)[1..]).unwrap().freshness, Duration::from_millis(3001));
    }

    #[test]
    fn a_row_that_cannot_be_read_counts_as_the_longest_freshness_and_stays_so_when_fenced() {
        let row = joined(&known());
        let whole = row.len() - "till-4 é".len();
        for end in 1..whole {
            assert_eq!(card(&row[1..end]), None, "{end}");
        }
        for other in [&b"name of an older format"[..], b"\x02\0\0\x0b\xb8", b""] {
            assert_eq!(card(other), None);
        }
        assert_eq!(card(&[&row[1..], &[0xff]].concat()), None, "a name is text");
        let member = Member {
            incarnation: Incarnation([0; 16]),
            card: None,
            revision: Revision(1),
            is_fenced: false,
            applied: Revision(0),
        };
        assert_eq!(member.freshness(), LONGEST);
        assert_eq!(fenced(&member), b"f");
        assert_eq!(fenced(&Member { card: Some(known()), ..member })[1..], row[1..]);
        let states = [b"m", b"f", b"z", &b""[..]].map(|row| read(row).0);
        assert_eq!(states, [false, true, false, false], "only a fenced one is fenced");
    }
}
