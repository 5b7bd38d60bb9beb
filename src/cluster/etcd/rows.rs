//! Members and what they acknowledged, as two rows each.
//!
//! The row of a member is `m`, or `f` once it is fenced, and its name; an acknowledgement is a
//! revision, the highest byte first.

use super::space::{Lies, Space};
use crate::cluster::journal::{Incarnation, Member, Revision, Turn};
use etcd_client::{Event, EventType, KeyValue};
use std::collections::BTreeMap;

const LIVES: u8 = b'm';
const FENCED: u8 = b'f';

pub(super) fn joined(name: &str) -> Vec<u8> {
    [&[LIVES], name.as_bytes()].concat()
}

pub(super) fn fenced(name: &str) -> Vec<u8> {
    [&[FENCED], name.as_bytes()].concat()
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
    let (state, name) = row.value().split_first().unwrap_or((&FENCED, &[]));
    Member {
        incarnation,
        name: String::from_utf8_lossy(name).into_owned(),
        revision: revision(row.mod_revision()),
        is_fenced: *state != LIVES,
        applied: Revision::default(),
    }
}
