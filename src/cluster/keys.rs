//! Which key of the consensus store holds which value of the store.

use super::consensus::Key;
use crate::{codec::Place, digest::Digest, id::KeyId};

/// The key of a value; `None` for the meta record, which lies in the epoch.
pub(super) fn key(place: Place) -> Option<Key> {
    Some(match place {
        Place::Entry(sequence) => Key::AuditEntry(sequence),
        Place::AuditStart => Key::AuditStart,
        Place::Record(digest) => Key::Record(*digest.as_bytes()),
        Place::Scope(number) => Key::ScopeName(number),
        Place::Use(id) => Key::LastUse(id.as_u64()),
        Place::Meta => return None,
    })
}

pub(super) fn place(key: Key) -> Place {
    match key {
        Key::AuditEntry(sequence) => Place::Entry(sequence),
        Key::AuditStart => Place::AuditStart,
        Key::Record(digest) => Place::Record(Digest::from_bytes(digest)),
        Key::ScopeName(number) => Place::Scope(number),
        Key::LastUse(id) => Place::Use(KeyId::from_u64(id)),
    }
}
