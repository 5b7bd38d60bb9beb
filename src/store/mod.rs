//! The store: issue, authenticate, update, revoke, rotate, delete, list.
//!
//! Two straight walks meet here. A header becomes a decision from memory alone:
//! `credential` → `Digest` → index → standing → [`Principal`](crate::Principal). A change is planned under the
//! writers' mutex, denied in the index at once where it is stricter, made durable by the writer
//! thread, and only then applied and acknowledged.

mod acting;
mod authenticate;
mod backup;
mod builder;
#[cfg(feature = "cluster")]
mod cluster;
mod commit;
mod core;
#[cfg(feature = "cluster")]
mod follower;
mod health;
mod idempotency;
mod issued;
mod list;
mod numbering;
mod plan;
mod plans;
mod refusals;
mod refused;
mod replicas;
mod requests;
mod retention;
mod retry;
mod room;
mod scope_names;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod uses;
mod writer;

pub use self::{
    acting::Acting,
    authenticate::KeyHandle,
    builder::Builder,
    health::{Count, Health},
    idempotency::{Idempotency, Outcome},
    issued::Issued,
    list::{ListQuery, Page},
    retention::Pruned,
};

use self::writer::Writer;
use crate::{
    audit::AuditEntry,
    error::Error,
    id::KeyId,
    ledger::Settled,
    record::{Actor, Change, NewKey, Record},
    scope::{Catalogue, ScopeSet},
    secret::Prefix,
};
use std::{fmt, net::IpAddr, path::Path, sync::Arc, time::Duration};

/// An embedded key store. A handle is cheap to clone; the last one that goes closes the store.
///
/// ```
/// use portcullis::{Expiry, Grant, Metadata, NewKey, Refusal, Store, scope::catalogue};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("keys");
/// let store = Store::open(dir)?;
/// let issued = store.issue(NewKey {
///     name: "Nightly export".into(),
///     grant: Grant::Scopes(store.scopes(["api.read"])?),
///     active: true,
///     expiry: Expiry::Never,
///     owner: None,
///     metadata: Metadata::new(),
/// })?;
/// let key = issued.secret.reveal(|text| text.to_owned()); // shown once
///
/// let principal = store.authenticate_key(key.as_bytes())?; // memory only
/// principal.require(&catalogue::API_READ)?;
///
/// store.revoke(issued.record.id)?; // over when it returns
/// assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    writer: Arc<Writer>,
    prefix: Prefix,
}

impl Store {
    /// Opens the store in `dir`, or makes one where the directory is absent or empty.
    ///
    /// A service whose store must already be there says so with
    /// [`Builder::open_existing`]: a volume that was not mounted looks like an empty directory.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().open(dir)
    }

    /// Sets prefix, pepper, scopes or anchor before opening.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A store that keeps nothing, for tests. It has no audit trail.
    ///
    /// ```
    /// let store = portcullis::Store::in_memory()?;
    /// assert!(store.list(&Default::default())?.records.is_empty());
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn in_memory() -> Result<Self, Error> {
        Self::builder().in_memory()
    }

    /// Makes a key. It works once this returns, and it is on disk.
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

    /// Changes a key. What the change denies is refused before it is durable; what it allows is
    /// allowed once this returns. A change that alters nothing is no error.
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

    /// Takes a key away: a validation that starts after this returned refuses, on every thread.
    ///
    /// If the disk fails the error says so, and the key stays refused in this process all the
    /// same. An [`update`](Self::update) with [`Change::activate`] brings the key back.
    pub fn revoke(&self, id: KeyId) -> Result<Arc<Record>, Error> {
        self.update(id, Change::deactivate())
    }

    /// Like [`revoke`](Self::revoke), and says how the other replicas took it: how many have
    /// applied it, and how many were waited out. An already revoked key still waits.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?; // which is alone
    /// # let new = NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?), active: true,
    /// #     expiry: Expiry::Never, owner: None, metadata: Metadata::new() };
    /// # let id = store.issue(new)?.record.id;
    /// let (record, settled) = store.revoke_everywhere(id)?;
    /// assert!(!record.active);
    /// assert_eq!((settled.acknowledged, settled.waited_out), (0, 0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn revoke_everywhere(&self, id: KeyId) -> Result<(Arc<Record>, Settled), Error> {
        self.acting_as(Actor::Host, None).revoke_everywhere(id)
    }

    /// Puts a new key in the place of one: the same name, scopes, end, owner and metadata, and
    /// another secret. In the same change the old one ends: now, or after the grace.
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

    /// Deletes an inactive key for good; its audit trail stays.
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

    /// The record of a key, as it is on disk.
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

    /// A page of records, newest first.
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

    /// How many keys there are; counted as they change, not now.
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

    /// How many of the active keys have expired. This looks at the state of each, a millisecond or
    /// so for a million.
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

    /// Up to `limit` entries of the audit trail after the one numbered `after`, oldest first, each
    /// checked against the chain. This reads the disk.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = portcullis::Store::open(dir.path().join("keys"))?;
    /// let first = &store.audit(0, 10)?[0];
    /// assert_eq!((first.sequence, first.act.as_str()), (1, "extend_catalogue"));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, Error> {
        self.writer.ledger.audit(after, limit, self.writer.catalogue())
    }

    /// The store's verbs on behalf of someone, whose rights are checked within each change.
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

    /// The set of the scopes with these names; an unknown name is an error that lists the known.
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

    /// All scopes of this store.
    pub fn catalogue(&self) -> &'static Catalogue {
        self.writer.catalogue()
    }

    /// Whether both are handles of one store.
    #[cfg(feature = "axum")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.writer, &other.writer)
    }

    /// What the keys of this store begin with.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(all(test, shuttle))]
mod models;
#[cfg(test)]
mod tests;
