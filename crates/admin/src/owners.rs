//! `GET /v1/owners`: the owners of keys, with the numbers of their keys.

use super::{api_error::ApiError, caller::Caller, query, wire};
use axum::{extract::State, response::Response};
use portcullis::{
    OwnerKeys, Store,
    audit::Attempt,
    scope::catalogue,
    web::{FieldError, Problem},
};
use serde::Serialize;
use utoipa::ToSchema;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
const LIMITS: &str = "must be a number from 1 to 1000";

/// A page of owners.
#[derive(Serialize, ToSchema)]
pub(crate) struct Owners<'o> {
    owners: Vec<Owner<'o>>,
    /// The `after` of the next page; null on the last page.
    next_after: Option<&'o str>,
}

/// An owner that has keys.
#[derive(Serialize, ToSchema)]
struct Owner<'o> {
    /// The owner.
    #[serde(rename = "owner")]
    name: &'o str,
    /// The number of active keys, expired ones included.
    active: usize,
    /// The number of inactive keys.
    inactive: usize,
}

/// Lists the owners
///
/// Returns the owners that have keys, in the order of their names, with the numbers of their keys. A key with
/// an owner sees only its own.
#[utoipa::path(
    get,
    path = "/v1/owners",
    operation_id = "list_owners",
    tag = "Keys",
    params(
        ("after" = Option<String>, Query, description = "Only owners after this one; the `next_after` of the page before"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The maximum number of owners; 100 by default")
    ),
    responses(
        (status = 200, description = "a page of owners", body = Owners<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn list(
    State(store): State<Store>,
    caller: Caller,
    parameters: query::Parameters,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let (mut after, mut limit) = (None, DEFAULT_LIMIT);
    query::each(parameters, "after and limit", |name, value| {
        match name {
            "after" => after = Some(value.to_owned()),
            "limit" => limit = query::number(value, LIMITS)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid(vec![FieldError::parameter("limit", LIMITS)]).into());
    }
    // One more than the page, to detect the last page.
    let read = move |acting: portcullis::Acting<'_>| acting.owners(after.as_deref(), limit + 1);
    let mut found = caller.read_many(&store, read).await?;
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next_after = found.last().filter(|_| !is_last).map(|last| &*last.owner);
    let owners = found.iter().map(|OwnerKeys { owner, keys, .. }| Owner {
        name: owner,
        active: keys.active,
        inactive: keys.inactive,
    });
    Ok(wire::json(&Owners { owners: owners.collect(), next_after }))
}
