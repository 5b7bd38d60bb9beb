//! Backups of a whole store as a stream that is verified while it is read, and restores.
//!
//! A backup contains the frames of the ledger: the meta record, the scope names, the audit log, and
//! the records in the order of their digests. It ends with a hash over everything. It contains digests, never
//! secrets. Reading one needs no more memory than one value. With a pepper every seal in it is
//! keyed, and nobody can forge a backup without the pepper. Without a pepper the seals are
//! checksums: protect the file like the data directory.

mod evidence;
mod format;
mod later;
mod read;
mod restore;
mod summary;
mod take;
#[cfg(test)]
mod tests;

pub use self::{
    evidence::LaterEvidence,
    later::{LaterChange, LaterEffect},
    restore::Restored,
    summary::{Progress, Summary},
};

#[cfg(feature = "cluster")]
pub(crate) use self::read::{Item, Reader};
pub(crate) use self::{
    read::verify,
    restore::{Target, restore},
    take::take,
};
