//! Idempotent requests as a caller makes them.

use super::issued::Issued;
use crate::{
    audit::Once,
    digest::Seal,
    record::{Actor, Record},
};
use std::sync::Arc;

/// What makes a request to issue or rotate a key idempotent: sent again within 24 hours, it is not
/// done again. Its name belongs to its actor and its route.
///
/// At most 10,000 requests of one actor and 100,000 of all actors are remembered at a time. None is
/// forgotten early: a further request is [`Error::TooManyRequests`], which says when to repeat it.
///
/// [`Error::TooManyRequests`]: crate::Error::TooManyRequests
#[derive(Clone, Copy, Debug)]
pub struct Idempotency<'r> {
    /// The name that the caller gave it.
    pub key: &'r [u8],
    /// What it asks for, such as `POST /v1/keys`.
    pub route: &'r str,
    /// All that it says: the same name with another payload is
    /// [`Error::IdempotencyKeyReused`](crate::Error::IdempotencyKeyReused).
    pub payload: &'r [u8],
}

impl Idempotency<'_> {
    pub(super) fn once(&self, actor: Actor, seal: &Seal) -> Once {
        let actor = actor.to_string();
        Once {
            request: seal.tag(&[actor.as_bytes(), self.route.as_bytes(), self.key]),
            payload: seal.tag(&[self.payload]),
        }
    }
}

/// What became of a request that is done once.
#[derive(Debug)]
pub enum Outcome {
    /// It was done now.
    Issued(Issued),
    /// It had been done before: the key that it made, whose secret was shown then.
    Before(Arc<Record>),
}
