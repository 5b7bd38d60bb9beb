//! Portcullis: an embedded API-key store.
//!
//! A service that offers an API has to issue keys, check one on every request, and take a bad one
//! away at once. Portcullis does that inside the service's own process.

// ── words: values; no I/O, no locks, no clock
mod audit;

// ── request
mod credential;

// ── state: one outside crate a room
mod clock;
mod codec;
mod index;
mod ledger;

// ── walks
mod base62;
mod digest;
pub mod error;
mod id;
mod principal;
mod random;
mod record;
mod refusal;
pub mod scope;
mod secret;
mod store;
mod time;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use audit::{Act, Attempt, AuditEntry};
pub use digest::Digest;
pub use error::Error;
pub use id::{KeyId, ParseKeyIdError};
pub use principal::Principal;
pub use random::NoRandomness;
pub use record::{Actor, Change, Expiry, Metadata, NewKey, Record};
pub use refusal::Refusal;
pub use scope::{Catalogue, Grant, Plane, Scope, ScopeSet};
pub use secret::{ParsePrefixError, Prefix, Secret};
pub use store::{Acting, Builder, Health, Issued, ListQuery, Page, Store};
pub use time::Timestamp;
