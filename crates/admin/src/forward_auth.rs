//! Forward authentication: a proxy asks whether to forward a request.

use super::{
    caller::{log_refusal, peer},
    rate_limited_log::RateLimitedLog,
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
    routing::any,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis::{
    Grant, KeyId, Record, Refusal, Scope, Store,
    web::{Authentication, Problem},
};
use utoipa::OpenApi;

const KEY_ID: HeaderName = HeaderName::from_static("x-auth-key-id");
const KEY_NAME: HeaderName = HeaderName::from_static("x-auth-key-name");
const SCOPES: HeaderName = HeaderName::from_static("x-auth-scopes");
const OWNER: HeaderName = HeaderName::from_static("x-auth-owner");
const REASON: HeaderName = HeaderName::from_static("x-auth-reason");

/// The route for proxies that append the client's path and query, such as Envoy.
const SCOPES_IN_PATH: &str = "/authz/scope/";

/// All bytes but the unreserved characters of RFC 3986.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

static MISCONFIGURED: RateLimitedLog = RateLimitedLog::new();

/// The description of the routes, with the method GET only.
#[derive(OpenApi)]
#[openapi(paths(authorize, authorize_by_path))]
pub(crate) struct ForwardAuthApi;

/// Creates a router that tells a proxy whether to forward a request: `/authz?scope=api.read`, with
/// any method. If the query names several scopes, the key needs all of them. The proxy passes on
/// the client's `Authorization` header, which has the key.
///
/// * **200** with `X-Auth-Key-Id`, `X-Auth-Key-Name`, `X-Auth-Scopes` (joined by commas, `*` for a
///   root key) and `X-Auth-Owner`. All four are always present, percent-encoded, and empty where
///   there is no value. The proxy must set all four on the forwarded request, so that a client
///   cannot supply its own.
/// * **401** and **403** as for every route; the proxy returns them to the client.
/// * **403** with `X-Auth-Reason: rate-limited`, `Retry-After`, `RateLimit-Policy` and `RateLimit` if the key
///   made all requests of its rate. nginx turns a 429 into 500, so only `/authz?scope=…&limited=429` gets one.
/// * **5xx** if the proxy's request is invalid (no scope, an unknown scope, another parameter) or
///   the store cannot decide.
///
/// `deploy/` has complete, tested configurations. They handle two hazards:
///
/// * A key is the user name of Basic authentication, so the default log format of nginx prints it.
///   Its error log at level `info` prints it too, if a request has the header twice.
/// * A client's `Connection: X-Auth-Owner` makes some proxies drop that header. The service behind
///   the proxy must refuse a request without one of the four headers; an empty value is valid.
///
/// Envoy appends the client's path and query to its own: it requests `/authz/scope/api.read`, and
/// the rest of the path is ignored. There, commas separate several scopes.
///
/// [`router`](super::router) contains both routes; use this router for a separate listener.
///
/// ```
/// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let app: axum::Router = portcullis_admin::forward_auth(store);
/// # Ok::<(), portcullis::Error>(())
/// ```
pub fn forward_auth(store: Store) -> Router {
    Router::new()
        .route("/authz", any(authorize))
        .route("/authz/", any(authorize))
        .route("/authz/{*question}", any(authorize_by_path))
        .with_state(store)
}

/// Tells a proxy whether to forward a request
///
/// Any method works. The key needs all the scopes that the query names. The proxy must set all four
/// `X-Auth-…` headers on the request that it forwards, so that a client cannot supply its own. The
/// response is 429 only with `limited=429`.
#[utoipa::path(
    get,
    path = "/authz",
    operation_id = "authorize",
    tag = "Forward auth",
    params(
        ("scope" = Vec<String>, Query, min_items = 1, description = "A required scope. Repeat the parameter to require several", example = json!(["api.read"])),
        ("limited" = Option<u16>, Query, minimum = 429, maximum = 429, description = "The status for a key that made all requests of its rate; 403 by default")
    ),
    responses(
        (status = 200, description = "forward the request with these headers",
            headers(
                ("X-Auth-Key-Id" = String, description = "The id of the key"),
                ("X-Auth-Key-Name" = String, description = "The name, percent-encoded"),
                ("X-Auth-Scopes" = String, description = "The scopes, joined by commas; `*` for a root key"),
                ("X-Auth-Owner" = String, description = "The owner, percent-encoded; empty if there is none")
            ))
    ),
    security(("key" = []))
)]
async fn authorize(State(store): State<Store>, request: Request) -> Response {
    let mut response = match Question::read(&store, request.uri()) {
        Ok(question) => match identify(&store, &request, &question.scopes) {
            Ok(headers) => headers.into_response(),
            Err(refusal) => {
                log_refusal(&refusal, peer(request.extensions()));
                question.refused(refusal)
            }
        },
        Err(reason) => {
            if let Some(suppressed) = MISCONFIGURED.permit() {
                tracing::error!(
                    reason,
                    suppressed,
                    "a proxy sent an invalid request and was refused"
                );
            }
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "misconfigured", reason).into_response()
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Tells a proxy that appends the client's path whether to forward a request
///
/// Any method works. The rest of the path and the query belong to the client's request and are
/// ignored.
#[utoipa::path(
    get,
    path = "/authz/scope/{scopes}",
    operation_id = "authorize_by_path",
    tag = "Forward auth",
    params(
        ("scopes" = Vec<String>, Path, min_items = 1, description = "The required scopes, joined by commas", example = json!(["api.read"]))
    ),
    responses(
        (status = 200, description = "forward the request with these headers",
            headers(
                ("X-Auth-Key-Id" = String, description = "The id of the key"),
                ("X-Auth-Key-Name" = String, description = "The name, percent-encoded"),
                ("X-Auth-Scopes" = String, description = "The scopes, joined by commas; `*` for a root key"),
                ("X-Auth-Owner" = String, description = "The owner, percent-encoded; empty if there is none")
            ))
    ),
    security(("key" = []))
)]
async fn authorize_by_path(state: State<Store>, request: Request) -> Response {
    authorize(state, request).await
}

