//! Request headers → principal, at most once for each request.

use crate::{
    Principal, Refusal, Store,
    origin::{Origin, Uncounted},
};
use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION},
};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Authenticates the request that has these headers. A [`Refusal`] is itself an axum response, so a
/// handler can return it with `?`.
///
/// A request with two `Authorization` headers is refused: another program in the chain could pick
/// the other one. The values stay bytes; they need not be text.
///
/// The address of the client is not known here, so a key with [networks](crate::Record::networks) is
/// refused: use [`authenticate_from`].
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
    authenticate_from(store, headers, None)
}

/// [`authenticate`] for a request from this address.
pub fn authenticate_from(
    store: &Store,
    headers: &HeaderMap,
    address: Option<IpAddr>,
) -> Result<Principal, Refusal> {
    outcome(store, headers, address)
}

fn outcome(store: &Store, headers: &HeaderMap, origin: impl Origin) -> Result<Principal, Refusal> {
    let authorization = headers.get_all(AUTHORIZATION).iter();
    let header = store.credentials().header();
    let header = header.map(|header| headers.get_all(header.as_str()).iter());
    store.request_from(authorization, header.into_iter().flatten(), origin)
}

/// Returns the address of the client, where it is known: that in the extension `ConnectInfo<SocketAddr>`,
/// which axum sets with `into_make_service_with_connect_info`.
///
/// Behind a proxy, a host must replace it by the address that the proxy reports, as `portcullis-server`
/// does for trusted proxies. Otherwise it is that of the proxy.
pub fn client_address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
}

/// Whether a request with these headers has a credential that the store reads, valid or not.
pub fn has_credential(store: &Store, headers: &HeaderMap) -> bool {
    credentials(store, headers).next().is_some()
}

/// Returns all credentials of a request, and of each whether it is in a header of its own.
fn credentials<'h>(
    store: &'h Store,
    headers: &'h HeaderMap,
) -> impl Iterator<Item = (bool, &'h HeaderValue)> {
    let own = store.credentials().header().map(|header| headers.get_all(header.as_str()).iter());
    let own = own.into_iter().flatten().map(|value| (true, value));
    headers.get_all(AUTHORIZATION).iter().map(|value| (false, value)).chain(own)
}

/// The outcome of authenticating one request. As a request extension it tells inner layers and
/// handlers the outcome, so that they need not authenticate the request again.
///
/// Only authentication creates a value. The value applies to one store, one credential and one
/// [address](client_address): with another store or other accepted [`Credentials`](crate::Credentials), or
/// after a layer has changed the header or the address, it is ignored.
///
/// ```
/// use axum::extract::Request;
/// use portcullis::{Store, web::Authentication};
/// fn record(store: &Store, request: &mut Request) {
///     let authentication = Authentication::new(store, request.headers(), request.extensions());
///     request.extensions_mut().insert(authentication);
/// }
/// ```
#[derive(Clone)]
pub struct Authentication {
    store: Store,
    /// Whether it is in a header of its own, and its value; `None` where the request has no credential or
    /// several.
    credential: Option<(bool, HeaderValue)>,
    address: Option<IpAddr>,
    outcome: Result<Principal, Refusal>,
}

impl Authentication {
    /// Authenticates the request that has these headers and, in its extensions, the
    /// [address](client_address) of its client.
    pub fn new(store: &Store, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let credential = single_credential(store, headers);
        let credential = credential.map(|(is_own, value)| (is_own, value.clone()));
        let address = client_address(extensions);
        let outcome = authenticate_from(store, headers, address);
        Self { store: store.clone(), credential, address, outcome }
    }

    /// Authenticates the request again if its extensions have an outcome that applies: it is counted already.
    /// Else as [`new`](Self::new).
    pub(super) fn renewed(store: &Store, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let recorded = extensions.get::<Self>();
        match recorded.filter(|recorded| recorded.applies_to(store, headers, extensions)) {
            Some(limited) if matches!(limited.outcome, Err(Refusal::RateLimited { .. })) => {
                limited.clone()
            }
            Some(recorded) => {
                let outcome = outcome(store, headers, Uncounted(recorded.address));
                Self { outcome, ..recorded.clone() }
            }
            None => Self::new(store, headers, extensions),
        }
    }

    /// Returns the recorded outcome, or authenticates the request if its extensions have none that
    /// applies.
    pub fn recorded_or_new(store: &Store, headers: &HeaderMap, extensions: &Extensions) -> Self {
        match extensions.get::<Self>() {
            Some(recorded) if recorded.applies_to(store, headers, extensions) => recorded.clone(),
            _ => Self::new(store, headers, extensions),
        }
    }

    /// Returns the principal, or why the request was refused.
    pub fn outcome(&self) -> Result<&Principal, &Refusal> {
        self.outcome.as_ref()
    }

    /// Returns the principal, or why the request was refused, by value.
    pub fn into_outcome(self) -> Result<Principal, Refusal> {
        self.outcome
    }

