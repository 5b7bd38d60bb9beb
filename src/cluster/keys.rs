//! Maps the values of a store to keys of the consensus store, and back.

use super::consensus::Key;
use crate::{codec::DbKey, digest::Digest, id::KeyId};

/// Returns the key of a value; `None` for the meta record, which is in the epoch.
pub(super) fn key(db_key: DbKey) -> Option<Key> {
    Some(match db_key {
        DbKey::Entry(sequence) => Key::AuditEntry(sequence),
        DbKey::AuditStart => Key::AuditStart,
        DbKey::Record(digest) => Key::Record(*digest.as_bytes()),
        DbKey::Scope(number) => Key::ScopeName(number),
        DbKey::Use(id) => Key::LastUse(id.as_u64()),
        DbKey::Meta => return None,
    })
}

pub(super) fn db_key(key: Key) -> DbKey {
    match key {
        Key::AuditEntry(sequence) => DbKey::Entry(sequence),
        Key::AuditStart => DbKey::AuditStart,
        Key::Record(digest) => DbKey::Record(Digest::from_bytes(digest)),
        Key::ScopeName(number) => DbKey::Scope(number),
        Key::LastUse(id) => DbKey::Use(KeyId::from_u64(id)),
    }
}
