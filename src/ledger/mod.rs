//! The ledger: where changes become durable. The one seam between the store and a disk.
//!
//! A ledger loads all records once, commits changes in batches, and reads its trail back. It never
//! decides anything, and it applies nothing to the index: the store does, after the commit.

mod anchor;
mod blobs;
mod bulk;
mod copy;
mod disk;
mod engine;
mod home;
pub(crate) mod inspect;
mod rehearsal;
mod reserve;
mod room;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod scripted;
#[cfg(feature = "cluster")]
pub(crate) mod shared;
mod snapshot;

pub use self::room::DiskSpace;
pub(crate) use self::{bulk::Bulk, disk::Disk, home::Mode, room::Room};

use crate::{
    audit::AuditEntry,
    codec::{AuditStart, Mark, Meta, Place},
    error::Error,
    id::KeyId,
    scope::Catalogue,
    time::Timestamp,
};
use std::path::PathBuf;

/// One value to write, or to remove where there is no frame.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Put {
    pub(crate) place: Place,
    pub(crate) frame: Option<Vec<u8>>,
}

/// One change: all of it is durable, or none.
#[cfg_attr(test, derive(Clone))]
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
    /// The size of the disk reserve in bytes, where it is not the default.
    pub(crate) reserve: Option<u64>,
}

/// The state that the next change builds on.
#[derive(Clone, Copy)]
pub(crate) struct Tip {
    pub(crate) sequence: u64,
    pub(crate) head: [u8; 32],
    pub(crate) newest: Timestamp,
}

/// A stretch of the trail, as it lies there.
pub(crate) struct Stretch {
    /// The entry that it begins after, and that entry's head.
    pub(crate) after: u64,
    pub(crate) previous: [u8; 32],
    /// Each with its number.
    pub(crate) frames: Vec<(u64, Vec<u8>)>,
    /// What the store had come to.
    pub(crate) mark: Mark,
}

/// Values and their places.
pub(crate) type Stride = Vec<(Place, Vec<u8>)>;

/// One moment of a ledger, read while changes go on.
pub(crate) trait Reading {
    /// What vouches for all of it.
    fn meta(&self) -> &Meta;

    /// Where the trail begins, and the frame of that where something was cut away.
    fn floor(&self) -> (AuditStart, Option<&[u8]>);

    /// The frames of the scope names, in the order of their numbers.
    fn scopes(&self) -> &[Vec<u8>];

    /// The next values, maybe none: first the trail, then the records. `None` at the end.
    fn stride(&mut self) -> Result<Option<Stride>, Error>;
}

/// A ledger of one kind.
pub(crate) enum Ledger {
    /// In a directory.
    Disk(Box<Disk>),
    /// Keeps nothing.
    Memory,
    /// Elsewhere, with other replicas.
    #[cfg(feature = "cluster")]
    Shared(Box<dyn shared::Shared>),
    /// Does as a test says.
    #[cfg(any(test, feature = "testing"))]
    Scripted(scripted::Scripted),
}

impl Ledger {
    /// The ledger as one that others write to, if it is.
    #[cfg(feature = "cluster")]
    pub(crate) fn shared(&self) -> Option<&dyn shared::Shared> {
        match self {
            Self::Shared(shared) => Some(&**shared),
            _ => None,
        }
    }

