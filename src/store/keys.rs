//! The methods of a store: opening it, and changing and reading its keys.

use super::{
    acting::Acting,
    builder::Builder,
    handle::Store,
    health::Count,
    issued::Issued,
    list::{self, ListQuery, Page},
};
use crate::{
    error::Error,
    id::KeyId,
    ledger::ReplicaWait,
    record::{Actor, Change, NewKey, Record},
    scope::{Catalogue, ScopeSet},
    secret::Prefix,
    time::Timestamp,
};
use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

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

    /// Issues a key. When this returns, the key is durable and accepted.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// let issued = store.issue(NewKey {
    ///     name: "Till 4".into(),
    ///     grant: Grant::Scopes(store.scopes(["api.read", "api.write"])?),
    ///     active: true,
    ///     expiry: Expiry::At(Timestamp::from_secs(4_000_000_000)),
    ///     owner: Some("shop-17".into()),
    ///     metadata: Metadata::from([("floor".into(), "2".into())]),
    /// })?;
    /// issued.secret.reveal(|text| assert_eq!(text.len(), 54));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn issue(&self, new: NewKey) -> Result<Issued, Error> {
        self.acting_as(Actor::Host, None).issue(new)
    }

    /// Changes a key. Stricter parts of the change take effect before it is durable, looser parts once it
    /// is durable. A change that alters nothing is no error.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let new = NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?), active: true,
    /// #     expiry: Expiry::Never, owner: None, metadata: Metadata::new() };
    /// # let id = store.issue(new)?.record.id;
    /// let record = store.update(id, Change { name: Some("Till 5".into()), ..Change::default() })?;
    /// assert_eq!(record.name, "Till 5");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update(&self, id: KeyId, change: Change) -> Result<Arc<Record>, Error> {
        self.acting_as(Actor::Host, None).update(id, change)
    }

    /// Revokes a key. A validation that starts after this returned refuses it, on every thread.
    ///
    /// If the disk fails, this is an error, and the key still stays refused in this process. An
    /// [`update`](Self::update) with [`Change::activate`] reactivates the key.
    pub fn revoke(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        self.update(id, Change::deactivate())
    }

    /// Revokes a key like [`revoke`](Self::revoke), and returns the result of the wait for the other
    /// replicas: how many have applied the change, and how many were fenced after a timeout. Also waits if
    /// the key is revoked already.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?; // not shared
    /// # let new = NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?), active: true,
    /// #     expiry: Expiry::Never, owner: None, metadata: Metadata::new() };
    /// # let id = store.issue(new)?.record.id;
    /// let (record, wait) = store.revoke_everywhere(id)?;
    /// assert!(!record.active);
    /// assert_eq!((wait.acknowledged, wait.timed_out), (0, 0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn revoke_everywhere(&self, id: KeyId) -> Result<(Arc<Record>, ReplicaWait), Error> {
        self.acting_as(Actor::Host, None).revoke_everywhere(id)
    }

    /// Replaces a key by a new one with the same name, scopes, expiry, owner and metadata, and with
    /// another secret. The same change ends the old key: now, or after the grace.
    ///
    /// ```
    /// # use portcullis::*;
    /// # use std::time::Duration;
    /// # let store = Store::in_memory()?;
    /// # let new = NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?), active: true,
    /// #     expiry: Expiry::Never, owner: None, metadata: Metadata::new() };
    /// # let old = store.issue(new)?.record.id;
    /// let new = store.rotate(old, Duration::from_secs(3600))?; // the old one works for an hour more
    /// assert_eq!(new.record.replaces, Some(old));
    /// assert_eq!(store.get(old)?.replaced_by, Some(new.record.id));
    /// assert!(matches!(store.rotate(old, Duration::ZERO), Err(Error::NotCurrent { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn rotate(&self, id: KeyId, grace: Duration) -> Result<Issued, Error> {
        self.acting_as(Actor::Host, None).rotate(id, grace)
    }

    /// Deletes an inactive key for good. Its audit entries stay.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let new = NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?), active: true,
    /// #     expiry: Expiry::Never, owner: None, metadata: Metadata::new() };
    /// # let id = store.issue(new)?.record.id;
    /// assert!(matches!(store.delete(id), Err(Error::StillActive(_))));
    /// store.revoke(id)?;
    /// store.delete(id)?;
    /// assert!(matches!(store.get(id), Err(Error::NoSuchKey(_))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn delete(&self, id: KeyId) -> Result<(), Error> {
        self.acting_as(Actor::Host, None).delete(id)
    }

    /// Returns the committed record of a key.
    ///
    /// ```
    /// # let store = portcullis::Store::in_memory()?;
    /// let nobody = "key_00000000000".parse().unwrap();
    /// assert!(matches!(store.get(nobody), Err(portcullis::Error::NoSuchKey(_))));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn get(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        self.writer.index.get(id).map(|(record, _)| record).ok_or(Error::NoSuchKey(id))
    }

    /// Returns a page of records, newest first.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # for name in ["a", "b", "c"] {
    /// #     store.issue(NewKey { name: name.into(), grant: Grant::Scopes(store.scopes(["api.read"])?), active: true,
    /// #         expiry: Expiry::Never, owner: None, metadata: Metadata::new() })?;
    /// # }
    /// let mut query = ListQuery { active: Some(true), page_size: Some(2), ..ListQuery::default() };
    /// let first = store.list(&query)?;
    /// query.page_token = first.next_page_token;
    /// assert_eq!((first.records.len(), store.list(&query)?.records.len()), (2, 1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        list::page(&self.writer.index, query)
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

    /// Returns the number of active keys that have expired. This checks each key: about a millisecond for
    /// a million keys.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
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
    /// # let store = Store::in_memory()?;
    /// # let new = |name: &str, grant| NewKey { name: name.into(), grant, active: true,
    /// #     expiry: Expiry::Never, owner: None, metadata: Metadata::new() };
    /// let clerk = store.issue(new("clerk", Grant::Scopes(store.scopes(["admin.key.create", "api.read"])?)))?;
    /// let acting = store.acting_as(Actor::Key(clerk.record.id), None);
    /// assert!(acting.issue(new("reader", Grant::Scopes(store.scopes(["api.read"])?))).is_ok());
    /// let refused = acting.issue(new("writer", Grant::Scopes(store.scopes(["api.write"])?)));
    /// assert!(matches!(refused, Err(Error::Forbidden(_))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn acting_as(&self, actor: Actor, source: Option<IpAddr>) -> Acting<'_> {
        Acting::new(self, actor, source)
    }

    /// Returns the set of the scopes with these names. An unknown name is an error that lists the
    /// known names.
    ///
    /// ```
    /// # let store = portcullis::Store::in_memory()?;
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
    /// # let store = Store::in_memory()?;
    /// # let issued = store.issue(NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?),
    /// #     active: true, expiry: Expiry::Never, owner: None, metadata: Metadata::new() })?;
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
