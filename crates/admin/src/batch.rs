//! `POST /v1/keys:batch`: creates many keys, one JSON object a line.

use super::{
    api_error::ApiError, body, caller::Caller, fields::Fields, json_body, key_request::new_key,
    wire,
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use portcullis::{Error, NewKey, Store, audit::Attempt, scope::catalogue, web::Problem};

/// One JSON object a line.
pub(crate) const JSON_LINES: &str = "application/x-ndjson";
const MAX_KEYS: usize = 500;

/// Creates many keys
///
/// The body has one new key a line, as `POST /v1/keys` has it: at most 500 keys and 64 KiB. If one of them is
/// not valid or not allowed, none is created, and the error names its line. The response has a line for each
/// key, in the same order: the key with its secret or, if its outcome is unknown, a problem.
#[utoipa::path(
    post,
    path = "/v1/keys:batch",
    operation_id = "create_keys",
    tag = "Keys",
    request_body(content = String, content_type = "application/x-ndjson", description = "One new key a line"),
    responses(
        (status = 201, description = "one key a line; only this response contains the secrets", body = String, content_type = "application/x-ndjson")
    ),
    security(("key" = ["admin.key.create"]))
)]
pub(crate) async fn create(
    State(store): State<Store>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_CREATE, Attempt::Create, None).await?;
    json_body::check_type(&headers, &[JSON_LINES])?;
    let keys = read(&store, &body::read(body).await?)?;
    let from = store.clone();
    let issue = move |acting: portcullis::Acting<'_>| {
        let issued = match acting.issue_all(keys) {
            Ok(issued) => issued,
            Err(refused) => return Ok(Err((refused.index, refused.error))),
        };
        let as_problem = |outcome: Result<_, Error>| outcome.map_err(|e| problem(e.into()));
        Ok(Ok(wire::issued_lines(&from, issued.into_iter().map(as_problem).collect())))
    };
    let lines = caller.act(&store, issue).await?;
    let lines = lines.map_err(|(index, error)| at_line(index, error.into()))?;
    let mut response = Response::new(Body::from(lines));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_LINES));
    Ok(response)
}

fn read(store: &Store, body: &axum::body::Bytes) -> Result<Vec<NewKey>, ApiError> {
    let mut keys = Vec::new();
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        if keys.len() == MAX_KEYS {
            let detail =
                format!("a batch has at most {MAX_KEYS} keys; send the others in further batches");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail).into());
        }
        let fields = Fields::parse(body.slice_ref(line)).map_err(ApiError::from);
        let key = fields.and_then(|fields| new_key(store, fields));
        keys.push(key.map_err(|error| at_line(index, error))?);
    }
    if keys.is_empty() {
        let detail = "the body has no line with a key";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "malformed-json", detail).into());
    }
    Ok(keys)
}

/// The error about one line; nothing was created.
fn at_line(index: usize, error: ApiError) -> ApiError {
    match error {
        ApiError::Refused(refusal) => ApiError::Refused(refusal),
        ApiError::Problem(problem) => {
            let detail = format!("line {}: {}; no key was created", index + 1, problem.detail());
            Problem::new(problem.status(), "invalid-line", detail).into()
        }
    }
}

fn problem(error: ApiError) -> Problem {
    match error {
        ApiError::Problem(problem) => problem,
        ApiError::Refused(refusal) => {
            Problem::new(StatusCode::FORBIDDEN, "forbidden", refusal.to_string())
        }
    }
}
