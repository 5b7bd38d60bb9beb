//! Verifying a backup, and restoring a store from it.

use super::Offline;
use crate::{
    backup::{self, LaterEvidence, Progress, Restored, Summary},
    error::Error,
    record::Actor,
};
use std::{io::Read, path::Path};

impl Offline {
    /// Reads a backup to its end and says what it holds; an error if it is not whole and exactly
    /// as it was written. Only the pepper counts.
    pub fn verify_backup(
        &self,
        from: impl Read,
        progress: impl FnMut(Progress),
    ) -> Result<Summary, Error> {
        backup::verify(from, &*self.seals()?, progress)
    }

    /// Makes a new store in `dir`, which is absent or empty, from a backup. It is not opened.
    ///
    /// Every key is met with what was decided on it after the backup was taken, as `later` tells:
    /// what was revoked, narrowed, shortened, rotated away or deleted stays so. Where that cannot be
    /// known to its end, nothing is made. The new trail has the old one in it, and `by` is in its
    /// last entry. Pepper and anchor count.
    ///
    /// ```
    /// # use portcullis::{*, backup::LaterEvidence};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    /// # let store = Store::open(&old)?;
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
