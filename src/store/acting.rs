//! The changes of a store on behalf of an actor.
//!
//! Each change takes this path. [`Core::retry`](super::core::Core::retry) repeats it if another replica
//! committed first.
//!
//! | step | on failure |
//! |---|---|
//! | generate a secret, if the change creates a key | the error is returned |
//! | read the requests of other replicas, if the request is idempotent | the error is returned |
//! | take the writers' mutex, and check the actor | the refusal is recorded in the audit log |
//! | find the request among the executed ones, if it is idempotent | – |
//! | check the rules, and plan the change | the refusal is recorded in the audit log |
//! | deny the stricter parts, and queue the change | stricter parts stay denied if nothing can be written |
//! | wait until the change is durable and applied | the error is returned; see `plans` |
//! | wait for the other replicas, if the change denies anything | silent replicas are fenced |

mod bulk;
mod import;
mod key_reach;
mod leaks;
mod reading;

pub use self::{
    bulk::{BatchRefused, BulkAct, BulkReport, CountedKeys},
    import::{ImportOptions, ImportOutcome, ImportedSecret, KeyDigest},
    key_reach::{KeyEntries, KeyReach, ReachGroup, RevokedGroup},
};

use super::{
    caller::Caller,
    handle::Store,
    idempotency::{Idempotency, Outcome},
    issued::Issued,
    planning::{FreshKey, Planning, Rotation, Update, Updated},
    rules::Reach,
};
use crate::{
    audit_entry::Attempt,
    error::Error,
    id::KeyId,
    ledger::ReplicaWait,
    record::{Actor, Change, MetadataPatch, NewKey, Record},
    scope::catalogue::{ADMIN_KEY_CREATE, ADMIN_KEY_UPDATE},
};
use std::{cell::Cell, net::IpAddr, sync::Arc, time::Duration};

/// The changes of a store on behalf of an actor. Created by [`Store::acting_as`].
///
/// A key acts with the rights that it has when the change is planned. It grants no more than it holds,
/// and a revoked key changes nothing. Refused acts are recorded in the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Acting<'s> {
    store: &'s Store,
    actor: Actor,
    source: Option<IpAddr>,
}

impl<'s> Acting<'s> {
    pub(super) fn new(store: &'s Store, actor: Actor) -> Self {
        Self { store, actor, source: None }
    }

    /// Sets the address that the request comes from, which the audit log records.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let id = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?.record.id;
    /// let address = "192.0.2.7".parse().unwrap();
    /// store.acting_as(Actor::Local(1000)).with_address(address).revoke(id)?;
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn with_address(self, address: IpAddr) -> Self {
        Self { source: Some(address), ..self }
    }

    /// [`Store::issue`] for this actor. A key without an owner gets the owner of the actor.
    #[expect(clippy::needless_pass_by_value, reason = "a repeated plan clones it")]
    pub fn issue(&self, new: NewKey) -> Result<Issued, Error> {
        let caller = self.caller();
        caller.core.retry(|| {
            let fresh = FreshKey::generate(caller.core, self.store.prefix)?;
            Planning::begin(caller, Attempt::Create, None)?.create(fresh, new.clone(), None)
        })
    }

    /// Issues a key if the store has none.
    #[expect(clippy::needless_pass_by_value, reason = "a repeated plan clones it")]
    pub(super) fn issue_first(&self, new: NewKey) -> Result<Option<Issued>, Error> {
        let caller = self.caller();
        caller.core.retry(|| {
            let fresh = FreshKey::generate(caller.core, self.store.prefix)?;
            let planning = Planning::begin(caller, Attempt::Create, None)?;
            if planning.has_keys() {
                return Ok(None);
            }
            planning.create(fresh, new.clone(), None).map(Some)
        })
    }

    /// Like [`issue`](Self::issue), but executes the same request only once.
    #[expect(clippy::needless_pass_by_value, reason = "a repeated plan clones it")]
    pub fn issue_once(&self, new: NewKey, request: &Idempotency<'_>) -> Result<Outcome, Error> {
        let caller = self.caller();
        let once = request.once(self.actor, &caller.core.seals.request);
        let outcome = caller.core.retry(|| {
            let fresh = FreshKey::generate(caller.core, self.store.prefix)?;
            caller.core.read_requests()?;
            let mut planning = Planning::begin(caller, Attempt::Create, None)?;
            match planning.find_executed(&ADMIN_KEY_CREATE, once)? {
                Some(done) => planning.repeat(&done),
                None => planning.create(fresh, new.clone(), Some(once)).map(Outcome::Issued),
            }
        })?;
        Ok(self.shown_outcome(outcome))
    }

