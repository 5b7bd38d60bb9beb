//! Acts that change no key: why a key is refused, the newest change, the refusal of a caller.

use super::Acting;
use crate::{
    audit::Attempt,
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
    /// An answer that reports a key inactive rests on a change, so this waits until the change is
    /// durable. The refusal is [`Refusal::Unavailable`], without a record, if that cannot be said.
    pub fn why_refused(&self, id: KeyId) -> Result<(Refusal, Option<Arc<Record>>), Error> {
        self.require(Attempt::Verify, Some(id), &ADMIN_KEY_VERIFY)?;
        let core = self.caller().core;
        core.again(|| {
            let plans = core.plan();
            let (planned, pending) = (core.planned(&plans, id), plans.pending_sequence(id));
            core.wait(plans, pending)?;
            let Some((record, _)) = planned else { return Ok((Refusal::Unknown, None)) };
            match record.standing().check(|| core.clock.now()) {
                Err(refusal) => Ok((refusal, Some(record))),
                // A change in flight reactivates the key, or what denies it may never be durable.
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

    /// Like [`refuse`](Self::refuse), for a caller that is refused whether or not the audit log can be
    /// written: a failure is logged instead of returned.
    pub fn refuse_or_log(&self, attempt: Attempt, key: Option<KeyId>, reason: &str) {
        if let Err(gap) = self.caller().note_refusal(attempt, key, Change::default(), reason) {
            gap.log(self.actor);
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
    fn key_without_the_scope_learns_neither_why_a_key_is_refused_nor_the_newest_change() {
        let store = Store::in_memory().unwrap();
        let key = |names: &[&str]| store.issue(new_key(&store, names, true)).unwrap().record.id;
        let (plain, clerk) = (key(&["api.read"]), key(&["admin.key.list", "admin.key.verify"]));
        let plainly = store.acting_as(Actor::Key(plain), None);
        assert!(matches!(plainly.why_refused(clerk), Err(Error::Forbidden(_))));
        assert!(matches!(plainly.newest_change(), Err(Error::Forbidden(_))));
        let clerk = store.acting_as(Actor::Key(clerk), None);
        assert!(clerk.why_refused(plain).is_ok() && clerk.newest_change().is_ok());
    }

    #[test]
    fn the_newest_change_is_the_last_that_is_durable() {
        let (store, script) = scripted_store();
        let newest = |store: &Store| store.acting_as(Actor::Host, None).newest_change().unwrap();
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
