//! Reading and setting the policy of a store.

use super::{acting::Acting, handle::Store};
use crate::{
    error::Error,
    policy::Policy,
    record::{Actor, Expiry},
    scope::Grant,
};

impl Store {
    /// The policy of the store. A store without one has the default policy, which limits nothing.
    pub fn policy(&self) -> Result<Policy, Error> {
        self.writer.names().policy()
    }

    /// Sets the policy of the store. When this returns, every replica enforces it. No key changes: a key that
    /// exceeds the new policy stays as it is.
    ///
    /// Fails with [`Error::Invalid`] for a default lifetime above the longest one, and for a lifetime below
    /// one second.
    pub fn set_policy(&self, policy: Policy) -> Result<(), Error> {
        self.acting_as(Actor::Host).set_policy(policy)
    }

    /// The expiry of a key with this grant whose creator names none: now plus the default lifetime.
    pub fn default_expiry(&self, grant: &Grant) -> Result<Expiry, Error> {
        Ok(self.policy()?.default_expiry(grant, self.writer.clock.now()))
    }
}

impl Acting<'_> {
    /// [`Store::set_policy`] for this actor: the host, a local operator or a root key.
    pub fn set_policy(&self, policy: Policy) -> Result<(), Error> {
        self.caller().set_policy(policy.checked()?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Change, Error, Expiry, NewKey, Store,
        error::Field,
        list::ListQuery,
        policy::{Policy, PolicyState},
        scope::{NumberedScope, catalogue},
    };

    #[test]
    fn under_a_policy_of_a_newer_version_keys_are_revoked_and_not_created() {
        let store = Store::builder().scopes(catalogue::financial_data()).in_memory().unwrap();
        let scopes = || store.scopes(["api.read", "api.write"]).unwrap();
        let id = store.issue(NewKey::new("a", scopes(), Expiry::Never)).unwrap().record.id;
        store.set_policy(Policy::default()).unwrap();
        let description = "2 something else".to_owned();
        let newer = NumberedScope { description, ..PolicyState::default().stored() };
        let names = store.writer.names().clone();
        let place = names.numbered().iter().position(|name| name.scope == newer.scope).unwrap();
        store.writer.names_mut().set(place, newer).unwrap();
        let is_refused = |error: &Error| matches!(error, Error::Invalid { field: Field::Policy, reason } if reason.contains("newer"));
        let new = NewKey::new("b", scopes(), Expiry::Never);
        assert!(is_refused(&store.issue(new).unwrap_err()));
        assert!(is_refused(
            &store.list(&ListQuery::default().with_exceeds_policy(true)).unwrap_err()
        ));
        let narrow = Change::default().with_grant(store.scopes(["api.read"]).unwrap());
        store.update(id, narrow).unwrap();
        store.revoke(id).unwrap();
        assert!(is_refused(&store.update(id, Change::activate()).unwrap_err()));
        assert!(!store.get(id).unwrap().active);
    }
}
