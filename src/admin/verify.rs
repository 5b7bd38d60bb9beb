//! Is this key valid, and why not: for services in other languages and for the command line.

use super::{
    caller::{Caller, ask},
    denied::Denied,
    fields::{Fields, JSON},
    openapi, wire,
};
use crate::{Attempt, Grant, KeyId, Record, Refusal, Scope, Store, scope::catalogue};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// What a key is worth.
#[derive(Serialize, ToSchema)]
pub(crate) struct Verdict<'r> {
    valid: bool,
    /// `VALID`, `UNKNOWN`, `INACTIVE`, `EXPIRED` or `INSUFFICIENT_SCOPE`.
    code: &'static str,
    key: Option<wire::Key<'r>>,
}

/// Answers 200 with `{valid, code, key}`, whatever the verdict. Only callers that may ask this
/// learn why a key is refused.
#[utoipa::path(
    post,
    path = "/v1/verify",
    request_body(content = openapi::Presented),
    responses(
        (status = 200, description = "the verdict", body = Verdict<'_>)
    ),
    security(("key" = ["admin.key.verify"]))
)]
pub(crate) async fn verify(
    State(store): State<Store>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_VERIFY, Attempt::Verify, None).await?;
    let mut fields = Fields::read(&headers, body, &[JSON]).await?;
    fields.require(&["key"]);
    let presented = fields.plain_text("key").map(Zeroizing::new).unwrap_or_default();
    let wanted = fields.texts("scopes").unwrap_or_default();
    fields.finish("key and scopes")?;
    let wanted: Vec<Scope> = store.scopes(&wanted)?.iter().cloned().collect();

    let (code, id) = match store.authenticate_key(presented.as_bytes()) {
        Ok(principal) if allows_all(principal.grant(), &wanted) => ("VALID", Some(principal.id())),
        Ok(principal) => ("INSUFFICIENT_SCOPE", Some(principal.id())),
        // Only the holder's own text is refused for these reasons, so that its id is the key's.
        Err(Refusal::Inactive) => ("INACTIVE", id_within(&store, &presented)),
        Err(Refusal::Expired) => ("EXPIRED", id_within(&store, &presented)),
        Err(refusal @ Refusal::Unavailable) => return Err(refusal.into()),
        Err(_) => ("UNKNOWN", None),
    };
    drop(presented);
    let record: Option<Arc<Record>> = match id {
        Some(id) => ask(&store, move |store| Ok(store.get(id).ok())).await?,
        None => None,
    };
    let key = record.as_deref().map(|record| wire::Key::new(&store, record));
    Ok(wire::json(&Verdict { valid: code == "VALID", code, key }))
}

fn allows_all(grant: &Grant, wanted: &[Scope]) -> bool {
    wanted.iter().all(|scope| grant.allows(scope))
}

fn id_within(store: &Store, key: &str) -> Option<KeyId> {
    let tail = key.strip_prefix(store.prefix().as_str())?.strip_prefix('_')?;
    let (digits, _) = tail.split_once('_')?;
    KeyId::from_digits(digits.as_bytes())
}
