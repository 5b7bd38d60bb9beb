//! Encodes and decodes entries of the audit log. The frame of an entry ends in its chain head.

use super::{DbKey, HEAD, MAX_VALUE, damaged, pack, stored::StoredEntry, unpack};
use crate::{
    audit_entry::AuditEntry,
    digest::Seal,
    error::{Error, Field},
    scope::Catalogue,
    time::Timestamp,
};

/// Encodes an entry that follows the entry with the chain head `previous`. Returns the frame and the
/// entry's own head.
pub(crate) fn encode_entry(
    entry: &AuditEntry,
    previous: &[u8; 32],
    seal: &Seal,
) -> Result<(Vec<u8>, [u8; 32]), Error> {
    let mut frame = pack(&StoredEntry::from(entry))?;
    let head = seal.hash(&[previous, &frame]);
    frame.extend_from_slice(&head);
    if frame.len() > MAX_VALUE {
        return Err(Error::invalid(
            Field::Record,
            "takes more room in the audit log than an entry has",
        ));
    }
    Ok((frame, head))
}

/// Decodes an entry that follows the entry with the chain head `previous`. Returns the entry and its
/// head.
pub(crate) fn decode_entry(
    frame: &[u8],
    sequence: u64,
    previous: &[u8; 32],
    seal: &Seal,
    catalogue: &'static Catalogue,
) -> Result<(AuditEntry, [u8; 32]), Error> {
    let key = DbKey::Entry(sequence);
    let (body, head) = open_entry(frame, key, previous, seal)?;
    let entry =
        unpack::<StoredEntry>(body, key)?.into_entry(catalogue).ok_or_else(|| damaged(key))?;
    if entry.sequence == sequence { Ok((entry, head)) } else { Err(damaged(key)) }
}

/// Verifies that an entry follows the entry with the chain head `previous`, and returns its head.
pub(crate) fn verify_entry(
    frame: &[u8],
    sequence: u64,
    previous: &[u8; 32],
    seal: &Seal,
) -> Result<[u8; 32], Error> {
    open_entry(frame, DbKey::Entry(sequence), previous, seal).map(|(_, head)| head)
}

fn open_entry<'a>(
    frame: &'a [u8],
    key: DbKey,
    previous: &[u8; 32],
    seal: &Seal,
) -> Result<(&'a [u8], [u8; 32]), Error> {
    let (body, head) = frame.split_last_chunk::<HEAD>().ok_or_else(|| damaged(key))?;
    let follows = seal.hash(&[previous, body]) == *head;
    if follows { Ok((body, *head)) } else { Err(damaged(key)) }
}

/// Decodes an entry without verifying its chain head.
pub(crate) fn decode_entry_unchecked(
    frame: &[u8],
    sequence: u64,
    catalogue: &'static Catalogue,
) -> Option<AuditEntry> {
    let (body, _) = frame.split_last_chunk::<HEAD>()?;
    unpack::<StoredEntry>(body, DbKey::Entry(sequence)).ok()?.into_entry(catalogue)
}

/// Finds the last entry of `after + 1 ..= end` that is older than `before`; `after` if there is none. The
/// times of an audit log never fall, so this is a binary search. `frame` reads the frame of an entry.
pub(crate) fn last_entry_before<F: AsRef<[u8]>>(
    mut after: u64,
    mut end: u64,
    before: Timestamp,
    catalogue: &'static Catalogue,
    frame: impl Fn(u64) -> Result<F, Error>,
) -> Result<u64, Error> {
    while after < end {
        let middle = after + (end - after).div_ceil(2);
        let entry = decode_entry_unchecked(frame(middle)?.as_ref(), middle, catalogue);
        if entry.ok_or_else(|| damaged(DbKey::Entry(middle)))?.at < before {
            after = middle;
        } else {
            end = middle - 1;
        }
    }
    Ok(after)
}

/// Reads the chain head of an entry without verifying it.
pub(crate) fn entry_head(frame: &[u8], sequence: u64) -> Result<[u8; 32], Error> {
    frame.last_chunk::<HEAD>().copied().ok_or_else(|| damaged(DbKey::Entry(sequence)))
}
