//! The Administration API and the portal: routers over a store, to be mounted in a host or served by
//! the binary.

mod about;
mod authz;
mod body;
mod browser;
mod caller;
mod cut;
mod denied;
#[doc(hidden)]
pub mod doorkeeper;
mod export;
mod fields;
mod keys;
mod moment;
mod once;
mod openapi;
mod origin;
mod portal;
mod query;
#[cfg(feature = "cluster")]
mod replicas;
mod rotate;
#[doc(hidden)]
pub mod sparingly;
mod trail;
mod verify;
mod wire;

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use portcullis::{
    Store,
    web::{self, Problem},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The private writer of exports, opened to the fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing {
    use portcullis::{AuditRange, Error};

    /// Writes a part of an audit trail as an export.
    pub fn write_export(part: &AuditRange) -> Result<Vec<u8>, Error> {
        crate::export::write(part)
    }
}

pub use authz::forward_auth;
pub use caller::LocalUser;
pub use export::{ExportError, ExportReader};
pub use origin::{Origin, ParseOriginError};
pub use portal::Portal;

/// The Administration API of a store: `/v1/keys`, `/v1/scopes`, `/v1/audit`, `/v1/whoami`,
/// `/v1/verify`, `/v1/replicas` with the feature `cluster`, `/healthz` and `/readyz`, all of it described at `/openapi.json`, and `/authz` for
/// proxies ([`forward_auth`]).
///
/// Each request authenticates itself, and each route asks for its own scope; a host adds nothing.
/// With [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo) the trail also has the address that
/// an act came from.
///
/// A body that does not arrive whole changes nothing. Over HTTP/2 a layer around this router that
/// replaces request bodies must keep their `is_end_stream`: without it a cancelled body looks whole.
///
/// ```
/// # let store = portcullis::Store::in_memory()?;
/// let app: axum::Router = axum::Router::new().nest("/admin", portcullis_admin::router(store));
/// # Ok::<(), portcullis::Error>(())
/// ```
pub fn router(store: Store) -> Router {
    // Outside the layers: a proxy asks on behalf of pages of any origin.
    let authz = forward_auth(store.clone());
    let router = OpenApiRouter::with_openapi(openapi::Api::openapi())
        .routes(routes!(about::whoami))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::update, keys::delete))
        .routes(routes!(rotate::rotate))
        .routes(routes!(about::scopes))
        .routes(routes!(trail::audit))
        .routes(routes!(export::export))
        .routes(routes!(verify::verify))
        .routes(routes!(about::alive))
        .routes(routes!(about::ready));
    #[cfg(feature = "cluster")]
    let router = router.routes(routes!(replicas::replicas));
    let (router, document) = router.split_for_parts();
    openapi::described(router, document, store.catalogue())
        .route("/v1/audit/cut", post(cut::cut))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(web::refuse_cut))
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
    let detail = "there is nothing at this path; the API is at /v1/keys, /v1/scopes, /v1/audit, /v1/whoami and /v1/verify";
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail).into_response()
}

async fn no_such_method() -> Response {
    let detail = "this path does not have this method; the Allow header lists those that it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}
