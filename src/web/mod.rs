//! What a host's axum router needs: who calls, and the answers to those who may not.
//!
//! [`Guarded`] is a router on which no route can forget its scope. [`ApiKey`] is a caller as an
//! argument of a handler. [`RequireScope`] is a plain tower layer, for everything else.

mod caller;
mod extract;
mod guarded;
pub mod json;
mod layer;
mod responses;
pub mod scopes;
mod streams;
mod whole;

pub use caller::authenticate;
pub use extract::ApiKey;
pub use guarded::{AdministrationApi, DataApi, Guarded};
pub use layer::{Protected, RequireScope};
pub use responses::{FieldError, Problem};
#[doc(hidden)]
pub use scopes::is_administration;
pub use scopes::{Administration, Data, OnPlane, TypedScope};
pub use streams::{KeyEnd, Revoked, UntilRevoked, until_revoked};
pub use whole::refuse_cut;