/// The proxy's request.
#[derive(Debug)]
struct Question {
    scopes: Vec<Scope>,
    /// The status for a key that made all requests of its rate.
    limited: StatusCode,
}

impl Question {
    /// It is an error to name no scope, or one that no key can have.
    fn read(store: &Store, uri: &Uri) -> Result<Self, &'static str> {
        let query = uri.query().unwrap_or_default();
        let (limited, query) = match query.strip_suffix("&limited=429") {
            Some(query) if uri.path() == "/authz" => (StatusCode::TOO_MANY_REQUESTS, query),
            _ => (StatusCode::FORBIDDEN, query),
        };
        Ok(Self { scopes: required_scopes(store, uri, query)?, limited })
    }

    fn refused(&self, refusal: Refusal) -> Response {
        let Refusal::RateLimited { rate, retry_after } = refusal else {
            return refusal.into_response();
        };
        let mut response = Problem::rate_limited(self.limited, rate, retry_after).into_response();
        response.headers_mut().insert(REASON, HeaderValue::from_static("rate-limited"));
        response
    }
}

fn required_scopes(store: &Store, uri: &Uri, query: &str) -> Result<Vec<Scope>, &'static str> {
    let names: Vec<&str> = match uri.path().strip_prefix(SCOPES_IN_PATH) {
        // The rest of the path and the query belong to the client's request.
        Some(rest) => rest.split('/').next().unwrap_or_default().split(',').collect(),
        None if uri.path() != "/authz" => return Err("the path is /authz or /authz/scope/…"),
        None => query
            .split('&')
            .map(|pair| pair.strip_prefix("scope="))
            .collect::<Option<_>>()
            .ok_or("give the required scope, then only limited=429: ?scope=api.read")?,
    };
    names
        .into_iter()
        .map(|name| store.catalogue().find(name).map(|entry| entry.scope.clone()).ok())
        .collect::<Option<_>>()
        .ok_or("the store has no scope of this name; `GET /v1/scopes` lists those that it has")
}

