//! Request headers → principal, at most once for each request.

use crate::{Principal, Refusal, Store};
use axum::http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION};
use std::fmt;

/// Authenticates the request that has these headers. A [`Refusal`] is itself an axum response, so a
/// handler can return it with `?`.
///
/// A request with two `Authorization` headers is refused: another program in the chain could pick
/// the other one. The values stay bytes; they need not be text.
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
    store.authenticate(headers.get_all(AUTHORIZATION).iter())
}

/// The outcome of authenticating one request. As a request extension it tells inner layers and
/// handlers the outcome, so that they need not authenticate the request again.
///
/// Only authentication creates a value. The value applies to one store and one `Authorization`
/// header: with another store, or after a layer has changed the header, it is ignored.
///
/// ```
/// use axum::extract::Request;
/// use portcullis::{Store, web::Authentication};
/// fn record(store: &Store, request: &mut Request) {
///     let authentication = Authentication::new(store, request.headers());
///     request.extensions_mut().insert(authentication);
/// }
/// ```
#[derive(Clone)]
pub struct Authentication {
    store: Store,
    /// Empty where the request has no such header, and where it has several.
    authorization: Option<HeaderValue>,
    outcome: Result<Principal, Refusal>,
}

impl Authentication {
    /// Authenticates the request that has these headers.
    pub fn new(store: &Store, headers: &HeaderMap) -> Self {
        let authorization = single_authorization(headers).cloned();
        Self { store: store.clone(), authorization, outcome: authenticate(store, headers) }
    }

    /// Returns the recorded outcome, or authenticates the request if its extensions have none that
    /// applies.
    pub fn recorded_or_new(store: &Store, headers: &HeaderMap, extensions: &Extensions) -> Self {
        match extensions.get::<Self>() {
            Some(recorded) if recorded.applies_to(store, headers) => recorded.clone(),
            _ => Self::new(store, headers),
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

    fn applies_to(&self, store: &Store, headers: &HeaderMap) -> bool {
        let authorization = single_authorization(headers);
        self.store.is(store)
            && authorization.is_some()
            && self.authorization.as_ref() == authorization
    }
}

fn single_authorization(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    values.next().filter(|_| values.next().is_none())
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
    use crate::{Expiry, NewKey, scope::catalogue};
    use base64::{Engine, engine::general_purpose::STANDARD};

    /// A store with one key, and the headers of a request with that key.
    fn store_and_headers() -> (Store, HeaderMap) {
        let store = Store::in_memory().unwrap();
        let scopes = store.scopes([catalogue::API_READ.as_str()]).unwrap();
        let new = NewKey::new("a", scopes, Expiry::Never);
        let key = store.issue(new).unwrap().secret.reveal(str::to_owned);
        let mut headers = HeaderMap::new();
        let basic = format!("Basic {}", STANDARD.encode(format!("{key}:")));
        headers.insert(AUTHORIZATION, HeaderValue::try_from(basic).unwrap());
        (store, headers)
    }

    #[test]
    fn recorded_outcome_applies_to_its_store_and_header_only() {
        let (store, headers) = store_and_headers();
        let mut extensions = Extensions::new();
        let first = Authentication::new(&store, &headers);
        let id = first.outcome().unwrap().id();
        extensions.insert(first);
        // The key is revoked, so only the recorded outcome is a success.
        store.revoke(id).unwrap();
        let outcome = |store: &Store, headers: &HeaderMap| {
            Authentication::recorded_or_new(store, headers, &extensions).into_outcome()
        };
        assert_eq!(outcome(&store, &headers).unwrap().id(), id);
        assert_eq!(authenticate(&store, &headers).unwrap_err(), Refusal::Inactive);

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
        let authentication = Authentication::new(&store, &headers);
        let basic = headers[AUTHORIZATION].to_str().unwrap();
        assert!(!format!("{authentication:?}").contains(basic));
    }
}
