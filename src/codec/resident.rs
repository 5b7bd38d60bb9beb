//! A record as the index keeps it in memory: the fields that decide, and the others as few bytes.
//!
//! The bytes never leave the process. So they have no version and no tag, and their numbers have a
//! variable length.

use super::stored::{
    Extras, StoredActor, StoredExtra, StoredMetadata, StoredRecord, expiry_of, is_in_order,
};
use crate::{
    error::{Error, Field},
    id::KeyId,
    imported::Imported,
    networks::Networks,
    rate::Rate,
    record::{Actor, Record, Standing},
    scope::{Catalogue, Grant},
    time::Timestamp,
};
use bincode::Options;
use serde::{Deserialize, Serialize};

/// A record for the index.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Resident {
    pub(crate) id: KeyId,
    pub(crate) created_at: Timestamp,
    pub(crate) revision: u64,
    pub(crate) standing: Standing,
    pub(crate) imported: Option<Imported>,
    /// The other fields, for [`decode_resident`].
    pub(crate) bytes: Box<[u8]>,
}

impl Resident {
    pub(crate) fn of(record: &Record) -> Result<Self, Error> {
        Ok(Self {
            id: record.id,
            created_at: record.created_at,
            revision: record.revision,
            standing: record.standing(),
            imported: record.imported,
            bytes: Payload::of(StoredRecord::from(record)).pack()?,
        })
    }

    /// Converts a stored record directly; `None` if its fields are not valid.
    pub(super) fn of_stored(
        stored: StoredRecord<'_>,
        catalogue: &'static Catalogue,
    ) -> Option<Self> {
        let (grant, expiry) = (stored.grant.into_grant(catalogue)?, expiry_of(stored.expires_at)?);
        is_in_order(&stored.metadata).then_some(())?;
        let Extras { networks, imported, rate } = Extras::of_stored(&stored.extras)?;
        Some(Self {
            id: KeyId::from_u64(stored.id),
            created_at: Timestamp::from_millis(stored.created_at),
            revision: stored.revision,
            standing: Standing { active: stored.active, grant, expiry, networks, rate },
            imported,
            bytes: Payload::of(stored).pack().ok()?,
        })
    }
}

/// The fields of a record that the index keeps outside of the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) id: KeyId,
    pub(crate) created_at: Timestamp,
    pub(crate) active: bool,
    pub(crate) grant: Grant,
}

#[derive(Serialize, Deserialize)]
struct Payload<'b> {
    /// The first fields: [`resident_head`] reads them alone.
    name: &'b str,
    owner: Option<&'b str>,
    created_by: StoredActor,
    replaced_by: Option<u64>,
    is_imported: bool,
    #[serde(borrow)]
    metadata: StoredMetadata<'b>,
    expires_at: Option<u64>,
    /// Milliseconds after the creation.
    updated_after: u64,
    updated_by: StoredActor,
    inactive_since: Option<u64>,
    replaces: Option<u64>,
    revision: u64,
    extras: Vec<StoredExtra>,
}

impl<'b> Payload<'b> {
    fn of(stored: StoredRecord<'b>) -> Self {
        Self {
            name: stored.name,
            owner: stored.owner,
            metadata: stored.metadata,
            expires_at: stored.expires_at,
            created_by: stored.created_by,
            updated_after: stored.updated_at.wrapping_sub(stored.created_at),
            updated_by: stored.updated_by,
            inactive_since: stored.inactive_since,
            replaces: stored.replaces,
            replaced_by: stored.replaced_by,
            revision: stored.revision,
            is_imported: Extras::of_stored(&stored.extras)
                .is_some_and(|extras| extras.imported.is_some()),
            extras: stored.extras,
        }
    }

    fn pack(&self) -> Result<Box<[u8]>, Error> {
        let bytes = options().serialize(self);
        bytes
            .map(Vec::into_boxed_slice)
            .map_err(|_| Error::invalid(Field::Record, "cannot be held"))
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().reject_trailing_bytes()
}

/// Decodes a record; `None` if the bytes are not valid.
pub(crate) fn decode_resident(bytes: &[u8], known: Known) -> Option<Record> {
    let resident: Payload<'_> = options().deserialize(bytes).ok()?;
    let metadata = resident.metadata.into_iter();
    let Extras { networks, imported, rate } = Extras::of_stored(&resident.extras)?;
    let updated_at = known.created_at.as_millis().wrapping_add(resident.updated_after);
    Some(Record {
        id: known.id,
        name: resident.name.to_owned(),
        grant: known.grant,
        active: known.active,
        expiry: expiry_of(resident.expires_at)?,
        owner: resident.owner.map(str::to_owned),
        metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        networks,
        imported,
        rate,
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

/// Decodes only the networks and the rate of a record.
pub(crate) fn resident_limits(bytes: &[u8]) -> Option<(Networks, Option<Rate>)> {
    let resident: Payload<'_> = options().deserialize(bytes).ok()?;
    Extras::of_stored(&resident.extras).map(|extras| (extras.networks, extras.rate))
}

/// The fields of a record that lists filter by.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Head<'b> {
    pub(crate) name: &'b str,
    pub(crate) owner: Option<&'b str>,
    pub(crate) created_by: Actor,
    pub(crate) is_replaced: bool,
    pub(crate) is_imported: bool,
}

/// Decodes only the fields of a record that lists filter by.
pub(crate) fn resident_head(bytes: &[u8]) -> Option<Head<'_>> {
    let options = bincode::DefaultOptions::new().allow_trailing_bytes();
    let (name, owner, created_by, replaced_by, is_imported): (_, _, StoredActor, Option<u64>, _) =
        options.deserialize(bytes).ok()?;
    let (created_by, is_replaced) = (created_by.into(), replaced_by.is_some());
    Some(Head { name, owner, created_by, is_replaced, is_imported })
}
