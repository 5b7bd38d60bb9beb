//! A record as it lies in memory: what the index does not hold in another form, in few bytes.
//!
//! These bytes never leave the process, so they have no version and no tag, and numbers take as
//! many bytes as they need.

use super::stored::{StoredActor, StoredRecord, expiry_of};
use crate::{
    error::{Error, Field},
    id::KeyId,
    record::{Record, Standing},
    scope::Grant,
    time::Timestamp,
};
use bincode::Options;
use serde::{Deserialize, Serialize};

/// A record for the index: what decides, and the rest as bytes.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Resident {
    pub(crate) id: KeyId,
    pub(crate) created_at: Timestamp,
    pub(crate) revision: u64,
    pub(crate) standing: Standing,
    /// Of these [`decode_resident`] makes a record again.
    pub(crate) bytes: Box<[u8]>,
}

impl Resident {
    pub(crate) fn of(record: &Record) -> Result<Self, Error> {
        Ok(Self {
            id: record.id,
            created_at: record.created_at,
            revision: record.revision,
            standing: record.standing(),
            bytes: StoredRecord::from(record).into_payload().pack()?,
        })
    }
}

/// What the index knows of a record without these bytes.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) id: KeyId,
    pub(crate) created_at: Timestamp,
    pub(crate) active: bool,
    pub(crate) grant: Grant,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Payload<'b> {
    pub(super) name: &'b str,
    pub(super) owner: Option<&'b str>,
    pub(super) metadata: Vec<(&'b str, &'b str)>,
    pub(super) expires_at: Option<u64>,
    pub(super) created_by: StoredActor,
    /// After the record was made.
    pub(super) updated_after: u64,
    pub(super) updated_by: StoredActor,
    pub(super) inactive_since: Option<u64>,
    pub(super) replaces: Option<u64>,
    pub(super) replaced_by: Option<u64>,
    pub(super) revision: u64,
}

impl Payload<'_> {
    pub(super) fn pack(&self) -> Result<Box<[u8]>, Error> {
        let bytes = options().serialize(self);
        bytes
            .map(Vec::into_boxed_slice)
            .map_err(|_| Error::invalid(Field::Record, "cannot be held"))
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().reject_trailing_bytes()
}

/// The record, if the bytes are those of one.
pub(crate) fn decode_resident(bytes: &[u8], known: Known) -> Option<Record> {
    let resident: Payload<'_> = options().deserialize(bytes).ok()?;
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