    /// Whether others write to it as well.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            #[cfg(feature = "cluster")]
            Self::Shared(_) => true,
            _ => false,
        }
    }

    /// Makes the changes durable, all or none. After an error nothing may be committed any more:
    /// the changes may or may not be on disk.
    pub(crate) fn commit(&self, batch: &[Commit]) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.commit(batch),
            Self::Memory => Ok(()),
            // Its outcomes are others: the writer goes by `shared`.
            #[cfg(feature = "cluster")]
            Self::Shared(_) => Err(Error::Contended),
            #[cfg(any(test, feature = "testing"))]
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
            #[cfg(feature = "cluster")]
            Self::Shared(shared) => shared.trail(after, limit, catalogue),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => Ok(Vec::new()),
        }
    }

    /// Where the trail begins.
    pub(crate) fn floor(&self) -> AuditStart {
        match self {
            Self::Disk(disk) => disk.floor(),
            Self::Memory => AuditStart::default(),
            #[cfg(feature = "cluster")]
            Self::Shared(shared) => shared.floor(),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => AuditStart::default(),
        }
    }

    /// A stretch of the trail after `after`, unchecked; `None` where nothing is kept.
    pub(crate) fn stretch(&self, after: u64, limit: usize) -> Result<Option<Stretch>, Error> {
        match self {
            Self::Disk(disk) => disk.stretch(after, limit).map(Some),
            Self::Memory => Ok(None),
            #[cfg(feature = "cluster")]
            Self::Shared(shared) => shared.stretch(after, limit).map(Some),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => Ok(None),
        }
    }

    /// This moment, to be read while changes go on; `None` of a ledger that keeps nothing.
    pub(crate) fn snapshot(&self) -> Result<Option<Box<dyn Reading + '_>>, Error> {
        match self {
            Self::Disk(disk) => Ok(Some(Box::new(disk.snapshot()?))),
            Self::Memory => Ok(None),
            #[cfg(feature = "cluster")]
            Self::Shared(shared) => shared.snapshot().map(Some),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => Ok(None),
        }
    }

    /// Through which entry, and its head, the trail may be cut to lose what is older than `before`.
    pub(crate) fn place_of_cut(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<(u64, [u8; 32])>, Error> {
        match self {
            Self::Disk(disk) => disk.place_of_cut(before, catalogue),
            Self::Memory => Ok(None),
            #[cfg(feature = "cluster")]
            Self::Shared(shared) => shared.place_of_cut(before, catalogue),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => Ok(None),
        }
    }

    /// Removes some of what was cut away; true while there is more.
    pub(crate) fn sweep(&self) -> Result<bool, Error> {
        match self {
            Self::Disk(disk) => disk.sweep(),
            Self::Memory => Ok(false),
            #[cfg(feature = "cluster")]
            Self::Shared(shared) => Ok(shared.sweep()),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => Ok(false),
        }
    }

    /// For what there is room on the disk.
    pub(crate) fn room(&self) -> Room {
        match self {
            Self::Disk(disk) => disk.gauge().room(),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(scripted) => scripted.room(),
            _ => Room::Enough,
        }
    }

    /// Whether there is room for more than stricter changes.
    pub(crate) fn has_room(&self) -> bool {
        self.room() == Room::Enough
    }

    /// The disk and the reserve; `None` of a ledger that has neither.
    pub(crate) fn disk_space(&self) -> Option<DiskSpace> {
        match self {
            Self::Disk(disk) => Some(disk.gauge().space()),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(scripted) => Some(scripted.disk_space()),
            _ => None,
        }
    }

    /// Makes the reserve whole where there is room; called each second.
    pub(crate) fn keep_reserve(&self) {
        if let Self::Disk(disk) = self {
            disk.keep_reserve();
        }
    }

    /// Bounds what the anchor may miss after a power cut; called each second and on close.
    pub(crate) fn sync_anchor(&self) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.sync_anchor(),
            Self::Memory => Ok(()),
            #[cfg(feature = "cluster")]
            Self::Shared(_) => Ok(()),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(scripted) => {
                scripted.sync_anchor();
                Ok(())
            }
        }
    }

    /// Writes when keys were last used, in minutes since the epoch. A process that ends after this
    /// loses none of it; after an error nothing may be committed any more, unless the ledger is
    /// shared.
    pub(crate) fn note_uses(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.note_uses(uses),
            Self::Memory => Ok(()),
            #[cfg(feature = "cluster")]
            Self::Shared(shared) => shared.note_uses(uses.to_vec()),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(scripted) => scripted.note_uses(uses),
        }
    }

    /// Makes what `note_uses` wrote outlast a power cut too.
    pub(crate) fn sync_uses(&self) -> Result<(), Error> {
        match self {
            Self::Disk(disk) => disk.sync_uses(),
            Self::Memory => Ok(()),
            #[cfg(feature = "cluster")]
            Self::Shared(_) => Ok(()),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => Ok(()),
        }
    }
}
