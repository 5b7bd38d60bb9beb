//! `/v1/keys/{id}/reach`: the keys that a key created, its successors, its entries in the audit log; and
//! revoking a group of them.

use super::{
    api_error::ApiError, audit::Entry, caller::Caller, fields::Fields, json_body::JSON,
    key_request::KeyPath, openapi, wire,
};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use portcullis::{
    Error, KeyEntries, KeyId, KeyReach, ReachGroup, Record, Store,
    audit::Attempt,
    scope::catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
    web::{FieldError, Problem},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The most keys of a group in one response.
const MAX_KEYS: usize = 200;

/// The reach of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyReach)]
pub(crate) struct Reach<'r> {
    key: wire::Key<'r>,
    /// The keys that it created, by rotation too, the keys that those created, and so on.
    created: Group<'r>,
    /// The key that replaced it, the key that replaced that one, and so on.
    successors: Group<'r>,
    /// The ids of created keys that were deleted.
    deleted: Vec<String>,
    /// Its acts.
    acts: Entries<'r>,
    /// The acts on it, its own included.
    changes: Entries<'r>,
}

/// Keys that can be revoked together.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyGroup)]
struct Group<'r> {
    /// The number of keys.
    count: usize,
    /// How many of them are active, expired ones included.
    active: usize,
    /// The first keys, at most 200 and 128 KiB.
    keys: Vec<wire::Key<'r>>,
}

/// Entries of the audit log, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyEntries)]
struct Entries<'r> {
    /// At most 100 entries and 128 KiB.
    entries: Vec<Entry<'r>>,
    /// Whether these are all. If not, `GET /v1/audit` has the others, with `actor` or `key`.
    is_complete: bool,
}

impl<'r> Group<'r> {
    fn new(store: &Store, records: &'r [Arc<Record>]) -> Self {
        let keys = records.iter().take(MAX_KEYS).map(|record| wire::Key::new(store, record));
        let active = records.iter().filter(|record| record.active).count();
        Self { count: records.len(), active, keys: fitting(keys) }
    }
}

impl<'r> Entries<'r> {
    fn new(of: &'r KeyEntries) -> Self {
        let entries = fitting(of.entries.iter().map(Entry::new));
        let is_complete = of.is_complete && entries.len() == of.entries.len();
        Self { entries, is_complete }
    }
}

/// The first items, up to the one that reaches the size limit.
fn fitting<T: Serialize>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut length = 0;
    let fits = |item: &T| {
        let fits = length < wire::PAGE_BYTES;
        length += wire::json_length(item);
        fits
    };
    items.take_while(fits).collect()
}

/// Shows the reach of a key
///
/// For a key that leaked: the keys that it created and its successors, apart from each other, and its entries in
/// the audit log. The newest 10,000 entries are searched. Keys whose creator was deleted are found only there.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}/reach",
    operation_id = "show_key_reach",
    tag = "Keys",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The id of the key", example = "key_Js6wD689RZ5")
    ),
    responses(
        (status = 200, description = "the reach of the key", body = Reach<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn show(
    State(store): State<Store>,
    caller: Caller,
    path: KeyPath,
) -> Result<Response, ApiError> {
    caller.require(&store, &ADMIN_KEY_LIST, Attempt::List, path.id()).await?;
    let id = path.id_or_not_found()?;
    let reach = caller.read_many(&store, move |acting| acting.reach_of(id)).await?;
    let KeyReach { key, deleted, acts, changes, .. } = &reach;
    Ok(wire::json(&Reach {
        key: wire::Key::new(&store, key),
        created: Group::new(&store, reach.group(ReachGroup::Created)),
        successors: Group::new(&store, reach.group(ReachGroup::Successors)),
        deleted: deleted.iter().map(ToString::to_string).collect(),
        acts: Entries::new(acts),
        changes: Entries::new(changes),
    }))
}

/// The result of revoking a group.
#[derive(Serialize, ToSchema)]
#[schema(as = RevokedGroup)]
pub(crate) struct Revoked {
    /// The ids of the keys that were active and are revoked now.
    revoked: Vec<String>,
    /// The keys that could not be revoked.
    not_revoked: Vec<NotRevoked>,
}

/// A key that could not be revoked.
#[derive(Serialize, ToSchema)]
pub(crate) struct NotRevoked {
    /// The id of the key.
    id: String,
    /// Why not, and the remedy.
    reason: String,
}

impl NotRevoked {
    pub(crate) fn new(id: KeyId, error: Error) -> Self {
        let reason = match ApiError::from(error) {
            ApiError::Refused(refusal) => refusal.to_string(),
            ApiError::Problem(problem) => problem.detail().to_owned(),
        };
        Self { id: id.to_string(), reason }
    }
}

impl std::fmt::Display for NotRevoked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.id, self.reason)
    }
}

/// Revokes the keys that a key created, or its successors
///
/// Also needs the scope `admin.key.list`. Revoke the key itself before, so that it creates no more. The keys are
/// revoked one after another. If some cannot be revoked, the response is 200 as well and lists them with the
/// reasons.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/reach/revoke",
    operation_id = "revoke_key_reach",
    tag = "Keys",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The id of the key", example = "key_Js6wD689RZ5")
    ),
    request_body(content = openapi::ReachRevocation),
    responses(
        (status = 200, description = "the keys that are revoked, and those that are not", body = Revoked)
    ),
    security(("key" = ["admin.key.update"]))
)]
pub(crate) async fn revoke(
    State(store): State<Store>,
    caller: Caller,
    path: KeyPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &ADMIN_KEY_UPDATE, Attempt::Update, path.id()).await?;
    let mut fields = Fields::read(&headers, body, &[JSON]).await?;
    fields.require(&["group"]);
    let group = fields.plain_text("group");
    fields.finish("group")?;
    let group = group.as_deref().and_then(group_named).ok_or_else(|| {
        Problem::invalid(vec![FieldError::field("group", "must be created or successors")])
    })?;
    let id = path.id_or_not_found()?;
    let done = caller.act(&store, move |acting| acting.revoke_group(id, group)).await?;
    Ok(wire::json(&Revoked {
        revoked: done.revoked.iter().map(ToString::to_string).collect(),
        not_revoked: done
            .failed
            .into_iter()
            .map(|(id, error)| NotRevoked::new(id, error))
            .collect(),
    }))
}

/// Returns the group of this name.
pub(crate) fn group_named(name: &str) -> Option<ReachGroup> {
    match name {
        "created" => Some(ReachGroup::Created),
        "successors" => Some(ReachGroup::Successors),
        _ => None,
    }
}
