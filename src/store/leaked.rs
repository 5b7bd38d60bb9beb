//! The keys of a store that a leaked text contains.

use crate::record::Record;
use std::sync::Arc;

/// The keys of a store that a leaked text contains: see
/// [`Acting::find_leaked`](crate::Acting::find_leaked).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LeakedKeys {
    /// The records of the keys whose whole text was found, each once.
    pub records: Vec<Arc<Record>>,
    /// The number of different texts that have the form of a key and are not keys of this store.
    pub unknown: usize,
}
