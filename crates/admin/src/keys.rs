//! The handlers of `/v1/keys`: create, list, show, change, rotate and delete keys.

use super::{
    api_error::ApiError,
    body,
    caller::Caller,
    fields::Fields,
    json_body::{JSON, MERGE_PATCH},
    key_request::{KeyPatch, KeyPath, Repetition, if_match, new_key},
    openapi, query, wire,
};
use axum::{
    body::Body,
    extract::{OriginalUri, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use portcullis::{
    Acting, Error, KeyId, Outcome, Record, Store,
    audit::Attempt,
    list::{ListQuery, Page},
    scope::catalogue,
};
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use utoipa::ToSchema;

/// A page of keys.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyPage)]
pub(crate) struct Listing<'r> {
    keys: Vec<wire::Key<'r>>,
    /// The `page_token` of the next page; null on the last page.
    next_page_token: Option<String>,
    /// The number of all keys that the filters select, if the request asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    total: Option<usize>,
}

/// Lists keys
///
/// Newest first, unless `sort` gives another order. A key whose value in that order changes between two pages
/// may be on both or on neither.
///
/// A key with an owner sees only the keys of that owner, on every route. Others do not exist for it.
///
/// A page ends early at 128 KiB, so it may have fewer keys than `page_size`. The last page is the
/// one whose `next_page_token` is null.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "list_keys",
    tag = "Keys",
    params(
        ("active" = Option<bool>, Query, description = "Only active, or only inactive keys"),
        ("scope" = Option<String>, Query, description = "Only keys that have this scope"),
        ("owner" = Option<String>, Query, description = "Only keys of this owner"),
        ("created_by" = Option<String>, Query, description = "Only keys that this actor created: the id of a key, `local:UID` or `host`"),
        ("created_from" = Option<String>, Query, format = DateTime, description = "Only keys that were created at this time or later"),
        ("created_until" = Option<String>, Query, format = DateTime, description = "Only keys that were created before this time"),
        ("exceeds_policy" = Option<bool>, Query, description = "Only keys that live longer than the policy lets a key that is created now, or only the others"),
        ("expired" = Option<bool>, Query, description = "Only keys whose expiry has come, or only the others"),
        ("expires_within_seconds" = Option<u32>, Query, description = "Only active keys that expire within this time and were not replaced"),
        ("imported" = Option<bool>, Query, description = "Only keys of other systems, or only the others"),
        ("replaced" = Option<bool>, Query, description = "Only keys that another key replaced, or only the others"),
        ("unused_since" = Option<String>, Query, format = DateTime, description = "Only keys that were created before this time and not used since"),
        ("used" = Option<bool>, Query, description = "Only keys that were used, or only those that never were"),
        ("q" = Option<String>, Query, description = "Only keys with this text in their name or id. A whole id, or the beginning `pcl_…` of a key, selects that key"),
        ("sort" = Option<String>, Query, description = "The order: `created_at`, `name`, `last_used_at` or `expires_at`, with `-` before it for descending values; `-created_at` by default"),
        ("total" = Option<bool>, Query, description = "True: also count all keys that the filters select"),
        ("page_size" = Option<u8>, Query, minimum = 1, maximum = 200, description = "The maximum number of keys; 50 by default"),
        ("page_token" = Option<String>, Query, description = "The `next_page_token` of the page before")
    ),
    responses(
        (status = 200, description = "a page of keys", body = Listing<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn list(
    State(store): State<Store>,
    caller: Caller,
    parameters: query::Parameters,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let query = query::list(&store, parameters)?;
    listing(&store, &caller, query).await
}

/// Searches keys
///
/// Lists keys like `GET /v1/keys`, with the same names in a JSON body. `q` may be a whole key, which must not
/// stand in a URL: only its id is used, and nothing of it is kept.
#[utoipa::path(
    post,
    path = "/v1/keys:search",
    operation_id = "search_keys",
    tag = "Keys",
    request_body(content = openapi::KeySearch),
    responses(
        (status = 200, description = "a page of keys", body = Listing<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn search(
    State(store): State<Store>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let fields = Fields::read(&headers, body, &[JSON]).await?;
    let query = query::search(&store, fields)?;
    listing(&store, &caller, query).await
}

async fn listing(store: &Store, caller: &Caller, query: ListQuery) -> Result<Response, ApiError> {
    let from = store.clone();
    let page = caller.read_many(store, move |acting| bounded_page(&from, &acting, query)).await?;
    let keys = page.records.iter().map(|record| wire::Key::new(store, record)).collect();
    let (next_page_token, total) = (page.next_page_token, page.total);
    Ok(wire::json(&Listing { keys, next_page_token, total }))
}

/// Reads a page that ends with the key that reaches the size limit.
fn bounded_page(store: &Store, acting: &Acting<'_>, mut query: ListQuery) -> Result<Page, Error> {
    loop {
        let page = acting.list(&query)?;
        let mut length = 0;
        let fitting = page.records.iter().take_while(|record| {
            let fits = length < wire::PAGE_BYTES;
            length += wire::json_length(&wire::Key::new(store, record));
            fits
        });
        let fitting = fitting.count();
        if fitting == page.records.len() {
            return Ok(page);
        }
        // Read again, so that the store issues the token of the shorter page.
        query.page_size = Some(fitting);
    }
}

/// Creates a key
///
/// A key grants at most its own scopes, its own lifetime and its own owner. A key without an owner and with
/// the scope `admin.key.owner` may set any owner. The new key is
/// accepted, and on disk, when the response arrives. Only this response contains the secret.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "create_key",
    tag = "Keys",
    params(
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "A unique name for this request. A repetition within 24 hours is not executed again. The store remembers 10,000 names for each key and 100,000 in all; a request beyond that is answered with 429")
    ),
    request_body(content = openapi::NewKey),
    responses(
        (status = 201, description = "the key; only this response contains it", body = wire::Key<'_>,
            headers(("Location" = String, description = "The path of the new key"),
                ("ETag" = String, description = "The revision of the key, for `If-Match`"))),
        (status = 200, description = "an earlier request with this Idempotency-Key issued the key", body = wire::Key<'_>,
            headers(("Idempotency-Replayed" = String, description = "`true`"),
                ("ETag" = String, description = "The revision of the key, for `If-Match`")))
    ),
    security(("key" = ["admin.key.create"]))
)]
pub(crate) async fn create(
    State(store): State<Store>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_CREATE, Attempt::Create, None).await?;
    let fields = Fields::read(&headers, body, &[JSON]).await?;
    let repetition = Repetition::read(&headers, "POST /v1/keys".to_owned(), fields.body())?;
    let new = new_key(&store, fields)?;
    let work = move |acting: Acting<'_>| {
        repetition.apply(|request| match request {
            Some(request) => acting.issue_once(new, request),
            None => acting.issue(new).map(Outcome::Issued),
        })
    };
    let outcome = caller.act(&store, work).await?;
    Ok(issued_response(&store, outcome, uri.path()))
}

