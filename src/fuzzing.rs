//! Private parsers for the fuzz targets, outside of the public API.

use crate::{
    codec::{self, DbKey, FORMAT},
    credential::{self, Encoded, KeyBuffer},
    digest::{Digest, Seals},
    error::Error,
    id::KeyId,
    proof::{AuditRange, AuditRangeEnd, AuditRangeStart},
    record::{Actor, Expiry, NewKey, Record},
    refusal::Refusal,
    scope::{Catalogue, Grant, catalogue::financial_data},
    secret::MAX_KEY_LEN,
    time::Timestamp,
};
use std::sync::LazyLock;

/// Reads the key from one `Authorization` value.
pub fn read(authorization: &[u8]) -> Result<Vec<u8>, Refusal> {
    user(Encoded::find(authorization)?.read(&mut KeyBuffer::new())?)
}

/// Reads the key from one value whose scheme is Bearer.
pub fn read_bearer(authorization: &[u8]) -> Option<Vec<u8>> {
    credential::bearer(authorization, MAX_KEY_LEN).map(<[u8]>::to_vec)
}

/// Reads the key from all `Authorization` values of a request.
pub fn read_all(values: &[&[u8]]) -> Result<Vec<u8>, Refusal> {
    read(credential::only(values.iter().copied())?)
}

fn user(presented: &[u8]) -> Result<Vec<u8>, Refusal> {
    if credential::is_user(presented) { Ok(presented.to_vec()) } else { Err(Refusal::Malformed) }
}

/// Puts the payload of a record of this format into an intact frame.
pub fn close_record(format: u8, payload: &[u8]) -> Vec<u8> {
    let body = [&[format], payload].concat();
    let tag = seals().frame.tag(&[&DbKey::Record(digest()).to_bytes(), &body]);
    [&body[..], &tag].concat()
}

/// Decodes the record in a frame.
pub fn decode_record(frame: &[u8]) -> Result<Record, Error> {
    codec::decode_record(frame, digest(), &seals().frame, catalogue()?).map(|(record, _)| record)
}

/// Encodes a record.
pub fn encode_record(record: &Record) -> Result<Vec<u8>, Error> {
    codec::encode_record(record, digest(), &seals().frame)
}

/// Returns a record to modify.
pub fn record() -> Result<Record, Error> {
    let new = NewKey::new("some", Grant::All, Expiry::Never);
    Record::new(key_id(0), new, Timestamp::default(), Actor::Host, 1)
}

/// Returns the id with this number.
pub fn key_id(number: u64) -> KeyId {
    KeyId::from_u64(number)
}

/// Returns the scopes with these numbers; `None` if one of them has no name.
pub fn grant(bits: [u64; 4]) -> Result<Option<Grant>, Error> {
    Ok(catalogue()?.set_of_bits(bits).map(Grant::Scopes))
}

/// Builds an audit range with valid seals and a valid chain from arbitrary payloads. `data` contains the
/// payloads, each after its length of two bytes.
pub fn export(data: &[u8]) -> Result<AuditRange, Error> {
    let (store, start) = ([1; 16], [0; 32]);
    let (mut head, mut entries, mut rest) = (start, Vec::new(), data);
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (payload, more) = more.split_at(more.len().min(u16::from_le_bytes(*length).into()));
        rest = more;
        let number = entries.len() as u64 + 1;
        let mut body = [&[FORMAT], payload].concat();
        // Set the right number. Otherwise hardly any entry would continue the chain.
        if let Some(place) = body.get_mut(1..9) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        head = seals().audit.hash(&[&head, &body]);
        let frame = [&body[..], &head].concat();
        entries.push((codec::decode_entry_unchecked(&frame, number, catalogue()?), frame));
    }
    let end = (entries.len() as u64, head);
    Ok(AuditRange {
        start: AuditRangeStart::new(seals(), store, (0, start), catalogue()?),
        entries,
        end: AuditRangeEnd::new(seals(), store, end, Timestamp::from_secs(1_800_000_000)),
    })
}

/// Replaces the last 32 bytes by the hash of a backup.
pub fn seal_backup(bytes: &[u8]) -> Vec<u8> {
    let body = bytes.get(..bytes.len().saturating_sub(32)).unwrap_or_default();
    let mut running = seals().backup.running();
    running.update(body);
    [body, &running.hash()].concat()
}

fn catalogue() -> Result<&'static Catalogue, Error> {
    let preset: Vec<_> = financial_data().collect();
    Ok(Catalogue::new(Vec::new(), Some(&preset))?)
}

fn seals() -> &'static Seals {
    static SEALS: LazyLock<Seals> = LazyLock::new(|| Seals::derive(None));
    &SEALS
}

fn digest() -> Digest {
    Digest::from_bytes([0; 32])
}
