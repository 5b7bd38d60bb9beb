//! Forward auth: a proxy asks whether a request may pass, before it passes it on.

use super::{caller, sparingly::Sparingly};
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{
        Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header::CACHE_CONTROL,
    },
    response::{IntoResponse, Response},
    routing::any,
};
use portcullis::{
    Grant, KeyId, Record, Refusal, Scope, Store,
    web::{self, Problem},
};
use std::{fmt::Write, net::SocketAddr};

const KEY_ID: HeaderName = HeaderName::from_static("x-auth-key-id");
const KEY_NAME: HeaderName = HeaderName::from_static("x-auth-key-name");
const SCOPES: HeaderName = HeaderName::from_static("x-auth-scopes");
const OWNER: HeaderName = HeaderName::from_static("x-auth-owner");

/// The form for proxies that append the client's own path and query, such as Envoy.
const IN_THE_PATH: &str = "/authz/scope/";

static MISCONFIGURED: Sparingly = Sparingly::new();

/// Answers a proxy's question whether a request may pass: `/authz?scope=api.read`, with any method.
/// Several scopes are all required. The key is read from the caller's own `Authorization`, which
/// the proxy passes on.
///
/// * **200** with `X-Auth-Key-Id`, `X-Auth-Key-Name`, `X-Auth-Scopes` (joined by commas, `*` for a
///   root key) and `X-Auth-Owner`: always all four, percent-encoded, empty where there is none. The
///   proxy sets all four on the request that it passes on, so that a client cannot bring its own.
/// * **401** and **403** as everywhere, to be handed to the client.
/// * **5xx** where the question is wrong (no scope, an unknown one, another parameter) or nothing
///   can be said. It is never 200, nor 429, of which nginx makes 500.
///
/// Complete configurations are in `deploy/`, and say what was tested. Two things that they mind:
///
/// * A key is the user name of Basic authentication, so that the usual log format of nginx prints
///   it, and so does its error log at level info, where a request has the header twice.
/// * A client's `Connection: X-Auth-Owner` makes some proxies drop that header on the way. A service
///   behind one refuses a request in which one of the four is absent; empty is something else.
///
/// Envoy appends the client's path and query to its own: it asks `/authz/scope/api.read`, and what
/// follows is ignored. There several scopes are joined by commas.
///
/// Both are part of [`router`](super::router) too; this is for a listener of its own.
///
/// ```
/// # let store = portcullis::Store::in_memory()?;
/// let app: axum::Router = portcullis_admin::forward_auth(store);
/// # Ok::<(), portcullis::Error>(())
/// ```
pub fn forward_auth(store: Store) -> Router {
    Router::new()
        .route("/authz", any(ask))
        .route("/authz/", any(ask))
        .route("/authz/{*question}", any(ask))
        .with_state(store)
}

async fn ask(State(store): State<Store>, request: Request) -> Response {
    let mut response = match required(&store, request.uri()) {
        Ok(scopes) => match admit(&store, request.headers(), &scopes) {
            Ok(headers) => headers.into_response(),
            Err(refusal) => {
                caller::log(&refusal, peer(request.extensions()));
                refusal.into_response()
            }
        },
        Err(why) => {
            if let Some(unsaid) = MISCONFIGURED.permit() {
                tracing::error!(why, unsaid, "a proxy asks wrongly; nothing passes");
            }
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "misconfigured", why).into_response()
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn peer(extensions: &Extensions) -> Option<std::net::IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
}

/// The scopes that the proxy's configuration names; none, or one that no key can have, is an error.
fn required(store: &Store, uri: &Uri) -> Result<Vec<Scope>, &'static str> {
    let names: Vec<&str> = match uri.path().strip_prefix(IN_THE_PATH) {
        // The rest is the client's, its query included.
        Some(rest) => rest.split('/').next().unwrap_or_default().split(',').collect(),
        None if uri.path() != "/authz" => return Err("the path is /authz or /authz/scope/…"),
        None => uri
            .query()
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.strip_prefix("scope="))
            .collect::<Option<_>>()
            .ok_or("give the scope that the route asks for, and nothing else: ?scope=api.read")?,
    };
    let known = store.catalogue().entries();
    let scope_of = |name| known.iter().find(|entry| entry.offered && entry.scope.as_str() == name);
    names
        .into_iter()
        .map(|name| scope_of(name).map(|entry| entry.scope.clone()))
        .collect::<Option<_>>()
        .ok_or("the store has no scope of this name; `GET /v1/scopes` lists those that it has")
}

/// Who calls, as headers, if the key has all of the scopes.
fn admit(
    store: &Store,
    headers: &HeaderMap,
    scopes: &[Scope],
) -> Result<[(HeaderName, HeaderValue); 4], Refusal> {
    let caller = web::authenticate(store, headers)?;
    scopes.iter().try_for_each(|scope| caller.require(scope))?;
    // From memory. A key that was deleted since the line above is refused like any other.
    let record = store.get(caller.id()).map_err(|_| Refusal::Unknown)?;
    Ok(identity(caller.id(), caller.grant(), &record))
}

fn identity(id: KeyId, grant: &Grant, record: &Record) -> [(HeaderName, HeaderValue); 4] {
    let scopes = match grant {
        Grant::All => "*".to_owned(),
        Grant::Scopes(set) => set.iter().map(Scope::as_str).collect::<Vec<_>>().join(","),
    };
    let owner = record.owner.as_deref().unwrap_or_default();
    let value = |text: &str| {
        // What is encoded is visible ASCII, so that this cannot fail.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    };
    [
        (KEY_ID, value(&id.to_string())),
        (KEY_NAME, value(&percent_encoded(&record.name))),
        (SCOPES, value(&scopes)),
        (OWNER, value(&percent_encoded(owner))),
    ]
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_ascii() {
        assert_eq!(percent_encoded("Nightly export"), "Nightly%20export");
        assert_eq!(percent_encoded("a-b._~9"), "a-b._~9");
        assert_eq!(percent_encoded("Käse, 100%\r\nX"), "K%C3%A4se%2C%20100%25%0D%0AX");
    }

    #[test]
    fn a_question_without_a_known_scope_is_wrong() {
        let store = Store::in_memory().unwrap();
        let asked = |uri: &str| {
            required(&store, &uri.parse().unwrap())
                .map(|scopes| scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join("+"))
        };
        for (uri, scopes) in [
            ("/authz?scope=api.read", "api.read"),
            ("/authz?scope=api.read&scope=api.write", "api.read+api.write"),
            ("/authz/scope/api.read", "api.read"),
            ("/authz/scope/api.read/", "api.read"),
            ("/authz/scope/api.read/data/x?scope=api.write", "api.read"),
            ("/authz/scope/api.read,api.write/data", "api.read+api.write"),
        ] {
            assert_eq!(asked(uri).as_deref(), Ok(scopes), "{uri}");
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
            "/authz/?scope=api.read",
            "/authz/scope?scope=api.read",
            "/authz/scope//api.read",
            "/authz/scope/api.read,/x",
            "/authz/scope/api.read*",
            "/authz/scope/api.read%2F",
        ] {
            assert!(asked(uri).is_err(), "{uri}");
        }
    }
}
