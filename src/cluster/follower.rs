//! The store as its replica uses it: committed changes are applied there.

use crate::{
    codec::{AuditStart, Meta},
    digest::{Digest, Seals},
    error::Error,
    gate::Gate,
    id::KeyId,
    index::Index,
    record::Record,
    scope::{Catalogue, NumberedScope},
};
use std::sync::Arc;

/// The new state of one key.
pub(crate) struct KeyState {
    /// The number of the change.
    pub(crate) sequence: u64,
    pub(crate) id: KeyId,
    pub(crate) digest: Digest,
    /// `None`: the key was deleted.
    pub(crate) record: Option<Arc<Record>>,
}

/// A store that follows the consensus store.
pub(crate) trait Follower: Send + Sync + 'static {
    fn gate(&self) -> &Gate;

    fn index(&self) -> &Index;

    fn seals(&self) -> &Seals;

    /// Returns the scope names that have a number, and those of this host.
    fn catalogue(&self) -> &'static Catalogue;

    /// Returns the scope of a number.
    fn scope(&self, number: u8) -> Option<NumberedScope>;

    /// Sets all scopes that have a number, in order.
    fn set_scopes(&self, scopes: &[NumberedScope]) -> Result<(), Error>;

    /// Sets where the audit log starts.
    fn set_audit_start(&self, audit_start: &AuditStart);

    /// Applies the changes of one transaction, and sets the state that the next change builds on.
    fn apply(&self, meta: &Meta, states: Vec<KeyState>) -> Result<(), Error>;

    /// Removes every key, because another history follows. The gate must be shut.
    fn clear(&self);

    /// Ends all watches, because the gate is shut.
    fn end_watches(&self);
}
