//! The ledger: where changes become durable. The one seam between the store and a disk.
//!
//! A ledger loads all records once, commits changes in batches, and reads its trail back. It never
//! decides anything, and it applies nothing to the index: the store does, after the commit.

mod anchor;
mod disk;
mod engine;
mod home;
#[cfg(test)]
pub(crate) mod scripted;

pub(crate) use self::{disk::Disk, home::Mode};

use crate::{
    audit::AuditEntry, codec::Place, error::Error, id::KeyId, scope::Catalogue, time::Timestamp,
};
use std::path::PathBuf;

/// One value to write, or to remove where there is no frame.
pub(crate) struct Put {
    pub(crate) place: Place,
    pub(crate) frame: Option<Vec<u8>>,
}

/// One change: all of it is durable, or none.
pub(crate) struct Commit {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    /// The entry of the trail, and its chain head.
    pub(crate) entry: Vec<u8>,
    pub(crate) head: [u8; 32],
    pub(crate) puts: Vec<Put>,
}

/// Where a disk ledger lies, and what to do if it does not.
pub(crate) struct Location {
    pub(crate) dir: PathBuf,
    pub(crate) mode: Mode,
    /// Elsewhere than in the data directory, so that even a whole older directory is noticed.
    pub(crate) anchor: Option<PathBuf>,
}

/// The state that the next change builds on.
#[derive(Clone, Copy)]
pub(crate) struct Tip {
    pub(crate) sequence: u64,
    pub(crate) head: [u8; 32],
    pub(crate) newest: Timestamp,
}

/// A ledger of one kind.
pub(crate) enum Ledger {
    /// In a directory.
    Disk(Box<Disk>),
    /// Keeps nothing.
    Memory,
    /// Does as a test says.
    #[cfg(test)]
    Scripted(scripted::Scripted),
}

impl Ledger {
    /// Makes the changes durable, all or none. After an error nothing may be committed any more:
    /// the changes may or may not be on disk.
    pub(crate) fn commit(&self, batch: &[Commit]) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.commit(batch),
            Self::Memory => Ok(()),
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.commit(batch),
        }
    }

    /// Entries of the trail after `sequence`, oldest first, each checked against the one before.
    pub(crate) fn trail(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        match self {
            Self::Disk(disk) => disk.trail(after, limit, catalogue),
            Self::Memory => Ok(Vec::new()),
            #[cfg(test)]
            Self::Scripted(_) => Ok(Vec::new()),
        }
    }

    /// Writes when keys were last used, in minutes since the epoch. A process that ends after this
    /// loses none of it; after an error nothing may be committed any more.
    pub(crate) fn note_uses(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.note_uses(uses),
            Self::Memory => Ok(()),
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.note_uses(uses),
        }
    }

    /// Makes what `note_uses` wrote outlast a power cut too.
    pub(crate) fn sync_uses(&self) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.sync_uses(),
            Self::Memory => Ok(()),
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }

    /// Bounds what the anchor may miss after a power cut; called each second and on close.
    pub(crate) fn sync_anchor(&self) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.sync_anchor(),
            Self::Memory => Ok(()),
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }
}
