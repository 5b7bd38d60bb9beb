//! The planning of the changes of one key: create, change, rotate and delete. A plan is queued, and its
//! caller waits for it after the writers' mutex is released.

use super::{FreshKey, Planning};
use crate::{
    audit_entry::{Act, Attempt, AuditEntry, Once},
    codec,
    digest::Digest,
    error::{Error, Field, Forbidden},
    id::KeyId,
    imported::Imported,
    policy::Policy,
    record::{Change, MetadataPatch, NewKey, Record},
    scope::{
        Grant,
        catalogue::{ADMIN_KEY_DELETE, ADMIN_KEY_UPDATE},
    },
    store::{issued::Issued, plans::PlannedKey, rules},
};
use std::{cell::Cell, sync::Arc, time::Duration};

/// The longest time that a replaced key stays valid.
const MAX_GRACE: Duration = Duration::from_hours(366 * 24);

/// A requested change of a key's record.
pub(in crate::store) struct Update {
    pub(in crate::store) id: KeyId,
    /// The revision that the record must have, if the caller named one.
    pub(in crate::store) revision: Option<u64>,
    pub(in crate::store) change: Change,
    pub(in crate::store) metadata: MetadataPatch,
}

/// A requested rotation.
#[derive(Clone, Copy)]
pub(in crate::store) struct Rotation {
    pub(in crate::store) id: KeyId,
    /// The time for which the old key stays valid.
    pub(in crate::store) grace: Duration,
}

/// A changed record.
pub(in crate::store) struct Updated {
    pub(in crate::store) record: Arc<Record>,
    /// Whether the change denies nothing, so that it need not wait for other replicas.
    pub(in crate::store) is_looser: bool,
}

/// A queued change of a record. If it alters nothing, its sequence is that of a change that the answer
/// depends on.
pub(in crate::store) struct PlannedUpdate {
    pub(in crate::store) updated: Updated,
    pub(in crate::store) sequence: u64,
}

/// Why a change was not planned.
pub(in crate::store) enum Unplanned {
    /// The actor may not make it. The audit log records the refusal and the requested values.
    Refused(Error, Box<Change>),
    Failed(Error),
}

impl From<Error> for Unplanned {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Unplanned {
    fn refused(error: impl Into<Error>) -> Self {
        Self::Refused(error.into(), Box::default())
    }
}

/// A key that is to be changed, as it is after everything that is queued.
struct Target {
    record: Arc<Record>,
    digest: Digest,
}

impl Planning<'_> {
    /// Creates a key.
    pub(in crate::store) fn create(
        mut self,
        fresh: FreshKey,
        new: NewKey,
        once: Option<Once>,
    ) -> Result<Issued, Error> {
        match self.plan_creation(fresh.id, fresh.digest, new, once) {
            Ok((record, sequence)) => {
                self.wait(sequence)?;
                Ok(Issued { record, secret: fresh.secret })
            }
            Err(unplanned) => Err(self.report(Attempt::Create, None, unplanned)),
        }
    }

    /// The record of a new key. Fails if it may not be created.
    pub(in crate::store) fn new_record(
        &self,
        id: KeyId,
        mut new: NewKey,
    ) -> Result<Record, Unplanned> {
        let (core, actor) = (self.caller.core, self.caller.actor);
        self.localize(&mut new.grant)?;
        rules::inherit_owner(&self.authority, &mut new);
        let record = Record::new(id, new, core.clock.now(), actor, self.plans.next_sequence())?;
        if let Err(refused) = rules::may_create(&self.authority, &record) {
            return Err(Unplanned::Refused(refused, Box::new(record.fields_unlike(None))));
        }
        if record.expiry.has_come(record.created_at) {
            let reason = "must be in the future; give none for a key that never expires";
            return Err(Error::invalid(Field::ExpiresAt, reason).into());
        }
        core.names().policy()?.check(&record, record.created_at)?;
        codec::check_length(&record, None)?;
        Ok(record)
    }

    /// Queues the creation of a key. Returns its record and the sequence of the change.
    pub(in crate::store) fn plan_creation(
        &mut self,
        id: KeyId,
        digest: Digest,
        new: NewKey,
        once: Option<Once>,
    ) -> Result<(Arc<Record>, u64), Unplanned> {
        self.plan_creation_as(Act::Create, id, digest, new, once, None)
    }

