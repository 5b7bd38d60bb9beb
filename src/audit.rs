//! The words of the audit trail: who did what to which key, and what was refused.

use crate::{
    id::KeyId,
    record::{Actor, Change},
    time::Timestamp,
};
use std::net::IpAddr;

/// One entry of the audit trail. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its number: 1, 2, 3, … without a gap.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// From which address, where there was one.
    pub source: Option<IpAddr>,
    /// What was done.
    pub act: Act,
    /// To which key.
    pub key: Option<KeyId>,
    /// The fields that changed, before.
    pub before: Change,
    /// The fields that changed, after; of a refused act, the fields that were asked for.
    pub after: Change,
    /// What is kept of a request that is done once.
    pub(crate) once: Option<Once>,
    /// The last entry before this one with such a request of the 24 hours before; 0 where there is
    /// none, and `None` where that is not known.
    pub(crate) last_once: Option<u64>,
}

impl AuditEntry {
    /// An entry about no key. The writer sets its number and its time.
    pub(crate) fn new(actor: Actor, act: Act) -> Self {
        Self {
            sequence: 0,
            at: Timestamp::default(),
            actor,
            source: None,
            act,
            key: None,
            before: Change::default(),
            after: Change::default(),
            once: None,
            last_once: None,
        }
    }
}

/// A request that is done once, however often it is sent: hashes of its name and of what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    pub(crate) request: [u8; 16],
    pub(crate) payload: [u8; 16],
}

/// What an [`AuditEntry`] tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// A key was made.
    Create,
    /// A key was changed.
    Update,
    /// A key was deleted.
    Delete,
    /// The host brought new scope names.
    ExtendCatalogue,
    /// Another key took a key's place, in all but its secret. The entry is of the old one.
    Rotate {
        /// The new key.
        into: KeyId,
    },
    /// The older part of the trail was cut away.
    Prune {
        /// The last entry that went.
        through: u64,
        /// The chain head of that entry, which the first one that stayed follows.
        head: [u8; 32],
    },
    /// What could be proved of a damaged store was written into this one. The trail begins here.
    Repair {
        /// The chain head that the damaged store had come to, as far as is known.
        head: [u8; 32],
        /// How many keys came over as they were.
        current: u64,
        /// How many came over inactive, since nothing shows that they were not taken away.
        unproved: u64,
    },
    /// The store was made from a backup.
    Restore {
        /// The last change that was in the backup.
        backup: u64,
        /// Whether the trail that follows the backup was at hand: the old store's or an exported one.
        later_known: bool,
    },
    /// An administrative act was refused.
    Refuse {
        /// Which act.
        attempt: Attempt,
        /// Why.
        reason: String,
    },
    /// The same administrative act was refused again, within a minute of an entry that has it.
    /// The key and the source address are there if they were the same each time.
    RefuseRepeated {
        /// Which act.
        attempt: Attempt,
        /// Why.
        reason: String,
        /// How often, the entry before not counted.
        count: u64,
        /// When it was refused again for the first time.
        first: Timestamp,
        /// When it was refused for the last time.
        last: Timestamp,
    },
}

impl Act {
    /// One word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::ExtendCatalogue => "extend_catalogue",
            Self::Rotate { .. } => "rotate",
            Self::Prune { .. } => "cut",
            Self::Repair { .. } => "repair",
            Self::Restore { .. } => "restore",
            Self::Refuse { .. } | Self::RefuseRepeated { .. } => "refuse",
        }
    }
}

/// An administrative act that can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attempt {
    /// Making a key.
    Create,
    /// Reading keys, scopes or the trail.
    List,
    /// Changing a key.
    Update,
    /// Deleting a key.
    Delete,
    /// Verifying another's key.
    Verify,
    /// Putting a new key in the place of one.
    Rotate,
    /// Cutting the older part of the trail away.
    Prune,
}

impl Attempt {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Verify => "verify",
            Self::Rotate => "rotate",
            Self::Prune => "cut",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Attempt::{self, Create, Delete, List, Prune, Rotate, Update, Verify};

    #[test]
    fn each_attempt_has_a_word() {
        let all = [Create, List, Update, Delete, Verify, Rotate, Prune];
        let words = ["create", "list", "update", "delete", "verify", "rotate", "cut"];
        assert_eq!(all.map(Attempt::as_str), words);
    }
}