    fn applies_to(&self, store: &Store, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let recorded = self.credential.as_ref().map(|(is_own, value)| (*is_own, value));
        self.store.is(store)
            && self.store.credentials() == store.credentials()
            && self.address == client_address(extensions)
            && recorded.is_some()
            && recorded == single_credential(store, headers)
    }
}

fn single_credential<'h>(
    store: &'h Store,
    headers: &'h HeaderMap,
) -> Option<(bool, &'h HeaderValue)> {
    let mut all = credentials(store, headers);
    all.next().filter(|_| all.next().is_none())
}

/// Omits the header, which contains the key.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Expiry, Grant, KeyHeader, NewKey, scope::catalogue};
    use base64::{Engine, engine::general_purpose::STANDARD};

    /// A store with one key, and the headers of a request with that key.
    fn store_and_headers() -> (Store, HeaderMap) {
        let store = Store::builder().scopes(catalogue::financial_data()).in_memory().unwrap();
        let scopes = store.scopes([catalogue::API_READ.as_str()]).unwrap();
        let new = NewKey::new("a", scopes, Expiry::Never);
        let key = store.issue(new).unwrap().secret.reveal(str::to_owned);
        let mut headers = HeaderMap::new();
        let basic = format!("Basic {}", STANDARD.encode(format!("{key}:")));
        headers.insert(AUTHORIZATION, HeaderValue::try_from(basic).unwrap());
        (store, headers)
    }

    #[test]
    fn key_in_a_header_of_its_own_is_the_only_credential() {
        let (store, mut headers) = store_and_headers();
        let own = KeyHeader::new("X-API-Key").unwrap();
        let accepting = store.clone().with_credentials(Credentials::basic().with_header(own));
        let key = store.issue(NewKey::new("b", Grant::All, Expiry::Never)).unwrap().secret;
        let value = key.reveal(|text| HeaderValue::try_from(text).unwrap());
        assert!(authenticate(&accepting, &headers).is_ok());
        headers.insert("x-api-key", value);
        assert_eq!(authenticate(&accepting, &headers).unwrap_err(), Refusal::Ambiguous);
        assert!(authenticate(&store, &headers).is_ok());
        headers.remove(AUTHORIZATION);
        assert!(authenticate(&accepting, &headers).is_ok());
        assert_eq!(authenticate(&store, &headers).unwrap_err(), Refusal::Missing);
        assert!(has_credential(&accepting, &headers) && !has_credential(&store, &headers));

        // An outcome of a handle that accepts more applies to that handle only.
        let mut extensions = Extensions::new();
        extensions.insert(Authentication::new(&accepting, &headers, &Extensions::new()));
        let recorded = Authentication::recorded_or_new(&accepting, &headers, &extensions);
        assert!(recorded.outcome().is_ok());
        let strict = Authentication::recorded_or_new(&store, &headers, &extensions);
        assert_eq!(strict.into_outcome().unwrap_err(), Refusal::Missing);
    }

    #[test]
    fn recorded_outcome_applies_to_its_store_and_header_only() {
        let (store, headers) = store_and_headers();
        let mut extensions = Extensions::new();
        let first = Authentication::new(&store, &headers, &Extensions::new());
        let id = first.outcome().unwrap().id();
        extensions.insert(first);
        // The key is revoked, so only the recorded outcome is a success.
        store.revoke(id).unwrap();
        let outcome = |store: &Store, headers: &HeaderMap| {
            Authentication::recorded_or_new(store, headers, &extensions).into_outcome()
        };
        assert_eq!(outcome(&store, &headers).unwrap().id(), id);
        assert_eq!(authenticate(&store, &headers).unwrap_err(), Refusal::Inactive);

        let at = |address: [u8; 4]| ConnectInfo(SocketAddr::from((address, 4711)));
        let mut elsewhere = extensions.clone();
        elsewhere.insert(at([192, 0, 2, 7]));
        let from = Authentication::recorded_or_new(&store, &headers, &elsewhere);
        assert_eq!(from.into_outcome().unwrap_err(), Refusal::Inactive);

        let (other, other_headers) = store_and_headers();
        assert_eq!(outcome(&other, &headers).unwrap_err(), Refusal::Unknown);
        assert_eq!(outcome(&store, &other_headers).unwrap_err(), Refusal::Unknown);
        let mut twice = headers.clone();
        twice.append(AUTHORIZATION, headers[AUTHORIZATION].clone());
        assert_eq!(outcome(&store, &twice).unwrap_err(), Refusal::Ambiguous);
        assert_eq!(outcome(&store, &HeaderMap::new()).unwrap_err(), Refusal::Missing);
    }

    #[test]
    fn debug_output_has_no_key() {
        let (store, headers) = store_and_headers();
        let authentication = Authentication::new(&store, &headers, &Extensions::new());
        let basic = headers[AUTHORIZATION].to_str().unwrap();
        assert!(!format!("{authentication:?}").contains(basic));
    }
}
