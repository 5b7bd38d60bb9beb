//! The planning of changes: their preconditions are checked under the writers' mutex, and they are queued.

mod changes;
mod scopes;

pub(super) use self::changes::{Rotation, Unplanned, Update, Updated};

use super::{
    caller::Caller, core::Core, idempotency::Outcome, plans::Plans, pruned::Pruned,
    requests::ExecutedRequest, rules::Authority,
};
use crate::{
    audit_entry::{Act, Attempt, Once},
    codec::{self, AuditStart, DbKey},
    digest::Digest,
    error::{Error, Forbidden},
    id::KeyId,
    ledger::{PrunePoint, Put},
    record::{Actor, Change, Record},
    scope::Scope,
    secret::{Prefix, Secret},
    sync::waiting::MutexGuard,
};
use std::sync::Arc;

/// Changes that are being planned. It holds the writers' mutex, so nobody else plans meanwhile.
pub(super) struct Planning<'s> {
    caller: Caller<'s>,
    plans: MutexGuard<'s, Plans>,
    authority: Authority,
}

/// A new key that has no record yet.
pub(super) struct FreshKey {
    pub(super) id: KeyId,
    pub(super) secret: Secret,
    pub(super) digest: Digest,
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

    /// Releases the writers' mutex. Returns the generation of the queued changes, to wait for them.
    pub(super) fn end(self) -> u64 {
        self.plans.generation
    }

    /// Releases the writers' mutex and waits until a change is durable.
    pub(super) fn wait(self, sequence: u64) -> Result<(), Error> {
        self.caller.core.wait(self.plans, sequence)
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

    /// Releases the writers' mutex and records the refusal.
    fn refuse(self, attempt: Attempt, key: Option<KeyId>, asked: Change, refused: Error) -> Error {
        let Self { caller, plans, .. } = self;
        drop(plans);
        caller.refused(attempt, key, asked, refused)
    }
}
