//! The methods of a store: opening it, and changing and reading its keys.

use super::{
    acting::Acting,
    builder::Builder,
    handle::Store,
    health::{Count, OwnerKeys},
    issued::Issued,
    list::{self, ListQuery, Page},
};
use crate::{
    credential::Credentials,
    error::Error,
    id::KeyId,
    ledger::ReplicaWait,
    principal::Principal,
    record::{Actor, Change, Expiry, NewKey, Record},
    refusal::Refusal,
    scope::{Catalogue, Grant, ScopeSet},
    secret::Prefix,
    time::Timestamp,
};
use std::{path::Path, sync::Arc, time::Duration};

impl Store {
    /// Opens the store in `dir`, or creates it if the directory is absent or empty.
    ///
    /// A service whose store must exist calls [`Builder::open_existing`]: a volume that is not
    /// mounted looks like an empty directory.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().open(dir)
    }

    /// Returns a builder, which sets prefix, pepper, scopes or anchor before opening.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a store in memory that keeps nothing after it is closed, for tests. It has no audit log.
    ///
    /// ```
    /// let store = portcullis::Store::in_memory()?;
    /// assert!(store.list(&Default::default())?.records.is_empty());
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn in_memory() -> Result<Self, Error> {
        Self::builder().in_memory()
    }

    /// Issues a key. Blocks until the key is durable and accepted.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// let year = Expiry::after(std::time::Duration::from_hours(365 * 24));
    /// let new = NewKey::new("Till 4", store.scopes(["api.read", "api.write"])?, year)
    ///     .with_owner("shop-17")
    ///     .with_metadata(Metadata::from([("floor".into(), "2".into())]));
    /// let issued = store.issue(new)?;
    /// issued.secret.reveal(|text| assert_eq!(text.len(), 54));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn issue(&self, new: NewKey) -> Result<Issued, Error> {
        self.acting_as(Actor::Host).issue(new)
    }

    /// Issues the first key of a store that this process created with [`Builder::create`]: a root key,
    /// with which an operator issues all others. Returns `None` if the store was opened, or if it has
    /// a key.
    ///
    /// [`open`](Self::open) also creates a store, but a volume that is not mounted looks like an absent
    /// store. So it never leads to a root key.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path().join("keys");
    /// let store = Store::builder().create(&dir)?;
    /// let first = store.issue_first_key("root")?.unwrap();
    /// first.secret.reveal(|text| println!("{text}"));
    /// assert!(store.issue_first_key("root")?.is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn issue_first_key(&self, name: impl Into<String>) -> Result<Option<Issued>, Error> {
        if self.is_created { self.issue_first_key_of_opened(name) } else { Ok(None) }
    }

    /// Issues a root key if the store has no key, also if the store was only opened. Of several replicas
    /// that do this at once, one issues a key. Call it only where an operator asks for it.
    pub fn issue_first_key_of_opened(
        &self,
        name: impl Into<String>,
    ) -> Result<Option<Issued>, Error> {
        self.acting_as(Actor::Host).issue_first(NewKey::new(name, Grant::All, Expiry::Never))
    }

    /// Changes a key. Blocks until the change is durable. Stricter parts take effect before, looser parts
    /// afterwards. A change that alters nothing is no error.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never);
    /// # let id = store.issue(new)?.record.id;
    /// let record = store.update(id, Change::default().with_name("Till 5"))?;
    /// assert_eq!(record.name, "Till 5");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update(&self, id: KeyId, change: Change) -> Result<Arc<Record>, Error> {
        self.acting_as(Actor::Host).update(id, change)
    }

    /// Revokes a key. Blocks until the revocation is durable. A validation that starts after this method
    /// has returned refuses the key, on every thread.
    ///
    /// If the disk fails, this is an error, and the key still stays refused in this process. An
    /// [`update`](Self::update) with [`Change::activate`] reactivates the key.
    pub fn revoke(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        self.update(id, Change::deactivate())
    }

    /// Revokes a key like [`revoke`](Self::revoke), and returns the result of the wait for the other
    /// replicas. The result has the number that applied the change, and the number that were fenced
    /// after a timeout. Also waits if the key is revoked already.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(scope::catalogue::financial_data()).in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never);
    /// # let id = store.issue(new)?.record.id;
    /// let (record, wait) = store.revoke_everywhere(id)?;
    /// assert!(!record.active);
    /// assert_eq!((wait.acknowledged, wait.timed_out), (0, 0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn revoke_everywhere(&self, id: KeyId) -> Result<(Arc<Record>, ReplicaWait), Error> {
        self.acting_as(Actor::Host).revoke_everywhere(id)
    }

    /// Replaces a key by a new one with the same name, scopes, expiry, owner and metadata, and with
    /// another secret. The same change ends the old key: now, or after the grace. Blocks until it is
    /// durable.
    ///
    /// ```
    /// # use portcullis::*;
    /// # use std::time::Duration;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never);
    /// # let old = store.issue(new)?.record.id;
    /// let new = store.rotate(old, Duration::from_secs(3600))?; // the old one works for an hour more
    /// assert_eq!(new.record.replaces, Some(old));
    /// assert_eq!(store.get(old)?.replaced_by, Some(new.record.id));
    /// assert!(matches!(store.rotate(old, Duration::ZERO), Err(Error::NotCurrent { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn rotate(&self, id: KeyId, grace: Duration) -> Result<Issued, Error> {
        self.acting_as(Actor::Host).rotate(id, grace)
    }

    /// Deletes an inactive key permanently. Blocks until it is durable. The key's audit entries stay.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never);
    /// # let id = store.issue(new)?.record.id;
    /// assert!(matches!(store.delete(id), Err(Error::StillActive(_))));
    /// store.revoke(id)?;
    /// store.delete(id)?;
    /// assert!(matches!(store.get(id), Err(Error::NoSuchKey(_))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn delete(&self, id: KeyId) -> Result<(), Error> {
        self.acting_as(Actor::Host).delete(id)
    }

    /// Returns the committed record of a key.
    ///
    /// ```
    /// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// let nobody = "key_00000000000".parse().unwrap();
    /// assert!(matches!(store.get(nobody), Err(portcullis::Error::NoSuchKey(_))));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn get(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        self.writer.index.get(id).map(|(record, _)| record).ok_or(Error::NoSuchKey(id))
    }

    /// Returns a page of records: newest first, unless the query has another order.
    ///
    /// ```
    /// # use portcullis::{*, list::ListQuery};
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # for name in ["a", "b", "c"] {
    /// #     store.issue(NewKey::new(name, store.scopes(["api.read"])?, Expiry::Never))?;
    /// # }
    /// let mut query = ListQuery::default().with_active(true).with_page_size(2);
    /// let first = store.list(&query)?;
    /// query.page_token = first.next_page_token;
    /// assert_eq!((first.records.len(), store.list(&query)?.records.len()), (2, 1));
    ///
    /// // Keys that were never used, by name, and their number.
    /// let unused = ListQuery::default().with_used(false).sorted_by(list::SortBy::Name, false).with_total();
    /// assert_eq!(store.list(&unused)?.total, Some(3));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        list::page(&self.writer, self.prefix, query)
    }

    /// Returns the records of all keys, newest first. A key that is changed meanwhile occurs once, as it
    /// was before or after. A key that is created meanwhile may be absent.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # store.issue(NewKey::new("Till 4", store.scopes(["api.read"])?, Expiry::Never))?;
    /// assert_eq!(store.records().map(|record| record.name.clone()).collect::<Vec<_>>(), ["Till 4"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn records(&self) -> impl Iterator<Item = Arc<Record>> {
        list::records(&self.writer.index)
    }

    /// Returns the number of keys, in constant time.
    ///
    /// ```
    /// let count = portcullis::Store::in_memory()?.count();
    /// assert_eq!((count.active, count.inactive), (0, 0));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn count(&self) -> Count {
        let (all, active) = self.writer.index.count();
        Count { active, inactive: all - active }
    }

    /// Returns up to `limit` owners that have keys, in the order of their names, with the numbers of their
    /// keys. `after` is the last owner of the page before.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["admin.key.list"])?, Expiry::Never);
    /// store.issue(new.with_owner("shop-17"))?;
    /// let owners = store.owners(None, 100)?;
    /// assert_eq!((&*owners[0].owner, owners[0].keys.active), ("shop-17", 1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn owners(&self, after: Option<&str>, limit: usize) -> Result<Vec<OwnerKeys>, Error> {
        self.acting_as(Actor::Host).owners(after, limit)
    }

    /// Returns the record of an authenticated key from memory: its owner and metadata bind it to an account
    /// of the host. [`Refusal::Unknown`] if the key was deleted since.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let new = NewKey::new("a", store.scopes(["admin.key.list"])?, Expiry::Never);
    /// # let issued = store.issue(new.with_owner("shop-17"))?;
    /// # let key = issued.secret.reveal(|text| text.to_owned());
    /// let principal = store.authenticate_key(key.as_bytes()).unwrap();
    /// assert_eq!(store.record_of(&principal).unwrap().owner.as_deref(), Some("shop-17"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn record_of(&self, principal: &Principal) -> Result<Arc<Record>, Refusal> {
        self.get(principal.id()).map_err(|_| Refusal::Unknown)
    }

    /// Returns the number of keys that the filters of a query select. This reads the columns of all keys.
    ///
    /// ```
    /// # use portcullis::{*, list::ListQuery};
    /// # let store = Store::in_memory()?;
    /// let soon = ListQuery::default().expiring_within(std::time::Duration::from_hours(30 * 24));
    /// assert_eq!(store.count_matching(&soon)?, 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn count_matching(&self, query: &ListQuery) -> Result<usize, Error> {
        list::count(&self.writer, self.prefix, query)
    }

    /// Returns the number of active keys that have expired. This checks each key: about a millisecond for
    /// a million keys.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// assert_eq!(store.count_expired(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn count_expired(&self) -> usize {
        self.writer.index.count_expired(self.writer.clock.now())
    }

    /// Returns the store's changes on behalf of an actor, whose rights are checked in each change.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let new = |name: &str, scopes: &[&str]| -> Result<NewKey, Error> {
    /// #     Ok(NewKey::new(name, store.scopes(scopes)?, Expiry::Never))
    /// # };
    /// let clerk = store.issue(new("clerk", &["admin.key.create", "api.read"])?)?;
    /// let acting = store.acting_as(Actor::Key(clerk.record.id));
    /// assert!(acting.issue(new("reader", &["api.read"])?).is_ok());
    /// let refused = acting.issue(new("writer", &["api.write"])?);
    /// assert!(matches!(refused, Err(Error::Forbidden(_))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn acting_as(&self, actor: Actor) -> Acting<'_> {
        Acting::new(self, actor)
    }

    /// Returns the set of the scopes with these names. An unknown name is an error that lists the
    /// known names.
    ///
    /// ```
    /// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// assert_eq!(store.scopes(["api.read", "api.write"])?.len(), 2);
    /// assert!(store.scopes(["api.raed"]).unwrap_err().to_string().contains("api.read"));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn scopes<S: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<ScopeSet, Error> {
        Ok(self.catalogue().set(names)?)
    }

    /// Returns all scopes of this store.
    pub fn catalogue(&self) -> &'static Catalogue {
        self.writer.catalogue()
    }

    /// Whether both are handles of one store.
    #[cfg(feature = "axum")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.writer, &other.writer)
    }

    /// Returns a handle of the same store that accepts these credentials, for example for the routes of
    /// forward authentication only.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// Returns the credentials that this handle accepts.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns the prefix of this store's keys.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// Returns the minute in which a key was last accepted; `None` if no use is known.
    ///
    /// Uses are kept in memory and written every minute, and when the store is closed. A crash loses the
    /// uses of the last minute, or of the time that writing them takes, if that is longer. If replicas
    /// share the store, they write and exchange uses every ten minutes.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let issued = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?;
    /// # let key = issued.secret.reveal(|text| text.to_owned());
    /// assert_eq!(store.last_used(issued.record.id), None);
    /// store.authenticate_key(key.as_bytes()).unwrap();
    /// assert!(store.last_used(issued.record.id).is_some());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn last_used(&self, id: KeyId) -> Option<Timestamp> {
        self.writer.index.last_use(id).map(Timestamp::from_minutes)
    }
}
