//! Assigns numbers to scope names.

use super::core::Core;
use crate::{
    audit_entry::{Act, AuditEntry},
    codec::{self, DbKey},
    error::Error,
    ledger::Put,
    record::{Actor, is_description},
    scope::{Catalogue, NumberedScope, TooManyScopes, catalogue::is_key_management},
};
use std::ptr;

/// The maximum number of names in one change if replicas share the store: it must fit into one
/// transaction.
const NAMES_AT_ONCE: usize = 100;

impl Core {
    pub(super) fn numbered(&self) -> usize {
        self.names().numbered().len()
    }

    /// Assigns a number to each name that has none.
    pub(super) fn number_names(&self) -> Result<(), Error> {
        loop {
            let numbered = self.numbered();
            if numbered >= self.catalogue().entries().len() {
                return Ok(());
            }
            match self.number_names_after(numbered) {
                Ok(()) | Err(Error::Contended) => {}
                Err(error) => return Err(error),
            }
            // A replica knows the numbers once the change is applied.
            if self.numbered() == numbered {
                self.confirm_newest()?;
            }
        }
    }

    fn number_names_after(&self, numbered: usize) -> Result<(), Error> {
        let catalogue = self.catalogue();
        let is_shared = self.ledger.replicas().is_some();
        let most = if is_shared { NAMES_AT_ONCE } else { usize::MAX };
        let new: Vec<NumberedScope> = catalogue
            .entries()
            .iter()
            .skip(numbered)
            .take(most)
            .map(|entry| {
                let mut scope = NumberedScope::from(entry.scope.clone());
                // The other replicas may be of an earlier version, which reads only names.
                let has_own =
                    !is_key_management(&entry.scope) && is_description(&entry.description);
                if has_own && !is_shared {
                    scope.description = entry.description.clone().into_owned();
                }
                scope
            })
            .collect();
        let puts = new
            .iter()
            .zip(numbered..)
            .map(|(scope, number)| {
                let number = u8::try_from(number).map_err(|_| TooManyScopes)?;
                let frame = codec::encode_scope(scope, number, &self.seals.frame)?;
                Ok(Put { key: DbKey::Scope(number), frame: Some(frame) })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut plans = self.plan();
        self.check_space()?;
        self.check_numbered(numbered, catalogue)?;
        let entry = AuditEntry::new(Actor::Host, Act::ExtendCatalogue);
        let sequence = self.queue(&mut plans, entry, puts, Vec::new())?;
        self.wait(plans, sequence)?;
        if !is_shared {
            self.names_mut().add_numbered(new);
        }
        Ok(())
    }

    /// Fails if another replica has numbered or changed scopes since these were read.
    pub(super) fn check_numbered(
        &self,
        numbered: usize,
        catalogue: &'static Catalogue,
    ) -> Result<(), Error> {
        let is_current = self.numbered() == numbered && ptr::eq(self.catalogue(), catalogue);
        if is_current { Ok(()) } else { Err(Error::Contended) }
    }
}
