//! A record as it lies in memory: what the index does not hold in another form, in few bytes.
//!
//! These bytes never leave the process, so they have no version and no tag, and numbers take as
//! many bytes as they need.

use super::stored::{StoredActor, expiry_of, stored_expiry};
use crate::{
    error::{Error, Field},
    id::KeyId,
    record::Record,
    scope::Grant,
    time::Timestamp,
};
use bincode::Options;
use serde::{Deserialize, Serialize};

/// What the index knows of a record without these bytes.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) id: KeyId,
    pub(crate) created_at: Timestamp,
    pub(crate) active: bool,
    pub(crate) grant: Grant,
}

#[derive(Serialize, Deserialize)]
struct Resident<'b> {
    name: &'b str,
    owner: Option<&'b str>,
    metadata: Vec<(&'b str, &'b str)>,
    expires_at: Option<u64>,
    created_by: StoredActor,
    /// After the record was made.
    updated_after: u64,
    updated_by: StoredActor,
    inactive_since: Option<u64>,
    replaces: Option<u64>,
    replaced_by: Option<u64>,
    revision: u64,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().reject_trailing_bytes()
}

/// The bytes that [`decode_resident`] makes a record of again.
pub(crate) fn encode_resident(record: &Record) -> Result<Box<[u8]>, Error> {
    let resident = Resident {
        name: &record.name,
        owner: record.owner.as_deref(),
        metadata: record.metadata.iter().map(|(key, note)| (key.as_str(), note.as_str())).collect(),
        expires_at: stored_expiry(record.expiry),
        created_by: record.created_by.into(),
        updated_after: record.updated_at.as_millis().wrapping_sub(record.created_at.as_millis()),
        updated_by: record.updated_by.into(),
        inactive_since: record.inactive_since.map(Timestamp::as_millis),
        replaces: record.replaces.map(KeyId::as_u64),
        replaced_by: record.replaced_by.map(KeyId::as_u64),
        revision: record.revision,
    };
    let bytes = options().serialize(&resident);
    bytes.map(Vec::into_boxed_slice).map_err(|_| Error::invalid(Field::Record, "cannot be held"))
}

/// The record, if the bytes are those of one.
pub(crate) fn decode_resident(bytes: &[u8], known: Known) -> Option<Record> {
    let resident: Resident<'_> = options().deserialize(bytes).ok()?;
    let metadata = resident.metadata.into_iter();
    let updated_at = known.created_at.as_millis().wrapping_add(resident.updated_after);
    Some(Record {
        id: known.id,
        name: resident.name.to_owned(),
        grant: known.grant,
        active: known.active,
        expiry: expiry_of(resident.expires_at)?,
        owner: resident.owner.map(str::to_owned),
        metadata: metadata.map(|(key, note)| (key.to_owned(), note.to_owned())).collect(),
        created_at: known.created_at,
        created_by: resident.created_by.into(),
        updated_at: Timestamp::from_millis(updated_at),
        updated_by: resident.updated_by.into(),
        inactive_since: resident.inactive_since.map(Timestamp::from_millis),
        replaces: resident.replaces.map(KeyId::from_u64),
        replaced_by: resident.replaced_by.map(KeyId::from_u64),
        revision: resident.revision,
    })
}

/// The name alone, which is what the bytes begin with.
pub(crate) fn resident_name(bytes: &[u8]) -> Option<&str> {
    bincode::DefaultOptions::new().allow_trailing_bytes().deserialize(bytes).ok()
}
