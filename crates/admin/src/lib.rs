//! The Administration API and the portal, as routers that a host mounts or the server serves.

#![cfg_attr(docsrs, feature(doc_cfg))]

// ── values and text
pub mod rfc3339;
mod wire;
mod origin;
mod rate_limited_log;
mod login_limiter;

// ── requests and responses
mod api_error;
mod blocking;
mod body;
mod caller;
mod cross_site;
mod json_body;
mod fields;
mod query;
mod key_request;
mod documented_problems;
mod openapi;

// ── the routes
mod keys;
mod batch;
mod bulk;
mod import;
mod owners;
mod scopes;
mod policy;
mod audit;
mod export;
mod audit_stream;
mod reach;
mod info;
mod verify;
mod leaked;
#[cfg(feature = "secret-scanning")]
mod leak_reports;
mod forward_auth;
#[cfg(feature = "cluster")]
mod replicas;
mod portal;
pub mod control;

use axum::{
    Extension, Router,
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode,
        header::{ACCEPT, CACHE_CONTROL},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use portcullis::{
    Store,
    web::{self, Problem},
};
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The private writer of exports, opened to the fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing {
    use portcullis::{Error, audit::AuditRange};

    /// Formats a range of an audit log as an export.
    pub fn write_export(part: &AuditRange) -> Result<Vec<u8>, Error> {
        crate::export::write(part)
    }
}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/getting-started/rust.md")]
mod getting_started {}

pub use audit_stream::{EndlessResponse, StreamStop};
pub use caller::LocalUser;
pub use export::{ExportError, ExportReader};
pub use forward_auth::forward_auth;
#[cfg(feature = "secret-scanning")]
pub use leak_reports::{LeakKeysError, LeakReports};
pub use login_limiter::{LoginLimiter, SharedLoginLimiter};
pub use origin::{Origin, ParseOriginError};
pub use portal::Portal;
pub use rate_limited_log::RateLimitedLog;

/// Creates the router of the Administration API: `/v1/keys`, `/v1/scopes`, `/v1/audit`,
/// `/v1/whoami`, `/v1/verify`, `/v1/replicas` (with the feature `cluster`), `/healthz`, `/readyz`,
/// their description at `/openapi.json` and, for people, at `/docs`, and `/authz` for proxies
/// ([`forward_auth`]).
///
/// The router authenticates each request, and each route requires its own scope; the host need not
/// add a guard. If the host provides [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo), the
/// audit log also has the client's address.
///
/// A request with an incomplete body changes nothing. For HTTP/2, a layer around this router that
/// replaces request bodies must preserve their `is_end_stream`: without it a cancelled body looks
/// complete.
///
/// The response of `/v1/audit/stream` has no end, and [`EndlessResponse`] as an extension: a layer must not limit
/// its duration. A host that stops ends it with [`StreamStop`].
///
/// ```
/// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let app: axum::Router = axum::Router::new().nest("/admin", portcullis_admin::router(store));
/// # Ok::<(), portcullis::Error>(())
/// ```
pub fn router(store: Store) -> Router {
    // Outside the layers: a proxy forwards requests of pages of any origin.
    let forward_auth = forward_auth(store.clone());
    let mut description = openapi::Api::openapi();
    description.merge(forward_auth::ForwardAuthApi::openapi());
    let router = OpenApiRouter::with_openapi(description)
        .routes(routes!(info::whoami, info::revoke_own))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::update, keys::delete))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::search))
        .routes(routes!(batch::create))
        .routes(routes!(bulk::count))
        .routes(routes!(bulk::run))
        .routes(routes!(leaked::find))
        .routes(routes!(reach::show))
        .routes(routes!(reach::revoke))
        .routes(routes!(owners::list))
        .routes(routes!(scopes::list))
        .routes(routes!(scopes::add, scopes::hide))
        .routes(routes!(policy::show, policy::set))
        .routes(routes!(policy::unused))
        .routes(routes!(audit::audit))
        .routes(routes!(export::export))
        .routes(routes!(audit_stream::follow))
        .routes(routes!(verify::verify))
        .routes(routes!(info::alive))
        .routes(routes!(info::ready));
    #[cfg(feature = "cluster")]
    let router = router.routes(routes!(replicas::replicas));
    let (router, document) = router.split_for_parts();
    let document = Arc::new(document);
    router
        .merge(openapi::route(Arc::clone(&document)))
        .merge(portal::reference::router(document))
        .route("/v1/audit/cut", post(audit::prune))
        .route("/v1/import", post(import::import))
        .route("/v1/digests", get(import::digests))
        .fallback(path_not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(Extension(bulk::Counted::default()))
        .layer(Extension(audit_stream::AuditStreams::default()))
        .layer(middleware::from_fn(web::require_complete_body))
        .layer(middleware::from_fn(cross_site::refuse_cross_site))
        .layer(middleware::map_response(no_store))
        .with_state(store)
        .merge(forward_auth)
}

/// Keeps keys and their records out of all caches.
async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn path_not_found(request: Request) -> Response {
    let accept = request.headers().get_all(ACCEPT).iter();
    // Browsers name this type; API clients send `*/*` or nothing.
    let is_browser =
        accept.filter_map(|value| value.to_str().ok()).any(|v| v.contains("text/html"));
    if is_browser && matches!(*request.method(), Method::GET | Method::HEAD) {
        let base = portal::base_path::BasePath::of(request.uri(), request.extensions());
        return portal::not_found::page(base).await;
    }
    let detail = "there is nothing at this path; the API is at /v1/keys, /v1/scopes, /v1/audit, /v1/whoami and /v1/verify";
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail).into_response()
}

async fn method_not_allowed() -> Response {
    let detail = "this path does not have this method; the Allow header lists those that it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}
