//! Entries of the trail: a frame each that ends in its chain head.

use super::{HEAD, MAX_VALUE, Place, damaged, pack, stored::StoredEntry, unpack};
use crate::{
    audit::AuditEntry,
    digest::Seal,
    error::{Error, Field},
    scope::Catalogue,
};

/// The frame of an entry that follows the entry with the head `previous`, and its own head.
pub(crate) fn encode_entry(
    entry: &AuditEntry,
    previous: &[u8; 32],
    trail: &Seal,
) -> Result<(Vec<u8>, [u8; 32]), Error> {
    let mut frame = pack(&StoredEntry::from(entry))?;
    let head = trail.hash(&[previous, &frame]);
    frame.extend_from_slice(&head);
    if frame.len() > MAX_VALUE {
        return Err(Error::invalid(
            Field::Record,
            "takes more room in the audit trail than an entry has",
        ));
    }
    Ok((frame, head))
}

/// The entry and its head, if it follows the entry with the head `previous`.
pub(crate) fn decode_entry(
    frame: &[u8],
    sequence: u64,
    previous: &[u8; 32],
    trail: &Seal,
    catalogue: &'static Catalogue,
) -> Result<(AuditEntry, [u8; 32]), Error> {
    let place = Place::Entry(sequence);
    let (body, head) = follow_on(frame, place, previous, trail)?;
    let entry =
        unpack::<StoredEntry>(body, place)?.into_entry(catalogue).ok_or_else(|| damaged(place))?;
    if entry.sequence == sequence { Ok((entry, head)) } else { Err(damaged(place)) }
}

/// The head of a frame of the trail, if it follows the entry with the head `previous`.
pub(crate) fn follow(
    frame: &[u8],
    sequence: u64,
    previous: &[u8; 32],
    trail: &Seal,
) -> Result<[u8; 32], Error> {
    follow_on(frame, Place::Entry(sequence), previous, trail).map(|(_, head)| head)
}

fn follow_on<'a>(
    frame: &'a [u8],
    place: Place,
    previous: &[u8; 32],
    trail: &Seal,
) -> Result<(&'a [u8], [u8; 32]), Error> {
    let (body, head) = frame.split_last_chunk::<HEAD>().ok_or_else(|| damaged(place))?;
    let follows = trail.hash(&[previous, body]) == *head;
    if follows { Ok((body, *head)) } else { Err(damaged(place)) }
}

/// What a frame of the trail says, whether or not it follows another.
pub(crate) fn decode_entry_unchecked(
    frame: &[u8],
    sequence: u64,
    catalogue: &'static Catalogue,
) -> Option<AuditEntry> {
    let (body, _) = frame.split_last_chunk::<HEAD>()?;
    unpack::<StoredEntry>(body, Place::Entry(sequence)).ok()?.into_entry(catalogue)
}

/// The head that a frame of the trail carries, unchecked.
pub(crate) fn entry_head(frame: &[u8], sequence: u64) -> Result<[u8; 32], Error> {
    frame.last_chunk::<HEAD>().copied().ok_or_else(|| damaged(Place::Entry(sequence)))
}
