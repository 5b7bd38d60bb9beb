//! `POST /v1/keys/{id}/rotate`: a new key in the place of one.

use super::{
    caller::Caller, denied::Denied, fields::Fields, keys::Id, once::Manner, openapi, wire,
};
use axum::{
    body::Body,
    extract::{OriginalUri, State},
    http::HeaderMap,
    response::Response,
};
use portcullis::{Acting, Attempt, Idempotency, Outcome, Store, scope::catalogue};
use std::time::Duration;

/// Puts a new key in the place of one, and ends the old one.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The key's id, `key_…`"),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "A name for this request: sent again within 24 hours, it is not done again. 10,000 of a key and 100,000 in all are remembered; beyond that a further one is answered with 429")
    ),
    request_body(content = Option<openapi::Rotation>),
    responses(
        (status = 201, description = "the key, which is shown only this once", body = wire::Key<'_>,
            headers(("Location" = String), ("ETag" = String))),
        (status = 200, description = "it was made before, under the same Idempotency-Key", body = wire::Key<'_>,
            headers(("Idempotency-Replayed" = String), ("ETag" = String))),
        (status = 409, description = "it is inactive, expired or replaced already",
            body = openapi::ProblemDetails, content_type = "application/problem+json")
    ),
    security(("key" = ["admin.key.update"]))
)]
pub(crate) async fn rotate(
    State(store): State<Store>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    id: Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_UPDATE, Attempt::Rotate, id.known()).await?;
    let mut fields = Fields::read_or_none(&headers, body).await?;
    let body = fields.body();
    let grace = Duration::from_secs(fields.count("grace_seconds").unwrap_or(0));
    fields.finish("grace_seconds")?;
    let id = id.or_not_found()?;
    let manner = Manner::read(&headers, format!("POST /v1/keys/{id}/rotate"), body)?;
    let work = move |acting: Acting<'_>, request: Option<&Idempotency<'_>>| match request {
        Some(request) => acting.rotate_once(id, grace, request),
        None => acting.rotate(id, grace).map(Outcome::Issued),
    };
    let collection = uri.path().rsplitn(3, '/').nth(2).unwrap_or_default();
    manner.answer(&store, &caller, collection, work).await
}
