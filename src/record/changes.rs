//! The records that follow from a new key, a change or a rotation.

use super::{Actor, Change, Expiry, NewKey, Record};
use crate::{error::Error, id::KeyId, time::Timestamp};
use std::time::Duration;

impl Record {
    /// Creates the record of a new key. Fails if a value is outside its limits.
    pub(crate) fn new(
        id: KeyId,
        new: NewKey,
        now: Timestamp,
        by: Actor,
        revision: u64,
    ) -> Result<Self, Error> {
        let record = Self::unchecked(id, new, now, by, revision);
        record.check_limits(None)?;
        Ok(record)
    }

    fn unchecked(id: KeyId, new: NewKey, now: Timestamp, by: Actor, revision: u64) -> Self {
        Self {
            id,
            name: new.name,
            grant: new.grant,
            active: new.active,
            expiry: new.expiry.in_whole_seconds(),
            owner: new.owner,
            metadata: new.metadata,
            networks: new.networks,
            imported: None,
            rate: new.rate,
            created_at: now,
            created_by: by,
            updated_at: now,
            updated_by: by,
            inactive_since: (!new.active).then_some(now),
            replaces: None,
            replaced_by: None,
            revision,
        }
    }

    /// The record of the key that replaces this one: the same fields, another secret.
    pub(crate) fn successor(&self, id: KeyId, now: Timestamp, by: Actor, revision: u64) -> Self {
        let new = NewKey {
            name: self.name.clone(),
            grant: self.grant,
            active: true,
            expiry: self.expiry,
            owner: self.owner.clone(),
            metadata: self.metadata.clone(),
            networks: self.networks.clone(),
            rate: self.rate,
        };
        // Unchecked: a key whose values were valid under older limits can be rotated.
        Self { replaces: Some(self.id), ..Self::unchecked(id, new, now, by, revision) }
    }

    /// The record of this key after `successor` has replaced it. Without a grace period it is inactive.
    /// Otherwise it expires after the grace period, or at its own expiry if that is earlier.
    pub(crate) fn replaced(&self, successor: &Self, grace: Duration) -> Self {
        let now = successor.created_at;
        let mut old = Self {
            replaced_by: Some(successor.id),
            updated_at: now,
            updated_by: successor.created_by,
            revision: successor.revision,
            ..self.clone()
        };
        if grace.is_zero() {
            (old.active, old.inactive_since) = (false, Some(now));
        } else {
            old.expiry = self.expiry.min(Expiry::after_since(now, grace));
        }
        old
    }

    /// The record after a change; `None` if the change has no effect.
    pub(crate) fn changed(
        &self,
        change: Change,
        now: Timestamp,
        by: Actor,
        revision: u64,
    ) -> Result<Option<Self>, Error> {
        let mut next = self.clone();
        if let Some(name) = change.name {
            next.name = name;
        }
        if let Some(grant) = change.grant {
            next.grant = grant;
        }
        if let Some(active) = change.active {
            next.active = active;
        }
        if let Some(expiry) = change.expiry {
            next.expiry = expiry.in_whole_seconds();
        }
        if let Some(owner) = change.owner {
            next.owner = owner;
        }
        if let Some(metadata) = change.metadata {
            next.metadata = metadata;
        }
        if let Some(networks) = change.networks {
            next.networks = networks;
        }
        if let Some(rate) = change.rate {
            next.rate = rate;
        }
        next.check_limits(Some(self))?;
        if next == *self {
            return Ok(None);
        }
        if next.active != self.active {
            next.inactive_since = (!next.active).then_some(now);
        }
        (next.updated_at, next.updated_by, next.revision) = (now, by, revision);
        Ok(Some(next))
    }

    /// The same record with a new revision.
    pub(crate) fn rewritten(&self, now: Timestamp, by: Actor, revision: u64) -> Self {
        Self { updated_at: now, updated_by: by, revision, ..self.clone() }
    }
}
