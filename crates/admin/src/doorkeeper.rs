//! Whoever stands before the routers and slows floods of bad keys, where somebody does.

use portcullis::{KeyId, Refusal};
use std::{net::IpAddr, sync::Arc};

/// Hears of the keys that only their handler can read, since they are in the body.
pub trait Doorkeeper: Send + Sync {
    /// Notes what the check of a key came to. After too many bad ones it says how many seconds
    /// their source should wait; the answer is then 429.
    fn note(&self, verdict: Result<KeyId, &Refusal>, source: Option<IpAddr>) -> Option<u64>;
}

/// An extension of a request. A host that embeds the routers limits nothing, and has none.
pub type AtTheDoor = Arc<dyn Doorkeeper>;
