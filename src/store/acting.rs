//! The verbs that change keys, on behalf of someone.

mod premises;
mod reading;

use self::premises::as_authority;
use super::{
    Store,
    idempotency::{Idempotency, Outcome},
    issued::Issued,
    plan,
    plans::{KeyChange, Plans},
};
use crate::{
    audit::{Act, Attempt, Once},
    codec,
    digest::Digest,
    error::{Error, Field},
    id::KeyId,
    ledger::Settled,
    record::{Actor, Change, MetadataPatch, NewKey, Record},
    scope::catalogue::{ADMIN_KEY_CREATE, ADMIN_KEY_UPDATE},
    secret::Secret,
    sync::waiting::MutexGuard,
};
use std::{cell::Cell, net::IpAddr, sync::Arc, time::Duration};

/// A key whose place was taken is not to work on for ever.
const LONGEST_GRACE: Duration = Duration::from_hours(366 * 24);

/// The store's verbs on behalf of someone; made by [`Store::acting_as`].
///
/// A key acts with its own rights, as they are when the change is planned: it grants no more than
/// it holds, and one that was taken away does nothing more. What is refused is in the audit trail.
#[derive(Clone, Copy)]
pub struct Acting<'s> {
    store: &'s Store,
    actor: Actor,
    source: Option<IpAddr>,
}

impl<'s> Acting<'s> {
    pub(super) fn new(store: &'s Store, actor: Actor, source: Option<IpAddr>) -> Self {
        Self { store, actor, source }
    }

    /// [`Store::issue`] for this actor. Without an owner the key gets its maker's.
    #[expect(clippy::needless_pass_by_value, reason = "a plan that is made anew clones it")]
    pub fn issue(&self, new: NewKey) -> Result<Issued, Error> {
        self.core().again(|| {
            let fresh = self.fresh_key()?;
            let (plans, authority) = self.begin(Attempt::Create, None)?;
            self.create(plans, authority.as_deref(), fresh, new.clone(), None)
        })
    }

    /// Like [`issue`](Self::issue), but only once for all that is sent under this name.
    #[expect(clippy::needless_pass_by_value, reason = "a plan that is made anew clones it")]
    pub fn issue_once(&self, new: NewKey, request: &Idempotency<'_>) -> Result<Outcome, Error> {
        let once = request.once(self.actor, &self.core().seals.request);
        self.core().again(|| {
            let fresh = self.fresh_key()?;
            self.core().read_requests()?;
            let (mut plans, authority) = self.begin(Attempt::Create, None)?;
            let authority = authority.as_deref();
            if let Some(done) = self.done(&mut plans, authority, &ADMIN_KEY_CREATE, once)? {
                return self.done_before(plans, &done);
            }
            self.create(plans, authority, fresh, new.clone(), Some(once)).map(Outcome::Issued)
        })
    }

    fn create(
        &self,
        mut plans: MutexGuard<'_, Plans>,
        authority: Option<&Record>,
        (id, secret, digest): (KeyId, Secret, Digest),
        mut new: NewKey,
        once: Option<Once>,
    ) -> Result<Issued, Error> {
        let core = self.core();
        self.localize(&mut new.grant)?;
        plan::inherit_owner(&as_authority(authority), &mut new);
        let record = Record::new(id, new, core.clock.now(), self.actor, plans.next_sequence())?;
        let after = record.fields_unlike(None);
        if let Err(refused) = plan::may_create(&as_authority(authority), &record) {
            drop(plans);
            return Err(self.refused(Attempt::Create, None, after, refused));
        }
        if record.expiry.has_come(record.created_at) {
            return Err(Error::invalid(
                Field::ExpiresAt,
                "must be in the future; leave it out for a key that never expires",
            ));
        }
        codec::check_length(&record, None)?;
        plans.check_writable()?;
        core.check_room()?;
        let record = Arc::new(record);
        let mut note = self.note(Act::Create, Some(id), Change::default(), after);
        note.once = once;
        let change = KeyChange { id, digest, after: Some(Arc::clone(&record)) };
        let sequence = core.queue_changes(&mut plans, note, vec![change])?;
        core.wait(plans, sequence)?;
        Ok(Issued { record, secret })
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

    /// Like [`update`](Self::update), and merges `metadata` into that of the key in the same change:
    /// an entry with a value is set, an entry with `None` is removed, and every other entry stays,
    /// as in a merge patch (RFC 7396). The merge sees every change that was planned before, so that
    /// concurrent patches of one key all take effect.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let new = NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?), active: true,
    /// #     expiry: Expiry::Never, owner: None, metadata: Metadata::from([("team".into(), "till".into())]) };
    /// # let id = store.issue(new)?.record.id;
    /// let reason = MetadataPatch::from([("reason".into(), Some("leaked".into()))]);
    /// let record = store.acting_as(Actor::Host, None).patch(id, Change::deactivate(), reason)?;
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
        self.change(id, None, (change, metadata)).map(|(record, _)| record)
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
        self.change(id, Some(revision), (change, metadata)).map(|(record, _)| record)
    }

