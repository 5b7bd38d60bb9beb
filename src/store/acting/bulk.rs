//! Acts on many keys: the keys are counted first, and a key that changed since is left alone.

use super::{Acting, MetadataPatch, Update};
use crate::{
    audit_entry::Attempt,
    error::{Error, Field},
    id::KeyId,
    ledger::ReplicaWait,
    record::{Actor, Change, Expiry, NewKey, Record},
    scope::{Grant, Scope, catalogue::ADMIN_KEY_LIST},
    store::{
        batch::commit_all,
        issued::Issued,
        list::{self, ListQuery},
        planning::{FreshKey, Planning, Unplanned},
    },
};
use std::{cell::Cell, sync::Arc};

/// The keys that are committed together.
const MAX_AT_ONCE: usize = 8192;

/// An act on many keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BulkAct {
    /// Revoke the keys.
    Revoke,
    /// Remove these scopes from the keys. A root key is left alone.
    RemoveScopes(Vec<Scope>),
    /// Set the expiry.
    SetExpiry(Expiry),
    /// Set the owner, or remove it.
    SetOwner(Option<String>),
    /// Delete the inactive ones permanently. An active key is left alone.
    Delete,
}

/// Keys that were counted for a bulk act, each with its revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountedKeys(Vec<(KeyId, u64)>);

impl CountedKeys {
    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|(id, _)| *id)
    }

    /// Removes up to `most` keys and returns them: an act on many keys can be done in parts, and the rest is
    /// what remains to be done.
    #[must_use]
    pub fn take_first(&mut self, most: usize) -> Self {
        let rest = self.0.split_off(most.min(self.0.len()));
        Self(std::mem::replace(&mut self.0, rest))
    }
}

/// The outcome of a bulk act.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct BulkReport {
    /// The keys that are as the act makes them.
    pub done: Vec<KeyId>,
    /// The keys that were left alone, each with the reason.
    pub not_done: Vec<(KeyId, Error)>,
    /// The result of the wait for the other replicas.
    pub wait: ReplicaWait,
}

/// A key of a batch that may not be created. No key of the batch was created.
#[derive(Debug, thiserror::Error)]
#[error("key {} of the batch: {error}", index + 1)]
#[non_exhaustive]
pub struct BatchRefused {
    /// The position of the key in the batch, from 0.
    pub index: usize,
    /// The reason.
    pub error: Error,
}

