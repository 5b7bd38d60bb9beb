//! Acts that change no key: reading on behalf of an actor, and the refusal of a caller.
//!
//! An actor that is a key with an owner sees only the keys of that owner, and other keys do not exist for it.
//! Root keys and keys without an owner see all.

use super::Acting;
use crate::{
    audit_entry::{Act, Attempt, AuditEntry},
    error::Error,
    id::KeyId,
    record::{Actor, Change, Record},
    refusal::Refusal,
    scope::{
        Scope,
        catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_VERIFY},
    },
    store::{
        health::{Count, OwnerKeys},
        list::{ListQuery, Page},
        planning::Planning,
        rules::{Authority, Reach},
    },
};
use std::{net::IpAddr, sync::Arc};

impl Acting<'_> {
    /// Returns why the store refuses a key, and the key's record. An actor that is a key needs the
    /// scope `admin.key.verify`.
    ///
    /// A pending change may have made the key inactive, so this waits until the change is durable. If the
    /// outcome is unknown, the refusal is [`Refusal::Unavailable`], without a record.
    ///
    /// `address` is that from which the key was used, if it is known.
    pub fn why_refused(
        &self,
        id: KeyId,
        address: Option<IpAddr>,
    ) -> Result<(Refusal, Option<Arc<Record>>), Error> {
        let authority = self.require(Attempt::Verify, Some(id), &ADMIN_KEY_VERIFY)?;
        let core = self.caller().core;
        core.retry(|| {
            let plans = core.plan();
            let (planned, pending) = (core.planned(&plans, id), plans.pending_sequence(id));
            // A key of another owner is not waited for: the time would tell that it exists.
            if planned.as_ref().is_some_and(|(key, _)| !authority.sees(key.owner.as_deref())) {
                return Ok((Refusal::Unknown, None));
            }
            core.wait(plans, pending)?;
            let Some((record, _)) = planned else { return Ok((Refusal::Unknown, None)) };
            match record.standing().check(address, || core.clock.now()) {
                Err(refusal) => Ok((refusal, Some(self.shown(record)))),
                // A pending change reactivates the key, or its denial may never be durable.
                Ok(()) => Ok((Refusal::Unavailable, None)),
            }
        })
    }

    /// Returns the number of the newest durable change, which is also that of the newest entry of
    /// the audit log. An actor that is a key needs the scope `admin.key.list`.
    pub fn newest_change(&self) -> Result<u64, Error> {
        drop(self.require(Attempt::List, None, &ADMIN_KEY_LIST)?);
        Ok(self.caller().core.plan().committed)
    }

    /// Like [`refuse`](Self::refuse), but logs a failure to write the audit log instead of returning it.
    pub fn refuse_or_log(&self, attempt: Attempt, key: Option<KeyId>, reason: &str) {
        if let Err(unwritten) = self.caller().note_refusal(attempt, key, Change::default(), reason)
        {
            unwritten.log(self.actor);
        }
    }

    /// Returns the record of a key. An actor that is a key needs the scope `admin.key.list`.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// let key = |name: &str, owner: &str| -> Result<KeyId, Error> {
    ///     let scopes = store.scopes(["admin.key.list"])?;
    ///     Ok(store.issue(NewKey::new(name, scopes, Expiry::Never).with_owner(owner))?.record.id)
    /// };
    /// let (clerk, colleague, other) = (key("a", "shop")?, key("b", "shop")?, key("c", "bank")?);
    /// let acting = store.acting_as(Actor::Key(clerk));
    /// assert_eq!(acting.get(colleague)?.name, "b");
    /// assert!(matches!(acting.get(other), Err(Error::NoSuchKey(_))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn get(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        let authority = self.require(Attempt::List, Some(id), &ADMIN_KEY_LIST)?;
        self.find(&authority, id)
    }

    /// Returns the record of the actor's own key, which needs no scope. [`Error::NoSuchKey`] if it was
    /// deleted; the host and local users have none.
    pub fn own(&self) -> Result<Option<Arc<Record>>, Error> {
        let Actor::Key(id) = self.actor else { return Ok(None) };
        self.store.get(id).map(|record| Some(self.shown(record)))
    }

    /// Returns the record of a key that was just authenticated, and `None` if it does not exist for the actor.
    /// An actor that is a key needs the scope `admin.key.verify`.
    pub fn verified(&self, id: KeyId) -> Result<Option<Arc<Record>>, Error> {
        let authority = self.require(Attempt::Verify, Some(id), &ADMIN_KEY_VERIFY)?;
        Ok(self.find(&authority, id).ok())
    }

    /// Returns the record of a key, unless it does not exist for the actor. Checks no scope: for the names on a
    /// page that the actor may read.
    pub fn visible(&self, id: KeyId) -> Option<Arc<Record>> {
        let record = self.store.get(id).ok()?;
        self.reach().includes(record.owner.as_deref()).then(|| self.shown(record))
    }

    /// Whether the actor has an owner, and so sees only the keys of that owner.
    pub fn has_boundary(&self) -> bool {
        !matches!(self.reach(), Reach::Every)
    }

    fn find(&self, authority: &Authority, id: KeyId) -> Result<Arc<Record>, Error> {
        let record = self.store.get(id)?;
        if authority.sees(record.owner.as_deref()) {
            Ok(self.shown(record))
        } else {
            Err(Error::NoSuchKey(id))
        }
    }

    /// Returns a page of keys: see [`Store::list`](crate::Store::list). An actor that is a key needs the scope
    /// `admin.key.list`.
    pub fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        let authority = self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        let Some(own) = authority.boundary() else { return self.store.list(query) };
        let mut query = query.clone();
        if query.owner.as_ref().is_some_and(|owner| owner.as_deref() != Some(own)) {
            return Ok(Page { records: Vec::new(), next_page_token: None });
        }
        query.owner = Some(Some(own.to_owned()));
        let mut page = self.store.list(&query)?;
        page.records = page.records.into_iter().map(|record| self.shown(record)).collect();
        Ok(page)
    }

    /// Returns the number of keys. An actor that is a key needs the scope `admin.key.list`.
    pub fn count(&self) -> Result<Count, Error> {
        let authority = self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        Ok(match authority.boundary() {
            Some(own) => Count::of(self.caller().core.index.count_of_owner(own)),
            None => self.store.count(),
        })
    }

    /// Returns up to `limit` owners that have keys, in the order of their names, with the numbers of their
    /// keys. `after` is the last owner of the page before. An actor that is a key needs the scope
    /// `admin.key.list`.
    pub fn owners(&self, after: Option<&str>, limit: usize) -> Result<Vec<OwnerKeys>, Error> {
        let authority = self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        let index = &self.caller().core.index;
        let found = match authority.boundary() {
            Some(own) if after.is_none_or(|after| after < own) => {
                vec![(own.into(), index.count_of_owner(own))]
            }
            Some(_) => Vec::new(),
            None => index.owners(after, limit),
        };
        let owner = |(owner, count): (Box<str>, _)| OwnerKeys { owner, keys: Count::of(count) };
        Ok(found.into_iter().take(limit).map(owner).collect())
    }

    /// Returns up to `limit` entries of the audit log: see [`Store::audit`](crate::Store::audit). An actor that is a key needs the
    /// scope `admin.key.list`.
    ///
    /// An actor with an owner gets the entries about the keys of that owner, of which `limit` entries are
    /// searched. Of the acts of others it gets key, act and time. The second value is the last entry that was
    /// searched, to continue after; `None` at the end of the log.
    pub fn audit(&self, after: u64, limit: usize) -> Result<(Vec<AuditEntry>, Option<u64>), Error> {
        let authority = self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        let mut entries = self.store.audit(after, limit)?;
        let last = entries.last().map(|entry| entry.sequence);
        if let Some(own) = authority.boundary() {
            entries.retain(|entry| self.concerns(entry, own));
            for entry in &mut entries {
                self.redact(entry, own);
            }
        }
        Ok((entries, last))
    }

    /// Whether an entry is about a key of this owner. An entry of an earlier version belongs to the present
    /// owner of its key.
    fn concerns(&self, entry: &AuditEntry, own: &str) -> bool {
        match (&entry.owner, entry.key) {
            (Some(owner), _) => owner.as_deref() == Some(own),
            (None, Some(key)) => self.is_of(key, own),
            (None, None) => false,
        }
    }

    /// Removes what an owner may not know about the act of somebody else.
    fn redact(&self, entry: &mut AuditEntry, own: &str) {
        if matches!(entry.actor, Actor::Key(actor) if self.is_of(actor, own)) {
            return;
        }
        (entry.actor, entry.source) = (Actor::Operator, None);
        (entry.before, entry.after) = (Change::default(), Change::default());
        match &mut entry.act {
            Act::Refuse { reason, .. } | Act::RefuseRepeated { reason, .. } => reason.clear(),
            Act::Rotate { into } if !self.is_of(*into, own) => entry.act = Act::Update,
            _ => {}
        }
    }

    /// Refuses an actor with an owner: what it asks for concerns the keys of all owners.
    pub fn require_every_owner(&self, attempt: Attempt) -> Result<(), Error> {
        let planning = Planning::begin(self.caller(), attempt, None)?;
        planning.require_every_owner(attempt)
    }

    fn require(
        &self,
        attempt: Attempt,
        key: Option<KeyId>,
        scope: &Scope,
    ) -> Result<Authority, Error> {
        Planning::begin(self.caller(), attempt, key)?.require_scope(attempt, key, scope)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Actor, Error,
        scope::catalogue::financial_data,
        store::{
            Store,
            testing::scripted_store,
            tests::{issue, new_key},
        },
    };

    #[test]
    fn refusal_reason_and_newest_change_require_their_scopes() {
        let store = Store::builder().scopes(financial_data()).in_memory().unwrap();
        let key = |names: &[&str]| store.issue(new_key(&store, names, true)).unwrap().record.id;
        let (plain, clerk) = (key(&["api.read"]), key(&["admin.key.list", "admin.key.verify"]));
        let plainly = store.acting_as(Actor::Key(plain));
        assert!(matches!(plainly.why_refused(clerk, None), Err(Error::Forbidden(_))));
        assert!(matches!(plainly.newest_change(), Err(Error::Forbidden(_))));
        let clerk = store.acting_as(Actor::Key(clerk));
        assert!(clerk.why_refused(plain, None).is_ok() && clerk.newest_change().is_ok());
    }

    #[test]
    fn nothing_exists_for_an_actor_whose_key_was_deleted() {
        let store = Store::builder().scopes(financial_data()).in_memory().unwrap();
        let key = || {
            let new = new_key(&store, &["admin.key.list"], true).with_owner("shop");
            store.issue(new).unwrap().record.id
        };
        let (gone, other) = (key(), key());
        let acting = store.acting_as(Actor::Key(gone));
        assert!(acting.visible(other).is_some() && acting.has_boundary());
        store.revoke(gone).unwrap();
        store.delete(gone).unwrap();
        assert!(acting.visible(other).is_none() && acting.has_boundary());
        assert!(acting.get(other).is_err());
    }

    #[test]
    fn newest_change_is_the_last_durable_one() {
        let (store, script) = scripted_store();
        let newest = |store: &Store| store.acting_as(Actor::Host).newest_change().unwrap();
        issue(&store, &script, new_key(&store, &["api.read"], true));
        issue(&store, &script, new_key(&store, &["api.read"], true));
        let other = store.clone();
        let issuing = std::thread::spawn(move || other.issue(new_key(&other, &["api.read"], true)));
        script.begun();
        assert_eq!(newest(&store), 2);
        script.verdict(true);
        issuing.join().unwrap().unwrap();
        assert_eq!(newest(&store), 3);
    }
}
