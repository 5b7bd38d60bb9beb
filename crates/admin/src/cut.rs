//! `POST /v1/audit/cut`: retention, for users of the machine. No key may, root keys included.

use super::{
    caller::Caller,
    denied::Denied,
    fields::{Fields, Given, JSON},
    moment, wire,
};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use portcullis::{
    Store, Timestamp,
    web::{FieldError, Problem},
};
use serde::Serialize;

/// What was cut away: nothing where nothing was old enough.
#[derive(Serialize)]
struct Done {
    before: String,
    removed: u64,
    through: Option<u64>,
    sequence: Option<u64>,
}

/// Answers `{before, removed, through, sequence}`. It is not part of the API's description, since
/// nobody reaches it from outside.
pub(crate) async fn cut(
    State(store): State<Store>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Denied> {
    let before = if matches!(caller, Caller::Local(_)) {
        let mut fields = Fields::read(&headers, body, &[JSON]).await?;
        fields.require(&["before"]);
        let before = fields.moment("before");
        fields.finish("before")?;
        let Given::Value(before) = before else {
            let wrong = FieldError::field("before", "must be a moment");
            return Err(Problem::invalid(vec![wrong]).into());
        };
        before
    } else {
        // The store refuses a key whatever it asks for, and tells of it.
        Timestamp::default()
    };
    let cut = caller.act(&store, move |acting| acting.prune_audit(before)).await?;
    Ok(wire::json(&Done {
        before: moment::to_text(before),
        removed: cut.map_or(0, |cut| cut.removed),
        through: cut.map(|cut| cut.through),
        sequence: cut.map(|cut| cut.sequence),
    }))
}
