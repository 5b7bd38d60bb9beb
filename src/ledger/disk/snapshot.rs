//! A snapshot of a disk ledger, read in batches while changes continue.
//!
//! Between two batches a change may replace a value that the reader has not read yet. The commit then
//! keeps the before-image for the reader. So the snapshot has the values of the moment when reading
//! began, in the order of their keys and each key once. Counts, sum and chain head of that moment's meta
//! record match them.
//!
//! Rejected: to read current values, and to read the changed ones again at the end. Such a reader would
//! have to remember every hash to compute the sum.

use super::Disk;
use crate::{
    codec::{self, AuditStart, DbKey, Meta},
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

/// The number of values in a batch. A commit waits for one batch, about a millisecond.
const BATCH_LENGTH: usize = 256;

/// The first key after all records. It has no value.
const AFTER_RECORDS: &[u8] = b"l";

/// A snapshot that is being read.
pub(super) struct DiskSnapshot<'d> {
    disk: &'d Disk,
    /// The number of its reader among the before-images.
    number: u64,
    meta: Meta,
    audit_start: AuditStart,
    audit_start_frame: Option<Vec<u8>>,
    scopes: Vec<Vec<u8>>,
}

impl<'d> DiskSnapshot<'d> {
    /// Begins with the state after the last complete commit.
    pub(super) fn begin(disk: &'d Disk) -> Result<Self, Error> {
        let mut state = disk.state();
        if state.has_failed {
            return Err(Error::Poisoned("a change was not completed".into()));
        }
        let (meta, db) = (state.meta.clone(), disk.db());
        let scopes = contained(Doing::Reading, || {
            db?.scan_prefix(DbKey::SCOPES).values().map(|v| v.map(|v| v.to_vec())).collect()
        })?;
        let audit_start_frame =
            contained(Doing::Reading, || disk.db()?.get(DbKey::AuditStart.to_bytes()))?
                .map(|v| v.to_vec());
        let audit_start =
            audit_start_frame.as_ref().map(|f| codec::decode_audit_start(f, &disk.seals.meta));
        let audit_start = audit_start.transpose()?.unwrap_or_default();
        let number = state.before_images.add(DbKey::Entry(audit_start.through).to_bytes());
        drop(state);
        Ok(Self { disk, number, meta, audit_start, audit_start_frame, scopes })
    }
}

impl Snapshot for DiskSnapshot<'_> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn audit_start(&self) -> (AuditStart, Option<&[u8]>) {
        (self.audit_start, self.audit_start_frame.as_deref())
    }

    fn scopes(&self) -> &[Vec<u8>] {
        &self.scopes
    }

    fn next_values(&mut self) -> Result<Option<Values>, Error> {
        let last_entry = DbKey::Entry(self.meta.mark.sequence).to_bytes();
        let mut state = self.disk.state();
        let Some(reader) = state.before_images.reader(self.number) else { return Ok(None) };
        if reader.cursor == AFTER_RECORDS {
            return Ok(None);
        }
        if reader.has_failed() {
            let slow = "changes are faster than the backup is written; write it to a faster disk";
            return Err(Error::io("taking the backup", io::Error::other(slow)));
        }
        // Entries that are newer than the snapshot are between the two ranges.
        let (start, end) = if reader.cursor < last_entry {
            (reader.cursor.as_slice(), last_entry)
        } else {
            (reader.cursor.as_slice().max(DbKey::RECORDS), AFTER_RECORDS.to_vec())
        };
        let found = contained(Doing::Reading, || {
            let range = (Excluded(start), Included(end.as_slice()));
            self.disk
                .db()?
                .range::<&[u8], _>(range)
                .take(BATCH_LENGTH)
                .collect::<Result<Vec<_>, _>>()
        })?;
        let cursor = match found.last() {
            Some((key, _)) if found.len() == BATCH_LENGTH => key.to_vec(),
            _ => end,
        };
        let mut values: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            found.into_iter().map(|(key, value)| (key.to_vec(), Some(value.to_vec()))).collect();
        values.extend(reader.move_to(cursor));
        drop(state);
        let present = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let decoded =
            present.map(|(key, value)| Ok((DbKey::from_bytes(&key).ok_or_else(misplaced)?, value)));
        decoded.collect::<Result<_, _>>().map(Some)
    }
}

impl Drop for DiskSnapshot<'_> {
    fn drop(&mut self) {
        self.disk.state().before_images.remove(self.number);
    }
}
