//! The planning of one change: its preconditions are checked under the writers' mutex, and it is queued.

mod scopes;

use super::{
    caller::Caller,
    core::Core,
    idempotency::Outcome,
    issued::Issued,
    plans::{PlannedKey, Plans},
    pruned::Pruned,
    requests::ExecutedRequest,
    rules::{self, Authority},
};
use crate::{
    audit_entry::{Act, Attempt, AuditEntry, Once},
    codec::{self, AuditStart, DbKey},
    digest::Digest,
    error::{Error, Field, Forbidden},
    id::KeyId,
    ledger::{PrunePoint, Put},
    record::{Actor, Change, MetadataPatch, NewKey, Record},
    scope::{
        Grant, Scope,
        catalogue::{ADMIN_KEY_DELETE, ADMIN_KEY_UPDATE},
    },
    secret::{Prefix, Secret},
    sync::waiting::MutexGuard,
};
use std::{cell::Cell, sync::Arc, time::Duration};

/// The longest time that a replaced key stays valid.
const MAX_GRACE: Duration = Duration::from_hours(366 * 24);

/// A change that is being planned. It holds the writers' mutex, so only one change is planned at a time.
pub(super) struct Planning<'s> {
    caller: Caller<'s>,
    plans: MutexGuard<'s, Plans>,
    authority: Authority,
}

/// A new key that has no record yet.
pub(super) struct FreshKey {
    id: KeyId,
    secret: Secret,
    digest: Digest,
}

/// A requested change of a key's record.
pub(super) struct Update {
    pub(super) id: KeyId,
    /// The revision that the record must have, if the caller named one.
    pub(super) revision: Option<u64>,
    pub(super) change: Change,
    pub(super) metadata: MetadataPatch,
}

/// A requested rotation.
#[derive(Clone, Copy)]
pub(super) struct Rotation {
    pub(super) id: KeyId,
    /// The time for which the old key stays valid.
    pub(super) grace: Duration,
}

/// A changed record.
pub(super) struct Updated {
    pub(super) record: Arc<Record>,
    /// Whether the change denies nothing, so that it need not wait for other replicas.
    pub(super) is_looser: bool,
}

/// A key that is to be changed, as it is after everything that is queued.
struct Target {
    record: Arc<Record>,
    digest: Digest,
}

impl FreshKey {
    /// Generates a secret with an id and a digest that no key has or had.
    pub(super) fn generate(core: &Core, prefix: Prefix) -> Result<Self, Error> {
        loop {
            let id = KeyId::generate()?;
            let secret = Secret::generate(prefix, id)?;
            let digest = core.seals.digester.digest(secret.as_bytes());
            if !core.index.is_taken(id, &digest) {
                return Ok(Self { id, secret, digest });
            }
        }
    }
}

impl<'s> Planning<'s> {
    /// Begins to plan. If a key acts, it must be valid after everything that is queued.
    pub(super) fn begin(
        caller: Caller<'s>,
        attempt: Attempt,
        target: Option<KeyId>,
    ) -> Result<Self, Error> {
        let core = caller.core;
        let plans = core.plan();
        let Actor::Key(id) = caller.actor else {
            return Ok(Self { caller, plans, authority: Authority::Local });
        };
        let actor = core.planned(&plans, id).map(|(record, _)| record);
        let is_valid = |record: &Arc<Record>| {
            record.standing().check(caller.source, || core.clock.now()).is_ok()
        };
        let actor = actor.filter(is_valid);
        if let Some(actor) = actor {
            return Ok(Self { caller, plans, authority: Authority::Key(actor) });
        }
        drop(plans);
        let refused = Forbidden::ActorRefused.into();
        Err(caller.refused(attempt, target, Change::default(), refused))
    }

    /// Finds the same request if it was executed before. Fails if a further request cannot be
    /// remembered. Callers without the scope are not told that the request was already executed.
    pub(super) fn find_executed(
        &mut self,
        scope: &Scope,
        once: Once,
    ) -> Result<Option<ExecutedRequest>, Error> {
        if !self.plans.knows_requests() {
            return Err(Error::Contended);
        }
        if !self.authority.has(scope) {
            return Ok(None);
        }
        let now = self.caller.core.clock.now();
        let done = self.plans.requests.find(once, now)?;
        if done.is_none() {
            self.plans.requests.check_limits(self.caller.actor, now)?;
        }
        Ok(done)
    }

