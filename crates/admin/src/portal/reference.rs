//! `GET /docs`: a reference of the API for people, made from the `OpenAPI` document.
//!
//! The page is rendered once for each set of scopes. It has relative links only, so it works below every path, and it loads
//! nothing but its own style sheet.

use super::{layout::logo, security};
use crate::openapi::Rendered;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    middleware,
    response::Response,
    routing::get,
};
use maud::{DOCTYPE, Markup, html};
use portcullis::Store;
use serde_json::Value;
use std::sync::Arc;
use utoipa::openapi::OpenApi as Document;

const STYLE: &str =
    concat!(include_str!("assets/portal.css"), include_str!("assets/reference.css"));

/// The routes of the page and its style sheet.
pub(crate) fn router(document: Arc<Document>) -> Router<Store> {
    let page = Rendered::new(document, |document| page(document).into_string());
    let page = async move |State(store): State<Store>| {
        respond("text/html; charset=utf-8", page.text(&store))
    };
    let style = Bytes::from_static(STYLE.as_bytes());
    Router::new()
        .route("/docs", get(page))
        .route("/docs/style.css", get(move || async { respond("text/css; charset=utf-8", style) }))
        .layer(middleware::map_response(security::headers))
}

fn respond(content_type: &'static str, text: Bytes) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An operation of the document.
struct Operation<'d> {
    path: &'d str,
    method: String,
    value: &'d Value,
}

fn page(document: &Value) -> Markup {
    let title = text(document, "/info/title");
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let schemas = schemas.into_iter().flatten();
    let groups: Vec<_> = list(document, "/tags")
        .map(|tag| (text(tag, "/name"), tag, operations(document, text(tag, "/name"))))
        .collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href="docs/style.css";
            }
            body {
                a .skip href="#main" { "Skip to the content" }
                header { div .bar { span .brand { (logo()) span { "Portcullis" } } } }
                div .reference {
                    nav .contents aria-label="Contents" {
                        @for (name, _, operations) in &groups {
                            p { a href={"#" (anchor(name))} { (name) } }
                            ul {
                                @for Operation { value, .. } in operations {
                                    li { a href={"#" (text(value, "/operationId"))} { (text(value, "/summary")) } }
                                }
                            }
                        }
                        p { a href="#objects" { "Objects" } }
                    }
                    main #main {
                        h1 { (title) }
                        p .faint { "Version " (text(document, "/info/version")) " · "
                            a href="openapi.json" { "OpenAPI document" } }
                        (prose(text(document, "/info/description")))
                        p { "In the examples, " code { "KEY" } " is your API key, and " code { "$API" }
                            " is the address of this page without " code { "/docs" } "." }
                        @for (name, tag, operations) in &groups {
                            section {
                                h2 #(anchor(name)) { (name) }
                                (prose(text(tag, "/description")))
                                @for operation in operations { (article(document, operation)) }
                            }
                        }
                        section {
                            h2 #objects { "Objects" }
                            @for (name, schema) in schemas {
                                article .card #{"object-" (name)} {
                                    h3 { (name) }
                                    (prose(text(schema, "/description")))
                                    (fields(schema))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The operations with this tag, in the order of their paths.
fn operations<'d>(document: &'d Value, tag: &str) -> Vec<Operation<'d>> {
    let mut found = Vec::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for (method, value) in item.as_object().into_iter().flatten() {
            if list(value, "/tags").any(|name| name == tag) {
                found.push(Operation { path, method: method.to_uppercase(), value });
            }
        }
    }
    found
}

fn article(document: &Value, operation: &Operation<'_>) -> Markup {
    let Operation { path, method, value } = operation;
    let id = text(value, "/operationId");
    let body = request_schema(document, value);
    html! {
        article .card #(id) {
            h3 { (text(value, "/summary")) }
            p .route { span .method { (method) } " " code { (path) } }
            (prose(text(value, "/description")))
            p .faint { "Operation " code { (id) } ". "
                @if needs_key(value) { "Needs a key." } @else { "Needs no key." } }
            @if list(value, "/parameters").next().is_some() {
                h4 { "Parameters" }
                dl .fields {
                    @for parameter in list(value, "/parameters") {
                        @let schema = parameter.get("schema").unwrap_or(&Value::Null);
                        @let is_required = parameter.get("required") == Some(&Value::Bool(true));
                        (field(text(parameter, "/name"), text(parameter, "/in"), schema, is_required,
                            text(parameter, "/description")))
                    }
                }
            }
            @if let Some(body) = body {
                h4 { "Request body" }
                p { (media_types(value.pointer("/requestBody/content"))) }
                (fields(body))
            }
            h4 { "Example" }
            pre { (curl(operation, body)) }
            h4 { "Responses" }
            dl .fields {
                @for (status, response) in value.get("responses").and_then(Value::as_object).into_iter().flatten() {
                    dt { span .status { (status) } " " (media_types(response.get("content"))) }
                    dd {
                        (prose(text(response, "/description")))
                        @for (name, header) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
                            p { "Header " code { (name) } ": " (inline(text(header, "/description"))) }
                        }
                    }
                }
            }
        }
    }
}

