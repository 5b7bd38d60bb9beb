//! The authorization rules for changes. They are checked under the writers' mutex.
//!
//! No key grants more than it holds. This applies to creating, changing and rotating a key, to
//! reactivating a stronger key, to extending an expiry, to widening the networks, to raising the rate,
//! and to acting for another owner.

use crate::{
    error::{Error, Forbidden},
    rate::Rate,
    record::{NewKey, Record},
    scope::{
        Grant, Scope,
        catalogue::{ADMIN_KEY_CREATE, ADMIN_KEY_DELETE, ADMIN_KEY_OWNER, ADMIN_KEY_UPDATE},
    },
    time::Timestamp,
};
use std::sync::Arc;

/// The rights that a change is made with.
pub(super) enum Authority {
    /// The host or a local operator: all rights.
    Local,
    /// A key, valid at this moment.
    Key(Arc<Record>),
}

/// The owner whose keys alone this key sees and touches; `None`: all keys. Every act and every read asks
/// this function.
pub(super) fn boundary(actor: &Record) -> Option<&str> {
    if actor.grant == Grant::All { None } else { actor.owner.as_deref() }
}

/// The keys that exist for an actor.
pub(super) enum Reach {
    /// All.
    Every,
    /// Those of this owner.
    Owner(String),
    /// None: the key of the actor was deleted meanwhile.
    Nothing,
}

impl Reach {
    /// The reach of a key, if it still exists.
    pub(super) fn of(actor: Option<&Record>) -> Self {
        match actor.map(boundary) {
            Some(None) => Self::Every,
            Some(Some(owner)) => Self::Owner(owner.to_owned()),
            None => Self::Nothing,
        }
    }

    /// Whether a key of this owner is within it.
    pub(super) fn includes(&self, owner: Option<&str>) -> bool {
        match self {
            Self::Every => true,
            Self::Owner(own) => owner == Some(own),
            Self::Nothing => false,
        }
    }
}

impl Authority {
    /// The owner whose keys alone the actor sees and touches; `None`: all keys.
    pub(super) fn boundary(&self) -> Option<&str> {
        match self {
            Self::Local => None,
            Self::Key(actor) => boundary(actor),
        }
    }

    /// Whether a key of this owner exists for the actor.
    pub(super) fn sees(&self, owner: Option<&str>) -> bool {
        self.boundary().is_none_or(|own| owner == Some(own))
    }

    /// Whether the actor may set any owner.
    fn acts_for_every_owner(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Key(actor) => {
                let has_scope = actor.owner.is_none() && actor.grant.allows(&ADMIN_KEY_OWNER);
                actor.grant == Grant::All || has_scope
            }
        }
    }

    /// Whether the actor is entitled to this scope.
    pub(super) fn has(&self, scope: &Scope) -> bool {
        self.require(scope).is_ok()
    }

    fn require(&self, scope: &Scope) -> Result<(), Forbidden> {
        match self {
            Self::Key(actor) if !actor.grant.allows(scope) => {
                Err(Forbidden::LacksScope(scope.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the actor holds all scopes of `record`, does not expire before it, can be used from
    /// all its networks, and has no lower rate.
    fn covers(&self, record: &Record) -> Result<(), Forbidden> {
        let Self::Key(actor) = self else { return Ok(()) };
        if !record.grant.is_within(&actor.grant) {
            return Err(Forbidden::ExceedsScopes);
        }
        if record.expiry > actor.expiry {
            return Err(Forbidden::ExceedsExpiry);
        }
        if !record.networks.is_within(&actor.networks) {
            return Err(Forbidden::ExceedsNetworks);
        }
        if !Rate::is_within(record.rate, actor.rate) {
            return Err(Forbidden::ExceedsRate);
        }
        Ok(())
    }

    fn may_set_owner(&self, owner: Option<&str>) -> Result<(), Forbidden> {
        match self {
            Self::Key(actor) if actor.owner.as_deref() != owner && !self.acts_for_every_owner() => {
                Err(Forbidden::ForeignOwner)
            }
            _ => Ok(()),
        }
    }
}

/// A key without an owner gets the owner of the key that creates it.
pub(super) fn inherit_owner(authority: &Authority, new: &mut NewKey) {
    if let (Authority::Key(actor), None) = (authority, &new.owner) {
        new.owner.clone_from(&actor.owner);
    }
}

pub(super) fn may_create(authority: &Authority, record: &Record) -> Result<(), Error> {
    authority.require(&ADMIN_KEY_CREATE)?;
    if matches!(authority, Authority::Key(_)) && record.grant == Grant::All {
        return Err(Forbidden::RootIsLocal.into());
    }
    authority.covers(record)?;
    authority.may_set_owner(record.owner.as_deref())?;
    Ok(())
}

pub(super) fn may_update(
    authority: &Authority,
    before: &Record,
    after: &Record,
    lasting_roots: usize,
) -> Result<(), Error> {
    let own_revocation = matches!(authority, Authority::Key(actor) if actor.id == before.id) && {
        let mut revoked = before.clone();
        revoked.active = false;
        revoked.fields_unlike(Some(after)) == crate::record::Change::default()
    };
    if !own_revocation {
        authority.require(&ADMIN_KEY_UPDATE)?;
    }
    if matches!(authority, Authority::Key(_))
        && after.grant == Grant::All
        && before.grant != Grant::All
    {
        return Err(Forbidden::RootIsLocal.into());
    }
    // Denying is always allowed. A change that is looser in any part needs all resulting rights.
    if !after.standing().is_within(&before.standing()) {
        authority.covers(after)?;
    }
    if after.owner != before.owner {
        authority.may_set_owner(after.owner.as_deref())?;
        authority.may_set_owner(before.owner.as_deref())?;
    }
    if before.is_lasting_root() && !after.is_lasting_root() && lasting_roots <= 1 {
        return Err(Error::LastRoot(before.id));
    }
    Ok(())
}

/// A new secret of a stronger key, or of a key of another owner, would be a take-over. So an actor
/// that rotates a key must hold all its rights. A key whose successor was deleted can be rotated
/// again.
pub(super) fn may_rotate(
    authority: &Authority,
    record: &Record,
    successor: Option<&Record>,
    now: Timestamp,
) -> Result<(), Error> {
    authority.require(&ADMIN_KEY_UPDATE)?;
    if matches!(authority, Authority::Key(_)) && record.grant == Grant::All {
        return Err(Forbidden::RootIsLocal.into());
    }
    authority.covers(record)?;
    authority.may_set_owner(record.owner.as_deref())?;
    let state = if successor.is_some() {
        "replaced already"
    } else if !record.active {
        "inactive"
    } else if record.expiry.has_come(now) {
        "expired"
    } else {
        return Ok(());
    };
    Err(Error::NotCurrent { id: record.id, state })
}

pub(super) fn may_delete(authority: &Authority, record: &Record) -> Result<(), Error> {
    authority.require(&ADMIN_KEY_DELETE)?;
    if record.active {
        return Err(Error::StillActive(record.id));
    }
    if record.imported.is_some() { Err(Error::IsImported(record.id)) } else { Ok(()) }
}
