//! `POST /v1/keys/{id}/rotate`: a new key in the place of one.

use super::{caller::Caller, denied::Denied, fields::Fields, keys::Id, once::Manner};
use crate::{Acting, Attempt, Idempotency, Outcome, Store, scope::catalogue};
use axum::{
    body::Body,
    extract::{OriginalUri, State},
    http::HeaderMap,
    response::Response,
};
use std::time::Duration;

/// Answers 201 with the new key, its secret in it.
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
