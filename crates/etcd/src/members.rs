//! Members and their acknowledgements, as two etcd keys each.
//!
//! The value of a member is the letter `m`, or `f` once it is fenced, and then the member's
//! information. An acknowledgement is a revision (u64, big-endian).

use super::{
    connection::revision,
    keyspace::{Keyspace, Row},
};
use etcd_client::{Event, EventType, KeyValue};
use portcullis::cluster::{MemberEvent, MemberId, MemberRow, Revision};
use std::collections::BTreeMap;

const MEMBER: u8 = b'm';
const FENCED: u8 = b'f';

/// The value of a member that joins.
pub(super) fn joined(info: &[u8]) -> Vec<u8> {
    [&[MEMBER], info].concat()
}

/// The value of a member with this value once it is fenced.
pub(super) fn fenced(value: &[u8]) -> Vec<u8> {
    [&[FENCED], value.get(1..).unwrap_or_default()].concat()
}

/// Only the letter of a fenced member means that it is fenced: any other member may still prove.
pub(super) fn is_fenced(value: &[u8]) -> bool {
    value.first() == Some(&FENCED)
}

pub(super) fn acknowledgement(applied: Revision) -> Vec<u8> {
    applied.0.to_be_bytes().to_vec()
}

pub(super) fn applied(value: &[u8]) -> Option<Revision> {
    value.try_into().ok().map(u64::from_be_bytes).map(Revision)
}

/// The members in these pairs. An acknowledgement without a member is ignored.
pub(super) fn members(pairs: &[KeyValue], keys: &Keyspace) -> Vec<MemberRow> {
    let mut members = BTreeMap::new();
    let mut acknowledged = Vec::new();
    for pair in pairs {
        match keys.read(pair.key()) {
            Some(Row::Member(id)) => drop(members.insert(id, member(id, pair))),
            Some(Row::Acknowledgement(id)) => acknowledged.push((id, applied(pair.value()))),
            _ => {}
        }
    }
    for (id, applied) in acknowledged {
        if let (Some(member), Some(applied)) = (members.get_mut(&id), applied) {
            member.applied = applied;
        }
    }
    members.into_values().collect()
}

/// Converts an event of a watch into an event of a member.
pub(super) fn event(event: &Event, keys: &Keyspace) -> Option<MemberEvent> {
    let pair = event.kv()?;
    let is_put = event.event_type() == EventType::Put;
    match keys.read(pair.key())? {
        Row::Member(id) if is_put => Some(MemberEvent::Changed(member(id, pair))),
        Row::Member(id) => Some(MemberEvent::Removed(id)),
        Row::Acknowledgement(id) if is_put => {
            Some(MemberEvent::Applied(id, applied(pair.value())?))
        }
        _ => None,
    }
}

fn member(id: MemberId, pair: &KeyValue) -> MemberRow {
    let info = pair.value().get(1..).unwrap_or_default().to_vec();
    let (revision, applied) = (revision(pair.mod_revision()), Revision::default());
    MemberRow { id, info, revision, is_fenced: is_fenced(pair.value()), applied }
}
