//! A router on which no route can forget its scope, nor ask for one of the other plane.

use super::{Administration, Data, Problem, RequireScope, TypedScope, whole::refuse_cut};
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

/// The routes of the Data API: they ask for scopes such as `api.read`, and never for `admin.`.
pub type DataApi<T = Store> = Guarded<Data, T>;
/// The routes of the Administration API: they ask for scopes that begin with `admin.`, and for no
/// other.
pub type AdministrationApi<T = Store> = Guarded<Administration, T>;

/// A router in which each route names the scope that it asks for.
///
/// The key is checked before the handler, and before the request's body is read. A body that does
/// not arrive whole is an error to every extractor, a cancelled HTTP/2 stream included. A path that is not
/// there stays a 404, and a method that is not there a 405, for anyone; so does a CORS preflight,
/// which a CORS layer outside answers. For the order of layers see [`RequireScope`].
///
/// The first route decides the plane `P`, or its name does: [`DataApi`], [`AdministrationApi`]. The
/// state `T` is the [`Store`], or a state of yours that has one ([`FromRef`]).
///
/// ```
/// use axum::routing::{get, post};
/// use portcullis::{Store, web::{ApiKey, DataApi, scopes::{ApiRead, ApiWrite}}};
/// # let store = Store::in_memory()?;
/// let app: axum::Router = DataApi::new(store)
///     .route(ApiRead, "/ledgers", get(async |key: ApiKey<ApiRead>| key.id().to_string()))
///     .route(ApiWrite, "/ledgers", post(async || "written"))
///     .into();
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// A route of the Data API that asks for a scope of the Administration API does not compile:
///
/// ```compile_fail,E0271
/// # use axum::routing::get;
/// # use portcullis::{Store, web::{DataApi, scopes::AdminAccountList}};
/// # let store = Store::in_memory()?;
/// let app = DataApi::new(store).route(AdminAccountList, "/accounts", get(async || "accounts"));
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// and in the Administration API it does:
///
/// ```
/// # use axum::routing::get;
/// # use portcullis::{Store, web::{AdministrationApi, scopes::AdminAccountList}};
/// # let store = Store::in_memory()?;
/// let app = AdministrationApi::new(store).route(AdminAccountList, "/accounts", get(async || "accounts"));
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// The other way round, and where the first route decided:
///
/// ```compile_fail,E0271
/// # use axum::routing::get;
/// # use portcullis::{Store, web::{Guarded, scopes::{AdminAccountList, ApiRead}}};
/// # let store = Store::in_memory()?;
/// let app = Guarded::new(store)
///     .route(AdminAccountList, "/accounts", get(async || "accounts"))
///     .route(ApiRead, "/ledgers", get(async || "ledgers"));
/// # Ok::<(), portcullis::Error>(())
/// ```
#[must_use = "it becomes a router by `into`"]
pub struct Guarded<P, T = Store> {
    state: T,
    store: Store,
    routes: Vec<(String, MethodRouter<T>)>,
    plane: PhantomData<fn() -> P>,
}

impl<P, T> Guarded<P, T>
where
    T: Clone + Send + Sync + 'static,
    Store: FromRef<T>,
{
    /// No routes yet. The keys are those of this store, or of the store that this state has.
    pub fn new(state: T) -> Self {
        let store = Store::from_ref(&state);
        Self { state, store, routes: Vec::new(), plane: PhantomData }
    }

    /// Adds a route that asks for a scope. The methods of one path may ask for different scopes,
    /// each in a call of its own.
    ///
    /// # Panics
    /// As axum's own `route` does: where a method of a path is given twice, or a path is malformed.
    /// Also where no method is named, as in `any(handler)`: a fallback of a `MethodRouter` is
    /// replaced by 405, since it would be reached without a key.
    pub fn route<S: TypedScope<Plane = P>>(
        mut self,
        scope: S,
        path: &str,
        methods: MethodRouter<T>,
    ) -> Self {
        let methods = methods.route_layer(middleware::from_fn(refuse_cut));
        let methods = methods.route_layer(RequireScope::new(self.store.clone(), scope));
        let Some(there) = self.routes.iter().position(|(other, _)| other == path) else {
            self.routes.push((path.to_owned(), methods));
            return self;
        };
        let (path, others) = self.routes.swap_remove(there);
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
            router.route(&path, methods.fallback(no_such_method))
        });
        router.with_state(guarded.state)
    }
}

async fn no_such_method() -> Response {
    let detail = "this path does not have this method; the Allow header lists those that it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}
