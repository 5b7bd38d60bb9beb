//! Work on stores that are not open: backups, audit exports, and transfers to and from a cluster.
//! The doctor adds examination and repair.

mod audit;
mod backup;
#[cfg(feature = "cluster")]
mod transfer;

use crate::{digest::Seals, error::Error, pepper::Pepper, scope::Scope, secret::Prefix};
use std::{path::PathBuf, sync::Arc};

/// Works on a store that is not open: verifies and restores backups, examines and repairs a data
/// directory, imports and exports, and verifies audit exports.
///
/// It takes the options that the store is opened with.
///
/// ```
/// # use portcullis::*;
/// # let dir = tempfile::tempdir().unwrap();
/// # let home = dir.path().join("keys");
/// drop(Store::open(&home)?);
/// let report = Offline::new().examine(&home, &std::env::temp_dir())?;
/// assert!(report.is_healthy());
/// # Ok::<(), Error>(())
/// ```
#[derive(Default, Debug)]
#[must_use = "it does nothing by itself"]
pub struct Offline {
    pepper: Pepper,
    pub(crate) anchor: Option<PathBuf>,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) scopes: Option<Vec<(Scope, String)>>,
}

impl Offline {
    /// Returns the options of a store without a pepper whose anchor is in its data directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the [pepper](crate::Builder::pepper) of the store.
    pub fn pepper(mut self, pepper: impl Into<Vec<u8>>) -> Self {
        self.pepper = Pepper::new(pepper);
        self
    }

    /// Sets the file of the store's [anchor](crate::Builder::anchor).
    pub fn anchor(mut self, file: impl Into<PathBuf>) -> Self {
        self.anchor = Some(file.into());
        self
    }

    /// Sets the prefix of a repaired store if the old store's prefix cannot be read.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Adds the host's own scopes, so that an examination reports keys with other scopes.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = (Scope, String)>) -> Self {
        self.scopes.get_or_insert_default().extend(scopes);
        self
    }

    pub(crate) fn seals(&self) -> Result<Arc<Seals>, Error> {
        self.pepper.seals()
    }
}
