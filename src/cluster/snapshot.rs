//! A snapshot of a ledger that replicas share, read in batches while changes continue.

use super::{
    consensus::RecordPage,
    handle::{ClusterLedger, Request},
    version::{ENTRIES_AT_ONCE, StoreVersion, missing},
};
use crate::{
    codec::{AuditStart, DbKey, Meta},
    digest::Digest,
    error::Error,
    ledger::{Snapshot, Values},
};

/// A snapshot that is being read. The consensus store keeps the values of its revision, even if they are
/// changed or pruned meanwhile.
pub(super) struct SharedSnapshot<'h> {
    handle: &'h ClusterLedger,
    version: StoreVersion,
    scopes: Vec<Vec<u8>>,
    /// The last audit entry that was read.
    entry: u64,
    /// The last record that was read.
    record: Option<[u8; 32]>,
    is_over: bool,
}

impl<'h> SharedSnapshot<'h> {
    pub(super) fn begin(handle: &'h ClusterLedger) -> Result<Self, Error> {
        // The backup takes the last uses from the index.
        handle.try_send(Request::ReadUses)?;
        let version = handle.newest()?;
        let scopes = handle.try_send(|to| Request::Names(version.at, to))?;
        let entry = version.audit_start.0.through;
        Ok(Self { handle, version, scopes, entry, record: None, is_over: false })
    }
}

impl ClusterLedger {
    /// The newest state.
    pub(super) fn newest(&self) -> Result<StoreVersion, Error> {
        StoreVersion::of(self.try_send(Request::Newest)?, &self.seals)
    }
}

impl Snapshot for SharedSnapshot<'_> {
    fn meta(&self) -> &Meta {
        &self.version.meta
    }

    fn audit_start(&self) -> (AuditStart, Option<&[u8]>) {
        let (audit_start, frame) = &self.version.audit_start;
        (*audit_start, frame.as_deref())
    }

    fn scopes(&self) -> &[Vec<u8>] {
        &self.scopes
    }

    fn next_values(&mut self) -> Result<Option<Values>, Error> {
        let (at, last) = (self.version.at, self.version.meta.mark.sequence);
        let left = last.saturating_sub(self.entry);
        if left > 0 {
            let most = usize::try_from(left).unwrap_or(ENTRIES_AT_ONCE).min(ENTRIES_AT_ONCE);
            let entries = self.handle.read_audit(at, self.entry, most)?;
            if entries.is_empty() {
                return Err(missing(self.entry + 1));
            }
            self.entry = entries.last().map_or(last, |(sequence, _)| *sequence);
            let placed = entries.into_iter().map(|(n, frame)| (DbKey::Entry(n), frame));
            return Ok(Some(placed.collect()));
        }
        if self.is_over {
            return Ok(None);
        }
        let record = self.record;
        let RecordPage { records, is_last } =
            self.handle.try_send(|to| Request::Records(at, record, to))?;
        self.record = records.last().map(|(digest, _)| *digest).or(record);
        self.is_over = is_last;
        let placed = records
            .into_iter()
            .map(|(digest, frame)| (DbKey::Record(Digest::from_bytes(digest)), frame));
        Ok(Some(placed.collect()))
    }
}
