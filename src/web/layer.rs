//! A tower layer: what stands behind it is reached with a key and a scope only.

use super::{TypedScope, caller::authenticate};
use crate::{Principal, Scope, Store};
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

/// A tower layer that lets a request pass if its key is entitled to one scope, and answers 401 or
/// 403 by itself otherwise. The [`Principal`] is then among the request's extensions.
///
/// A layer says nothing of the plane and can be forgotten on a route; [`Guarded`](super::Guarded)
/// is better where it fits. On an axum `Router` use `route_layer`, so that a path that is not there
/// stays a 404.
///
/// # The order of layers
///
/// Of two layers on a router, the one that is added later stands outside and sees a request first.
///
/// * **CORS outside.** A browser sends a preflight without the key; it has to be answered before
///   anyone asks for one. And a 401 without CORS headers cannot be read by the page.
/// * **Sensitive headers outside tracing**, or the log prints the key.
/// * What counts or limits requests stands outside as well, and sees the refusals.
///
/// ```
/// use axum::{Router, http::header::AUTHORIZATION, routing::get};
/// use portcullis::{Store, web::{RequireScope, scopes::ApiRead}};
/// use tower_http::{cors::CorsLayer, sensitive_headers::SetSensitiveRequestHeadersLayer, trace::TraceLayer};
/// # let store = Store::in_memory()?;
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
    /// Keys of this store that are entitled to this scope pass.
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

/// A service behind [`RequireScope`].
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
        let caller = authenticate(store, request.headers());
        match caller.and_then(|caller| caller.require(scope).map(|()| caller)) {
            Ok(caller) => {
                request.extensions_mut().insert(caller.clone());
                request.extensions_mut().insert(LetIn { caller, by: store.clone() });
                let answer = self.inner.call(request);
                Box::pin(async move { Ok(answer.await?.map(Body::new)) })
            }
            Err(refusal) => Box::pin(ready(Ok(refusal.into_response()))),
        }
    }
}

/// Who was let in and by which store, so that a handler need not ask again.
#[derive(Clone)]
pub(crate) struct LetIn {
    pub(crate) caller: Principal,
    pub(crate) by: Store,
}
