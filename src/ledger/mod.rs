//! The ledger: makes changes durable. It is the only interface between the store and its storage.
//!
//! A ledger commits changes in batches and reads the audit log. It makes no decisions. If only this
//! process writes to the ledger, the store applies each change to the index after the commit. If
//! replicas share the ledger, the replica applies every commit to the index, its own included.

mod anchor;
mod blobs;
mod bulk;
mod commit;
mod copy;
mod data_dir;
mod disk;
mod engine;
pub(crate) mod known_uses;
pub(crate) mod inspect;
mod memory;
mod rehearsal;
pub(crate) mod replicas;
mod reserve;
mod room;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod scripted;

pub(crate) use self::{
    bulk::Bulk,
    commit::{Commit, CommitOutcome, Put, Tip},
    data_dir::Mode,
    disk::Disk,
    memory::Memory,
    replicas::Replicas,
    room::Room,
};
pub use self::{
    replicas::{About, Following, Member, MemberState, ReplicaWait},
    room::DiskSpace,
};

use crate::{
    audit_entry::AuditEntry,
    codec::{AuditStart, DbKey, Mark, Meta},
    error::Error,
    id::KeyId,
    scope::Catalogue,
    time::Timestamp,
};
use std::path::PathBuf;

/// The location of a disk ledger, and whether to create it if it is absent.
pub(crate) struct Location {
    pub(crate) dir: PathBuf,
    pub(crate) mode: Mode,
    /// The path of the anchor if it is outside of the data directory. Such an anchor detects even that
    /// the whole directory was replaced by an older one.
    pub(crate) anchor: Option<PathBuf>,
    /// The size of the disk reserve in bytes; `None` for the default.
    pub(crate) reserve: Option<u64>,
}

/// A range of entries of the audit log in their stored form.
pub(crate) struct StoredRange {
    /// The number of the entry before the first one, and its chain head.
    pub(crate) after: u64,
    pub(crate) previous: [u8; 32],
    /// The number and the frame of each entry.
    pub(crate) frames: Vec<(u64, Vec<u8>)>,
    /// The state of the store when the range was read.
    pub(crate) mark: Mark,
}

/// The last entry that a prune removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrunePoint {
    pub(crate) through: u64,
    /// The chain head of that entry.
    pub(crate) head: [u8; 32],
}

/// Values and their database keys.
pub(crate) type Values = Vec<(DbKey, Vec<u8>)>;

/// A consistent snapshot of a ledger, read in batches while changes continue.
pub(crate) trait Snapshot {
    /// The meta record, whose mark covers all values.
    fn meta(&self) -> &Meta;

    /// The start of the audit log, and its frame if the log was pruned.
    fn audit_start(&self) -> (AuditStart, Option<&[u8]>);

    /// The frames of the scope names, in the order of their numbers.
    fn scopes(&self) -> &[Vec<u8>];

    /// The next values, possibly none: first the audit entries, then the records. `None` at the end.
    fn next_values(&mut self) -> Result<Option<Values>, Error>;
}

/// The storage of one store. The default methods are for a store in memory.
pub(crate) trait Ledger: Send + Sync {
    /// Makes the changes durable, all or none.
    fn commit(&self, batch: Vec<Commit>) -> CommitOutcome;

    /// Returns how many of the queued changes the next commit takes. At least one.
    fn batch_size(&self, queued: &mut dyn Iterator<Item = &Commit>) -> usize {
        queued.count()
    }

    /// The other replicas; `None` if only this process writes to the ledger.
    fn replicas(&self) -> Option<&dyn Replicas> {
        None
    }

    /// Reads entries of the audit log after `after`, oldest first. Each is verified against the one before.
    fn audit(
        &self,
        _after: u64,
        _limit: usize,
        _catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        Ok(Vec::new())
    }

    /// The start of the audit log.
    fn audit_start(&self) -> AuditStart {
        AuditStart::default()
    }

    /// Reads a range of the audit log after `after` without verifying it; `None` for a store in memory.
    fn audit_range(&self, _after: u64, _limit: usize) -> Result<Option<StoredRange>, Error> {
        Ok(None)
    }

    /// A snapshot of the current state; `None` for a store in memory.
    fn snapshot(&self) -> Result<Option<Box<dyn Snapshot + '_>>, Error> {
        Ok(None)
    }

    /// The last entry that is older than `before` and may be pruned; `None` if there is none.
    fn prune_point(
        &self,
        _before: Timestamp,
        _catalogue: &'static Catalogue,
    ) -> Result<Option<PrunePoint>, Error> {
        Ok(None)
    }

    /// Removes some entries before the audit start; true while there are more.
    fn remove_pruned(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Which changes the disk has room for.
    fn room(&self) -> Room {
        Room::Enough
    }

    /// The free space and the reserve of the disk; `None` if the ledger has no disk.
    fn disk_space(&self) -> Option<DiskSpace> {
        None
    }

    /// Refills the disk reserve if there is room. Called each second.
    fn keep_reserve(&self) {}

    /// Syncs the anchor. Called each second and on close, so that after a power cut the anchor lacks at most
    /// the changes of one second.
    fn sync_anchor(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Writes when keys were last used, in minutes since the epoch. The values survive the end of the
    /// process. After an error nothing may be written any more, unless replicas share the ledger.
    fn write_uses(&self, _uses: &[(KeyId, u32)]) -> Result<(), Error> {
        Ok(())
    }

    /// Makes the values of `write_uses` durable.
    fn sync_uses(&self) -> Result<(), Error> {
        Ok(())
    }
}
