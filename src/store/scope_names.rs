//! The scope names of a store: which names it offers, and which of them have a number.

use crate::{
    error::Error,
    scope::{Catalogue, Scope},
};

/// The scope names of a store.
pub(super) struct ScopeNames {
    /// The names that have a number, in that order, and then the names that the host adds.
    catalogue: &'static Catalogue,
    /// How many names have a number.
    pub(super) numbered: usize,
    /// The host's own scopes, if any. A replica needs them when another replica numbers names.
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "only replicas read it"))]
    pub(super) host: Option<Vec<(Scope, String)>>,
}

impl ScopeNames {
    /// Creates the catalogue of the numbered names and the host's own scopes.
    pub(super) fn new(
        names: Vec<Scope>,
        host: Option<Vec<(Scope, String)>>,
    ) -> Result<Self, Error> {
        let numbered = names.len();
        Ok(Self { catalogue: Catalogue::new(names, host.as_deref())?, numbered, host })
    }

    pub(super) fn catalogue(&self) -> &'static Catalogue {
        self.catalogue
    }
}
