//! How a store is doing: can it still write, is its clock to be believed.

use super::Store;
use std::time::Duration;

/// How a store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Why nothing is written any more, until the store is reopened. Validation goes on.
    pub poisoned: Option<Box<str>>,
    /// Whether keys are checked now. Only a replica that the others cannot reach says no; it is
    /// then [`Refusal::Unavailable`](crate::Refusal::Unavailable) to everyone.
    pub is_answering: bool,
    /// Why this replica does not follow the others, if it does not.
    pub trouble: Option<Box<str>>,
    /// How far the wall clock has jumped ahead of the time that passed, if by more than a day:
    /// keys may have expired early, and time will not go back.
    pub clock_jump: Option<Duration>,
}

/// How many keys a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Those that are set active, expired ones included.
    pub active: usize,
    /// Those that are not.
    pub inactive: usize,
}

impl Store {
    /// Whether it can still write, and whether its clock can be believed.
    pub fn health(&self) -> Health {
        Health {
            poisoned: self.writer.failure(),
            is_answering: self.writer.gate.pass(|| ()).is_ok(),
            trouble: self.writer.trouble(),
            clock_jump: self.writer.clock.jump(),
        }
    }
}
