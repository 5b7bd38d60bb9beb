//! The values that pass between the replicas and their consensus store: plain bytes and numbers.

use crate::{error::Error, random};
use std::fmt;

/// The number of a transaction in the history of a consensus store.
///
/// It rises with each transaction that writes something. No transaction has revision 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Identifies a member: one run of one replica, from joining to leaving.
///
/// It is random and used once: a replica that joins again has a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 16]);

impl MemberId {
    pub(crate) fn random() -> Result<Self, Error> {
        Ok(Self(random::array()?))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Names a value of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The entry of the audit log with this sequence number.
    AuditEntry(u64),
    /// Where the audit log starts; absent until it is pruned for the first time.
    AuditStart,
    /// The record of the API key with this digest.
    Record([u8; 32]),
    /// The scope name with this number.
    ScopeName(u8),
    /// When the API key with this id was last used.
    LastUse(u64),
}

/// The new value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// Its value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

/// The epoch: a value that every transaction replaces, so that it identifies the state of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The transaction that wrote it.
    pub revision: Revision,
    /// The value.
    pub value: Vec<u8>,
}

/// The newest state of a consensus store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The newest revision.
    pub revision: Revision,
    /// The epoch at that revision; `None` until a store is created.
    pub epoch: Option<Epoch>,
}

/// Some records at one revision, in ascending order of their digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPage {
    /// The digests and values.
    pub records: Vec<([u8; 32], Vec<u8>)>,
    /// Whether no record follows.
    pub is_last: bool,
}

/// Last uses that were written after some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUses {
    /// Every use that was written up to this revision is included.
    pub revision: Revision,
    /// The ids of API keys and the values, in any order.
    pub uses: Vec<(u64, Vec<u8>)>,
}

/// An atomic write on top of a known state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The epoch that must be current, by revision and value; `None`: there must be none, and no
    /// unfinished import.
    pub expected: Option<Epoch>,
    /// The writes; no key occurs twice.
    pub writes: Vec<Write>,
    /// The new value of the epoch.
    pub epoch: Vec<u8>,
}

impl Transaction {
    /// The largest number of writes.
    pub const MAX_WRITES: usize = 120;
    /// The largest size in bytes, where each write counts as its value and
    /// [`WRITE_OVERHEAD`](Self::WRITE_OVERHEAD).
    pub const MAX_BYTES: usize = 1 << 20;
    /// The bytes that a write counts besides its value.
    pub const WRITE_OVERHEAD: usize = 128;
}

/// The outcome of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// The transaction is durable.
    Committed {
        /// Its revision.
        revision: Revision,
        /// The members at that revision, or at a later one that was read before the call returned.
        members: Vec<MemberRow>,
    },
    /// The epoch was not the expected one. Nothing was written, nor ever will be.
    Conflict,
    /// The consensus store rejected the transaction. Nothing was written, nor ever will be.
    Refused(Box<str>),
    /// The outcome is unknown: the transaction may be durable, or may still become so.
    Unknown(Box<str>),
}

/// The writes of one transaction, as a [`Watch`](super::Watch) delivers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its revision.
    pub revision: Revision,
    /// The new epoch. Replicas always write one; the transactions of an import write none until its end.
    pub epoch: Option<Vec<u8>>,
    /// Its writes to records, scope names and the audit start, in any order.
    pub writes: Vec<Write>,
}

/// An event of a [`Watch`](super::Watch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The next transactions, at least one, in order and without a gap.
    Committed(Vec<Committed>),
    /// The connection was lost. A new watch continues after the last transaction.
    Lost,
    /// The next transactions are compacted. The replica reads everything again.
    Compacted,
}

/// A member, as the consensus store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The id of the member.
    pub id: MemberId,
    /// The information that the member published when it joined: opaque bytes, at most 512.
    pub info: Vec<u8>,
    /// The revision at which it joined, or was fenced.
    pub revision: Revision,
    /// A fenced member can neither prove nor acknowledge anything.
    pub is_fenced: bool,
    /// Its last acknowledgement; 0 before the first, and 0 may also be acknowledged.
    pub applied: Revision,
}

/// All members at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberList {
    /// The revision.
    pub revision: Revision,
    /// The revision of the epoch; `None` until a store is created.
    pub epoch: Option<Revision>,
    /// The members, in any order.
    pub members: Vec<MemberRow>,
}

/// A change of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// The member joined or was fenced. `applied` may be 0 here, whatever it acknowledged.
    Changed(MemberRow),
    /// The member acknowledged this revision.
    Applied(MemberId, Revision),
    /// The member was removed.
    Removed(MemberId),
}

/// The result of a read of the state and one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The newest revision at the read.
    pub revision: Revision,
    /// The epoch at the read.
    pub epoch: Epoch,
    /// The member's last acknowledgement; `None` before the first. So revision 0 is distinguished from none.
    pub applied: Option<Revision>,
}

/// The progress of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// The source, as passed to [`begin_import`](super::ConsensusStore::begin_import).
    pub source: Vec<u8>,
    /// The number of values that are written.
    pub done: u64,
    /// The transaction that wrote the newest of them, or that began the import.
    pub revision: Revision,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsensusError {
    /// No node answered. A write may have taken effect, or may still do so.
    Unavailable(Box<str>),
    /// The requested revision is compacted.
    Compacted,
    /// The consensus store rejected the call, and a repetition would not help. Nothing was written.
    Refused(Box<str>),
}

impl fmt::Display for ConsensusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) => f.write_str(reason),
            Self::Compacted => f.write_str(
                "the revision that was being read is compacted; start again, and keep the history for longer than a backup takes",
            ),
        }
    }
}

impl std::error::Error for ConsensusError {}

impl From<ConsensusError> for Error {
    fn from(error: ConsensusError) -> Self {
        match error {
            ConsensusError::Refused(reason) => Self::ConsensusRefused(reason),
            ConsensusError::Unavailable(reason) => Self::Consensus(reason),
            ConsensusError::Compacted => Self::Consensus(error.to_string().into()),
        }
    }
}
