//! The identification of an idempotent request, and its outcome.

use super::issued::Issued;
use crate::{
    audit_entry::Once,
    digest::Seal,
    record::{Actor, Record},
};
use std::sync::Arc;

/// Identifies a request to issue or rotate a key, so that it is executed once: sent again within
/// 24 hours, it returns the first result. The key is unique for each actor and route.
///
/// At most 10,000 requests of one actor and 100,000 of all actors are remembered at a time. Each is
/// remembered for the full 24 hours. A request beyond the limit is [`Error::TooManyRequests`], which has
/// the time to wait.
///
/// [`Error::TooManyRequests`]: crate::Error::TooManyRequests
#[derive(Clone, Copy, Debug)]
pub struct Idempotency<'r> {
    /// The idempotency key that the caller chose.
    pub key: &'r [u8],
    /// The operation, such as `POST /v1/keys`.
    pub route: &'r str,
    /// The content of the request. The same key with another payload is
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

/// The outcome of an idempotent request.
#[derive(Debug)]
pub enum Outcome {
    /// The request was executed now.
    Issued(Issued),
    /// The request was executed before. This is the record of the key that it issued; its secret was
    /// shown then.
    Before(Arc<Record>),
}
