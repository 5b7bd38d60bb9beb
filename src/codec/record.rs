//! Encodes and decodes records.

use super::{
    DbKey, FORMAT, TAG, close, damaged, open, options, pack, pack_as, resident::Resident,
    stored::StoredRecord, too_long, unpack, unpack_as,
};
use crate::{
    digest::{Digest, Seal},
    error::{Error, Field},
    id::KeyId,
    record::Record,
    scope::Catalogue,
};
use bincode::Options;

/// The format of a record with extra fields: the fields of [`FORMAT`], then the list of the others. A further
/// field is a further variant in that list. A record without extra fields keeps the format that earlier
/// versions read.
pub(super) const EXTENDED_RECORD_FORMAT: u8 = 2;
/// The longest frame of a record, counted with every field that a later change can set. Two of them,
/// before and after a change, must fit into an entry of the audit log.
const MAX_RECORD: usize = 1536;

pub(crate) fn encode_record(
    record: &Record,
    digest: Digest,
    seal: &Seal,
) -> Result<Vec<u8>, Error> {
    let stored = StoredRecord::from(record);
    let body = if stored.extras.is_empty() {
        pack(&stored)?
    } else {
        pack_as(EXTENDED_RECORD_FORMAT, &(&stored, &stored.extras))?
    };
    Ok(close(body, DbKey::Record(digest), seal))
}

/// Refuses a record that is too long, unless the record before the change was no shorter. The fields
/// that a later change sets count from the start, so no key is too long to be revoked or rotated.
pub(crate) fn check_length(record: &Record, before: Option<&Record>) -> Result<(), Error> {
    let length = full_length(record)?;
    if length <= MAX_RECORD {
        return Ok(());
    }
    match before.map(full_length).transpose()? {
        Some(before) if length <= before => Ok(()),
        _ => Err(Error::invalid(
            Field::Record,
            "takes more than 1536 bytes; shorten the name, the owner or the metadata",
        )),
    }
}

fn full_length(record: &Record) -> Result<usize, Error> {
    let fullest = StoredRecord::fullest(record);
    let mut length = options().serialized_size(&fullest).map_err(too_long)?;
    if !fullest.extras.is_empty() {
        length += options().serialized_size(&fullest.extras).map_err(too_long)?;
    }
    Ok(1 + usize::try_from(length).unwrap_or(usize::MAX) + TAG)
}

/// Decodes a record and returns it with the hash of its frame.
pub(crate) fn decode_record(
    frame: &[u8],
    digest: Digest,
    seal: &Seal,
    catalogue: &'static Catalogue,
) -> Result<(Record, [u8; 32]), Error> {
    open_record(frame, digest, seal, |stored| stored.into_record(catalogue))
}

/// Decodes a record for the index and returns it with the hash of its frame.
pub(crate) fn load_record(
    frame: &[u8],
    digest: Digest,
    seal: &Seal,
    catalogue: &'static Catalogue,
) -> Result<(Resident, [u8; 32]), Error> {
    open_record(frame, digest, seal, |stored| Resident::of_stored(stored, catalogue))
}

fn unpack_record(body: &[u8], key: DbKey) -> Result<StoredRecord<'_>, Error> {
    if body.first() == Some(&FORMAT) {
        return unpack(body, key);
    }
    let (mut stored, extras): (StoredRecord<'_>, Vec<_>) =
        unpack_as(EXTENDED_RECORD_FORMAT, body, key)?;
    // A record without extra fields has the older format: each record has one encoding.
    if extras.is_empty() {
        return Err(damaged(key));
    }
    stored.extras = extras;
    Ok(stored)
}

fn open_record<T>(
    frame: &[u8],
    digest: Digest,
    seal: &Seal,
    into: impl FnOnce(StoredRecord<'_>) -> Option<T>,
) -> Result<(T, [u8; 32]), Error> {
    let key = DbKey::Record(digest);
    let (body, hash) = open(frame, key, seal)?;
    let stored = unpack_record(body, key)?;
    Ok((into(stored).ok_or_else(|| damaged(key))?, hash))
}

/// Reads the id from the frame of a record that may be damaged.
pub(crate) fn probable_id(frame: &[u8]) -> Option<KeyId> {
    frame.get(1..9)?.try_into().ok().map(|bytes| KeyId::from_u64(u64::from_le_bytes(bytes)))
}
