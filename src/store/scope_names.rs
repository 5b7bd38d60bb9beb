//! The scopes of a store: which it offers, and which of them have a number.

use crate::{
    error::Error,
    policy::{Policy, PolicyState},
    scope::{Catalogue, NumberedScope, Scope},
};

/// The scopes of a store.
#[derive(Clone)]
pub(super) struct ScopeNames {
    /// The numbered scopes, in that order, and then the scopes that the host adds.
    catalogue: &'static Catalogue,
    numbered: Vec<NumberedScope>,
    /// The host's own scopes, if any.
    host: Option<Vec<(Scope, String)>>,
}

impl ScopeNames {
    /// Creates the catalogue of the numbered scopes and the host's own scopes.
    pub(super) fn new(
        numbered: Vec<NumberedScope>,
        host: Option<Vec<(Scope, String)>>,
    ) -> Result<Self, Error> {
        let catalogue = Catalogue::new(numbered.clone(), host.as_deref())?;
        Ok(Self { catalogue, numbered, host })
    }

    pub(super) fn catalogue(&self) -> &'static Catalogue {
        self.catalogue
    }

    /// The policy of the store, and what it remembers beside it.
    pub(super) fn policy_state(&self) -> Result<PolicyState, Error> {
        PolicyState::among(&self.numbered)
    }

    /// The policy of the store.
    pub(super) fn policy(&self) -> Result<Policy, Error> {
        self.policy_state().map(|state| state.policy)
    }

    pub(super) fn numbered(&self) -> &[NumberedScope] {
        &self.numbered
    }

    /// Replaces the numbered scopes, by those that another replica numbered too.
    #[cfg(feature = "cluster")]
    pub(super) fn set_numbered(&mut self, numbered: &[NumberedScope]) -> Result<(), Error> {
        *self = Self::new(numbered.to_vec(), self.host.take())?;
        Ok(())
    }

    /// Adds scopes of the catalogue that got the next numbers.
    pub(super) fn add_numbered(&mut self, scopes: Vec<NumberedScope>) {
        self.numbered.extend(scopes);
    }

    /// Sets the scope of this number, or adds the next one.
    pub(super) fn set(&mut self, number: usize, scope: NumberedScope) -> Result<(), Error> {
        let mut numbered = self.numbered.clone();
        match numbered.get_mut(number) {
            Some(old) => *old = scope,
            None => numbered.push(scope),
        }
        *self = Self::new(numbered, self.host.take())?;
        Ok(())
    }
}
