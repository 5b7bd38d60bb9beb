//! `POST /v1/keys/leaked`: finds the keys of the store in a leaked text, and revokes them.
//!
//! Only a key whose whole text is in the leaked text is found. No response contains a secret.

use super::{
    api_error::ApiError,
    body::{self, MAX_TEXT_BYTES},
    caller::Caller,
    json_body,
    query::{self, Parameters},
    rate_limited_log::RateLimitedLog,
    wire,
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use portcullis::{
    Acting, Error, KeyId, LeakedKeys, Record, Store,
    audit::Attempt,
    scope::catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
    web::Problem,
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

const TEXT: &str = "text/plain";
/// The most keys that one request may find, so that its response stays small.
const MAX_FOUND: usize = 1000;

/// The keys of this store in a leaked text.
#[derive(Serialize, ToSchema)]
#[schema(as = LeakedKeys)]
pub(crate) struct Answer<'r> {
    keys: Vec<LeakedKey<'r>>,
    /// How many other texts have the form of a key. They are not keys of this store.
    unknown: usize,
}

/// A key whose whole text was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeakedKey<'r> {
    /// The key, as it is after the request.
    key: wire::Key<'r>,
    /// The effect of the request on the key.
    outcome: Outcome,
}

/// The effect of a request on a leaked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Nothing: the request only searches.
    Found,
    /// The key was revoked.
    Revoked,
    /// The key was inactive already.
    AlreadyInactive,
    /// The key is the last active root key, which cannot be revoked: rotate it.
    LastRootKey,
    /// The key could not be revoked; see the log of the server.
    Failed,
}

/// Finds leaked keys, and revokes them
///
/// Searches a text, such as a log, for keys of this store: plain, or as the base64 text of Basic
/// authentication. Only a key whose whole text is found counts; its id alone is public. A key that
/// does not exist for the caller counts as unknown. The text is at most 1 MiB and may have 1,000
/// keys. It is not stored, and no response contains a secret.
///
/// With `revoke=true` each found key is revoked, which also requires the scope `admin.key.update`.
#[utoipa::path(
    post,
    path = "/v1/keys/leaked",
    operation_id = "find_leaked_keys",
    tag = "Keys",
    params(
        ("revoke" = Option<bool>, Query, description = "Whether to revoke the found keys; false by default")
    ),
    request_body(content = String, content_type = "text/plain", description = "The leaked text"),
    responses(
        (status = 200, description = "the keys in the text", body = Answer<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn find(
    State(store): State<Store>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &ADMIN_KEY_LIST, Attempt::List, None).await?;
    let mut revokes = false;
    query::each(parameters, "revoke", |name, value| {
        if name == "revoke" {
            revokes = value.parse().map_err(|_| "must be true or false")?;
        }
        Ok(name == "revoke")
    })?;
    if revokes {
        caller.require(&store, &ADMIN_KEY_UPDATE, Attempt::Update, None).await?;
    }
    json_body::check_type(&headers, &[TEXT])?;
    let LeakedKeys { records, unknown, .. } = search(&store, &caller, body).await?;
    let handled = if revokes {
        revoke(&store, &caller, records).await?
    } else {
        records.into_iter().map(|record| (record, Outcome::Found)).collect()
    };
    let keys = handled.iter().map(|(record, outcome)| LeakedKey {
        key: wire::Key::new(&store, record),
        outcome: *outcome,
    });
    Ok(wire::json(&Answer { keys: keys.collect(), unknown }))
}

/// Reads a body, and finds the keys that exist for the caller.
pub(crate) async fn search(
    store: &Store,
    caller: &Caller,
    body: Body,
) -> Result<LeakedKeys, ApiError> {
    let text = body::read_text(body).await?;
    let leaked = caller.act(store, move |acting| acting.find_leaked(&text.bytes)).await?;
    if leaked.records.len() > MAX_FOUND {
        let detail = format!(
            "the text has more than {MAX_FOUND} keys of this store and nothing was changed; send it in parts"
        );
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail).into());
    }
    Ok(leaked)
}

/// Revokes keys as the caller.
pub(crate) async fn revoke(
    store: &Store,
    caller: &Caller,
    mut records: Vec<Arc<Record>>,
) -> Result<Vec<(Arc<Record>, Outcome)>, ApiError> {
    // The response has the keys in the order in which they are revoked: the caller's own key last.
    records.sort_by_key(|record| caller.is(record.id));
    caller.act(store, move |acting| Ok(revoke_each(&acting, records))).await
}

/// Revokes keys together. Continues after a failure.
pub(crate) fn revoke_each(
    acting: &Acting<'_>,
    records: Vec<Arc<Record>>,
) -> Vec<(Arc<Record>, Outcome)> {
    let ids: Vec<KeyId> = records.iter().map(|record| record.id).collect();
    let outcomes = records.into_iter().zip(acting.revoke_all(&ids));
    let revoked = outcomes.map(|(record, outcome)| match outcome {
        Ok(after) if record.active => (after, Outcome::Revoked),
        Ok(after) => (after, Outcome::AlreadyInactive),
        Err(Error::LastRoot(_)) => (record, Outcome::LastRootKey),
        Err(error) => {
            log_failure(record.id, &error);
            (record, Outcome::Failed)
        }
    });
    revoked.collect()
}

fn log_failure(key: KeyId, error: &Error) {
    static FAILURES: RateLimitedLog = RateLimitedLog::new();
    if let Some(suppressed) = FAILURES.permit() {
        tracing::error!(%key, %error, suppressed, "a leaked key could not be revoked");
    }
}

const _: () = assert!(MAX_TEXT_BYTES == 1 << 20, "the description names this limit");
