//! The entries of the audit log: who did what to which key, and which acts were refused.

use crate::{
    id::KeyId,
    policy::Policy,
    record::{Actor, Change},
    scope::Scope,
    time::Timestamp,
};
use std::net::IpAddr;

/// An entry of the audit log. It never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// The number of the entry: 1, 2, 3, … without a gap.
    pub sequence: u64,
    /// The time of the act.
    pub at: Timestamp,
    /// The actor.
    pub actor: Actor,
    /// The client address, if the act came over the network.
    pub source: Option<IpAddr>,
    /// The act.
    pub act: Act,
    /// The key that the act concerns.
    pub key: Option<KeyId>,
    /// The owner of that key at the time of the act; `Some(None)` if it had none. `None`: the entry is of an
    /// earlier version, or concerns no key.
    pub owner: Option<Option<String>>,
    /// The old values of the changed fields.
    pub before: Change,
    /// The new values of the changed fields; for a refused act, the requested values.
    pub after: Change,
    /// The hashes of an idempotent request.
    pub(crate) once: Option<Once>,
    /// The previous entry of an idempotent request within the 24 hours before this one. 0 if there is
    /// none; `None` if it is not known.
    pub(crate) last_once: Option<u64>,
}

impl AuditEntry {
    /// An entry without a key. The writer sets its number and its time.
    pub(crate) fn new(actor: Actor, act: Act) -> Self {
        Self {
            sequence: 0,
            at: Timestamp::default(),
            actor,
            source: None,
            act,
            key: None,
            owner: None,
            before: Change::default(),
            after: Change::default(),
            once: None,
            last_once: None,
        }
    }
}

/// An idempotent request: the hashes of its idempotency key and of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    pub(crate) request: [u8; 16],
    pub(crate) payload: [u8; 16],
}

/// The act that an [`AuditEntry`] records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// A key was created.
    Create,
    /// A key of another system, or a key with a given text, was imported.
    Import,
    /// A key was changed.
    Update,
    /// A key was deleted.
    Delete,
    /// The host registered new scope names.
    ExtendCatalogue,
    /// A scope was added to the store, described again, or offered again after it was hidden.
    AddScope {
        /// Its name.
        scope: Scope,
        /// Its number in the store.
        number: u8,
        /// The acts that it allows.
        description: String,
    },
    /// A scope was hidden: keys keep it, and other keys cannot get it.
    HideScope {
        /// Its name.
        scope: Scope,
    },
    /// The policy of the store was set.
    SetPolicy {
        /// The new policy.
        policy: Policy,
        /// The number of its value among the scopes.
        number: u8,
    },
    /// The policy began to deactivate unused keys. Their entries follow.
    DeactivateUnused {
        /// The number of keys.
        keys: u64,
    },
    /// A key was replaced by a new key with the same fields. The entry concerns the old key.
    Rotate {
        /// The new key.
        into: KeyId,
    },
    /// The older entries of the audit log were pruned.
    Prune {
        /// The last pruned entry.
        through: u64,
        /// The chain head of that entry, which the first remaining entry continues.
        head: [u8; 32],
    },
    /// The store was created from the intact parts of a damaged one. The audit log begins here.
    Repair {
        /// The last known chain head of the damaged store.
        head: [u8; 32],
        /// The number of keys that were copied unchanged.
        current: u64,
        /// The number of keys that are inactive or missing, since their last state is not proved.
        unproved: u64,
    },
    /// The store was restored from a backup.
    Restore {
        /// The last change in the backup.
        backup: u64,
        /// Whether evidence of the later changes was given: the old store or an export.
        later_known: bool,
    },
    /// An administrative act was refused.
    Refuse {
        /// The refused act.
        attempt: Attempt,
        /// The reason.
        reason: String,
    },
    /// The same administrative act was refused again, within a minute of an entry that records it.
    /// The key and the client address are present if they were the same each time.
    RefuseRepeated {
        /// The refused act.
        attempt: Attempt,
        /// The reason.
        reason: String,
        /// The number of repetitions, without the first refusal.
        count: u64,
        /// The time of the first repetition.
        first: Timestamp,
        /// The time of the last repetition.
        last: Timestamp,
    },
}

impl Act {
    /// Returns the name of the act in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Import => "import",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::ExtendCatalogue => "extend_catalogue",
            Self::AddScope { .. } => "add_scope",
            Self::HideScope { .. } => "hide_scope",
            Self::SetPolicy { .. } => "set_policy",
            Self::DeactivateUnused { .. } => "deactivate_unused",
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
    /// Creating a key.
    Create,
    /// Reading keys, scopes or the audit log.
    List,
    /// Updating a key.
    Update,
    /// Deleting a key.
    Delete,
    /// Verifying another key.
    Verify,
    /// Rotating a key.
    Rotate,
    /// Pruning the audit log.
    Prune,
    /// Adding or hiding a scope.
    ChangeScopes,
    /// Setting the policy of the store.
    SetPolicy,
}

impl Attempt {
    /// Returns the name of the act in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Verify => "verify",
            Self::Rotate => "rotate",
            Self::Prune => "cut",
            Self::ChangeScopes => "change_scopes",
            Self::SetPolicy => "set_policy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Attempt::{
        self, ChangeScopes, Create, Delete, List, Prune, Rotate, SetPolicy, Update, Verify,
    };

    #[test]
    fn each_attempt_has_its_api_name() {
        let all = [Create, List, Update, Delete, Verify, Rotate, Prune, ChangeScopes, SetPolicy];
        let words = [
            "create",
            "list",
            "update",
            "delete",
            "verify",
            "rotate",
            "cut",
            "change_scopes",
            "set_policy",
        ];
        assert_eq!(all.map(Attempt::as_str), words);
    }
}
