//! `GET /openapi.json`: what the handlers say of themselves, as `OpenAPI` 3.1.
//!
//! Each handler says its parameters, its scope and its answers; what follows from these in the same
//! way everywhere, such as the 401 of an operation that asks for a key, is added here.

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

/// What all of it has in common.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis Administration API",
        description = "Make API keys, change them, and take one away at once.\n\nEvery error is a \
            problem (RFC 9457) that also has a `message`."
    ),
    components(schemas(ProblemDetails))
)]
pub(crate) struct Api;

/// An answer to a request that was not done (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `web::Problem` writes")]
#[schema(as = Problem)]
pub(crate) struct ProblemDetails {
    /// A name for the kind of it, `urn:portcullis:…`.
    r#type: String,
    title: String,
    status: u16,
    /// What is wrong and what to do.
    detail: String,
    message: String,
    /// Which values are wrong; of a 422.
    #[schema(nullable = false)]
    errors: Option<Vec<WrongValue>>,
    /// What the key lacks; of a 403.
    #[schema(nullable = false)]
    required_scopes: Option<Vec<String>>,
}

/// A value that is wrong: a field of the body, or a parameter.
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
#[expect(dead_code, reason = "it describes what `Fields` reads")]
pub(crate) struct NewKey {
    /// A memorable name; need not be unique.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// At most those of the key that makes it.
    scopes: Vec<String>,
    /// Whether it works from the start; it does unless this says no.
    #[schema(nullable = false)]
    active: Option<bool>,
    /// When it stops working by itself.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Whom it speaks for: its maker's owner unless root makes it.
    #[schema(min_length = 1, max_length = 128)]
    owner: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

/// A change (RFC 7396): what is absent stays, what is null is taken away.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `Fields` reads")]
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

/// How a key is rotated.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `Fields` reads")]
pub(crate) struct Rotation {
    /// How long the old key works on; without it the old one is inactive at once.
    #[schema(nullable = false, maximum = 31_622_400)]
    grace_seconds: Option<u64>,
}

/// A key that somebody presented.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `Fields` reads")]
pub(crate) struct Presented {
    key: String,
    /// What it must be entitled to.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
}

/// The router with its description beside it.
pub(crate) fn described<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    document: Document,
    catalogue: &Catalogue,
) -> Router<S> {
    let text = Bytes::from(complete(document, catalogue).to_string());
    router.route("/openapi.json", get(move || async { answer(text) }))
}

fn answer(text: Bytes) -> Response {
    if text.is_empty() {
        let detail = "the description could not be written";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response();
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds the scheme, and to each operation the answers that follow from what it says of itself.
fn complete(mut document: Document, catalogue: &Catalogue) -> Value {
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
    document.components.get_or_insert_default().add_security_scheme("key", key);
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for operation in paths.into_iter().flat_map(Map::values_mut) {
        for operation in operation.as_object_mut().into_iter().flat_map(Map::values_mut) {
            let problems = problems(operation);
            let answers = operation.get_mut("responses").and_then(Value::as_object_mut);
            let Some(answers) = answers else { continue };
            for (status, description) in problems {
                answers.entry(status).or_insert_with(|| problem(description));
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
        problems.push(("401", "there is no key, or one that is not valid"));
        problems.push(("403", "the key may not do this"));
        problems.push(("503", "the store cannot do this at the moment"));
    }
    if has("header", Some("If-Match")) || has("header", Some("Idempotency-Key")) {
        problems.push(("507", "the disk is full, so only stricter changes are written"));
    }
    if operation.get("requestBody").is_some() {
        problems.push(("400", "the request is malformed"));
        problems.push(("408", "the body did not arrive in time"));
        problems.push(("413", "the body is too large"));
        problems.push(("415", "the body is of another type"));
        problems.push(("422", "a value is wrong"));
    }
    if has("query", None) {
        problems.push(("400", "the query is malformed"));
        problems.push(("422", "a value is wrong"));
    }
    if has("path", None) {
        problems.push(("404", "there is no such key"));
    }
    if has("header", Some("Idempotency-Key")) {
        problems.push(("429", "too many idempotent requests; repeat it after Retry-After"));
    }
    if has("header", Some("If-Match")) {
        problems.push(("400", "the condition is malformed"));
        problems.push(("412", "the key was changed meanwhile"));
    }
    problems
}