/// The response to a request that issued a key. `collection` is the path of the list of keys.
fn issued_response(store: &Store, outcome: Outcome, collection: &str) -> Response {
    match outcome {
        Outcome::Issued(issued) => {
            let location = format!("{collection}/{}", issued.record.id);
            wire::created(wire::issued(store, issued), &location)
        }
        Outcome::Before(record) => wire::replayed(store, &record),
    }
}

/// Shows a key
///
/// Returns the record of a key, without its secret.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    operation_id = "show_key",
    tag = "Keys",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The id of the key", example = "key_Js6wD689RZ5")
    ),
    responses(
        (status = 200, description = "the key", body = wire::Key<'_>, headers(("ETag" = String, description = "The revision of the key, for `If-Match`")))
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn show(
    State(store): State<Store>,
    caller: Caller,
    path: KeyPath,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, path.id()).await?;
    let id = path.id_or_not_found()?;
    let record = caller.act(&store, move |acting| acting.get(id)).await?;
    Ok(wire::key(&store, &record))
}

/// Changes, revokes or reactivates a key
///
/// A deactivation, an earlier expiry or the removal of a scope takes effect at once: a check that
/// starts after the response refuses. Any key may deactivate itself, without the scope.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}",
    operation_id = "update_key",
    tag = "Keys",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The id of the key", example = "key_Js6wD689RZ5"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the key when it was read, or `*`. If the key has another revision, the response is 412 and nothing is changed")
    ),
    request_body(content(
        (openapi::KeyChange = "application/merge-patch+json"),
        (openapi::KeyChange = "application/json")
    )),
    responses(
        (status = 200, description = "the key", body = wire::Key<'_>, headers(("ETag" = String, description = "The revision of the key, for `If-Match`")))
    ),
    security(("key" = ["admin.key.update"]))
)]
pub(crate) async fn update(
    State(store): State<Store>,
    caller: Caller,
    path: KeyPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let is_own = path.id().is_some_and(|id| caller.is(id));
    if !is_own {
        caller.require(&store, &catalogue::ADMIN_KEY_UPDATE, Attempt::Update, path.id()).await?;
    }
    let fields = Fields::read(&headers, body, &[JSON, MERGE_PATCH]).await;
    let change = fields.map_err(ApiError::from).and_then(|fields| KeyPatch::read(&store, fields));
    // Without the scope, a key may revoke itself and nothing else.
    let is_revocation = matches!(&change, Ok(change) if change.is_revocation());
    if is_own && !is_revocation {
        caller.require(&store, &catalogue::ADMIN_KEY_UPDATE, Attempt::Update, path.id()).await?;
    }
    let (change, id, revision) = (change?, path.id_or_not_found()?, if_match(&headers)?);
    let work = move |acting: Acting<'_>| {
        if is_revocation && revision.is_none() {
            return revoke(&acting, id);
        }
        change.apply(acting, id, revision).map(|record| (record, None))
    };
    let (record, settled) = caller.act(&store, work).await?;
    Ok(wire::changed(&store, &record, settled))
}

