//! A snapshot of a disk ledger, read in batches while changes go on.
//!
//! Between two batches a change may replace a value that was not read yet. The commit then keeps the
//! value before it for the reader. So the snapshot is the ledger at the moment when the reading
//! began, in the order of its places and each place once: count, sum and chain head of that moment's
//! meta record hold for it. Rejected: to read the current values and read again at the end what was
//! changed meanwhile. Such a reader would have to remember all of it to know the sum.

use super::Disk;
use crate::{
    codec::{self, AuditStart, Meta, Place},
    error::Error,
    ledger::{
        Snapshot, Values,
        engine::{Doing, contained, misplaced},
    },
};
use std::{
    collections::BTreeMap,
    io,
    ops::Bound::{Excluded, Included},
};

/// Values in a batch: about a millisecond, for which a commit waits.
const BATCH: usize = 256;

/// All records lie before this key, and no value under it.
const AFTER_RECORDS: &[u8] = b"l";

/// A snapshot that is being read.
pub(super) struct DiskSnapshot<'d> {
    disk: &'d Disk,
    /// Its reader among the kept values.
    number: u64,
    meta: Meta,
    floor: AuditStart,
    floor_frame: Option<Vec<u8>>,
    scopes: Vec<Vec<u8>>,
}

impl<'d> DiskSnapshot<'d> {
    /// Begins with the state after the last complete commit.
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
        let floor = floor_frame.as_ref().map(|f| codec::decode_audit_start(f, &disk.seals.meta));
        let floor = floor.transpose()?.unwrap_or_default();
        let number = state.kept.add(Place::Entry(floor.through).key());
        drop(state);
        Ok(Self { disk, number, meta, floor, floor_frame, scopes })
    }
}

impl Snapshot for DiskSnapshot<'_> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn audit_start(&self) -> (AuditStart, Option<&[u8]>) {
        (self.floor, self.floor_frame.as_deref())
    }

    fn scopes(&self) -> &[Vec<u8>] {
        &self.scopes
    }

    fn next_values(&mut self) -> Result<Option<Values>, Error> {
        let last_entry = Place::Entry(self.meta.mark.sequence).key();
        let mut state = self.disk.state();
        let Some(reader) = state.kept.reader(self.number) else { return Ok(None) };
        if reader.cursor == AFTER_RECORDS {
            return Ok(None);
        }
        if reader.has_failed() {
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
            self.disk.db()?.range::<&[u8], _>(range).take(BATCH).collect::<Result<Vec<_>, _>>()
        })?;
        let cursor = match found.last() {
            Some((key, _)) if found.len() == BATCH => key.to_vec(),
            _ => end,
        };
        let mut values: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            found.into_iter().map(|(key, value)| (key.to_vec(), Some(value.to_vec()))).collect();
        values.extend(reader.move_to(cursor));
        drop(state);
        let there = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let placed =
            there.map(|(key, value)| Ok((Place::from_key(&key).ok_or_else(misplaced)?, value)));
        placed.collect::<Result<_, _>>().map(Some)
    }
}

impl Drop for DiskSnapshot<'_> {
    fn drop(&mut self) {
        self.disk.state().kept.remove(self.number);
    }
}
