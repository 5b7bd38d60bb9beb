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