    /// The outcome of a request that was executed before, once it is durable.
    pub(super) fn repeat(self, done: &ExecutedRequest) -> Result<Outcome, Error> {
        let (core, authority) = (self.caller.core, self.authority);
        core.wait(self.plans, done.sequence)?;
        let found = core.index.get(done.id).map(|(record, _)| record);
        let found = found.filter(|record| authority.sees(record.owner.as_deref()));
        Ok(Outcome::Before(found.ok_or(Error::NoSuchKey(done.id))?))
    }

    /// Whether the store has a key, or has one once everything that is queued is applied.
    pub(super) fn has_keys(&self) -> bool {
        let (keys, _) = self.caller.core.index.count();
        keys > 0 || self.plans.pending.values().any(|pending| pending.record.is_some())
    }

    /// Creates a key.
    pub(super) fn create(
        mut self,
        fresh: FreshKey,
        mut new: NewKey,
        once: Option<Once>,
    ) -> Result<Issued, Error> {
        let (core, actor) = (self.caller.core, self.caller.actor);
        let FreshKey { id, secret, digest } = fresh;
        self.localize(&mut new.grant)?;
        rules::inherit_owner(&self.authority, &mut new);
        let record = Record::new(id, new, core.clock.now(), actor, self.plans.next_sequence())?;
        let after = record.fields_unlike(None);
        if let Err(refused) = rules::may_create(&self.authority, &record) {
            return Err(self.refuse(Attempt::Create, None, after, refused));
        }
        if record.expiry.has_come(record.created_at) {
            return Err(Error::invalid(
                Field::ExpiresAt,
                "must be in the future; leave it out for a key that never expires",
            ));
        }
        codec::check_length(&record, None)?;
        self.plans.check_writable()?;
        core.check_space()?;
        let record = Arc::new(record);
        let owner = Some(record.owner.clone());
        let entry = self.caller.entry(Act::Create, Some((id, owner)), Change::default(), after);
        let change = PlannedKey { id, digest, after: Some(Arc::clone(&record)) };
        let entry = AuditEntry { once, ..entry };
        let sequence = core.queue_changes(&mut self.plans, entry, vec![change])?;
        core.wait(self.plans, sequence)?;
        Ok(Issued { record, secret })
    }

    /// Replaces a key by a new one, and ends the old one now or after the grace.
    pub(super) fn replace(
        mut self,
        Rotation { id, grace }: Rotation,
        fresh: FreshKey,
        once: Option<Once>,
    ) -> Result<Issued, Error> {
        if grace > MAX_GRACE {
            return Err(Error::invalid(Field::Grace, "must be at most 366 days"));
        }
        let (core, actor) = (self.caller.core, self.caller.actor);
        let target = self.target(id);
        let Some(Target { record: before, digest }) = target else {
            return Err(self.no_such_key(Attempt::Rotate, id));
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
        core.wait(self.plans, sequence)?;
        Ok(Issued { record, secret: fresh.secret })
    }

    /// Changes a key. Sets `denies` if the plan denies anything, even if the change then fails.
    pub(super) fn change(mut self, update: &Update, denies: &Cell<bool>) -> Result<Updated, Error> {
        let (core, actor, id) = (self.caller.core, self.caller.actor, update.id);
        let Some(Target { record: before, digest }) = self.target(id) else {
            return Err(self.no_such_key(Attempt::Update, id));
        };
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
            return Err(self.refuse(Attempt::Update, Some(id), asked, refused));
        }
        if update.revision.is_some_and(|revision| revision != before.revision) {
            return Err(Error::Changed(id));
        }
        let is_repeated = after.is_none();
        let Some(after) = after.or_else(|| core.rewritten(&before, actor, &self.plans)) else {
            // The answer depends on a change that may still be pending.
            let pending = self.plans.pending_sequence(id);
            core.wait(self.plans, pending)?;
            return Ok(Updated { record: before, is_looser: false });
        };
        codec::check_length(&after, Some(&before))?;
        if let Err(poisoned) = self.plans.check_writable() {
            // No commit removes this denial: the key stays refused in this process.
            self.plans.deny_unwritten(&core.index, id, after.standing());
            return Err(poisoned);
        }
        let (was, is) = (before.standing(), after.standing());
        denies.set(!was.is_within(&is));
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
        core.wait(self.plans, sequence)?;
        let is_looser = !is_repeated && was.is_within(&is);
        Ok(Updated { record: after, is_looser })
    }

