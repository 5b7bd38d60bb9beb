//! `GET /openapi.json`: the handlers' descriptions as an `OpenAPI` 3.1 document.
//!
//! Each handler describes its parameters, scope and responses, and `bodies` the bodies of requests. This
//! file describes the API as a whole, and adds the error responses that follow from the former.

mod bodies;

pub(crate) use self::bodies::*;

use super::documented_problems;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use portcullis::{Catalogue, Credentials, Store, web::Problem};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        OpenApi as Document,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

/// The parts of the document that belong to no single handler.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis Administration API",
        description = "Issue, change and revoke API keys. A revocation takes effect at once.\n\n\
            The key is the user name of Basic authentication; the password is empty. A request body is \
            a JSON object of at most 64 KiB. Unknown fields and parameters are refused.\n\n\
            Every error is a problem (RFC 9457) that also has a `message`. Its `type` is \
            `urn:portcullis:` and a code.",
        contact(name = "The operator of this server")
    ),
    servers((
        url = "/",
        description = "This server. If a host mounts the API below a path, put that path first."
    )),
    tags(
        (name = "Keys", description = "Create, list, change, rotate and delete keys. \
            A response with one key has its revision as the entity tag `ETag`. A change with \
            `If-Match` is executed only if the key still has that revision."),
        (name = "Scopes", description = "The permissions of keys. A store has the scopes for key management \
            and those of its host."),
        (name = "Policy", description = "How long keys may live."),
        (name = "Verification", description = "Check a key: your own, or one that a client sent to \
            a service of yours."),
        (name = "Forward auth", description = "A proxy asks whether to forward a request. It passes \
            on the client's `Authorization` header."),
        (name = "Audit log", description = "Every change and every refused administrative act."),
        (name = "Health", description = "Probes for a supervisor, and the replicas that share the \
            store.")
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
    /// The reason phrase of the status.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The failure and its remedy.
    detail: String,
    /// The same text; of a 401 always `Invalid username/account key`.
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
    /// A field of the body, as a JSON pointer; empty for the whole body.
    #[schema(nullable = false)]
    pointer: Option<String>,
    /// The name of a parameter or header.
    #[schema(nullable = false)]
    parameter: Option<String>,
    /// The values that are allowed.
    detail: String,
}

/// The schemas of bodies, whose unknown fields are refused.
const REQUEST_BODIES: [&str; 10] = [
    "NewKey",
    "KeyChange",
    "KeyFilter",
    "KeySearch",
    "NewBulkAct",
    "Rotation",
    "ReachRevocation",
    "Presented",
    "ScopeDescription",
    "NewPolicy",
];

/// A text that is made from the document, and made again when the scopes of the store change.
pub(crate) struct Rendered {
    document: Arc<Document>,
    render: fn(&Value) -> String,
    newest: Mutex<Option<(&'static Catalogue, Bytes)>>,
}

impl Rendered {
    pub(crate) fn new(document: Arc<Document>, render: fn(&Value) -> String) -> Arc<Self> {
        Arc::new(Self { document, render, newest: Mutex::default() })
    }

    /// Returns the text for these scopes.
    pub(crate) fn text(&self, store: &Store) -> Bytes {
        let catalogue = store.catalogue();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            Some((of, text)) if std::ptr::eq(*of, catalogue) => text.clone(),
            _ => {
                let document = complete((*self.document).clone(), store);
                let text = Bytes::from((self.render)(&document));
                *newest = Some((catalogue, text.clone()));
                text
            }
        }
    }
}

/// The route of the document.
pub(crate) fn route(document: Arc<Document>) -> Router<Store> {
    let document = Rendered::new(document, Value::to_string);
    let respond = async move |State(store): State<Store>| respond(document.text(&store));
    Router::new().route("/openapi.json", get(respond))
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

/// Adds the security scheme, the schemas' common parts, and the error responses of each operation.
fn complete(mut document: Document, store: &Store) -> Value {
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some("The API key is the user name; the password is empty."));
    let key = SecurityScheme::Http(key.build());
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("key", key);
    let others = other_schemes(store.credentials());
    for (name, scheme) in &others {
        components.add_security_scheme(*name, scheme.clone());
    }
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let entries = store.catalogue().entries().iter().filter(|entry| entry.offered);
    let offered: Value = entries.map(|entry| entry.scope.as_str()).collect();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for operations in paths.into_iter().flat_map(Map::values_mut) {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            documented_problems::add(method, operation);
            move_scopes(operation);
            if let Some(alternatives) = operation.get_mut("security").and_then(Value::as_array_mut)
                && !alternatives.is_empty()
            {
                alternatives.extend(others.iter().map(|(name, _)| json!({ *name: [] })));
            }
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            for parameter in parameters.into_iter().flatten() {
                forbid_null(parameter.pointer_mut("/schema/type"));
                restrict(parameter.pointer_mut("/schema/items"), &offered);
            }
        }
    }
    add_filters(&mut document);
    for body in REQUEST_BODIES {
        let schema = document.pointer_mut(&format!("/components/schemas/{body}"));
        let Some(schema) = schema else { continue };
        restrict(schema.pointer_mut("/properties/scopes/items"), &offered);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("additionalProperties".into(), false.into());
        }
    }
    document
}

/// Adds the filters of a list of keys to the body of a search, which has them beside its own fields.
fn add_filters(document: &mut Value) {
    let filters = document.pointer("/components/schemas/KeyFilter/properties").cloned();
    let fields = document.pointer_mut("/components/schemas/KeySearch/properties");
    if let (Some(Value::Object(filters)), Some(Value::Object(fields))) = (filters, fields) {
        fields.extend(filters);
    }
}

/// The schemes of the credentials that the store accepts beside Basic authentication.
fn other_schemes(credentials: &Credentials) -> Vec<(&'static str, SecurityScheme)> {
    let bearer = credentials.bearer().then(|| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let scheme = scheme.description(Some("The API key is the token."));
        ("bearer", SecurityScheme::Http(scheme.build()))
    });
    let header = credentials.header().map(|header| {
        let header = ApiKeyValue::with_description(header.as_str(), "The API key is the value.");
        ("header", SecurityScheme::ApiKey(ApiKey::Header(header)))
    });
    bearer.into_iter().chain(header).collect()
}

/// Moves the required scope from the security requirement to the description and to an extension.
/// `OpenAPI` 3.1 allows scopes of Basic authentication, but Spectral knows those of `OAuth` only.
fn move_scopes(operation: &mut Value) {
    let Some(operation) = operation.as_object_mut() else { return };
    // Without it, tools cannot distinguish an open operation from a forgotten scheme.
    let security = operation.entry("security").or_insert_with(|| json!([]));
    let Some(scopes) = security.pointer_mut("/0/key").and_then(Value::as_array_mut) else { return };
    let scopes = std::mem::take(scopes);
    let Some(scope) = scopes.first().and_then(Value::as_str) else { return };
    if let Some(Value::String(description)) = operation.get_mut("description") {
        *description = format!("{description}\n\nRequires the scope `{scope}`.");
    }
    operation.insert("x-required-scopes".into(), scopes.into());
}

/// Removes null from the types of a parameter: an optional parameter is absent, never null.
fn forbid_null(types: Option<&mut Value>) {
    let Some(types) = types else { return };
    if let Some(kind) = types.get(0).filter(|_| types.is_array()) {
        *types = kind.clone();
    }
}

/// Restricts the items of a list of scopes to the offered ones.
fn restrict(items: Option<&mut Value>, offered: &Value) {
    if let Some(items) = items.and_then(Value::as_object_mut) {
        items.insert("enum".into(), offered.clone());
    }
}
