//! The payload of an entry of the audit log: actor, act, and the changed fields before and after.

use super::{
    StoredActor, StoredGrant, StoredMetadata, expiry_of, extra::StoredExtraChange, metadata_of,
    stored_expiry, stored_metadata,
};
use crate::{
    audit_entry::{Act, Attempt, AuditEntry, Once},
    id::KeyId,
    policy::PolicyState,
    record::Change,
    scope::Catalogue,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

#[derive(Serialize, Deserialize)]
struct StoredChange<'b> {
    #[serde(borrow)]
    name: Option<&'b str>,
    grant: Option<StoredGrant>,
    active: Option<bool>,
    expires_at: Option<Option<u64>>,
    #[serde(borrow)]
    owner: Option<Option<&'b str>>,
    #[serde(borrow)]
    metadata: Option<StoredMetadata<'b>>,
}

impl<'b> From<&'b Change> for StoredChange<'b> {
    fn from(change: &'b Change) -> Self {
        Self {
            name: change.name.as_deref(),
            grant: change.grant.map(StoredGrant::from),
            active: change.active,
            expires_at: change.expiry.map(stored_expiry),
            owner: change.owner.as_ref().map(Option::as_deref),
            metadata: change.metadata.as_ref().map(stored_metadata),
        }
    }
}

impl StoredChange<'_> {
    fn into_change(self, catalogue: &'static Catalogue) -> Option<Change> {
        // An absent field stays absent; a present one must be valid.
        let grant = self.grant.map(|grant| grant.into_grant(catalogue).ok_or(()));
        let expiry = self.expires_at.map(|end| expiry_of(end).ok_or(()));
        let metadata = self.metadata.map(|metadata| metadata_of(metadata).ok_or(()));
        Some(Change {
            name: self.name.map(str::to_owned),
            grant: grant.transpose().ok()?,
            active: self.active,
            expiry: expiry.transpose().ok()?,
            owner: self.owner.map(|owner| owner.map(str::to_owned)),
            metadata: metadata.transpose().ok()?,
            networks: None,
            rate: None,
        })
    }
}

#[derive(Serialize, Deserialize)]
enum StoredAct<'b> {
    Create,
    Update,
    Delete,
    ExtendCatalogue,
    Refuse {
        attempt: StoredAttempt,
        reason: &'b str,
    },
    Rotate {
        into: u64,
    },
    CreateOnce {
        once: StoredOnce,
    },
    RotateOnce {
        into: u64,
        once: StoredOnce,
    },
    Prune {
        through: u64,
        head: [u8; 32],
    },
    Repair {
        head: [u8; 32],
        current: u64,
        unproved: u64,
    },
    Restore {
        backup: u64,
        later_known: bool,
    },
    Linked {
        last_once: u64,
        #[serde(borrow)]
        act: Box<StoredAct<'b>>,
    },
    RefuseRepeated {
        attempt: StoredAttempt,
        reason: &'b str,
        count: u64,
        first: u64,
        last: u64,
    },
    AddScope {
        name: &'b str,
        number: u8,
        description: &'b str,
    },
    HideScope {
        name: &'b str,
    },
    Owned {
        owner: Option<&'b str>,
        #[serde(borrow)]
        act: Box<StoredAct<'b>>,
    },
    /// An act that changes extra fields, which `before` and `after` of the entry lack.
    Extended {
        before: StoredExtraChange,
        after: StoredExtraChange,
        #[serde(borrow)]
        act: Box<StoredAct<'b>>,
    },
    Import,
    SetPolicy {
        number: u8,
        /// The text that the value has, without what the store remembers beside the policy.
        policy: String,
    },
    DeactivateUnused {
        keys: u64,
    },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct StoredOnce {
    request: [u8; 16],
    payload: [u8; 16],
}