/// The content types of a body, and the objects that the body consists of.
fn media_types(content: Option<&Value>) -> Markup {
    let content = content.and_then(Value::as_object).into_iter().flatten();
    html! {
        @for (index, (kind, media)) in content.enumerate() {
            @if index > 0 { ", " }
            span .type { (kind) }
            @if let Some(schema) = media.get("schema") { " " span .type { (type_name(schema)) } }
        }
    }
}

/// The fields of an object.
fn fields(schema: &Value) -> Markup {
    let properties = schema.get("properties").and_then(Value::as_object);
    html! {
        dl .fields {
            @for (name, property) in properties.into_iter().flatten() {
                @let is_required = list(schema, "/required").any(|required| required == name);
                (field(name, "", property, is_required, text(property, "/description")))
            }
        }
    }
}

/// A field or parameter. `place` is where a parameter is sent.
fn field(name: &str, place: &str, schema: &Value, is_required: bool, description: &str) -> Markup {
    html! {
        dt {
            code { (name) } " "
            span .type { (place) @if !place.is_empty() { ", " } (type_name(schema)) (limits(schema)) }
            @if is_required { " " span .required { "required" } }
        }
        dd { (prose(description)) }
    }
}

/// The type of a schema, with a link to an object.
fn type_name(schema: &Value) -> Markup {
    let alternatives = ["/oneOf", "/allOf", "/anyOf"].into_iter().find_map(|of| {
        let found: Vec<_> = list(schema, of).collect();
        (!found.is_empty()).then_some(found)
    });
    let named = |kind: &str| match kind {
        "array" => html! { "list of " (type_name(schema.get("items").unwrap_or(&Value::Null))) },
        kind => html! { (kind) },
    };
    html! {
        @if let Some(name) = reference(schema) { a href={"#object-" (name)} { (name) } }
        @else if let Some(alternatives) = alternatives {
            @let (last, first) = (alternatives.iter().any(|schema| text(schema, "/type") == "null"),
                alternatives.iter().find(|schema| reference(schema).is_some()));
            @if let Some(schema) = first { (type_name(schema)) }
            @if last { " or null" }
        }
        @else if let Some(kind) = schema.get("type").and_then(Value::as_str) { (named(kind)) }
        @else {
            @for (index, kind) in list(schema, "/type").filter_map(Value::as_str).enumerate() {
                @if index > 0 { " or " }
                (named(kind))
            }
        }
    }
}

/// The limits of a value, such as its length.
fn limits(schema: &Value) -> String {
    let limit = |(name, words): (&str, &str)| {
        let value = schema.get(name)?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!(", {words}{value}"))
    };
    let limits = [
        ("format", ""),
        ("pattern", "pattern "),
        ("minimum", "at least "),
        ("maximum", "at most "),
        ("minLength", "characters: at least "),
        ("maxLength", "at most "),
        ("minItems", "items: at least "),
    ];
    limits.into_iter().filter_map(limit).collect()
}

/// An example of a request.
fn curl(operation: &Operation<'_>, body: Option<&Value>) -> String {
    let Operation { path, method, value } = operation;
    let mut address = (*path).to_owned();
    for parameter in list(value, "/parameters") {
        let (name, place) = (text(parameter, "/name"), text(parameter, "/in"));
        let example = parameter.get("example").map(|example| match example {
            Value::Array(items) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            other => other.as_str().unwrap_or_default().to_owned(),
        });
        match (place, example) {
            ("path", Some(example)) => address = address.replace(&format!("{{{name}}}"), &example),
            ("query", Some(example)) => address = format!("{address}?{name}={example}"),
            _ => {}
        }
    }
    let key = if needs_key(value) { " -u KEY:" } else { "" };
    let method = if method == "GET" { String::new() } else { format!(" -X {method}") };
    let body = body
        .and_then(|body| body.pointer("/examples/0"))
        .map(|example| format!(" \\\n  -H 'Content-Type: application/json' \\\n  -d '{example}'"));
    format!("curl{key}{method} \"$API{address}\"{}", body.unwrap_or_default())
}

fn needs_key(operation: &Value) -> bool {
    operation.pointer("/security/0/key").is_some()
}

/// The schema of a request body.
fn request_schema<'d>(document: &'d Value, operation: &'d Value) -> Option<&'d Value> {
    let content = operation.pointer("/requestBody/content")?.as_object()?;
    let schema = content.values().next()?.get("schema")?;
    let name = reference(schema).or_else(|| list(schema, "/oneOf").find_map(reference))?;
    document.get("components")?.get("schemas")?.get(name)
}

/// The name of the object that a schema refers to.
fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

/// A description: paragraphs with code in backticks.
fn prose(text: &str) -> Markup {
    html! { @for paragraph in text.split("\n\n").filter(|text| !text.is_empty()) { p { (inline(paragraph)) } } }
}

fn inline(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn anchor(tag: &str) -> String {
    format!("tag-{}", tag.to_lowercase().replace(' ', "-"))
}

fn text<'d>(value: &'d Value, pointer: &str) -> &'d str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'d>(value: &'d Value, pointer: &str) -> impl Iterator<Item = &'d Value> + use<'d> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}
