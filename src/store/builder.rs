//! Opening a store: the builder and its options.

use super::{handle::Store, scope_names::ScopeNames, uses, writer::Writer};
use crate::{
    credential::Credentials,
    error::Error,
    index::{Index, Loading},
    ledger::{Disk, Location, Memory, Mode, Tip, known_uses::StoredKnownUses},
    pepper::Pepper,
    scope::Scope,
    secret::Prefix,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The options for opening a store. Created by [`Store::builder`].
///
/// ```
/// use portcullis::{Prefix, Store};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("keys");
/// let store = Store::builder()
///     .prefix(Prefix::new("acme")?)
///     .scopes([("ledger.close".parse()?, "close a year".to_owned())])
///     .open(&dir)?;
/// assert!(store.scopes(["ledger.close"]).is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Default, Debug)]
#[must_use = "a builder opens nothing by itself"]
pub struct Builder {
    pub(super) prefix: Option<Prefix>,
    pub(super) pepper: Pepper,
    pub(super) scopes: Option<Vec<(Scope, String)>>,
    pub(super) credentials: Credentials,
    anchor: Option<PathBuf>,
    disk_reserve: Option<u64>,
}

impl Builder {
    /// Sets the prefix of all keys; the default is `pcl`. A store keeps the prefix that it was created
    /// with; opening it with another prefix is an error.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Sets the pepper: a secret of the deployment of at least 16 bytes, kept outside the data
    /// directory. Write access to the directory alone is then not enough to forge its content. A store
    /// that was created with a pepper opens only with it.
    pub fn pepper(mut self, pepper: impl Into<Vec<u8>>) -> Self {
        self.pepper = Pepper::new(pepper);
        self
    }

    /// Adds the host's own scopes, each with a description; the scopes for key management are always there.
    /// A scope that an earlier list had and this one lacks is offered no more: keys keep it, and other keys
    /// cannot get it. Without this call the store offers all that it has. Scopes of
    /// [`Store::add_scope`] do not depend on the list.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = (Scope, String)>) -> Self {
        self.scopes.get_or_insert_default().extend(scopes);
        self
    }

    /// Sets which credentials a request may have; the default is Basic authentication only. The store does
    /// not keep this setting: it belongs to the handle. See [`Store::with_credentials`] too.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Keeps the anchor in this file instead of the data directory. An anchor on another disk also detects
    /// that the whole directory was replaced by an older copy.
    pub fn anchor(mut self, file: impl Into<PathBuf>) -> Self {
        self.anchor = Some(file.into());
        self
    }

    /// Sets how many bytes of the disk are reserved for revocations. The default is 64 MiB, or 5 % of
    /// the volume if that is less.
    ///
    /// On a full disk the store uses the reserve for revocations and other stricter changes, for pruning
    /// the audit log, and for opening the store. Other changes are [`Error::NoRoom`]. The minimum is the space for
    /// one opening and one batch of changes; smaller sizes are raised to it. 0 disables the reserve: then
    /// a full disk ends all writing. See [`Health::disk`](crate::Health::disk).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path().join("keys");
    /// # use portcullis::Store;
    /// let store = Store::builder().disk_reserve(8 << 20).open(&dir)?;
    /// assert!(store.health().disk.is_some_and(|disk| disk.reserve_wanted > 0));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn disk_reserve(mut self, bytes: u64) -> Self {
        self.disk_reserve = Some(bytes);
        self
    }

    /// Opens the store in `dir`, or creates it if the directory is absent or empty.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Store, Error> {
        self.at(dir.as_ref(), Mode::OpenOrCreate)
    }

    /// Opens the store in `dir`; [`Error::NotFound`] if there is none.
    pub fn open_existing(self, dir: impl AsRef<Path>) -> Result<Store, Error> {
        self.at(dir.as_ref(), Mode::Open)
    }

    /// Creates a store in `dir`; [`Error::AlreadyExists`] if there is one.
    pub fn create(self, dir: impl AsRef<Path>) -> Result<Store, Error> {
        self.at(dir.as_ref(), Mode::Create)
    }

    /// Opens a store in memory that keeps nothing after it is closed, for tests.
    pub fn in_memory(self) -> Result<Store, Error> {
        let seals = self.pepper.seals()?;
        let names = ScopeNames::new(Vec::new(), self.scopes)?;
        let (ledger, tip) = (Box::new(Memory), Tip::default());
        let writer = Writer::start(ledger, Index::new(), seals, names, tip, uses::INTERVAL)?;
        let prefix = self.prefix.unwrap_or_default();
        let credentials = self.credentials;
        Ok(Store { writer: Arc::new(writer), prefix, credentials, is_created: true })
    }

    fn at(self, dir: &Path, mode: Mode) -> Result<Store, Error> {
        let seals = self.pepper.seals()?;
        let (dir, reserve) = (dir.to_path_buf(), self.disk_reserve);
        let location = Location { dir, mode, anchor: self.anchor, reserve };
        let disk = Disk::open(&location, self.prefix, Arc::clone(&seals))?;
        let mut index = Loading::with_room_for(disk.records());
        let (names, found) = disk.load_names()?;
        let names = ScopeNames::new(names, self.scopes)?;
        disk.load_records(found, names.catalogue(), |records| index.records(records))?;
        let mut known_uses = StoredKnownUses::default();
        disk.load_uses(|id, minute| {
            known_uses.note(id, minute);
            index.last_use(id, minute);
        })?;
        let index = index.finish();
        let (tip, prefix) = (disk.tip(), disk.prefix()?);
        let writer = Writer::start(Box::new(disk), index, seals, names, tip, uses::INTERVAL)?;
        writer.number_names()?;
        writer.begin_known_uses(known_uses)?;
        let is_created = mode == Mode::Create;
        Ok(Store { writer: Arc::new(writer), prefix, credentials: self.credentials, is_created })
    }
}
