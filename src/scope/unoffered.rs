//! Scopes that a key holds and that its store no longer offers.

use super::ScopeSet;

impl ScopeSet {
    /// Returns this set with the scopes of `held` that the store knows and no longer offers.
    ///
    /// A form cannot show such a scope, so a key that is edited with the form keeps it.
    #[must_use]
    pub fn keeping_unoffered(mut self, held: &Self) -> Self {
        for (number, entry) in self.catalogue.entries().iter().enumerate() {
            if !entry.offered && held.contains(&entry.scope) {
                self.insert(number);
            }
        }
        self
    }
}