impl<'b> StoredAct<'b> {
    fn of(entry: &'b AuditEntry) -> Self {
        let once = entry.once.map(|Once { request, payload }| StoredOnce { request, payload });
        let act = match (Self::from(&entry.act), once) {
            (Self::Create, Some(once)) => Self::CreateOnce { once },
            (Self::Rotate { into }, Some(once)) => Self::RotateOnce { into, once },
            (act, _) => act,
        };
        let (before, after) =
            (StoredExtraChange::of(&entry.before), StoredExtraChange::of(&entry.after));
        let act = if before.is_empty() && after.is_empty() {
            act
        } else {
            Self::Extended { before, after, act: Box::new(act) }
        };
        let act = match &entry.owner {
            Some(owner) => Self::Owned { owner: owner.as_deref(), act: Box::new(act) },
            None => act,
        };
        match entry.last_once {
            Some(last_once) => Self::Linked { last_once, act: Box::new(act) },
            None => act,
        }
    }

    /// Separates the link to an earlier entry from the act; `None` for a link within a link.
    fn unlinked(self) -> Option<(Option<u64>, Self)> {
        match self {
            Self::Linked { act, .. } if matches!(*act, Self::Linked { .. }) => None,
            Self::Linked { last_once, act } => Some((Some(last_once), *act)),
            act => Some((None, act)),
        }
    }

    /// Separates the owner of the key from the act; `None` for an owner within an owner.
    fn unowned(self) -> Option<(Option<Option<&'b str>>, Self)> {
        match self {
            Self::Owned { act, .. } if matches!(*act, Self::Owned { .. } | Self::Linked { .. }) => {
                None
            }
            Self::Owned { owner, act } => Some((Some(owner), *act)),
            act => Some((None, act)),
        }
    }

    /// Separates the changed extra fields from the act; `None` for such an act within another, or one that
    /// changes none.
    fn unextended(self) -> Option<(StoredExtraChange, StoredExtraChange, Self)> {
        match self {
            Self::Extended { before, after, act } => {
                let is_plain = !matches!(
                    *act,
                    Self::Extended { .. } | Self::Owned { .. } | Self::Linked { .. }
                );
                let changes = !(before.is_empty() && after.is_empty());
                (is_plain && changes).then_some((before, after, *act))
            }
            act => Some((StoredExtraChange::default(), StoredExtraChange::default(), act)),
        }
    }

    fn once(&self) -> Option<Once> {
        match self {
            Self::CreateOnce { once } | Self::RotateOnce { once, .. } => {
                Some(Once { request: once.request, payload: once.payload })
            }
            _ => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
enum StoredAttempt {
    Create,
    List,
    Update,
    Delete,
    Verify,
    Rotate,
    Prune,
    ChangeScopes,
    SetPolicy,
}

impl<'b> From<&'b Act> for StoredAct<'b> {
    fn from(act: &'b Act) -> Self {
        match act {
            Act::Create => Self::Create,
            Act::Import => Self::Import,
            Act::Update => Self::Update,
            Act::Delete => Self::Delete,
            Act::ExtendCatalogue => Self::ExtendCatalogue,
            Act::AddScope { scope, number, description } => {
                Self::AddScope { name: scope.as_str(), number: *number, description }
            }
            Act::HideScope { scope } => Self::HideScope { name: scope.as_str() },
            Act::SetPolicy { policy, number } => {
                Self::SetPolicy { number: *number, policy: PolicyState::from(*policy).text() }
            }
            Act::DeactivateUnused { keys } => Self::DeactivateUnused { keys: *keys },
            Act::Rotate { into } => Self::Rotate { into: into.as_u64() },
            Act::Prune { through, head } => Self::Prune { through: *through, head: *head },
            Act::Repair { head, current, unproved } => {
                Self::Repair { head: *head, current: *current, unproved: *unproved }
            }
            Act::Restore { backup, later_known } => {
                Self::Restore { backup: *backup, later_known: *later_known }
            }
            Act::Refuse { attempt, reason } => Self::Refuse { attempt: (*attempt).into(), reason },
            Act::RefuseRepeated { attempt, reason, count, first, last } => Self::RefuseRepeated {
                attempt: (*attempt).into(),
                reason,
                count: *count,
                first: first.as_millis(),
                last: last.as_millis(),
            },
        }
    }
}

impl From<Attempt> for StoredAttempt {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Create => Self::Create,
            Attempt::List => Self::List,
            Attempt::Update => Self::Update,
            Attempt::Delete => Self::Delete,
            Attempt::Verify => Self::Verify,
            Attempt::Rotate => Self::Rotate,
            Attempt::Prune => Self::Prune,
            Attempt::ChangeScopes => Self::ChangeScopes,
            Attempt::SetPolicy => Self::SetPolicy,
        }
    }
}

