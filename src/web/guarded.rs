//! The router in which each route states a scope of its own plane.

use super::{Administration, Data, Problem, RequireScope, ScopeOf, require_complete_body};
use crate::Store;
use axum::{
    Router,
    extract::FromRef,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use std::marker::PhantomData;

/// The routes of the Data API. They require scopes such as `api.read`, and none that begins with
/// `admin.`.
pub type DataApi<T = Store> = Guarded<Data, T>;
/// The routes of the Administration API. They require only scopes that begin with `admin.`.
pub type AdministrationApi<T = Store> = Guarded<Administration, T>;

/// A router in which each route states the scope that it requires.
///
/// The key is authenticated before the handler runs and before the request's body is read. An
/// incomplete body is an error in every extractor, a cancelled HTTP/2 stream included. Without a
/// key, an unknown path is still a 404 and an unknown method a 405. So is a CORS preflight, unless
/// an outer CORS layer answers it. For the order of layers see [`RequireScope`].
///
/// The plane `P` is that of the first route; the aliases [`DataApi`] and [`AdministrationApi`] state
/// it. The state `T` is the [`Store`], or your own state that has one ([`FromRef`]).
///
/// ```
/// use axum::routing::{get, post};
/// use portcullis::{Store, web::{ApiKey, DataApi, scopes::{ApiRead, ApiWrite}}};
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let app: axum::Router = DataApi::new(store)
///     .route(ApiRead, "/ledgers", get(async |key: ApiKey<ApiRead>| key.id().to_string()))
///     .route(ApiWrite, "/ledgers", post(async || "written"))
///     .into();
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// A route of the Data API that requires a scope of the Administration API does not compile:
///
/// ```compile_fail,E0277
/// # use axum::routing::get;
/// # use portcullis::{Store, web::{DataApi, scopes::AdminAccountList}};
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let app = DataApi::new(store).route(AdminAccountList, "/accounts", get(async || "accounts"));
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// In the Administration API it compiles:
///
/// ```
/// # use axum::routing::get;
/// # use portcullis::{Store, web::{AdministrationApi, scopes::AdminAccountList}};
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let app = AdministrationApi::new(store).route(AdminAccountList, "/accounts", get(async || "accounts"));
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// A handler may ask for a scope that its route does not require. Then the request needs both: one handler
/// can serve routes with different scopes.
///
/// ```
/// # use axum::routing::get;
/// # use portcullis::{Store, web::{ApiKey, DataApi, scopes::{ApiRead, ApiWrite}}};
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let both = get(async |key: ApiKey<ApiWrite>| key.id().to_string());
/// let app = DataApi::new(store).route(ApiRead, "/ledgers", both);
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// A route of the other plane does not compile after the first route has determined the plane:
///
/// ```compile_fail,E0277
/// # use axum::routing::get;
/// # use portcullis::{Store, web::{Guarded, scopes::{AdminAccountList, ApiRead}}};
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let app = Guarded::new(store)
///     .route(AdminAccountList, "/accounts", get(async || "accounts"))
///     .route(ApiRead, "/ledgers", get(async || "ledgers"));
/// # Ok::<(), portcullis::Error>(())
/// ```
#[must_use = "convert it to a `Router` with `into`"]
pub struct Guarded<P, T = Store> {
    state: T,
    store: Store,
    routes: Vec<(String, MethodRouter<T>)>,
    plane: PhantomData<fn() -> P>,
}

impl<P, T> std::fmt::Debug for Guarded<P, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

impl<P, T> Guarded<P, T>
where
    T: Clone + Send + Sync + 'static,
    Store: FromRef<T>,
{
    /// Creates a router without routes. The keys are those of the store in this state.
    pub fn new(state: T) -> Self {
        let store = Store::from_ref(&state);
        Self { state, store, routes: Vec::new(), plane: PhantomData }
    }

    /// Adds a route that requires a scope. The methods of one path may require different scopes: call
    /// this once for each.
    ///
    /// # Panics
    /// As axum's own `route` does: if a method of a path is given twice, or a path is malformed.
    /// Also if no method is named, as in `any(handler)`: the fallback of a `MethodRouter` is replaced
    /// by 405, since it would run without a key.
    pub fn route<S: ScopeOf<P>>(mut self, scope: S, path: &str, methods: MethodRouter<T>) -> Self {
        let methods = methods.route_layer(middleware::from_fn(require_complete_body));
        let methods = methods.route_layer(RequireScope::new(self.store.clone(), scope));
        let Some(index) = self.routes.iter().position(|(other, _)| other == path) else {
            self.routes.push((path.to_owned(), methods));
            return self;
        };
        let (path, others) = self.routes.swap_remove(index);
        self.routes.push((path, others.merge(methods)));
        self
    }
}

impl<P, T, O> From<Guarded<P, T>> for Router<O>
where
    T: Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
{
    fn from(guarded: Guarded<P, T>) -> Self {
        let router = guarded.routes.into_iter().fold(Router::new(), |router, (path, methods)| {
            router.route(&path, methods.fallback(method_not_allowed))
        });
        router.with_state(guarded.state)
    }
}

async fn method_not_allowed() -> Response {
    let detail = "this path does not have this method; the Allow header lists those that it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}