    /// Like [`plan_creation`](Self::plan_creation), for a key that may be imported.
    pub(in crate::store) fn plan_creation_as(
        &mut self,
        act: Act,
        id: KeyId,
        digest: Digest,
        new: NewKey,
        once: Option<Once>,
        imported: Option<Imported>,
    ) -> Result<(Arc<Record>, u64), Unplanned> {
        let core = self.caller.core;
        let record = Arc::new(Record { imported, ..self.new_record(id, new)? });
        codec::check_length(&record, None)?;
        self.plans.check_writable()?;
        core.check_space()?;
        let (owner, after) = (Some(record.owner.clone()), record.fields_unlike(None));
        let entry = self.caller.entry(act, Some((id, owner)), Change::default(), after);
        let change = PlannedKey { id, digest, after: Some(Arc::clone(&record)) };
        let entry = AuditEntry { once, ..entry };
        let sequence = core.queue_changes(&mut self.plans, entry, vec![change])?;
        Ok((record, sequence))
    }

    /// The record of a key after everything that is queued, and the sequence of its pending change.
    pub(in crate::store) fn present(&self, id: KeyId) -> Result<(Arc<Record>, u64), Unplanned> {
        let found = self.caller.core.planned(&self.plans, id).map(|(record, _)| record);
        Ok((found.ok_or(Error::NoSuchKey(id))?, self.plans.pending_sequence(id)))
    }

    /// Replaces a key by a new one, and ends the old one now or after the grace.
    pub(in crate::store) fn replace(
        mut self,
        Rotation { id, grace }: Rotation,
        fresh: FreshKey,
        once: Option<Once>,
    ) -> Result<Issued, Error> {
        if grace > MAX_GRACE {
            return Err(Error::invalid(Field::Grace, "must be at most 366 days"));
        }
        let (core, actor) = (self.caller.core, self.caller.actor);
        let Target { record: before, digest } = match self.target(id, Attempt::Rotate) {
            Ok(target) => target,
            Err(unplanned) => return Err(self.report(Attempt::Rotate, Some(id), unplanned)),
        };
        let now = core.clock.now();
        let successor = before.replaced_by.and_then(|id| core.planned(&self.plans, id));
        let successor = successor.as_ref().map(|(record, _)| &**record);
        if let Err(refused) = rules::may_rotate(&self.authority, &before, successor, now) {
            return Err(self.refuse(Attempt::Rotate, Some(id), Change::default(), refused));
        }
        let record = before.successor(fresh.id, now, actor, self.plans.next_sequence());
        let old = before.replaced(&record, grace);
        if let Err(poisoned) = self.plans.check_writable() {
            self.plans.deny_unwritten(&core.index, id, old.standing());
            return Err(poisoned);
        }
        core.check_space()?;
        let entry = self.caller.entry(
            Act::Rotate { into: fresh.id },
            Some((id, Some(before.owner.clone()))),
            before.fields_unlike(Some(&old)),
            old.fields_unlike(Some(&before)),
        );
        let record = Arc::new(record);
        let changes = vec![
            PlannedKey { id: fresh.id, digest: fresh.digest, after: Some(Arc::clone(&record)) },
            PlannedKey { id, digest, after: Some(Arc::new(old)) },
        ];
        let entry = AuditEntry { once, ..entry };
        let sequence = core.queue_changes(&mut self.plans, entry, changes)?;
        self.wait(sequence)?;
        Ok(Issued { record, secret: fresh.secret })
    }

    /// Changes a key. Sets `denies` if the plan denies anything, even if the change then fails.
    pub(in crate::store) fn change(
        mut self,
        update: &Update,
        denies: &Cell<bool>,
    ) -> Result<Updated, Error> {
        match self.plan_update(update, denies) {
            Ok(PlannedUpdate { updated, sequence }) => {
                self.wait(sequence)?;
                Ok(updated)
            }
            Err(unplanned) => Err(self.report(Attempt::Update, Some(update.id), unplanned)),
        }
    }

