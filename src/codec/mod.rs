//! Encodes and decodes the values on disk, each in a frame that shows damage.
//!
//! A frame is `version ‖ payload ‖ tag`. The tag is the first 16 bytes of a keyed blake3 hash of the
//! frame's database key and of everything before the tag. So a moved frame is as invalid as an
//! altered one. An entry of the audit log ends in its 32-byte chain head instead of a tag. The tag
//! is checked before anything is decoded. The design document specifies each byte.

mod db_key;
mod entry;
mod mark;
mod record;
mod resident;
mod scope;
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use self::db_key::DbKey;
pub(crate) use self::entry::{
    decode_entry, decode_entry_unchecked, encode_entry, entry_head, last_entry_before, verify_entry,
};
pub(crate) use self::mark::{AuditStart, Mark};
pub(crate) use self::record::{
    check_length, decode_record, encode_record, load_record, probable_id,
};
pub(crate) use self::resident::{
    Head, Known, Resident, decode_resident, resident_head, resident_limits,
};
pub(crate) use self::scope::{decode_scope, encode_scope};

use crate::{
    digest::Seal,
    error::{Error, Field},
    id::KeyId,
};
use bincode::Options;
use serde::{Deserialize, Serialize};

/// The format of every value but a described scope and a record with [extra fields](stored::StoredExtra).
///
/// A version with a newer format must also read this one. A record must keep one encoding, because the
/// sum of a shared store is computed from records that are encoded again ([`Mark`]). An older replica
/// cannot read a newer format and stops answering, so a newer format may be written only where it is needed.
pub(crate) const FORMAT: u8 = 1;
/// The longest value. The storage engine puts longer ones into files that it never syncs.
pub(crate) const MAX_VALUE: usize = 4096;
/// The initial capacity for a frame: most are no longer.
const USUAL_FRAME: usize = 512;
const TAG: usize = 16;
const HEAD: usize = 32;

/// The meta record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Identifies the pepper. It is the first field: [`open_meta`] reads it from the bytes.
    pub(crate) pepper_check: [u8; 16],
    pub(crate) mark: Mark,
    /// The newest time of a committed change, in milliseconds.
    pub(crate) newest: u64,
    /// The prefix of every key.
    pub(crate) prefix: String,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(MAX_VALUE as u64)
        .reject_trailing_bytes()
}

fn pack(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    pack_as(FORMAT, value)
}

fn pack_as(format: u8, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(USUAL_FRAME);
    bytes.push(format);
    options().serialize_into(&mut bytes, value).map_err(too_long)?;
    Ok(bytes)
}

fn too_long(_: bincode::Error) -> Error {
    Error::invalid(Field::Record, "is too long; shorten the name, the owner or the metadata")
}

/// Decodes the payload of an intact frame.
fn unpack<'a, T: Deserialize<'a>>(body: &'a [u8], key: DbKey) -> Result<T, Error> {
    unpack_as(FORMAT, body, key)
}

fn unpack_as<'a, T: Deserialize<'a>>(format: u8, body: &'a [u8], key: DbKey) -> Result<T, Error> {
    let (&version, payload) = body.split_first().ok_or_else(|| damaged(key))?;
    if version != format {
        return Err(Error::NewerFormat { found: version.into(), known: format.into() });
    }
    // bincode does not apply its limit to slices.
    if payload.len() > MAX_VALUE {
        return Err(damaged(key));
    }
    options().deserialize(payload).map_err(|_| damaged(key))
}

fn damaged(key: DbKey) -> Error {
    Error::damaged(match key {
        DbKey::Entry(sequence) => {
            format!("entry {sequence} of the audit log is not as it was written")
        }
        DbKey::Record(digest) => format!("the record under {digest:?} is not as it was written"),
        DbKey::AuditStart => "the start of its audit log is not as it was written".to_owned(),
        DbKey::Meta => "the meta record is not as it was written".to_owned(),
        DbKey::Scope(number) => format!("scope name {number} is not as it was written"),
        DbKey::Use(id) => format!("the last use of {id} is not as it was written"),
    })
}

