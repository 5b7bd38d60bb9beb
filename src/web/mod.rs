//! Authentication and authorization for a host's axum router.
//!
//! [`Guarded`] is a router in which each route states its scope. [`ApiKey`] is an extractor for
//! handlers. [`RequireScope`] is a tower layer for everything else.

mod authenticate;
mod complete_body;
mod extract;
mod guarded;
pub mod json;
mod layer;
mod responses;
pub mod scopes;
mod streams;
mod unblock;

pub use authenticate::{
    Authentication, authenticate, authenticate_from, client_address, has_credential,
};
pub use complete_body::require_complete_body;
pub use extract::ApiKey;
pub use guarded::{AdministrationApi, DataApi, Guarded};
pub use layer::{Protected, RequireScope};
pub use responses::{FieldError, Problem};
pub use scopes::{Administration, Data, OnPlane, ScopeOf, TypedScope};
pub use streams::{Revoked, UntilRevoked, WhenRevoked, until_revoked};
pub use unblock::unblock;
