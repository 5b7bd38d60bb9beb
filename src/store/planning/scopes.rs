//! The planning of a change of one scope.

use super::{Authority, Planning};
use crate::{
    audit_entry::{Act, Attempt},
    codec::{self, DbKey},
    error::{Error, Forbidden},
    id::KeyId,
    ledger::Put,
    record::Change,
    scope::{Grant, NumberedScope, TooManyScopes},
    store::scope_names::ScopeNames,
};

impl Planning<'_> {
    /// Sets the scope of this number, unless the scopes have changed since `names` were read.
    pub(in crate::store) fn set_scope(
        mut self,
        names: &ScopeNames,
        number: usize,
        scope: &NumberedScope,
        act: Act,
        obsolete_uses: &[KeyId],
    ) -> Result<(), Error> {
        let core = self.caller.core;
        let number = u8::try_from(number).map_err(|_| TooManyScopes)?;
        self.plans.check_writable()?;
        core.check_space()?;
        core.check_numbered(names.numbered().len(), names.catalogue())?;
        let frame = codec::encode_scope(scope, number, &core.seals.frame)?;
        let mut puts = vec![Put { key: DbKey::Scope(number), frame: Some(frame) }];
        let obsolete = obsolete_uses.iter().map(|id| Put { key: DbKey::Use(*id), frame: None });
        puts.extend(obsolete);
        let entry = self.caller.entry(act, None, Change::default(), Change::default());
        let sequence = core.queue(&mut self.plans, entry, puts, Vec::new())?;
        core.wait(self.plans, sequence)
    }

    /// Refuses an act that only root keys, the host and local operators may do.
    pub(in crate::store) fn require_root(
        self,
        attempt: Attempt,
        refused: Forbidden,
    ) -> Result<Self, Error> {
        match &self.authority {
            Authority::Key(actor) if actor.grant != Grant::All => {
                Err(self.refuse(attempt, None, Change::default(), refused.into()))
            }
            _ => Ok(self),
        }
    }
}
