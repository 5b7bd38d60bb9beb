//! Backups of a store, and a store from a backup.

use super::{Builder, Store};
use crate::{
    backup::{self, Progress, Summary},
    error::Error,
};
use std::io::{Read, Write};

impl Store {
    /// Writes all that the store holds to `to`, while everything else goes on: it is the store as
    /// it was at one moment, just after this was called. It holds digests, never secrets.
    ///
    /// Whoever writes to a file syncs it before relying on it.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = Store::open(dir.path().join("keys"))?;
    /// let mut bytes = Vec::new();
    /// let taken = store.backup(&mut bytes, |_| ())?;
    /// let found = Store::builder().verify_backup(&bytes[..], |_| ())?;
    /// assert_eq!(taken, found);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn backup(&self, to: impl Write, progress: impl FnMut(Progress)) -> Result<Summary, Error> {
        let writer = &self.writer;
        if let Some(failure) = writer.failure() {
            return Err(Error::Poisoned(failure));
        }
        let Some(snapshot) = writer.ledger.snapshot()? else {
            return Err(Error::bad_backup("a store in memory has no trail to keep"));
        };
        backup::take(snapshot, &writer.seals, writer.clock.now(), to, progress)
    }
}

impl Builder {
    /// Reads a backup to its end and says what it holds; an error if it is not whole and exactly
    /// as it was written. Of the builder only the pepper counts.
    pub fn verify_backup(
        &self,
        from: impl Read,
        progress: impl FnMut(Progress),
    ) -> Result<Summary, Error> {
        backup::verify(from, &*self.seals()?, progress)
    }
}
