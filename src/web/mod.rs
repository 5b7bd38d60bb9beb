//! What a host's axum router needs: who calls, and the answers to those who may not.

mod caller;
mod responses;
mod streams;

pub use caller::authenticate;
#[cfg(feature = "admin")]
pub(crate) use responses::{FieldError, Problem};
pub use streams::{KeyEnd, Revoked, UntilRevoked, until_revoked};
