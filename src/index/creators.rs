//! Numbers for the actors who created keys: a filter compares four bytes.

use crate::record::Actor;
use std::collections::HashMap;

/// The actors by number. A number is kept until the store is closed.
#[derive(Default)]
pub(super) struct Creators(HashMap<Actor, u32>);

impl Creators {
    /// The number of an actor, which is new if the actor had created no key before.
    pub(super) fn number(&mut self, actor: Actor) -> u32 {
        // Never as many as there are keys, whose numbers have this type too.
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(actor).or_insert(next)
    }

    /// The number of an actor; `None` if no key was created by it.
    pub(super) fn find(&self, actor: Actor) -> Option<u32> {
        self.0.get(&actor).copied()
    }
}