    /// Deletes a key. `revision` is the one that the record must have, if the caller named one.
    pub(super) fn remove(mut self, id: KeyId, revision: Option<u64>) -> Result<(), Error> {
        let core = self.caller.core;
        let Some(Target { record, digest }) = self.target(id) else {
            return Err(self.no_such_key(Attempt::Delete, id));
        };
        if revision.is_some_and(|revision| revision != record.revision) {
            return Err(Error::Changed(id));
        }
        if let Err(refused) = rules::may_delete(&self.authority, &record) {
            return Err(self.refuse(Attempt::Delete, Some(id), Change::default(), refused));
        }
        self.plans.check_writable()?;
        core.check_space()?;
        let (before, owner) = (record.fields_unlike(None), Some(record.owner.clone()));
        let entry = self.caller.entry(Act::Delete, Some((id, owner)), before, Change::default());
        let change = PlannedKey { id, digest, after: None };
        let sequence = core.queue_changes(&mut self.plans, entry, vec![change])?;
        core.wait(self.plans, sequence)
    }

    /// Prunes the audit log up to this entry; `None` if a later entry is pruned already.
    pub(super) fn prune(mut self, point: PrunePoint) -> Result<Option<Pruned>, Error> {
        let PrunePoint { through, head } = point;
        let core = self.caller.core;
        self.plans.check_writable()?;
        core.check_space_to_prune()?;
        let before = self.plans.pruned_through;
        if through <= before {
            return Ok(None);
        }
        let sequence = self.plans.next_sequence();
        let start = AuditStart { through, head, pruned_by: sequence };
        let frame = codec::encode_audit_start(&start, &core.seals.meta)?;
        let puts = vec![Put { key: DbKey::AuditStart, frame: Some(frame) }];
        let act = Act::Prune { through, head };
        let entry = self.caller.entry(act, None, Change::default(), Change::default());
        core.queue(&mut self.plans, entry, puts, Vec::new())?;
        (self.plans.pruned_through, self.plans.has_pruned_entries) = (through, true);
        core.wait(self.plans, sequence)?;
        core.wait_until_removed()?;
        Ok(Some(Pruned { sequence, through, removed: through - before }))
    }

    /// Refuses an act that only the host and local operators may do.
    pub(super) fn require_local(self, attempt: Attempt, refused: Forbidden) -> Result<Self, Error> {
        match self.authority {
            Authority::Local => Ok(self),
            Authority::Key(_) => Err(self.refuse(attempt, None, Change::default(), refused.into())),
        }
    }

    /// Refuses an actor with an owner.
    pub(super) fn require_every_owner(self, attempt: Attempt) -> Result<(), Error> {
        if self.authority.boundary().is_none() {
            return Ok(());
        }
        Err(self.refuse(attempt, None, Change::default(), Forbidden::HasOwner.into()))
    }

    /// Refuses an actor without this scope. Returns the rights of the others.
    pub(super) fn require_scope(
        self,
        attempt: Attempt,
        key: Option<KeyId>,
        scope: &Scope,
    ) -> Result<Authority, Error> {
        if self.authority.has(scope) {
            return Ok(self.authority);
        }
        let refused = Forbidden::LacksScope(scope.clone()).into();
        Err(self.refuse(attempt, key, Change::default(), refused))
    }

    /// The key, unless it does not exist for the actor.
    fn target(&self, id: KeyId) -> Option<Target> {
        let (record, digest) = self.caller.core.planned(&self.plans, id)?;
        self.authority.sees(record.owner.as_deref()).then_some(Target { record, digest })
    }

    /// Returns the error about an unknown key. Callers without the scope are not told which keys exist.
    fn no_such_key(self, attempt: Attempt, id: KeyId) -> Error {
        let scope = if attempt == Attempt::Delete { ADMIN_KEY_DELETE } else { ADMIN_KEY_UPDATE };
        if self.authority.has(&scope) {
            return Error::NoSuchKey(id);
        }
        self.refuse(attempt, Some(id), Change::default(), Forbidden::LacksScope(scope).into())
    }

    /// Converts scopes of another store, which have other numbers, by their names.
    fn localize(&self, grant: &mut Grant) -> Result<(), Error> {
        if let Grant::Scopes(set) = grant {
            *set = self.caller.core.catalogue().localized(*set)?;
        }
        Ok(())
    }

    /// Releases the writers' mutex and records the refusal.
    fn refuse(self, attempt: Attempt, key: Option<KeyId>, asked: Change, refused: Error) -> Error {
        let Self { caller, plans, .. } = self;
        drop(plans);
        caller.refused(attempt, key, asked, refused)
    }
}
