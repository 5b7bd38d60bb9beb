//! Implements [`Ledger`] for the disk.

use super::{Disk, snapshot::DiskSnapshot};
use crate::{
    audit_entry::AuditEntry,
    codec::AuditStart,
    error::Error,
    id::KeyId,
    ledger::{Commit, CommitOutcome, DiskSpace, Ledger, PrunePoint, Room, Snapshot, StoredRange},
    scope::Catalogue,
    time::Timestamp,
};

impl Ledger for Disk {
    /// Never returns `Conflict`: a disk ledger has one writer. After a failed write, the content of the
    /// disk is unknown.
    fn commit(&self, batch: Vec<Commit>) -> CommitOutcome {
        match self.write(&batch) {
            Ok(()) => CommitOutcome::Durable,
            Err(error) => CommitOutcome::Unknown(error.to_string().into()),
        }
    }

    fn audit(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        self.read_audit(after, limit, catalogue)
    }

    fn audit_start(&self) -> AuditStart {
        self.state().audit_start
    }

    fn audit_range(&self, after: u64, limit: usize) -> Result<Option<StoredRange>, Error> {
        self.read_audit_range(after, limit).map(Some)
    }

    fn snapshot(&self) -> Result<Option<Box<dyn Snapshot + '_>>, Error> {
        Ok(Some(Box::new(DiskSnapshot::begin(self)?)))
    }

    fn prune_point(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<PrunePoint>, Error> {
        self.find_prune_point(before, catalogue)
    }

    fn remove_pruned(&self) -> Result<bool, Error> {
        self.remove_some_pruned()
    }

    fn room(&self) -> Room {
        self.gauge.room()
    }

    fn disk_space(&self) -> Option<DiskSpace> {
        Some(self.gauge.space())
    }

    fn keep_reserve(&self) {
        self.state().reserve.refill();
    }

    fn sync_anchor(&self) -> Result<(), Error> {
        self.state().anchor.sync().map_err(|e| Error::io("syncing the anchor", e))
    }

    fn write_uses(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        self.put_uses(uses)
    }

    fn sync_uses(&self) -> Result<(), Error> {
        self.sync_put_uses()
    }
}
