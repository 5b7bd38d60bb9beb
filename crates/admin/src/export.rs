//! `GET /v1/audit/export`: the audit log as JSON lines that a reader can verify.

mod format;
mod reader;
mod stream;

use super::{api_error::ApiError, blocking, caller::Caller, query};
use axum::{
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::Response,
};
use portcullis::{
    Store,
    audit::Attempt,
    scope::catalogue,
    web::{FieldError, Problem},
};

#[cfg(fuzzing)]
pub(crate) use format::write;
pub use reader::{ExportError, ExportReader};

const MAX_LIMIT: usize = 1000;
const LIMITS: &str = "must be a number from 1 to 1000";

/// Exports the audit log as lines of JSON
///
/// Streams a header, entries and a trailer, which a reader can verify. If the last entry has a lower
/// sequence number than the trailer, more entries follow: request them with `after`. A response
/// without a trailer is incomplete.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    operation_id = "export_audit_log",
    tag = "Audit log",
    params(
        ("after" = Option<u64>, Query, description = "Only entries with a greater sequence number; 0 by default"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The maximum number of entries; 1000 by default")
    ),
    responses(
        (status = 200, description = "a header, entries and a trailer, one line each", body = String, content_type = "application/x-ndjson")
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn export(
    State(store): State<Store>,
    caller: Caller,
    parameters: query::Parameters,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    caller.require_every_owner(&store, Attempt::List).await?;
    let (mut after, mut limit) = (0, MAX_LIMIT);
    query::each(parameters, "after and limit", |name, value| {
        match name {
            "after" => after = query::number(value, "must be the number of an entry")?,
            "limit" => limit = query::number(value, LIMITS)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid(vec![FieldError::parameter("limit", LIMITS)]).into());
    }
    let start = move |store: &Store| stream::Export::start(store, after, limit);
    let export = blocking::read_many(&store, start).await?;
    let mut response = Response::new(export.into_body());
    let content_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}
