//! The tower layer that requires a valid key with a scope.

use super::{Authentication, TypedScope};
use crate::{Refusal, Scope, Store};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Request, Response},
    response::IntoResponse,
};
use std::{
    error::Error,
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// A tower layer that forwards a request if its key is valid and has one scope, and responds 401 or
/// 403 otherwise. It adds the [`Principal`](crate::Principal) to the request's extensions.
///
/// A layer does not check the plane, and a route can lack it; prefer [`Guarded`](super::Guarded)
/// where it fits. On an axum `Router` use `route_layer`, so that an unknown path stays a 404.
///
/// A key that has made all requests of its [rate](crate::Record::rate) gets a 429. Of several such layers
/// around a handler only the first counts a request.
///
/// A key with [networks](crate::Record::networks) needs the [address](super::client_address) of the client in
/// the request's extensions, else it is refused.
///
/// # The order of layers
///
/// Of two layers on a router, the one that is added later is the outer one: it gets a request first.
///
/// * **CORS outside.** A browser sends a preflight without the key, so it must be answered before
///   the key is required. A page cannot read a 401 without CORS headers.
/// * **Sensitive headers outside tracing**, or the log prints the key.
/// * **Metrics and rate limits outside**, so that they count the refusals.
///
/// ```
/// use axum::{Router, http::header::AUTHORIZATION, routing::get};
/// use portcullis::{Store, web::{RequireScope, scopes::ApiRead}};
/// use tower_http::{cors::CorsLayer, sensitive_headers::SetSensitiveRequestHeadersLayer, trace::TraceLayer};
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let app: Router = Router::new()
///     .route("/accounts", get(async || "accounts"))
///     .route_layer(RequireScope::new(store, ApiRead)) // innermost
///     .layer(TraceLayer::new_for_http())
///     .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
///     .layer(CorsLayer::permissive()); // outermost
/// # Ok::<(), portcullis::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RequireScope {
    store: Store,
    scope: Scope,
}

impl RequireScope {
    /// Creates a layer that accepts the keys of this store that have this scope.
    pub fn new<S: TypedScope>(store: Store, _scope: S) -> Self {
        Self { store, scope: S::SCOPE }
    }
}

impl<S> Layer<S> for RequireScope {
    type Service = Protected<S>;

    fn layer(&self, inner: S) -> Protected<S> {
        Protected { guard: self.clone(), inner }
    }
}

/// The service that [`RequireScope`] wraps around another.
#[derive(Clone, Debug)]
pub struct Protected<S> {
    guard: RequireScope,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Protected<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let RequireScope { store, scope } = &self.guard;
        // Not a recorded outcome: this layer may run long after an outer one.
        let (headers, extensions) = (request.headers(), request.extensions());
        let authentication = Authentication::renewed(store, headers, extensions);
        let principal = authentication.outcome().map_err(Refusal::clone);
        match principal.and_then(|principal| principal.require(scope).map(|()| principal.clone())) {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                request.extensions_mut().insert(authentication);
                let response = self.inner.call(request);
                Box::pin(async move { Ok(response.await?.map(Body::new)) })
            }
            Err(refusal) => Box::pin(ready(Ok(refusal.into_response()))),
        }
    }
}