/// Returns the key's identity as headers, if the key has all of the scopes.
fn identify(
    store: &Store,
    request: &Request,
    scopes: &[Scope],
) -> Result<[(HeaderName, HeaderValue); 4], Refusal> {
    let (headers, extensions) = (request.headers(), request.extensions());
    let caller = Authentication::recorded_or_new(store, headers, extensions).into_outcome()?;
    scopes.iter().try_for_each(|scope| caller.require(scope))?;
    // From memory. A key that was deleted since the line above is refused as unknown.
    let record = store.get(caller.id()).map_err(|_| Refusal::Unknown)?;
    Ok(identity_headers(caller.id(), caller.grant(), &record))
}

fn identity_headers(id: KeyId, grant: &Grant, record: &Record) -> [(HeaderName, HeaderValue); 4] {
    let scopes = match grant {
        Grant::All => "*".to_owned(),
        Grant::Scopes(set) => set.iter().map(Scope::as_str).collect::<Vec<_>>().join(","),
    };
    let owner = record.owner.as_deref().unwrap_or_default();
    let value = |text: &str| {
        // The encoded text is visible ASCII, so this cannot fail.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    };
    [
        (KEY_ID, value(&id.to_string())),
        (KEY_NAME, value(&percent_encoded(&record.name))),
        (SCOPES, value(&scopes)),
        (OWNER, value(&percent_encoded(owner))),
    ]
}

/// Encodes a text as visible ASCII.
fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_name_is_one_line_of_ascii() {
        assert_eq!(percent_encoded("Nightly export"), "Nightly%20export");
        assert_eq!(percent_encoded("a-b._~9"), "a-b._~9");
        assert_eq!(percent_encoded("Käse, 100%\r\nX"), "K%C3%A4se%2C%20100%25%0D%0AX");
    }

    #[test]
    fn request_without_a_known_scope_is_refused() {
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .in_memory()
            .unwrap();
        let requested = |uri: &str| {
            Question::read(&store, &uri.parse().unwrap()).map(|question| {
                let scopes = question.scopes.iter().map(Scope::to_string);
                scopes
                    .chain((question.limited == 429).then(|| "429".into()))
                    .collect::<Vec<_>>()
                    .join("+")
            })
        };
        for (uri, scopes) in [
            ("/authz?scope=api.read", "api.read"),
            ("/authz?scope=api.read&scope=api.write", "api.read+api.write"),
            ("/authz?scope=api.read&limited=429", "api.read+429"),
            ("/authz/scope/api.read", "api.read"),
            ("/authz/scope/api.read?scope=x&limited=429", "api.read"),
            ("/authz/scope/api.read/", "api.read"),
            ("/authz/scope/api.read/data/x?scope=api.write", "api.read"),
            ("/authz/scope/api.read,api.write/data", "api.read+api.write"),
        ] {
            assert_eq!(requested(uri).as_deref(), Ok(scopes), "{uri}");
        }
        for uri in [
            "/authz",
            "/authz?",
            "/authz?scope=",
            "/authz?scope=api.raed",
            "/authz?scope=*",
            "/authz?scope=api.read&",
            "/authz?scope=api.read&scop=api.write",
            "/authz?scope=api.read,api.write",
            "/authz?Scope=api.read",
            "/authz?limited=429",
            "/authz?limited=429&scope=api.read",
            "/authz?scope=api.read&limited=403",
            "/authz?scope=api.read&limited=429&limited=429",
            "/authz/?scope=api.read",
            "/authz/scope?scope=api.read",
            "/authz/scope//api.read",
            "/authz/scope/api.read,/x",
            "/authz/scope/api.read*",
            "/authz/scope/api.read%2F",
        ] {
            assert!(requested(uri).is_err(), "{uri}");
        }
    }
}
