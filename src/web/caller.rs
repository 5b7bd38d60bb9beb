//! Request headers → principal.

use crate::{Principal, Refusal, Store};
use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// Who sent a request with these headers. A [`Refusal`] is itself an axum response, so a handler
/// can pass it on with `?`.
///
/// All `Authorization` lines are looked at: a request with two of them is refused, since picking
/// one is how others get fooled. Their values stay bytes; they need not be text.
///
/// ```
/// use axum::{extract::State, http::HeaderMap};
/// use portcullis::{Refusal, Store, scope::catalogue, web};
/// async fn accounts(State(store): State<Store>, headers: HeaderMap) -> Result<String, Refusal> {
///     let caller = web::authenticate(&store, &headers)?;
///     caller.require(&catalogue::API_READ)?;
///     Ok(format!("accounts, for {}", caller.id()))
/// }
/// ```
pub fn authenticate(store: &Store, headers: &HeaderMap) -> Result<Principal, Refusal> {
    store.authenticate_all(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))
}