impl From<StoredAttempt> for Attempt {
    fn from(attempt: StoredAttempt) -> Self {
        match attempt {
            StoredAttempt::Create => Self::Create,
            StoredAttempt::List => Self::List,
            StoredAttempt::Update => Self::Update,
            StoredAttempt::Delete => Self::Delete,
            StoredAttempt::Verify => Self::Verify,
            StoredAttempt::Rotate => Self::Rotate,
            StoredAttempt::Prune => Self::Prune,
            StoredAttempt::ChangeScopes => Self::ChangeScopes,
            StoredAttempt::SetPolicy => Self::SetPolicy,
        }
    }
}

impl StoredAct<'_> {
    /// The act; `None` if it names a malformed scope.
    fn into_act(self) -> Option<Act> {
        Some(match self {
            Self::Create | Self::CreateOnce { .. } => Act::Create,
            Self::Linked { act, .. } | Self::Owned { act, .. } | Self::Extended { act, .. } => {
                return act.into_act();
            }
            Self::Update => Act::Update,
            Self::Import => Act::Import,
            Self::Delete => Act::Delete,
            Self::ExtendCatalogue => Act::ExtendCatalogue,
            Self::AddScope { name, number, description } => Act::AddScope {
                scope: name.parse().ok()?,
                number,
                description: description.to_owned(),
            },
            Self::HideScope { name } => Act::HideScope { scope: name.parse().ok()? },
            Self::SetPolicy { number, policy } => {
                Act::SetPolicy { policy: PolicyState::parse(&policy)?.policy, number }
            }
            Self::DeactivateUnused { keys } => Act::DeactivateUnused { keys },
            Self::Rotate { into } | Self::RotateOnce { into, .. } => {
                Act::Rotate { into: KeyId::from_u64(into) }
            }
            Self::Prune { through, head } => Act::Prune { through, head },
            Self::Repair { head, current, unproved } => Act::Repair { head, current, unproved },
            Self::Restore { backup, later_known } => Act::Restore { backup, later_known },
            Self::Refuse { attempt, reason } => {
                Act::Refuse { attempt: attempt.into(), reason: reason.to_owned() }
            }
            Self::RefuseRepeated { attempt, reason, count, first, last } => Act::RefuseRepeated {
                attempt: attempt.into(),
                reason: reason.to_owned(),
                count,
                first: Timestamp::from_millis(first),
                last: Timestamp::from_millis(last),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(in crate::codec) struct StoredEntry<'b> {
    sequence: u64,
    at: u64,
    actor: StoredActor,
    source: Option<IpAddr>,
    #[serde(borrow)]
    act: StoredAct<'b>,
    key: Option<u64>,
    #[serde(borrow)]
    before: StoredChange<'b>,
    #[serde(borrow)]
    after: StoredChange<'b>,
}

impl<'b> From<&'b AuditEntry> for StoredEntry<'b> {
    fn from(entry: &'b AuditEntry) -> Self {
        Self {
            sequence: entry.sequence,
            at: entry.at.as_millis(),
            actor: entry.actor.into(),
            source: entry.source,
            act: StoredAct::of(entry),
            key: entry.key.map(KeyId::as_u64),
            before: (&entry.before).into(),
            after: (&entry.after).into(),
        }
    }
}

impl StoredEntry<'_> {
    pub(in crate::codec) fn into_entry(self, catalogue: &'static Catalogue) -> Option<AuditEntry> {
        let (last_once, act) = self.act.unlinked()?;
        let (owner, act) = act.unowned()?;
        let (extra_before, extra_after, act) = act.unextended()?;
        let mut before = self.before.into_change(catalogue)?;
        let mut after = self.after.into_change(catalogue)?;
        extra_before.apply(&mut before)?;
        extra_after.apply(&mut after)?;
        Some(AuditEntry {
            sequence: self.sequence,
            at: Timestamp::from_millis(self.at),
            actor: self.actor.into(),
            source: self.source,
            once: act.once(),
            last_once,
            act: act.into_act()?,
            key: self.key.map(KeyId::from_u64),
            owner: owner.map(|owner| owner.map(str::to_owned)),
            before,
            after,
        })
    }
}
