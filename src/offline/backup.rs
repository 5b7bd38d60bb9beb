//! Verifying a backup, and restoring a store from it.

use super::Offline;
use crate::{
    backup::{self, LaterEvidence, Progress, Restored, Summary},
    error::Error,
    record::Actor,
};
use std::{io::Read, path::Path};

impl Offline {
    /// Verifies a backup and returns its summary. Fails if the backup is incomplete or was altered.
    /// Of the options, only the pepper is used.
    pub fn verify_backup(
        &self,
        from: impl Read,
        progress: impl FnMut(Progress),
    ) -> Result<Summary, Error> {
        backup::verify(from, &*self.seals()?, progress)
    }

    /// Creates a new store from a backup in `dir`, which must be absent or empty. The new store is
    /// not opened.
    ///
    /// `later` is the evidence of the changes after the backup. They restrict every key: a key that
    /// was revoked, narrowed, shortened, rotated or deleted stays so. If the evidence is incomplete,
    /// nothing is created. The new audit log contains the old one. Its last entry records the restore,
    /// with `by` as the actor. Of the options, the pepper and the anchor are used.
    ///
    /// ```
    /// # use portcullis::{*, backup::LaterEvidence};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).open(&old)?;
    /// # let id = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?.record.id;
    /// let mut bytes = Vec::new();
    /// store.backup(&mut bytes, |_| ())?;
    /// store.revoke(id)?;
    /// drop(store);
    /// let later = LaterEvidence::Directory { data: old, anchor: None };
    /// Offline::new().restore(&bytes[..], &new, &later, Actor::Host, |_| ())?;
    /// assert!(!Store::open(&new)?.get(id)?.active);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn restore(
        &self,
        from: impl Read,
        dir: impl AsRef<Path>,
        later: &LaterEvidence,
        by: Actor,
        progress: impl FnMut(Progress),
    ) -> Result<Restored, Error> {
        let into = backup::Target { dir: dir.as_ref(), anchor: self.anchor.as_deref(), by };
        backup::restore(from, &into, later, &self.seals()?, progress)
    }
}
