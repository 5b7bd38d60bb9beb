//! Where what was committed becomes visible: the store, as a replica sees it.

use crate::{
    codec::{AuditStart, Meta},
    digest::{Digest, Seals},
    error::Error,
    gate::Gate,
    id::KeyId,
    index::Index,
    record::Record,
    scope::{Catalogue, Scope},
};
use std::sync::Arc;

/// The new state of one key.
pub(crate) struct KeyState {
    /// The number of the change that made it so.
    pub(crate) sequence: u64,
    pub(crate) id: KeyId,
    pub(crate) digest: Digest,
    /// `None`: it was deleted.
    pub(crate) record: Option<Arc<Record>>,
}

/// A store that follows the consensus store.
pub(crate) trait Follower: Send + Sync + 'static {
    fn gate(&self) -> &Gate;

    fn index(&self) -> &Index;

    fn seals(&self) -> &Seals;

    /// The scope names that have a number, and those of this host.
    fn catalogue(&self) -> &'static Catalogue;

    /// Sets all scope names that have a number, in order.
    fn set_scope_names(&self, names: &[Scope]) -> Result<(), Error>;

    /// Sets where the audit log starts.
    fn set_audit_start(&self, floor: &AuditStart);

    /// Applies the changes of one transaction before it returns, and notes the state that the next
    /// change builds on.
    fn apply(&self, meta: &Meta, states: Vec<KeyState>) -> Result<(), Error>;

    /// Removes every key, because another history follows. The gate is shut.
    fn clear(&self);

    /// Ends work in flight, because the gate is shut.
    fn end_work(&self);
}
