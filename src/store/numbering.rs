//! Assigns numbers to scope names.

use super::core::Core;
use crate::{
    audit_entry::{Act, AuditEntry},
    codec::{self, DbKey},
    error::Error,
    ledger::Put,
    record::Actor,
    scope::{Catalogue, TooManyScopes},
};
use std::{ptr, sync::PoisonError};

/// The maximum number of names in one change if replicas share the store: it must fit into one
/// transaction.
const NAMES_AT_ONCE: usize = 100;

impl Core {
    pub(super) fn numbered(&self) -> usize {
        self.names.read().unwrap_or_else(PoisonError::into_inner).numbered
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
        let most = if self.ledger.replicas().is_some() { NAMES_AT_ONCE } else { usize::MAX };
        let new = catalogue.entries().iter().enumerate().skip(numbered).take(most);
        let puts = new
            .map(|(number, entry)| {
                let number = u8::try_from(number).map_err(|_| TooManyScopes)?;
                let frame = codec::encode_scope(entry.scope.as_str(), number, &self.seals.frame)?;
                Ok(Put { key: DbKey::Scope(number), frame: Some(frame) })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let added = puts.len();
        let mut plans = self.plan();
        self.check_space()?;
        self.check_numbered(numbered, catalogue)?;
        let entry = AuditEntry::new(Actor::Host, Act::ExtendCatalogue);
        let sequence = self.queue(&mut plans, entry, puts, Vec::new())?;
        self.wait(plans, sequence)?;
        if self.ledger.replicas().is_none() {
            self.names.write().unwrap_or_else(PoisonError::into_inner).numbered += added;
        }
        Ok(())
    }

    /// Fails if another replica has numbered names since these were read.
    pub(super) fn check_numbered(
        &self,
        numbered: usize,
        catalogue: &'static Catalogue,
    ) -> Result<(), Error> {
        let is_current = self.numbered() == numbered && ptr::eq(self.catalogue(), catalogue);
        if is_current { Ok(()) } else { Err(Error::Contended) }
    }
}