    /// [`Store::revoke`] for this actor. Any key may revoke itself.
    pub fn revoke(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        self.update(id, Change::deactivate())
    }

    /// [`Store::revoke_everywhere`] for this actor.
    pub fn revoke_everywhere(&self, id: KeyId) -> Result<(Arc<Record>, Settled), Error> {
        self.change(id, None, (Change::deactivate(), MetadataPatch::new()))
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

    fn remove(&self, id: KeyId, expected: Option<u64>) -> Result<(), Error> {
        self.core().again(|| self.remove_now(id, expected))?;
        self.core().wait_for_replicas();
        Ok(())
    }

    fn remove_now(&self, id: KeyId, expected: Option<u64>) -> Result<(), Error> {
        let core = self.core();
        let (plans, authority) = self.begin(Attempt::Delete, Some(id))?;
        let (mut plans, record, digest) =
            self.target(plans, authority.as_deref(), Attempt::Delete, id)?;
        if expected.is_some_and(|revision| revision != record.revision) {
            return Err(Error::Changed(id));
        }
        if let Err(refused) = plan::may_delete(&as_authority(authority.as_deref()), &record) {
            drop(plans);
            return Err(self.refused(Attempt::Delete, Some(id), Change::default(), refused));
        }
        plans.check_writable()?;
        core.check_room()?;
        let note = self.note(Act::Delete, Some(id), record.fields_unlike(None), Change::default());
        let change = KeyChange { id, digest, after: None };
        let sequence = core.queue_changes(&mut plans, note, vec![change])?;
        core.wait(plans, sequence)
    }

    /// [`Store::rotate`] for this actor, which must hold all that the key holds. A root key is
    /// rotated on the machine only.
    pub fn rotate(&self, id: KeyId, grace: Duration) -> Result<Issued, Error> {
        let issued = self.core().again(|| {
            let fresh = self.fresh_key()?;
            let (plans, authority) = self.begin(Attempt::Rotate, Some(id))?;
            self.replace(plans, authority.as_deref(), fresh, (id, grace), None)
        })?;
        self.core().wait_for_replicas();
        Ok(issued)
    }

    /// Like [`rotate`](Self::rotate), but only once for all that is sent under this name.
    pub fn rotate_once(
        &self,
        id: KeyId,
        grace: Duration,
        request: &Idempotency<'_>,
    ) -> Result<Outcome, Error> {
        let once = request.once(self.actor, &self.core().seals.request);
        let outcome = self.core().again(|| {
            let fresh = self.fresh_key()?;
            self.core().read_requests()?;
            let (mut plans, authority) = self.begin(Attempt::Rotate, Some(id))?;
            let authority = authority.as_deref();
            if let Some(done) = self.done(&mut plans, authority, &ADMIN_KEY_UPDATE, once)? {
                return self.done_before(plans, &done);
            }
            self.replace(plans, authority, fresh, (id, grace), Some(once)).map(Outcome::Issued)
        })?;
        self.core().wait_for_replicas();
        Ok(outcome)
    }

    fn replace(
        &self,
        plans: MutexGuard<'s, Plans>,
        authority: Option<&Record>,
        (new_id, secret, new_digest): (KeyId, Secret, Digest),
        (id, grace): (KeyId, Duration),
        once: Option<Once>,
    ) -> Result<Issued, Error> {
        if grace > LONGEST_GRACE {
            return Err(Error::invalid(Field::Grace, "must be at most 366 days"));
        }
        let core = self.core();
        let (mut plans, before, digest) = self.target(plans, authority, Attempt::Rotate, id)?;
        let now = core.clock.now();
        let successor = before.replaced_by.and_then(|id| core.planned(&plans, id));
        let is_replaced = successor.is_some();
        if let Err(refused) =
            plan::may_rotate(&as_authority(authority), &before, (is_replaced, now))
        {
            drop(plans);
            return Err(self.refused(Attempt::Rotate, Some(id), Change::default(), refused));
        }
        let record = before.successor(new_id, now, self.actor, plans.next_sequence());
        let old = before.replaced(&record, grace);
        if let Err(poisoned) = plans.check_writable() {
            core.index.deny(u64::MAX, id, old.standing());
            return Err(poisoned);
        }
        core.check_room()?;
        let (was, is) = (before.fields_unlike(Some(&old)), old.fields_unlike(Some(&before)));
        let mut note = self.note(Act::Rotate { into: new_id }, Some(id), was, is);
        note.once = once;
        let record = Arc::new(record);
        let changes = vec![
            KeyChange { id: new_id, digest: new_digest, after: Some(Arc::clone(&record)) },
            KeyChange { id, digest, after: Some(Arc::new(old)) },
        ];
        let sequence = core.queue_changes(&mut plans, note, changes)?;
        core.wait(plans, sequence)?;
        Ok(Issued { record, secret })
    }

    /// Writes an act that was refused elsewhere to the audit trail, such as a request of a key
    /// that lacks the scope to list. The reason is cut to 200 bytes; it must hold no secret.
    ///
    /// The first such act is durable when this returns. The same actor's same acts for the same
    /// reason are counted for the rest of a minute and then written as one
    /// [`Act::RefuseRepeated`], or when the store is closed.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path().join("keys");
    /// let store = Store::open(&dir)?;
    /// for _ in 0..1000 {
    ///     store.acting_as(Actor::Host, None).refuse(Attempt::List, None, "not today")?;
    /// }
    /// drop(store);
    /// let trail = Store::open(&dir)?.audit(1, 10)?;
    /// assert_eq!(trail.len(), 2);
    /// assert!(matches!(trail[1].act, Act::RefuseRepeated { count: 999, .. }));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn refuse(&self, attempt: Attempt, key: Option<KeyId>, reason: &str) -> Result<(), Error> {
        self.note_refusal(attempt, key, Change::default(), reason).map_err(|gap| gap.error)
    }

