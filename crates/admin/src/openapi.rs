//! `GET /openapi.json`: the handlers' descriptions as an `OpenAPI` 3.1 document.
//!
//! Each handler describes its parameters, scope and responses. This file adds the responses that
//! follow from those in the same way everywhere, such as 401 for an operation that needs a key.

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use portcullis::{Catalogue, web::Problem};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

/// The parts of the document that belong to no single handler.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis Administration API",
        description = "Issue, change and revoke API keys. A revocation takes effect at once.\n\nEvery \
            error is a problem (RFC 9457) that also has a `message`."
    ),
    components(schemas(ProblemDetails))
)]
pub(crate) struct Api;

/// The response to a request that was not executed (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `web::Problem` writes")]
#[schema(as = Problem)]
pub(crate) struct ProblemDetails {
    /// The type of the problem, `urn:portcullis:…`.
    r#type: String,
    title: String,
    status: u16,
    /// What failed and what to do.
    detail: String,
    message: String,
    /// The invalid values of a 422.
    #[schema(nullable = false)]
    errors: Option<Vec<WrongValue>>,
    /// The missing scopes of a 403.
    #[schema(nullable = false)]
    required_scopes: Option<Vec<String>>,
}

/// An invalid value: a field of the body, or a parameter.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `web::FieldError` writes")]
struct WrongValue {
    #[schema(nullable = false)]
    pointer: Option<String>,
    #[schema(nullable = false)]
    parameter: Option<String>,
    detail: String,
}

/// A new key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `key_request::new_key` reads")]
pub(crate) struct NewKey {
    /// A memorable name; need not be unique.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// A subset of the scopes of the key that creates it.
    scopes: Vec<String>,
    /// Whether the key is active; true by default.
    #[schema(nullable = false)]
    active: Option<bool>,
    /// When the key expires; never by default.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The owner that the key acts for. Only a root key sets it; other keys pass on their own owner.
    #[schema(min_length = 1, max_length = 128)]
    owner: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

/// A change (RFC 7396): absent fields stay, and `null` removes a value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `key_request::KeyPatch` reads")]
pub(crate) struct KeyChange {
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    name: Option<String>,
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    #[schema(nullable = false)]
    active: Option<bool>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(min_length = 1, max_length = 128)]
    owner: Option<String>,
    metadata: Option<BTreeMap<String, Option<String>>>,
}

/// The options of a rotation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `keys::rotate` reads")]
pub(crate) struct Rotation {
    /// How many seconds the old key stays valid; by default it becomes inactive at once.
    #[schema(nullable = false, maximum = 31_622_400)]
    grace_seconds: Option<u64>,
}

/// A key to verify.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `verify` reads")]
pub(crate) struct Presented {
    key: String,
    /// The scopes that the key must have.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
}

/// Adds the route of the document to the router.
pub(crate) fn with_document<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    document: Document,
    catalogue: &Catalogue,
) -> Router<S> {
    let text = Bytes::from(complete(document, catalogue).to_string());
    router.route("/openapi.json", get(move || async { respond(text) }))
}

fn respond(text: Bytes) -> Response {
    if text.is_empty() {
        let detail = "the document could not be serialized";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response();
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds the security scheme, the schemas' common parts, and the common responses of each operation.
fn complete(mut document: Document, catalogue: &Catalogue) -> Value {
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
    document.components.get_or_insert_default().add_security_scheme("key", key);
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for operation in paths.into_iter().flat_map(Map::values_mut) {
        for operation in operation.as_object_mut().into_iter().flat_map(Map::values_mut) {
            let problems = problems(operation);
            let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
            let Some(responses) = responses else { continue };
            for (status, description) in problems {
                responses.entry(status).or_insert_with(|| problem(description));
            }
        }
    }
    let entries = catalogue.entries().iter().filter(|entry| entry.offered);
    let offered: Value = entries.map(|entry| entry.scope.as_str()).collect();
    for body in ["NewKey", "KeyChange", "Rotation", "Presented"] {
        let schema = document.pointer_mut(&format!("/components/schemas/{body}"));
        let Some(schema) = schema.and_then(Value::as_object_mut) else { continue };
        schema.insert("additionalProperties".into(), false.into());
        let scopes = schema.get_mut("properties").and_then(|fields| fields.get_mut("scopes"));
        if let Some(Value::Object(items)) = scopes.and_then(|scopes| scopes.get_mut("items")) {
            items.insert("enum".into(), offered.clone());
        }
    }
    document
}

fn problem(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    json!({"description": description, "content": {"application/problem+json": {"schema": schema}}})
}

fn problems(operation: &Value) -> Vec<(&'static str, &'static str)> {
    let has = |place: &str, name: Option<&str>| {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        parameters.into_iter().flatten().any(|parameter| {
            parameter.get("in").is_some_and(|found| found == place)
                && name.is_none_or(|name| parameter.get("name").is_some_and(|found| found == name))
        })
    };
    let mut problems = Vec::new();
    if operation.get("security").is_some() {
        problems.push(("401", "the key is missing or not valid"));
        problems.push(("403", "the key may not do this"));
        problems.push(("503", "the store cannot execute this now"));
    }
    if has("header", Some("If-Match")) || has("header", Some("Idempotency-Key")) {
        problems.push(("507", "the disk is full, so only stricter changes are written"));
    }
    if operation.get("requestBody").is_some() {
        problems.push(("400", "the request is malformed"));
        problems.push(("408", "the body did not arrive in time"));
        problems.push(("413", "the body is too large"));
        problems.push(("415", "the body has another content type"));
        problems.push(("422", "a value is not valid"));
    }
    if has("query", None) {
        problems.push(("400", "the query is malformed"));
        problems.push(("422", "a value is not valid"));
    }
    if has("path", None) {
        problems.push(("404", "no key has this id"));
    }
    if has("header", Some("Idempotency-Key")) {
        problems
            .push(("429", "too many idempotent requests; repeat the request after Retry-After"));
    }
    if has("header", Some("If-Match")) {
        problems.push(("400", "the condition is malformed"));
        problems.push(("412", "the key has changed since it was read"));
    }
    problems
}
