//! Acts that change no key: the reason of a refusal, the newest change, the refusal of a caller.

use super::Acting;
use crate::{
    audit_entry::Attempt,
    error::Error,
    id::KeyId,
    record::{Change, Record},
    refusal::Refusal,
    scope::{
        Scope,
        catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_VERIFY},
    },
    store::planning::Planning,
};
use std::sync::Arc;

impl Acting<'_> {
    /// Returns why the store refuses a key, and the key's record. An actor that is a key needs the
    /// scope `admin.key.verify`.
    ///
    /// A pending change may have made the key inactive, so this waits until the change is durable. If the
    /// outcome is unknown, the refusal is [`Refusal::Unavailable`], without a record.
    pub fn why_refused(&self, id: KeyId) -> Result<(Refusal, Option<Arc<Record>>), Error> {
        self.require(Attempt::Verify, Some(id), &ADMIN_KEY_VERIFY)?;
        let core = self.caller().core;
        core.retry(|| {
            let plans = core.plan();
            let (planned, pending) = (core.planned(&plans, id), plans.pending_sequence(id));
            core.wait(plans, pending)?;
            let Some((record, _)) = planned else { return Ok((Refusal::Unknown, None)) };
            match record.standing().check(|| core.clock.now()) {
                Err(refusal) => Ok((refusal, Some(record))),
                // A pending change reactivates the key, or its denial may never be durable.
                Ok(()) => Ok((Refusal::Unavailable, None)),
            }
        })
    }

    /// Returns the number of the newest durable change, which is also that of the newest entry of
    /// the audit log. An actor that is a key needs the scope `admin.key.list`.
    pub fn newest_change(&self) -> Result<u64, Error> {
        self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        Ok(self.caller().core.plan().committed)
    }

    /// Like [`refuse`](Self::refuse), but logs a failure to write the audit log instead of returning it.
    pub fn refuse_or_log(&self, attempt: Attempt, key: Option<KeyId>, reason: &str) {
        if let Err(unwritten) = self.caller().note_refusal(attempt, key, Change::default(), reason)
        {
            unwritten.log(self.actor);
        }
    }

    fn require(&self, attempt: Attempt, key: Option<KeyId>, scope: &Scope) -> Result<(), Error> {
        Planning::begin(self.caller(), attempt, key)?.require_scope(attempt, key, scope)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Actor, Error,
        store::{
            Store,
            testing::scripted_store,
            tests::{issue, new_key},
        },
    };

    #[test]
    fn refusal_reason_and_newest_change_require_their_scopes() {
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).in_memory().unwrap();
        let key = |names: &[&str]| store.issue(new_key(&store, names, true)).unwrap().record.id;
        let (plain, clerk) = (key(&["api.read"]), key(&["admin.key.list", "admin.key.verify"]));
        let plainly = store.acting_as(Actor::Key(plain));
        assert!(matches!(plainly.why_refused(clerk), Err(Error::Forbidden(_))));
        assert!(matches!(plainly.newest_change(), Err(Error::Forbidden(_))));
        let clerk = store.acting_as(Actor::Key(clerk));
        assert!(clerk.why_refused(plain).is_ok() && clerk.newest_change().is_ok());
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