/// The hash of a frame without its tag, under its database key.
fn hash(body: &[u8], key: DbKey, seal: &Seal) -> [u8; 32] {
    seal.hash(&[&key.to_bytes(), body])
}

fn close(mut body: Vec<u8>, key: DbKey, seal: &Seal) -> Vec<u8> {
    let hash = hash(&body, key, seal);
    body.extend_from_slice(hash.first_chunk::<TAG>().map_or(&[][..], |tag| tag));
    body
}

/// Returns the body of a frame and its hash, if the frame is intact under this key.
fn open<'a>(frame: &'a [u8], key: DbKey, seal: &Seal) -> Result<(&'a [u8], [u8; 32]), Error> {
    let (body, tag) = frame.split_last_chunk::<TAG>().ok_or_else(|| damaged(key))?;
    let hash = hash(body, key, seal);
    let intact = hash.first_chunk::<TAG>() == Some(tag);
    if intact { Ok((body, hash)) } else { Err(damaged(key)) }
}

/// Returns the hash of an intact frame, for [`Mark::add`].
pub(crate) fn frame_hash(frame: &[u8], key: DbKey, seal: &Seal) -> Result<[u8; 32], Error> {
    open(frame, key, seal).map(|(_, hash)| hash)
}

/// Encodes the minute of a key's last use.
pub(crate) fn encode_use(minute: u32, id: KeyId, seal: &Seal) -> Result<Vec<u8>, Error> {
    Ok(close(pack(&minute)?, DbKey::Use(id), seal))
}

pub(crate) fn decode_use(frame: &[u8], id: KeyId, seal: &Seal) -> Result<u32, Error> {
    let key = DbKey::Use(id);
    unpack(open(frame, key, seal)?.0, key)
}

pub(crate) fn encode_meta(meta: &Meta, seal: &Seal) -> Result<Vec<u8>, Error> {
    Ok(close(pack(meta)?, DbKey::Meta, seal))
}

pub(crate) fn decode_meta(
    frame: &[u8],
    seal: &Seal,
    pepper_check: [u8; 16],
) -> Result<Meta, Error> {
    open_meta(frame, seal, pepper_check)
}

/// Encodes the meta record of a store that replicas share, and the chain head before the change that
/// wrote it. A replica compares that head with its own: the change must continue its history.
#[cfg(feature = "cluster")]
pub(crate) fn encode_epoch(
    meta: &Meta,
    before: &[u8; HEAD],
    seal: &Seal,
) -> Result<Vec<u8>, Error> {
    Ok(close(pack(&(meta, before))?, DbKey::Meta, seal))
}

#[cfg(feature = "cluster")]
pub(crate) fn decode_epoch(
    frame: &[u8],
    seal: &Seal,
    pepper_check: [u8; 16],
) -> Result<(Meta, [u8; HEAD]), Error> {
    open_meta(frame, seal, pepper_check)
}

/// Distinguishes a wrong pepper from damage: the payload begins with the pepper check, which is not
/// keyed.
fn open_meta<'a, T: Deserialize<'a>>(
    frame: &'a [u8],
    seal: &Seal,
    pepper_check: [u8; 16],
) -> Result<T, Error> {
    match open(frame, DbKey::Meta, seal) {
        Ok((body, _)) => unpack(body, DbKey::Meta),
        Err(_) if frame.get(1..17).is_some_and(|check| check != pepper_check) => {
            Err(Error::WrongPepper)
        }
        Err(damage) => Err(damage),
    }
}

pub(crate) fn encode_audit_start(start: &AuditStart, seal: &Seal) -> Result<Vec<u8>, Error> {
    Ok(close(pack(start)?, DbKey::AuditStart, seal))
}

pub(crate) fn decode_audit_start(frame: &[u8], seal: &Seal) -> Result<AuditStart, Error> {
    unpack(open(frame, DbKey::AuditStart, seal)?.0, DbKey::AuditStart)
}
