//! The extractor for a valid key with a scope.

use super::{Authentication, TypedScope};
use crate::{Principal, Refusal, Store};
use axum::{
    extract::{FromRef, FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use std::{fmt, marker::PhantomData, ops::Deref};

/// The principal of a request whose key is valid and has the scope `S`.
///
/// As an extractor it responds 401 without a valid key and 403 without the scope; the handler is
/// then not called. The state of the router is a [`Store`], or has one ([`FromRef`]).
///
/// `Option<ApiKey<S>>` is `None` if the request has no key. A key that is not valid is still a 401,
/// and a key without the scope a 403. A failed login is not treated as an anonymous request.
///
/// ```
/// use axum::{Router, routing::get};
/// use portcullis::{Store, scope, web::{ApiKey, scopes::ApiRead}};
///
/// async fn accounts(key: ApiKey<ApiRead>) -> String {
///     format!("accounts, for {}", key.id())
/// }
/// async fn greeting(key: Option<ApiKey<ApiRead>>) -> &'static str {
///     if key.is_some() { "welcome back" } else { "hello" }
/// }
/// let app: Router = Router::new()
///     .route("/accounts", get(accounts))
///     .route("/", get(greeting))
///     .with_state(Store::builder().scopes(scope::catalogue::financial_data()).in_memory()?);
/// # Ok::<(), portcullis::Error>(())
/// ```
pub struct ApiKey<S> {
    principal: Principal,
    scope: PhantomData<fn() -> S>,
}

impl<S> ApiKey<S> {
    /// Returns the principal, without the type of its scope.
    pub fn into_principal(self) -> Principal {
        self.principal
    }
}

impl<S> Deref for ApiKey<S> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl<S> Clone for ApiKey<S> {
    fn clone(&self) -> Self {
        Self { principal: self.principal.clone(), scope: PhantomData }
    }
}

impl<S: TypedScope> fmt::Debug for ApiKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("principal", &self.principal)
            .field("scope", &S::SCOPE)
            .finish()
    }
}

impl<S: TypedScope, T: Sync> FromRequestParts<T> for ApiKey<S>
where
    Store: FromRef<T>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &T) -> Result<Self, Refusal> {
        let store = Store::from_ref(state);
        let (headers, extensions) = (&parts.headers, &parts.extensions);
        let authentication = Authentication::recorded_or_new(&store, headers, extensions);
        let principal = authentication.into_outcome()?;
        principal.require(&S::SCOPE)?;
        Ok(Self { principal, scope: PhantomData })
    }
}

impl<S: TypedScope, T: Sync> OptionalFromRequestParts<T> for ApiKey<S>
where
    Store: FromRef<T>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &T) -> Result<Option<Self>, Refusal> {
        match <Self as FromRequestParts<T>>::from_request_parts(parts, state).await {
            Ok(key) => Ok(Some(key)),
            Err(Refusal::Missing) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}
