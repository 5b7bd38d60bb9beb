//! `POST /v1/verify`: whether a key is valid, and why not.

use super::{
    api_error::ApiError,
    caller::Caller,
    fields::{Fields, Given},
    json_body::JSON,
    openapi, wire,
};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use portcullis::{Error, Grant, Refusal, Scope, Store, audit::Attempt, scope::catalogue};
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// The result of verifying a key.
#[derive(Serialize, ToSchema)]
#[schema(as = Verdict)]
pub(crate) struct Verification<'r> {
    /// Whether the key is valid and has all the scopes.
    valid: bool,
    /// `VALID`, `UNKNOWN`, `INACTIVE`, `EXPIRED`, `NETWORK` or `INSUFFICIENT_SCOPE`.
    code: &'static str,
    /// The key; null if the store does not have it.
    key: Option<wire::Key<'r>>,
}

/// Verifies a key
///
/// Returns 200 with `{valid, code, key}`, also for an invalid key. Only callers with the scope
/// `admin.key.verify` are told why a key is refused.
#[utoipa::path(
    post,
    path = "/v1/verify",
    operation_id = "verify_key",
    tag = "Verification",
    request_body(content = openapi::Presented),
    responses(
        (status = 200, description = "the result", body = Verification<'_>)
    ),
    security(("key" = ["admin.key.verify"]))
)]
pub(crate) async fn verify(
    State(store): State<Store>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_VERIFY, Attempt::Verify, None).await?;
    let mut fields = Fields::read(&headers, body, &[JSON]).await?;
    fields.require(&["key"]);
    let presented = fields.plain_text("key").map(Zeroizing::new).unwrap_or_default();
    let required = fields.texts("scopes").unwrap_or_default();
    let address = match fields.address("address") {
        Given::Value(address) => Some(address),
        Given::Null | Given::Absent => None,
    };
    fields.finish("key, scopes and address")?;
    let known = |name: &String| store.catalogue().find(name).map(|entry| entry.scope.clone());
    let required = required.iter().map(known).collect::<Result<Vec<_>, _>>();
    let required = required.map_err(Error::from)?;

    let checked = store.verify_key(presented.as_bytes(), address);
    let id = store.id_of_key(&presented);
    drop(presented);
    let (code, record) = match (checked, id) {
        (Ok(principal), _) => {
            let has_all = allows_all(principal.grant(), &required);
            let id = principal.id();
            match caller.act(&store, move |acting| acting.verified(id)).await? {
                // The key of another owner does not exist for the caller.
                None => ("UNKNOWN", None),
                record if has_all => ("VALID", record),
                record => ("INSUFFICIENT_SCOPE", record),
            }
        }
        // Only the exact key is refused for these reasons, so the id in its text is its id.
        (Err(Refusal::Inactive | Refusal::Expired | Refusal::Network), Some(id)) => {
            let (refusal, record) =
                caller.act(&store, move |acting| acting.why_refused(id, address)).await?;
            (code_of(refusal)?, record)
        }
        (Err(refusal), _) => (code_of(refusal)?, None),
    };
    let key = record.as_deref().map(|record| wire::Key::new(&store, record));
    Ok(wire::json(&Verification { valid: code == "VALID", code, key }))
}

/// Maps a refusal to a code, unless this replica cannot decide.
fn code_of(refusal: Refusal) -> Result<&'static str, Refusal> {
    match refusal {
        Refusal::Inactive => Ok("INACTIVE"),
        Refusal::Expired => Ok("EXPIRED"),
        Refusal::Network => Ok("NETWORK"),
        Refusal::Unavailable => Err(refusal),
        _ => Ok("UNKNOWN"),
    }
}

fn allows_all(grant: &Grant, required: &[Scope]) -> bool {
    required.iter().all(|scope| grant.allows(scope))
}
