//! One moment of a ledger, read in strides while changes go on.
//!
//! Between two strides a change may touch what was not read yet. The commit then keeps what was
//! there before, for the stride that comes to it. So what is read is the ledger at the moment when
//! the reading began, in the order of its places and each place once: count, sum and chain head of
//! that moment's meta record hold for it. Rejected: reading as it comes and reading again at the
//! end what was changed meanwhile, whose reader would have to remember all of it to know the sum.

use super::{
    Reading, Stride,
    disk::{Disk, misplaced},
    engine::{Doing, contained},
};
use crate::{
    codec::{self, AuditStart, Meta, Place},
    error::Error,
};
use std::{
    collections::BTreeMap,
    io, mem,
    ops::Bound::{Excluded, Included},
};

/// Values in a stride: about a millisecond, for which a commit waits.
const STRIDE: usize = 256;
/// What is kept for a reader that is slower than the changes. A reader that is slower still fails.
const MOST_KEPT: usize = 64 << 20;

/// All records lie before this, and no value under it.
const AFTER_RECORDS: &[u8] = b"l";

/// A moment of a ledger.
pub(crate) struct Snapshot<'d> {
    disk: &'d Disk,
    number: u64,
    meta: Meta,
    floor: AuditStart,
    floor_frame: Option<Vec<u8>>,
    scopes: Vec<Vec<u8>>,
}

/// What the snapshots that are being read need of the commits.
#[derive(Default)]
pub(super) struct Kept {
    next: u64,
    readers: BTreeMap<u64, Reader>,
}

struct Reader {
    /// All up to this key was read.
    cursor: Vec<u8>,
    /// What was under a key before it was changed; `None`: nothing.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Kept {
    pub(super) fn is_wanted(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Notes what was under a place before a change.
    pub(super) fn note(&mut self, place: Place, old: Option<&[u8]>) {
        // All others are read at once, when a snapshot begins.
        if !matches!(place, Place::Entry(_) | Place::Record(_)) {
            return;
        }
        let key = place.key();
        for reader in self.readers.values_mut() {
            if key <= reader.cursor || reader.bytes > MOST_KEPT || reader.before.contains_key(&key)
            {
                continue;
            }
            reader.bytes += weight(&key, old);
            reader.before.insert(key.clone(), old.map(<[u8]>::to_vec));
            if reader.bytes > MOST_KEPT {
                // It has failed, and needs nothing any more.
                reader.before.clear();
            }
        }
    }
}

impl<'d> Snapshot<'d> {
    /// Begins with the state after the last whole commit.
    pub(super) fn begin(disk: &'d Disk) -> Result<Self, Error> {
        let mut state = disk.state();
        if state.unfinished {
            return Err(Error::Poisoned("a change was not finished".into()));
        }
        let (meta, db) = (state.meta.clone(), disk.db());
        let scopes = contained(Doing::Reading, || {
            db?.scan_prefix(Place::SCOPES).values().map(|v| v.map(|v| v.to_vec())).collect()
        })?;
        let floor_frame = contained(Doing::Reading, || disk.db()?.get(Place::AuditStart.key()))?
            .map(|v| v.to_vec());
        let floor = floor_frame.as_ref().map(|f| codec::decode_audit_start(f, disk.meta_seal()));
        let floor = floor.transpose()?.unwrap_or_default();
        let number = state.kept.next;
        state.kept.next += 1;
        let reader =
            Reader { cursor: Place::Entry(floor.through).key(), before: BTreeMap::new(), bytes: 0 };
        state.kept.readers.insert(number, reader);
        drop(state);
        Ok(Self { disk, number, meta, floor, floor_frame, scopes })
    }
}

impl Reading for Snapshot<'_> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn floor(&self) -> (AuditStart, Option<&[u8]>) {
        (self.floor, self.floor_frame.as_deref())
    }

    fn scopes(&self) -> &[Vec<u8>] {
        &self.scopes
    }

    fn stride(&mut self) -> Result<Option<Stride>, Error> {
        let last_entry = Place::Entry(self.meta.mark.sequence).key();
        let mut state = self.disk.state();
        let Some(reader) = state.kept.readers.get_mut(&self.number) else { return Ok(None) };
        if reader.cursor == AFTER_RECORDS {
            return Ok(None);
        }
        if reader.bytes > MOST_KEPT {
            let slow = "the changes are faster than what the backup is written to; write it to a faster place";
            return Err(Error::io("taking the backup", io::Error::other(slow)));
        }
        // Entries that are newer than the snapshot lie between the two ranges.
        let (start, end) = if reader.cursor < last_entry {
            (reader.cursor.as_slice(), last_entry)
        } else {
            (reader.cursor.as_slice().max(Place::RECORDS), AFTER_RECORDS.to_vec())
        };
        let found = contained(Doing::Reading, || {
            let range = (Excluded(start), Included(end.as_slice()));
            self.disk.db()?.range::<&[u8], _>(range).take(STRIDE).collect::<Result<Vec<_>, _>>()
        })?;
        let cursor = match found.last() {
            Some((key, _)) if found.len() == STRIDE => key.to_vec(),
            _ => end,
        };
        let mut values: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            found.into_iter().map(|(key, value)| (key.to_vec(), Some(value.to_vec()))).collect();
        // What lies beyond the cursor waits for its own stride.
        let later = reader.before.split_off(&cursor);
        let mut before = mem::replace(&mut reader.before, later);
        before.extend(reader.before.remove_entry(&cursor));
        reader.bytes -= before.iter().map(|(key, old)| weight(key, old.as_deref())).sum::<usize>();
        values.extend(before);
        reader.cursor = cursor;
        drop(state);
        let there = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let placed =
            there.map(|(key, value)| Ok((Place::from_key(&key).ok_or_else(misplaced)?, value)));
        placed.collect::<Result<_, _>>().map(Some)
    }
}

/// About what it takes to keep a value.
fn weight(key: &[u8], old: Option<&[u8]>) -> usize {
    64 + key.len() + old.map_or(0, <[u8]>::len)
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.disk.state().kept.readers.remove(&self.number);
    }
}
