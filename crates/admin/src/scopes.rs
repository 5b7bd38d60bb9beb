//! `/v1/scopes`: lists the scopes of the store, adds one and hides one.

use super::{
    api_error::ApiError, body, caller::Caller, fields::Fields, json_body::JSON, openapi, query,
    wire,
};
use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use portcullis::{
    Error, Plane, Policy, Store,
    audit::Attempt,
    scope::{Entry, catalogue},
    web::{FieldError, Problem},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The scopes that a key can have.
#[derive(Serialize, ToSchema)]
pub(crate) struct Scopes {
    scopes: Vec<Scope>,
}

/// A scope.
#[derive(Serialize, ToSchema)]
pub(crate) struct Scope {
    /// The name, as `scopes` of a key has it.
    name: &'static str,
    /// `administration` or `data`.
    plane: &'static str,
    /// The acts that it allows.
    description: &'static str,
    /// Whether it is hidden: keys keep it, and other keys cannot get it.
    hidden: bool,
}

impl Scope {
    fn new(entry: &'static Entry) -> Self {
        Self {
            name: entry.scope.as_str(),
            plane: match entry.scope.plane() {
                Plane::Administration => "administration",
                Plane::Data => "data",
            },
            description: &entry.description,
            hidden: !entry.offered,
        }
    }
}

/// The scopes of a store, hidden ones included.
pub(crate) fn all(store: &Store) -> impl Iterator<Item = &'static Entry> + use<> {
    let entries = store.catalogue().entries().iter();
    entries.filter(|entry| !Policy::is_stored_as(&entry.scope))
}

/// Lists the scopes
///
/// Returns the scopes that a key can have, with their planes and descriptions.
#[utoipa::path(
    get,
    path = "/v1/scopes",
    operation_id = "list_scopes",
    tag = "Scopes",
    params(
        ("hidden" = Option<bool>, Query, description = "True: also list hidden scopes")
    ),
    responses(
        (status = 200, description = "the scopes", body = Scopes)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn list(
    State(store): State<Store>,
    caller: Caller,
    parameters: query::Parameters,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let mut with_hidden = false;
    query::each(parameters, "hidden", |name, value| {
        let is_known = name == "hidden";
        if is_known {
            with_hidden = value.parse().map_err(|_| "must be true or false")?;
        }
        Ok(is_known)
    })?;
    let shown = all(&store).filter(|entry| entry.offered || with_hidden);
    Ok(wire::json(&Scopes { scopes: shown.map(Scope::new).collect() }))
}

/// Adds a scope
///
/// Also describes a scope again, and offers a hidden one again. Only a root key may. A host sees the scope
/// at once, on every replica. A store has at most 256 scopes, hidden ones included.
#[utoipa::path(
    put,
    path = "/v1/scopes/{name}",
    operation_id = "add_scope",
    tag = "Scopes",
    params(
        ("name" = String, Path, max_length = 64, pattern = r"^[a-z][a-z0-9]*(\.[a-z][a-z0-9_\-]*)+$", description = "The name of the scope", example = "ledger.close")
    ),
    request_body(content = openapi::ScopeDescription),
    responses(
        (status = 200, description = "the scope", body = Scope)
    ),
    security(("key" = []))
)]
pub(crate) async fn add(
    State(store): State<Store>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require_root(&store).await?;
    let mut fields = Fields::read(&headers, body, &[JSON]).await?;
    fields.require(&["description"]);
    let description = fields.plain_text("description").unwrap_or_default();
    fields.finish("description")?;
    let scope = parsed(&name)?;
    let added = scope.clone();
    caller.act(&store, move |acting| acting.add_scope(&added, &description)).await?;
    let entry = store.catalogue().find(scope.as_str()).map_err(Error::from)?;
    Ok(wire::json(&Scope::new(entry)))
}

/// Hides a scope
///
/// Keys that have the scope keep it, and other keys cannot get it. Only a root key may. To offer the scope
/// again, add it again.
#[utoipa::path(
    delete,
    path = "/v1/scopes/{name}",
    operation_id = "hide_scope",
    tag = "Scopes",
    params(
        ("name" = String, Path, max_length = 64, pattern = r"^[a-z][a-z0-9]*(\.[a-z][a-z0-9_\-]*)+$", description = "The name of the scope", example = "ledger.close")
    ),
    responses(
        (status = 204, description = "the scope is hidden")
    ),
    security(("key" = []))
)]
pub(crate) async fn hide(
    State(store): State<Store>,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    caller.require_root(&store).await?;
    // The body is ignored, but a request with an incomplete body must not take effect.
    body::read(body).await?;
    let scope = parsed(&name)?;
    let hidden = caller.act(&store, move |acting| {
        // Handled here: the scope is the path, not a field of a body.
        match acting.hide_scope(&scope) {
            Err(Error::UnknownScope(unknown)) => Ok(Err(no_such_scope(&unknown.to_string()))),
            Err(Error::Invalid { reason, .. }) => {
                let kind = "key-management-scope";
                Ok(Err(Problem::new(StatusCode::CONFLICT, kind, &*reason).into()))
            }
            other => other.map(Ok),
        }
    });
    hidden.await??;
    Ok(StatusCode::NO_CONTENT)
}

fn parsed(name: &str) -> Result<portcullis::Scope, Problem> {
    name.parse().map_err(|error: portcullis::scope::ParseScopeError| {
        Problem::invalid(vec![FieldError::parameter("name", error.to_string())])
    })
}

fn no_such_scope(detail: &str) -> ApiError {
    Problem::new(StatusCode::NOT_FOUND, "no-such-scope", detail).into()
}
