//! A change as a ledger writes it, and the outcome of writing it.

use crate::{codec::DbKey, time::Timestamp};

/// One value to write, or to remove where there is no frame.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Put {
    pub(crate) key: DbKey,
    pub(crate) frame: Option<Vec<u8>>,
}

/// One change: all of it is durable, or none.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Commit {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    /// The entry of the audit log, and its chain head.
    pub(crate) entry: Vec<u8>,
    pub(crate) head: [u8; 32],
    pub(crate) puts: Vec<Put>,
}

impl Commit {
    /// The state after this change.
    pub(crate) fn tip(&self) -> Tip {
        Tip { sequence: self.sequence, head: self.head, newest: self.at }
    }
}

/// The state that the next change builds on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tip {
    pub(crate) sequence: u64,
    pub(crate) head: [u8; 32],
    pub(crate) newest: Timestamp,
}

/// The outcome of a commit.
#[derive(Debug)]
#[cfg_attr(
    not(any(test, feature = "cluster")),
    expect(dead_code, reason = "no ledger with one writer answers `Conflict` or `Refused`")
)]
pub(crate) enum CommitOutcome {
    /// The changes are durable.
    Durable,
    /// Another replica committed first. Nothing was written and nothing will be: plan the changes again. Only a
    /// ledger that replicas share returns this.
    Conflict,
    /// The storage refused the changes, with the reason. Nothing was written and nothing will be.
    Refused(Box<str>),
    /// The changes may be durable, or may become durable later. A ledger without replicas must not
    /// be written to after this.
    Unknown(Box<str>),
}