    /// [`Store::update`] for this actor.
    pub fn update(&self, id: KeyId, change: Change) -> Result<Arc<Record>, Error> {
        self.patch(id, change, MetadataPatch::new())
    }

    /// Like [`update`](Self::update), but only if the record still has this
    /// [`revision`](Record::revision); else [`Error::Changed`], and nothing is changed.
    pub fn update_if(
        &self,
        id: KeyId,
        revision: u64,
        change: Change,
    ) -> Result<Arc<Record>, Error> {
        self.patch_if(id, revision, change, MetadataPatch::new())
    }

    /// Like [`update`](Self::update), and merges `metadata` into that of the key in the same change,
    /// as in a merge patch (RFC 7396). An entry with a value is set, an entry with `None` is removed,
    /// and every other entry stays. The merge sees every change that was planned before, so that
    /// concurrent patches of one key all take effect.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never)
    /// #     .with_metadata(Metadata::from([("team".into(), "till".into())]));
    /// # let id = store.issue(new)?.record.id;
    /// let reason = MetadataPatch::from([("reason".into(), Some("leaked".into()))]);
    /// let record = store.acting_as(Actor::Host).patch(id, Change::deactivate(), reason)?;
    /// assert!(!record.active);
    /// assert_eq!((&*record.metadata["team"], &*record.metadata["reason"]), ("till", "leaked"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn patch(
        &self,
        id: KeyId,
        change: Change,
        metadata: MetadataPatch,
    ) -> Result<Arc<Record>, Error> {
        self.change(&Update { id, revision: None, change, metadata }).map(|(record, _)| record)
    }

    /// Like [`patch`](Self::patch), but only if the record still has this
    /// [`revision`](Record::revision); else [`Error::Changed`], and nothing is changed.
    pub fn patch_if(
        &self,
        id: KeyId,
        revision: u64,
        change: Change,
        metadata: MetadataPatch,
    ) -> Result<Arc<Record>, Error> {
        let update = Update { id, revision: Some(revision), change, metadata };
        self.change(&update).map(|(record, _)| record)
    }

    /// [`Store::revoke`] for this actor. Any key may revoke itself.
    pub fn revoke(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        self.update(id, Change::deactivate())
    }

    /// [`Store::revoke_everywhere`] for this actor.
    pub fn revoke_everywhere(&self, id: KeyId) -> Result<(Arc<Record>, ReplicaWait), Error> {
        let (change, metadata) = (Change::deactivate(), MetadataPatch::new());
        self.change(&Update { id, revision: None, change, metadata })
    }

    /// [`Store::delete`] for this actor.
    pub fn delete(&self, id: KeyId) -> Result<(), Error> {
        self.remove(id, None)
    }

    /// Like [`delete`](Self::delete), but only if the record still has this
    /// [`revision`](Record::revision).
    pub fn delete_if(&self, id: KeyId, revision: u64) -> Result<(), Error> {
        self.remove(id, Some(revision))
    }

    /// [`Store::rotate`] for this actor, which must hold all rights of the key. Only the host and local
    /// operators can rotate a root key.
    pub fn rotate(&self, id: KeyId, grace: Duration) -> Result<Issued, Error> {
        let caller = self.caller();
        let issued = caller.core.retry(|| {
            let fresh = FreshKey::generate(caller.core, self.store.prefix)?;
            let planning = Planning::begin(caller, Attempt::Rotate, Some(id))?;
            planning.replace(Rotation { id, grace }, fresh, None)
        })?;
        caller.core.wait_for_replicas();
        Ok(self.shown_issued(issued))
    }

    /// Like [`rotate`](Self::rotate), but executes the same request only once.
    pub fn rotate_once(
        &self,
        id: KeyId,
        grace: Duration,
        request: &Idempotency<'_>,
    ) -> Result<Outcome, Error> {
        let caller = self.caller();
        let once = request.once(self.actor, &caller.core.seals.request);
        let outcome = caller.core.retry(|| {
            let fresh = FreshKey::generate(caller.core, self.store.prefix)?;
            caller.core.read_requests()?;
            let mut planning = Planning::begin(caller, Attempt::Rotate, Some(id))?;
            if let Some(done) = planning.find_executed(&ADMIN_KEY_UPDATE, once)? {
                return planning.repeat(&done);
            }
            let rotation = Rotation { id, grace };
            planning.replace(rotation, fresh, Some(once)).map(Outcome::Issued)
        })?;
        caller.core.wait_for_replicas();
        Ok(self.shown_outcome(outcome))
    }

    fn shown_issued(&self, issued: Issued) -> Issued {
        Issued { record: self.shown(issued.record), ..issued }
    }

    fn shown_outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Issued(issued) => Outcome::Issued(self.shown_issued(issued)),
            Outcome::Before(record) => Outcome::Before(self.shown(record)),
        }
    }

    /// Records an act in the audit log that was refused elsewhere, such as a request of a key that lacks
    /// the scope to list. The reason is truncated to 200 bytes. It must not contain a secret.
    ///
    /// The first such act is durable when this returns. Repetitions have the same actor, act and reason.
    /// They are counted for a minute and then written as one
    /// [`Act::RefuseRepeated`](crate::audit::Act::RefuseRepeated). Closing the store writes them at once.
    ///
    /// ```
    /// # use portcullis::{*, audit::{Act, Attempt}};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path().join("keys");
    /// let store = Store::open(&dir)?;
    /// for _ in 0..1000 {
    ///     store.acting_as(Actor::Host).refuse(Attempt::List, None, "not today")?;
    /// }
    /// drop(store);
    /// let entries = Store::open(&dir)?.audit(1, 10)?;
    /// assert_eq!(entries.len(), 2);
    /// assert!(matches!(entries[1].act, Act::RefuseRepeated { count: 999, .. }));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn refuse(&self, attempt: Attempt, key: Option<KeyId>, reason: &str) -> Result<(), Error> {
        let noted = self.caller().note_refusal(attempt, key, Change::default(), reason);
        noted.map_err(|unwritten| unwritten.error)
    }

    pub(super) fn caller(&self) -> Caller<'s> {
        Caller { core: &self.store.writer, actor: self.actor, source: self.source }
    }

    pub(super) fn reach(&self) -> Reach {
        match self.actor {
            Actor::Key(id) => Reach::of(self.store.get(id).ok().as_deref()),
            _ => Reach::Every,
        }
    }

    pub(super) fn is_of(&self, key: KeyId, own: &str) -> bool {
        self.store.get(key).is_ok_and(|record| record.owner.as_deref() == Some(own))
    }

    /// A record as the actor may see it: without the keys of others.
    pub(super) fn shown(&self, record: Arc<Record>) -> Arc<Record> {
        let reach = self.reach();
        if matches!(reach, Reach::Every) {
            return record;
        }
        let is_seen = |key: KeyId| {
            self.store.get(key).is_ok_and(|record| reach.includes(record.owner.as_deref()))
        };
        let actor_of = |actor: Actor| match actor {
            Actor::Key(key) if is_seen(key) => actor,
            _ => Actor::Operator,
        };
        let (created_by, updated_by) = (actor_of(record.created_by), actor_of(record.updated_by));
        let replaces = record.replaces.filter(|key| is_seen(*key));
        let replaced_by = record.replaced_by.filter(|key| is_seen(*key));
        let before = (record.created_by, record.updated_by, record.replaces, record.replaced_by);
        if (created_by, updated_by, replaces, replaced_by) == before {
            return record;
        }
        let record = Record { created_by, updated_by, replaces, replaced_by, ..(*record).clone() };
        Arc::new(record)
    }

    /// Changes a key. A change that is stricter, or repeats a stricter one, waits for the other replicas.
    fn change(&self, update: &Update) -> Result<(Arc<Record>, ReplicaWait), Error> {
        let caller = self.caller();
        let denies = Cell::new(false);
        let attempt =
            || Planning::begin(caller, Attempt::Update, Some(update.id))?.change(update, &denies);
        // A denial is retried for as long as it conflicts: safety must not depend on a caller that
        // repeats it.
        let Updated { record, is_looser } = caller.core.retry_while(|| denies.get(), attempt)?;
        let wait = if is_looser { ReplicaWait::default() } else { caller.core.wait_for_replicas() };
        Ok((self.shown(record), wait))
    }

    fn remove(&self, id: KeyId, revision: Option<u64>) -> Result<(), Error> {
        let caller = self.caller();
        caller
            .core
            .retry(|| Planning::begin(caller, Attempt::Delete, Some(id))?.remove(id, revision))?;
        caller.core.wait_for_replicas();
        Ok(())
    }
}
