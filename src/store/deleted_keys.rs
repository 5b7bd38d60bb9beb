//! The keys that were deleted, from the audit log: an import must not bring one back.

use crate::{
    audit_entry::Act,
    error::{Error, Field},
    id::KeyId,
    ledger::Ledger,
    scope::Catalogue,
};
use std::collections::HashSet;

/// The entries of the audit log that are read at a time.
const ENTRIES_AT_ONCE: usize = 1000;

/// The keys that were deleted, as far as the audit log was read.
#[derive(Default)]
pub(super) struct DeletedKeys {
    through: u64,
    ids: HashSet<KeyId>,
}

impl DeletedKeys {
    pub(super) fn contains(&self, id: KeyId) -> bool {
        self.ids.contains(&id)
    }

    /// Reads the entries since the last call.
    pub(super) fn read(
        &mut self,
        ledger: &dyn Ledger,
        catalogue: &'static Catalogue,
        accept_pruned: bool,
    ) -> Result<(), Error> {
        let start = ledger.audit_start().through;
        if start > self.through && !accept_pruned {
            return Err(Error::invalid(
                Field::Key,
                "the audit log was pruned, so keys that were deleted before are not known, and an import would bring \
                 them back; import digests of other systems only, or accept the pruned log",
            ));
        }
        self.through = self.through.max(start);
        loop {
            let entries = ledger.audit(self.through, ENTRIES_AT_ONCE, catalogue)?;
            let Some(last) = entries.last() else { return Ok(()) };
            self.through = last.sequence;
            let deleted = entries.iter().filter(|entry| entry.act == Act::Delete);
            self.ids.extend(deleted.filter_map(|entry| entry.key));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Actor, Error, ImportOptions, ImportOutcome, ImportedSecret, Store, Timestamp,
        scope::catalogue::financial_data,
        store::{testing::advance_time, tests::new_key},
    };

    #[test]
    fn import_of_an_own_key_needs_a_whole_log_or_an_acceptance() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("keys");
        let store = Store::builder().scopes(financial_data()).open(&home).unwrap();
        let issued = store.issue(new_key(&store, &["api.read"], true)).unwrap();
        let (id, text) = (issued.record.id, issued.secret.reveal(str::to_owned));
        store.revoke(id).unwrap();
        store.delete(id).unwrap();
        let day = |days: u64| Timestamp::from_secs(store.now().as_secs() + days * 86_400);
        let (cut, later) = (day(1), day(3));
        advance_time(&store, later);
        store.issue(new_key(&store, &["api.read"], true)).unwrap();
        // Pruning keeps the entries that the anchor has not seen; closing syncs it.
        drop(store);
        let store = Store::builder().open(&home).unwrap();
        assert!(store.acting_as(Actor::Host).prune_audit(cut).unwrap().is_some());
        drop(store);
        let store = Store::builder().open(&home).unwrap();
        let import = |store: &Store, accept_pruned_log, dry_run| {
            let secret = ImportedSecret::Plaintext(text.clone().into());
            let keys = vec![(new_key(store, &["api.read"], true), secret)];
            store.acting_as(Actor::Host).import(keys, ImportOptions { dry_run, accept_pruned_log })
        };
        for dry_run in [false, true] {
            let refused = import(&store, false, dry_run).unwrap_err();
            assert!(matches!(&refused, Error::Invalid { .. }));
            assert!(refused.to_string().contains("pruned"));
        }
        assert!(import(&store, true, false).unwrap().remove(0).is_ok());
        drop(store);
        // A dry run needs no deleted keys to see that the store has the key.
        let store = Store::builder().open(&home).unwrap();
        let present = import(&store, false, true).unwrap().remove(0).unwrap();
        assert!(matches!(present, ImportOutcome::Present(_)));
    }
}
