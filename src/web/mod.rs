//! What a host's axum router needs: who calls, and the answers to those who may not.

mod caller;
mod responses;

pub use caller::authenticate;
#[cfg(feature = "admin")]
pub(crate) use responses::{FieldError, Problem};
