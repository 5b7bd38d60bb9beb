//! Is this key valid, and why not: for services in other languages and for the command line.

use super::{
    caller::{Caller, ask},
    denied::Denied,
    fields::{Fields, JSON},
    openapi, wire,
};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use portcullis::{Attempt, Grant, KeyId, Refusal, Scope, Store, scope::catalogue};
use serde::Serialize;
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

    let (checked, id) =
        (store.authenticate_key(presented.as_bytes()), id_within(&store, &presented));
    drop(presented);
    let (code, record) = match (checked, id) {
        (Ok(principal), _) => {
            let has_all = allows_all(principal.grant(), &wanted);
            let code = if has_all { "VALID" } else { "INSUFFICIENT_SCOPE" };
            (code, ask(&store, move |store| Ok(store.get(principal.id()).ok())).await?)
        }
        // Only the holder's own text is refused for these reasons, so that its id is the key's.
        (Err(Refusal::Inactive | Refusal::Expired), Some(id)) => {
            let (refusal, record) = ask(&store, move |store| store.why_refused(id)).await?;
            (word(refusal)?, record)
        }
        (Err(refusal), _) => (word(refusal)?, None),
    };
    let key = record.as_deref().map(|record| wire::Key::new(&store, record));
    Ok(wire::json(&Verdict { valid: code == "VALID", code, key }))
}

/// A refusal as a word, unless nothing can be said about the key.
fn word(refusal: Refusal) -> Result<&'static str, Refusal> {
    match refusal {
        Refusal::Inactive => Ok("INACTIVE"),
        Refusal::Expired => Ok("EXPIRED"),
        Refusal::Unavailable => Err(refusal),
        _ => Ok("UNKNOWN"),
    }
}

fn allows_all(grant: &Grant, wanted: &[Scope]) -> bool {
    wanted.iter().all(|scope| grant.allows(scope))
}

fn id_within(store: &Store, key: &str) -> Option<KeyId> {
    let tail = key.strip_prefix(store.prefix().as_str())?.strip_prefix('_')?;
    let (digits, _) = tail.split_once('_')?;
    KeyId::from_digits(digits.as_bytes())
}
