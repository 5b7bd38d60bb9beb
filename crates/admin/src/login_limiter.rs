//! The rate limiter that a server may place in front of the portal's login.

use portcullis::{KeyId, Refusal};
use std::{net::IpAddr, sync::Arc};

/// Counts the keys that arrive in a request body, which only the handler reads.
pub trait LoginLimiter: Send + Sync {
    /// Records the result of a key check. After too many bad keys from one source, returns the
    /// seconds that the source must wait; the handler then answers 429.
    fn record(&self, checked: Result<KeyId, &Refusal>, source: Option<IpAddr>) -> Option<u64>;
}

/// The limiter as a request extension, which the login of the portal looks for. A host that embeds
/// the routers need not provide one.
pub type SharedLoginLimiter = Arc<dyn LoginLimiter>;
