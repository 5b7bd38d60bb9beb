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

/// A store that follows the engine.
pub(crate) trait Follower: Send + Sync + 'static {
    fn gate(&self) -> &Gate;

    fn index(&self) -> &Index;

    fn seals(&self) -> &Seals;

    /// The scope names that the engine has numbered, and those that this host brings.
    fn catalogue(&self) -> &'static Catalogue;

    /// These are all the names that the engine has numbered, in order.
    fn learn(&self, names: &[Scope]) -> Result<(), Error>;

    /// From now on the trail begins here.
    fn learn_floor(&self, floor: &AuditStart);

    /// Applies the changes of one transaction, all of them before it returns, and notes that this
    /// is now the state that the next change builds on.
    fn apply(&self, meta: &Meta, states: Vec<KeyState>) -> Result<(), Error>;

    /// Forgets every key: what follows is another history. The gate is shut.
    fn start_over(&self);

    /// The gate is shut, so nobody vouches for work in flight any more.
    fn end_work(&self);
}
