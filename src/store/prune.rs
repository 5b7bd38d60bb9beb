//! Pruning: removes old entries of the audit log, and records the actor, the time and the range.
//!
//! A prune is an entry of the audit log. The same change writes the new audit start. Afterwards the
//! entries before it are removed in batches. The audit start keeps the chain head of the last removed
//! entry. So the remaining entries are still proved, and an older export can be joined to them.

use super::{acting::Acting, planning::Planning, pruned::Pruned, requests::RETENTION};
use crate::{
    audit_entry::Attempt,
    error::{Error, Field, Forbidden},
    time::Timestamp,
};

impl Acting<'_> {
    /// Permanently removes the entries of the audit log that are older than `before`; `None` if there
    /// are none. Export them first if they may be needed. Entries that the last day's idempotent
    /// requests need stay, and so do entries that the anchor has not seen. Only the host and local
    /// operators may prune: no key removes its own traces.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).open(dir.path().join("keys"))?;
    /// let long_ago = Timestamp::from_secs(1_700_000_000);
    /// let acting = store.acting_as(Actor::Host);
    /// assert_eq!(acting.prune_audit(long_ago)?, None); // nothing is that old
    /// # Ok::<(), Error>(())
    /// ```
    pub fn prune_audit(&self, before: Timestamp) -> Result<Option<Pruned>, Error> {
        let caller = self.caller();
        let begin = || {
            Planning::begin(caller, Attempt::Prune, None)?
                .require_local(Attempt::Prune, Forbidden::PruneIsLocal)
        };
        drop(begin()?);
        let kept = u64::try_from(RETENTION.as_millis()).unwrap_or(u64::MAX);
        let core = caller.core;
        if before.as_millis() > core.clock.now().as_millis().saturating_sub(kept) {
            return Err(Error::invalid(
                Field::Before,
                "must be at least a day ago; idempotent requests need the entries of the last day",
            ));
        }
        core.retry(|| match core.ledger.prune_point(before, core.catalogue())? {
            Some(point) => begin()?.prune(point),
            None => Ok(None),
        })
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests;
