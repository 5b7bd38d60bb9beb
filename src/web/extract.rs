//! A key as an argument of a handler, which cannot be called without one.

use super::{TypedScope, caller::authenticate, layer::LetIn};
use crate::{Principal, Refusal, Store};
use axum::{
    extract::{FromRef, FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use std::{fmt, marker::PhantomData, ops::Deref};

/// A caller who presented a valid key that is entitled to the scope `S`.
///
/// As an argument of a handler it answers by itself: 401 without a valid key, 403 without the
/// scope. The state of the router is a [`Store`], or has one ([`FromRef`]).
///
/// `Option<ApiKey<S>>` is `None` where no key was sent. One that was sent and is not valid is still
/// a 401, and one without the scope a 403: who means to be somebody is not taken for nobody.
///
/// ```
/// use axum::{Router, routing::get};
/// use portcullis::{Store, web::{ApiKey, scopes::ApiRead}};
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
///     .with_state(Store::in_memory()?);
/// # Ok::<(), portcullis::Error>(())
/// ```
pub struct ApiKey<S> {
    caller: Principal,
    scope: PhantomData<fn() -> S>,
}

impl<S> ApiKey<S> {
    /// The proof, without the type of its scope.
    pub fn into_principal(self) -> Principal {
        self.caller
    }
}

impl<S> Deref for ApiKey<S> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.caller
    }
}

impl<S> Clone for ApiKey<S> {
    fn clone(&self) -> Self {
        Self { caller: self.caller.clone(), scope: PhantomData }
    }
}

impl<S: TypedScope> fmt::Debug for ApiKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("caller", &self.caller).field("scope", &S::SCOPE).finish()
    }
}

impl<S: TypedScope, T: Sync> FromRequestParts<T> for ApiKey<S>
where
    Store: FromRef<T>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &T) -> Result<Self, Refusal> {
        let store = Store::from_ref(state);
        let caller = match parts.extensions.get::<LetIn>() {
            Some(let_in) if let_in.by.is(&store) => let_in.caller.clone(),
            _ => authenticate(&store, &parts.headers)?,
        };
        caller.require(&S::SCOPE)?;
        Ok(Self { caller, scope: PhantomData })
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