/// Revokes a key. With replicas, also returns how many of them confirmed it.
pub(crate) fn revoke(
    acting: &Acting<'_>,
    id: KeyId,
) -> Result<(Arc<Record>, Option<wire::Settled>), Error> {
    #[cfg(feature = "cluster")]
    {
        let (record, wait) = acting.revoke_everywhere(id)?;
        let (acknowledged, waited_out) = (wait.acknowledged, wait.timed_out);
        let settled =
            (acknowledged + waited_out > 0).then_some(wire::Settled { acknowledged, waited_out });
        Ok((record, settled))
    }
    #[cfg(not(feature = "cluster"))]
    acting.revoke(id).map(|record| (record, None))
}

/// Rotates a key
///
/// Issues a replacement with the same name, scopes, owner and metadata, and ends the old key. A
/// grace never extends the expiry of the old key.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    operation_id = "rotate_key",
    tag = "Keys",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The id of the key", example = "key_Js6wD689RZ5"),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "A unique name for this request. A repetition within 24 hours is not executed again. The store remembers 10,000 names for each key and 100,000 in all; a request beyond that is answered with 429")
    ),
    request_body(content = Option<openapi::Rotation>),
    responses(
        (status = 201, description = "the key; only this response contains it", body = wire::Key<'_>,
            headers(("Location" = String, description = "The path of the new key"),
                ("ETag" = String, description = "The revision of the key, for `If-Match`"))),
        (status = 200, description = "an earlier request with this Idempotency-Key issued the key", body = wire::Key<'_>,
            headers(("Idempotency-Replayed" = String, description = "`true`"),
                ("ETag" = String, description = "The revision of the key, for `If-Match`")))
    ),
    security(("key" = ["admin.key.update"]))
)]
pub(crate) async fn rotate(
    State(store): State<Store>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    path: KeyPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_UPDATE, Attempt::Rotate, path.id()).await?;
    let mut fields = Fields::read_or_none(&headers, body).await?;
    let body = fields.body();
    let grace = Duration::from_secs(fields.count("grace_seconds").unwrap_or(0));
    fields.finish("grace_seconds")?;
    let id = path.id_or_not_found()?;
    let repetition = Repetition::read(&headers, format!("POST /v1/keys/{id}/rotate"), body)?;
    let work = move |acting: Acting<'_>| {
        repetition.apply(|request| match request {
            Some(request) => acting.rotate_once(id, grace, request),
            None => acting.rotate(id, grace).map(Outcome::Issued),
        })
    };
    let outcome = caller.act(&store, work).await?;
    let collection = uri.path().rsplitn(3, '/').nth(2).unwrap_or_default();
    Ok(issued_response(&store, outcome, collection))
}

/// Deletes an inactive key
///
/// Deletes the record permanently. Its entries stay in the audit log.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    operation_id = "delete_key",
    tag = "Keys",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The id of the key", example = "key_Js6wD689RZ5"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the key when it was read, or `*`. If the key has another revision, the response is 412 and nothing is changed")
    ),
    responses(
        (status = 204, description = "the key is deleted")
    ),
    security(("key" = ["admin.key.delete"]))
)]
pub(crate) async fn delete(
    State(store): State<Store>,
    caller: Caller,
    path: KeyPath,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_DELETE, Attempt::Delete, path.id()).await?;
    // The body is ignored, but a request with an incomplete body must not take effect.
    body::read(body).await?;
    let (id, revision) = (path.id_or_not_found()?, if_match(&headers)?);
    let deleted = caller.act(&store, move |acting| match revision {
        Some(revision) => acting.delete_if(id, revision),
        None => acting.delete(id),
    });
    deleted.await?;
    Ok(StatusCode::NO_CONTENT)
}