    /// Queues a change of a key. Sets `denies` if the plan denies anything, even if the change then fails.
    pub(in crate::store) fn plan_update(
        &mut self,
        update: &Update,
        denies: &Cell<bool>,
    ) -> Result<PlannedUpdate, Unplanned> {
        let (core, actor, id) = (self.caller.core, self.caller.actor, update.id);
        let Target { record: before, digest } = self.target(id, Attempt::Update)?;
        let mut change = update.change.clone();
        if let Some(grant) = &mut change.grant {
            self.localize(grant)?;
        }
        change.merge_metadata(&update.metadata, &before);
        let asked = change.clone();
        let next = self.plans.next_sequence();
        let after = before.changed(change, core.clock.now(), actor, next)?;
        let after_or_same = after.as_ref().unwrap_or(&before);
        let roots = self.plans.lasting_roots;
        if let Err(refused) = rules::may_update(&self.authority, &before, after_or_same, roots) {
            return Err(Unplanned::Refused(refused, Box::new(asked)));
        }
        if update.revision.is_some_and(|revision| revision != before.revision) {
            return Err(Error::Changed(id).into());
        }
        // A revocation does not depend on the policy, which a newer version may have written.
        if Policy::limits(&before, after_or_same) {
            core.names().policy()?.check(after_or_same, core.clock.now())?;
        }
        let is_repeated = after.is_none();
        let Some(after) = after.or_else(|| core.rewritten(&before, actor, &self.plans)) else {
            // The answer depends on a change that may still be pending.
            let sequence = self.plans.pending_sequence(id);
            let updated = Updated { record: before, is_looser: false };
            return Ok(PlannedUpdate { updated, sequence });
        };
        codec::check_length(&after, Some(&before))?;
        if let Err(poisoned) = self.plans.check_writable() {
            // No commit removes this denial: the key stays refused in this process.
            self.plans.deny_unwritten(&core.index, id, after.standing());
            return Err(poisoned.into());
        }
        let (was, is) = (before.standing(), after.standing());
        denies.set(denies.get() || !was.is_within(&is));
        core.check_space_to_change(&mut self.plans, id, &was, &is)?;
        let after = Arc::new(after);
        let entry = self.caller.entry(
            Act::Update,
            Some((id, Some(before.owner.clone()))),
            before.fields_unlike(Some(&after)),
            after.fields_unlike(Some(&before)),
        );
        let change = PlannedKey { id, digest, after: Some(Arc::clone(&after)) };
        let sequence = core.queue_changes(&mut self.plans, entry, vec![change])?;
        let is_looser = !is_repeated && was.is_within(&is);
        Ok(PlannedUpdate { updated: Updated { record: after, is_looser }, sequence })
    }

    /// Deletes a key. `revision` is the one that the record must have, if the caller named one.
    pub(in crate::store) fn remove(
        mut self,
        id: KeyId,
        revision: Option<u64>,
    ) -> Result<(), Error> {
        match self.plan_removal(id, revision) {
            Ok(sequence) => self.wait(sequence),
            Err(unplanned) => Err(self.report(Attempt::Delete, Some(id), unplanned)),
        }
    }

    /// Queues the deletion of a key. Returns the sequence of the change.
    pub(in crate::store) fn plan_removal(
        &mut self,
        id: KeyId,
        revision: Option<u64>,
    ) -> Result<u64, Unplanned> {
        let core = self.caller.core;
        let Target { record, digest } = self.target(id, Attempt::Delete)?;
        if revision.is_some_and(|revision| revision != record.revision) {
            return Err(Error::Changed(id).into());
        }
        if let Err(refused) = rules::may_delete(&self.authority, &record) {
            return Err(Unplanned::refused(refused));
        }
        self.plans.check_writable()?;
        core.check_space()?;
        let (before, owner) = (record.fields_unlike(None), Some(record.owner.clone()));
        let entry = self.caller.entry(Act::Delete, Some((id, owner)), before, Change::default());
        let change = PlannedKey { id, digest, after: None };
        Ok(core.queue_changes(&mut self.plans, entry, vec![change])?)
    }

    /// The record of a key after everything that is queued, unless it does not exist for the actor.
    pub(in crate::store) fn record(
        &self,
        id: KeyId,
        attempt: Attempt,
    ) -> Result<Arc<Record>, Unplanned> {
        self.target(id, attempt).map(|target| target.record)
    }

    /// The key, unless it does not exist for the actor. Callers without the scope are not told which keys
    /// exist.
    fn target(&self, id: KeyId, attempt: Attempt) -> Result<Target, Unplanned> {
        let found = self.caller.core.planned(&self.plans, id);
        let found = found.filter(|(record, _)| self.authority.sees(record.owner.as_deref()));
        if let Some((record, digest)) = found {
            return Ok(Target { record, digest });
        }
        let scope = if attempt == Attempt::Delete { ADMIN_KEY_DELETE } else { ADMIN_KEY_UPDATE };
        if self.authority.has(&scope) {
            return Err(Error::NoSuchKey(id).into());
        }
        Err(Unplanned::refused(Forbidden::LacksScope(scope)))
    }

    /// Converts scopes of another store, which have other numbers, by their names.
    fn localize(&self, grant: &mut Grant) -> Result<(), Error> {
        if let Grant::Scopes(set) = grant {
            *set = self.caller.core.catalogue().localized(*set)?;
        }
        Ok(())
    }

    /// Releases the writers' mutex and returns the error, whose refusal is recorded in the audit log.
    pub(in crate::store) fn report(
        self,
        attempt: Attempt,
        key: Option<KeyId>,
        unplanned: Unplanned,
    ) -> Error {
        match unplanned {
            Unplanned::Refused(error, asked) => self.refuse(attempt, key, *asked, error),
            Unplanned::Failed(error) => error,
        }
    }
}
