//! The result of a prune of the audit log.

/// The result of a prune of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The number of the entry that records the prune.
    pub sequence: u64,
    /// The number of the last entry that was removed.
    pub through: u64,
    /// How many entries were removed.
    pub removed: u64,
}