    /// A change that takes something away, or finds it taken away, waits for the other replicas.
    fn change(
        &self,
        id: KeyId,
        expected: Option<u64>,
        (change, metadata): (Change, MetadataPatch),
    ) -> Result<(Arc<Record>, Settled), Error> {
        let core = self.core();
        let denies = Cell::new(false);
        let attempt = || self.change_now(id, expected, (change.clone(), &metadata), &denies);
        // A denial is planned again for as long as other replicas come first: nobody may count on
        // somebody to send it once more.
        let (record, is_looser) = core.again_while(|| denies.get(), attempt)?;
        let settled = if is_looser { Settled::default() } else { core.wait_for_replicas() };
        Ok((record, settled))
    }

    /// The record after the change, and whether the change only let more pass. Whether the plan
    /// denies something is told even where the change is not made.
    fn change_now(
        &self,
        id: KeyId,
        expected: Option<u64>,
        (mut change, metadata): (Change, &MetadataPatch),
        denies: &Cell<bool>,
    ) -> Result<(Arc<Record>, bool), Error> {
        let core = self.core();
        let (plans, authority) = self.begin(Attempt::Update, Some(id))?;
        let (mut plans, before, digest) =
            self.target(plans, authority.as_deref(), Attempt::Update, id)?;
        if let Some(grant) = &mut change.grant {
            self.localize(grant)?;
        }
        change.merge_metadata(metadata, &before);
        let asked = change.clone();
        let after = before.changed(change, core.clock.now(), self.actor, plans.next_sequence())?;
        let after_or_same = after.as_ref().unwrap_or(&before);
        let authority = as_authority(authority.as_deref());
        if let Err(refused) =
            plan::may_update(&authority, &before, after_or_same, plans.lasting_roots)
        {
            drop(plans);
            return Err(self.refused(Attempt::Update, Some(id), asked, refused));
        }
        if expected.is_some_and(|revision| revision != before.revision) {
            return Err(Error::Changed(id));
        }
        let is_repeated = after.is_none();
        let Some(after) = after.or_else(|| core.rewritten(&before, self.actor, &plans)) else {
            // What this answer says may rest on a change that is still on its way.
            let pending = plans.pending_sequence(id);
            core.wait(plans, pending)?;
            return Ok((before, false));
        };
        codec::check_length(&after, Some(&before))?;
        if let Err(poisoned) = plans.check_writable() {
            // No commit will ever end this denial: the key stays refused in this process.
            core.index.deny(u64::MAX, id, after.standing());
            return Err(poisoned);
        }
        denies.set(!before.standing().is_within(&after.standing()));
        core.check_room_to_change(&mut plans, id, before.standing(), after.standing())?;
        let after = Arc::new(after);
        let note = self.note(
            Act::Update,
            Some(id),
            before.fields_unlike(Some(&after)),
            after.fields_unlike(Some(&before)),
        );
        let change = KeyChange { id, digest, after: Some(Arc::clone(&after)) };
        let sequence = core.queue_changes(&mut plans, note, vec![change])?;
        core.wait(plans, sequence)?;
        let is_looser = !is_repeated && before.standing().is_within(&after.standing());
        Ok((after, is_looser))
    }
}
