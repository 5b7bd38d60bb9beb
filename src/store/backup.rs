//! Taking a backup of an open store.

use super::handle::Store;
use crate::{
    backup::{self, Progress, Summary},
    error::Error,
};
use std::io::Write;

impl Store {
    /// Writes a backup to `to`: the state of the store at one moment after the call began. Other calls
    /// continue meanwhile. The backup contains digests, never secrets, and the last use of each key.
    ///
    /// Sync the file before you rely on the backup.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).open(dir.path().join("keys"))?;
    /// let mut bytes = Vec::new();
    /// let taken = store.backup(&mut bytes, |_| ())?;
    /// let found = Offline::new().verify_backup(&bytes[..], |_| ())?;
    /// assert_eq!(taken, found);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn backup(&self, to: impl Write, progress: impl FnMut(Progress)) -> Result<Summary, Error> {
        let writer = &self.writer;
        if let Some(reason) = writer.poisoned() {
            return Err(Error::Poisoned(reason));
        }
        let Some(snapshot) = writer.ledger.snapshot()? else {
            return Err(Error::bad_backup("a store in memory does not keep its audit log"));
        };
        let last_use = |id| writer.index.last_use(id);
        backup::take(snapshot, &writer.seals, writer.clock.now(), last_use, to, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Offline,
        backup::LaterEvidence,
        record::{Actor, Expiry, NewKey},
        refusal::Refusal,
        time::Timestamp,
    };

    #[test]
    fn pruned_audit_log_is_backed_up_and_restored_from_its_start() {
        let room = tempfile::tempdir().unwrap();
        let (old, new) = (room.path().join("old"), room.path().join("new"));
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).open(&old).unwrap();
        let issued =
            store.issue(NewKey::new("a", store.scopes(["api.read"]).unwrap(), Expiry::Never));
        let issued = issued.unwrap();
        let key = issued.secret.reveal(|text| text.as_bytes().to_vec());
        let made = issued.record.created_at.as_secs();
        // Entries that the anchor does not cover yet are not pruned.
        drop(store);
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).open(&old).unwrap();
        store.writer.clock.advance(Timestamp::from_secs(made + 9 * 86_400));
        let host = store.acting_as(Actor::Host);
        let pruned = host.prune_audit(Timestamp::from_secs(made + 86_400)).unwrap().unwrap();
        assert_eq!((pruned.through, pruned.sequence), (2, 3));
        let mut bytes = Vec::new();
        let taken = store.backup(&mut bytes, |_| ()).unwrap();
        assert_eq!(taken, Offline::new().verify_backup(&bytes[..], |_| ()).unwrap());
        store.revoke(issued.record.id).unwrap();
        let entries = store.audit(0, 100).unwrap();
        drop(store);

        let later = LaterEvidence::Directory { data: old, anchor: None };
        Offline::new().restore(&bytes[..], &new, &later, Actor::Host, |_| ()).unwrap();
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).open(&new).unwrap();
        assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
        assert_eq!(store.audit(0, 100).unwrap()[..2], entries[..]);
        assert_eq!(entries.first().map(|entry| entry.sequence), Some(3));
    }
}