impl Acting<'_> {
    /// Returns the keys that a query selects, for [`bulk`](Self::bulk). The order and the page of the query do
    /// not matter. An actor that is a key needs the scope `admin.key.list`.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # for _ in 0..3 {
    /// #     let new = NewKey::new("a", store.scopes(["admin.key.list"])?, Expiry::Never);
    /// #     store.issue(new.with_owner("shop-17"))?;
    /// # }
    /// let acting = store.acting_as(Actor::Host);
    /// let keys = acting.count_for_bulk(&list::ListQuery::default().with_owner("shop-17"))?;
    /// assert_eq!(keys.len(), 3);
    /// let report = acting.bulk(&BulkAct::Revoke, &keys);
    /// assert_eq!((report.done.len(), report.not_done.len()), (3, 0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn count_for_bulk(&self, query: &ListQuery) -> Result<CountedKeys, Error> {
        let authority = self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        let mut query = query.clone();
        if let Some(own) = authority.boundary() {
            if query.owner.as_ref().is_some_and(|owner| owner.as_deref() != Some(own)) {
                return Ok(CountedKeys::default());
            }
            query.owner = Some(Some(own.to_owned()));
        }
        let ids = list::all(self.caller().core, self.store.prefix, &query)?;
        Ok(self.counted(ids.into_iter()))
    }

    /// Returns these keys for [`bulk`](Self::bulk), without those that do not exist. An actor that is a key
    /// needs the scope `admin.key.list`.
    pub fn count_ids_for_bulk(&self, ids: &[KeyId]) -> Result<CountedKeys, Error> {
        let authority = self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        let exists = |id: &KeyId| {
            self.store.get(*id).is_ok_and(|record| authority.sees(record.owner.as_deref()))
        };
        let mut ids: Vec<KeyId> = ids.iter().copied().filter(exists).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(self.counted(ids.into_iter()))
    }

    fn counted(&self, ids: impl Iterator<Item = KeyId>) -> CountedKeys {
        let revision = |id| self.store.get(id).ok().map(|record| (id, record.revision));
        CountedKeys(ids.filter_map(revision).collect())
    }

    /// Does an act on the counted keys, with the rights that each single act needs. A key that changed since
    /// it was counted is left alone. Stricter changes take effect in memory before the first is written.
    /// Blocks until all changes are durable.
    ///
    /// If this is interrupted, some keys are done and others are not. The keys that are done stay done: count
    /// again with the same query, and repeat the act on the rest.
    pub fn bulk(&self, act: &BulkAct, keys: &CountedKeys) -> BulkReport {
        let mut report = BulkReport::default();
        let denies = Cell::new(false);
        for some in keys.0.chunks(MAX_AT_ONCE) {
            let outcomes = match act {
                BulkAct::Delete => self.delete_all(some),
                _ => self.update_all(act, some, &denies),
            };
            for ((id, _), outcome) in some.iter().zip(outcomes) {
                match outcome {
                    Ok(()) => report.done.push(*id),
                    Err(error) => report.not_done.push((*id, error)),
                }
            }
        }
        if denies.get() || (*act == BulkAct::Delete && !report.done.is_empty()) {
            report.wait = self.caller().core.wait_for_replicas();
        }
        report
    }

    /// Revokes many keys, whatever their revision, and returns the outcomes in the order of `ids`. All of them are
    /// refused in memory before the first revocation is written. The actor's own key comes last, since an actor
    /// that is revoked changes nothing. A key that cannot be revoked does not stop the others. Blocks until all
    /// revocations are durable.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let new = || Ok::<_, Error>(NewKey::new("a", store.scopes(["admin.key.list"])?, Expiry::Never));
    /// let leaked = [store.issue(new()?)?.record.id, store.issue(new()?)?.record.id];
    /// let outcomes = store.acting_as(Actor::Host).revoke_all(&leaked);
    /// assert!(outcomes.iter().flatten().all(|record| !record.active));
    /// # assert_eq!(outcomes.iter().flatten().count(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn revoke_all(&self, ids: &[KeyId]) -> Vec<Result<Arc<Record>, Error>> {
        let is_own = |id: &KeyId| Actor::Key(*id) == self.actor;
        let others: Vec<KeyId> = ids.iter().copied().filter(|id| !is_own(id)).collect();
        let denies = Cell::new(false);
        let plan = |planning: &mut Planning<'_>, &id: &KeyId| {
            let (change, metadata) = (Change::deactivate(), MetadataPatch::new());
            let update = Update { id, revision: None, change, metadata };
            let planned = planning.plan_update(&update, &denies)?;
            // A repeated revocation also waits for the replicas.
            denies.set(denies.get() || !planned.updated.is_looser);
            Ok((planned.updated.record, planned.sequence))
        };
        let mut outcomes = Vec::with_capacity(others.len());
        for some in others.chunks(MAX_AT_ONCE) {
            let attempt = Attempt::Update;
            outcomes.extend(commit_all(
                self.caller(),
                attempt,
                some,
                &denies,
                |id| Some(*id),
                plan,
            ));
        }
        if denies.get() {
            self.caller().core.wait_for_replicas();
        }
        let mut outcomes = outcomes.into_iter();
        let outcome_of = |id: &KeyId| {
            if is_own(id) {
                return self.revoke(*id);
            }
            let outcome = outcomes.next().unwrap_or(Err(Error::Contended));
            outcome.map(|record| self.shown(record))
        };
        ids.iter().map(outcome_of).collect()
    }

    fn update_all(
        &self,
        act: &BulkAct,
        keys: &[(KeyId, u64)],
        denies: &Cell<bool>,
    ) -> Vec<Result<(), Error>> {
        let plan = |planning: &mut Planning<'_>, &(id, revision): &(KeyId, u64)| {
            let record = planning.record(id, Attempt::Update)?;
            let change = change_of(act, &record)?;
            let (revision, metadata) = (Some(revision), MetadataPatch::new());
            let update = Update { id, revision, change, metadata };
            let planned = planning.plan_update(&update, denies)?;
            // A repeated revocation also waits for the replicas.
            denies.set(denies.get() || !planned.updated.is_looser);
            Ok(((), planned.sequence))
        };
        commit_all(self.caller(), Attempt::Update, keys, denies, |(id, _)| Some(*id), plan)
    }

    fn delete_all(&self, keys: &[(KeyId, u64)]) -> Vec<Result<(), Error>> {
        let plan = |planning: &mut Planning<'_>, &(id, revision): &(KeyId, u64)| {
            planning.plan_removal(id, Some(revision)).map(|sequence| ((), sequence))
        };
        let denies = Cell::new(false);
        commit_all(self.caller(), Attempt::Delete, keys, &denies, |(id, _)| Some(*id), plan)
    }

    /// Issues many keys, in the order of `new`. If one of them is not valid or not allowed, none is issued.
    /// Blocks until all are durable. An error of a single key means that it was not issued, or that its
    /// outcome is unknown; the others are issued.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// let new = |name: &str| -> Result<NewKey, Error> {
    ///     Ok(NewKey::new(name, store.scopes(["admin.key.list"])?, Expiry::Never))
    /// };
    /// let acting = store.acting_as(Actor::Host);
    /// let issued = acting.issue_all(vec![new("Till 4")?, new("Till 5")?])?;
    /// assert_eq!(issued.into_iter().filter_map(Result::ok).count(), 2);
    /// let refused = acting.issue_all(vec![new("Till 6")?, new("")?]).unwrap_err();
    /// assert_eq!((refused.index, store.count().active), (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn issue_all(&self, new: Vec<NewKey>) -> Result<Vec<Result<Issued, Error>>, BatchRefused> {
        let (caller, whole) = (self.caller(), |error| BatchRefused { index: 0, error });
        let fresh = |new: NewKey| Ok((FreshKey::generate(caller.core, self.store.prefix)?, new));
        let items: Vec<(FreshKey, NewKey)> =
            new.into_iter().map(fresh).collect::<Result<_, Error>>().map_err(whole)?;
        let planning = Planning::begin(caller, Attempt::Create, None).map_err(whole)?;
        let wrong = items.iter().enumerate().find_map(|(index, (fresh, new))| {
            planning.new_record(fresh.id, new.clone()).err().map(|unplanned| (index, unplanned))
        });
        if let Some((index, unplanned)) = wrong {
            let error = planning.report(Attempt::Create, None, unplanned);
            return Err(BatchRefused { index, error });
        }
        drop(planning);
        let plan = |planning: &mut Planning<'_>, (fresh, new): &(FreshKey, NewKey)| {
            planning.plan_creation(fresh.id, fresh.digest, new.clone(), None)
        };
        let denies = Cell::new(false);
        let outcomes = commit_all(caller, Attempt::Create, &items, &denies, |_| None, plan);
        let issued = items.into_iter().zip(outcomes).map(|((fresh, _), outcome)| {
            outcome.map(|record| Issued { record, secret: fresh.secret })
        });
        Ok(issued.collect())
    }
}

fn change_of(act: &BulkAct, record: &Record) -> Result<Change, Unplanned> {
    Ok(match act {
        BulkAct::Revoke => Change::deactivate(),
        BulkAct::RemoveScopes(removed) => match record.grant {
            Grant::All => {
                let reason = "a root key has every scope; give it a set of scopes instead";
                return Err(Error::invalid(Field::Scopes, reason).into());
            }
            Grant::Scopes(set) => Change::default().with_grant(set.without(removed)),
        },
        BulkAct::SetExpiry(expiry) => Change::default().with_expiry(*expiry),
        BulkAct::SetOwner(owner) => Change { owner: Some(owner.clone()), ..Change::default() },
        BulkAct::Delete => Change::default(),
    })
}
