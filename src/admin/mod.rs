//! The Administration API and the portal: routers over a store, to be mounted in a host or served by
//! the binary.

mod about;
mod authz;
mod browser;
mod caller;
mod denied;
mod fields;
mod keys;
mod moment;
mod origin;
mod portal;
mod query;
pub(crate) mod sparingly;
mod verify;
mod wire;

use crate::{Store, web::Problem};
use axum::{
    Router,
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};

pub use authz::forward_auth;
pub use caller::LocalUser;
pub use origin::{Origin, ParseOriginError};
pub use portal::Portal;

/// The Administration API of a store: `/v1/keys`, `/v1/scopes`, `/v1/whoami`, `/v1/verify`,
/// `/healthz` and `/readyz`, and `/authz` for proxies ([`forward_auth`]).
///
/// Each request authenticates itself, and each route asks for its own scope; a host adds nothing.
/// With [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo) the trail also has the address that
/// an act came from.
///
/// ```
/// # let store = portcullis::Store::in_memory()?;
/// let app: axum::Router = axum::Router::new().nest("/admin", portcullis::admin::router(store));
/// # Ok::<(), portcullis::Error>(())
/// ```
pub fn router(store: Store) -> Router {
    // Outside the layers: a proxy asks on behalf of pages of any origin.
    let authz = forward_auth(store.clone());
    Router::new()
        .route("/v1/whoami", get(about::whoami))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", get(keys::show).patch(keys::update).delete(keys::delete))
        .route("/v1/scopes", get(about::scopes))
        .route("/v1/verify", post(verify::verify))
        .route("/healthz", get(about::alive))
        .route("/readyz", get(about::ready))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(browser::refuse_foreign_origins))
        .layer(middleware::map_response(never_stored))
        .with_state(store)
        .merge(authz)
}

/// Keys and what is known of them have no place in a cache, of a browser or in between.
async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn no_such_path() -> Response {
    let detail = "there is nothing at this path; the API is at /v1/keys, /v1/scopes, /v1/whoami and /v1/verify";
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail).into_response()
}

async fn no_such_method() -> Response {
    let detail = "this path does not have this method; the Allow header lists those that it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}
