//! The JSON representation of a key, the same in every response and in the output of `--json`.

use super::rfc3339;
use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, ETAG, LOCATION},
    },
    response::{IntoResponse, Response},
};
use portcullis::{
    Expiry, Grant, Imported, Issued, Metadata, Network, Networks, Rate, Record, Scope, Store,
    web::{self, Problem},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Capacity for the largest key: a buffer that grows would leave a copy of the secret behind. A
/// record is at most 1.5 KiB, and JSON needs at most six bytes for each of its bytes.
const MAX_KEY_BYTES: usize = 12 * 1024;
/// A page ends with the item that reaches this size.
pub(crate) const PAGE_BYTES: usize = 128 << 10;

/// The field with the secret of a key, at most.
const MAX_SECRET_FIELD_BYTES: usize = 128;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A key. Only the response that issues it contains the secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key<'r> {
    /// `key_` and 11 letters or digits.
    id: String,
    /// A memorable name; need not be unique.
    name: &'r str,
    /// The beginning of the key's text, not secret; `imported` for a key of another system.
    hint: String,
    /// How the digest of a key of another system was computed: `plaintext`, `sha256`, `sha256-after-bar` or
    /// `sha512`. The strength of such a key is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    imported: Option<&'static str>,
    /// The granted scopes; `["*"]` for a root key.
    scopes: Vec<&'static str>,
    /// Whether the key is active; false after a revocation.
    active: bool,
    /// The owner on whose behalf the key acts.
    owner: Option<&'r str>,
    /// Names and values that the service keeps with the key.
    #[schema(value_type = BTreeMap<String, String>)]
    metadata: &'r Metadata,
    /// The networks that the key can be used from; empty: from everywhere.
    networks: Vec<String>,
    /// The requests that the key may make; null: as many as it wants.
    rate: Option<Requests>,
    /// When the key was created, to the millisecond.
    #[schema(format = DateTime)]
    created_at: String,
    /// The actor that created the key: the id of a key, `local:UID`, or `host`.
    created_by: String,
    /// When the record was last changed, to the millisecond.
    #[schema(format = DateTime)]
    updated_at: String,
    /// The actor that last changed the record; after a leak also `secret-scanning` or `plain-http`.
    updated_by: String,
    /// When the key was deactivated.
    #[schema(format = DateTime)]
    inactive_since: Option<String>,
    /// When the key was last accepted, to the minute.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// The key is refused from this moment on; null means never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The key that this key replaces after a rotation.
    replaces: Option<String>,
    /// The key that replaces this key after a rotation.
    replaced_by: Option<String>,
    /// With replicas, in the response to a revocation: how many replicas confirmed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<Settled>,
    /// The secret, once: in the response that issues the key.
    #[serde(rename = "key", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    secret: Option<Option<&'r str>>,
}

impl<'r> Key<'r> {
    pub(crate) fn new(store: &Store, record: &'r Record) -> Self {
        Self {
            id: record.id.to_string(),
            name: &record.name,
            hint: match record.imported {
                Some(_) => "imported".to_owned(),
                None => store.prefix().hint(record.id),
            },
            imported: record.imported.map(Imported::as_str),
            scopes: scopes(&record.grant),
            active: record.active,
            owner: record.owner.as_deref(),
            metadata: &record.metadata,
            networks: networks(&record.networks),
            rate: record.rate.map(Requests::of),
            created_at: rfc3339::format(record.created_at),
            created_by: record.created_by.to_string(),
            updated_at: rfc3339::format(record.updated_at),
            updated_by: record.updated_by.to_string(),
            inactive_since: record.inactive_since.map(rfc3339::format),
            last_used_at: store.last_used(record.id).map(rfc3339::format),
            expires_at: match record.expiry {
                Expiry::At(end) => Some(rfc3339::format(end)),
                Expiry::Never => None,
            },
            replaces: record.replaces.map(|id| id.to_string()),
            replaced_by: record.replaced_by.map(|id| id.to_string()),
            settled: None,
            secret: None,
        }
    }
}

/// How the other replicas responded to a revocation.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Settled {
    /// How many replicas confirmed that they applied it.
    pub(crate) acknowledged: usize,
    /// How many replicas did not confirm it and were fenced after a timeout.
    pub(crate) waited_out: usize,
}

/// The names of the granted scopes; `*` for a root key.
pub(crate) fn scopes(grant: &Grant) -> Vec<&'static str> {
    match grant {
        Grant::All => vec!["*"],
        Grant::Scopes(set) => set.iter().map(Scope::as_str).collect(),
    }
}

/// A number of requests in a span of time.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = Rate)]
pub(crate) struct Requests {
    /// How many requests.
    #[schema(minimum = 1, maximum = 1_000_000)]
    requests: u32,
    /// The span in seconds.
    #[schema(minimum = 1, maximum = 86_400)]
    seconds: u32,
}

impl Requests {
    pub(crate) fn of(rate: Rate) -> Self {
        Self { requests: rate.requests(), seconds: rate.seconds() }
    }
}

/// The networks as text.
pub(crate) fn networks(networks: &Networks) -> Vec<String> {
    networks.iter().map(Network::to_string).collect()
}

/// The size of a value as JSON, in bytes.
pub(crate) fn json_length(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

/// A JSON response.
pub(crate) fn json(body: &impl Serialize) -> Response {
    let mut text = Vec::with_capacity(MAX_KEY_BYTES);
    if web::json::write(&mut text, body).is_err() {
        let detail = "the response could not be serialized";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response();
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A response with a key; the entity tag is its revision.
pub(crate) fn key(store: &Store, record: &Record) -> Response {
    tagged(json(&Key::new(store, record)), record)
}

/// The response to a change of a key, with the confirmations of the replicas where there are any.
pub(crate) fn changed(store: &Store, record: &Record, settled: Option<Settled>) -> Response {
    tagged(json(&Key { settled, ..Key::new(store, record) }), record)
}

/// The response to the request that issued a key, with its secret.
pub(crate) fn issued(store: &Store, issued: Issued) -> Response {
    let record = issued.record;
    let body = Key::new(store, &record);
    let response = issued.secret.reveal(|text| json(&Key { secret: Some(Some(text)), ..body }));
    tagged(response, &record)
}

/// The lines of keys that were just issued, with their secrets.
pub(crate) fn issued_lines(store: &Store, all: Vec<Result<Issued, Problem>>) -> Vec<u8> {
    let length = |issued: &Result<Issued, Problem>| match issued {
        Ok(issued) => json_length(&Key::new(store, &issued.record)) + MAX_SECRET_FIELD_BYTES,
        Err(problem) => problem.text().len() + MAX_SECRET_FIELD_BYTES,
    };
    // A buffer that grows would leave a copy of a secret behind.
    let mut text = Vec::with_capacity(all.iter().map(length).sum());
    for issued in all {
        match issued {
            Ok(issued) => {
                let body = Key::new(store, &issued.record);
                issued.secret.reveal(|secret| {
                    let _ =
                        web::json::write(&mut text, &Key { secret: Some(Some(secret)), ..body });
                });
            }
            Err(problem) => text.extend_from_slice(problem.text().as_bytes()),
        }
        text.push(b'\n');
    }
    text
}

/// The response to a repeated request: the key without its secret, which was shown before.
pub(crate) fn replayed(store: &Store, record: &Record) -> Response {
    let mut response = tagged(json(&Key { secret: Some(None), ..Key::new(store, record) }), record);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Makes a response 201 with the location of the new key.
pub(crate) fn created(mut response: Response, location: &str) -> Response {
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The entity tag of a record.
pub(crate) fn tag(record: &Record) -> String {
    format!("\"{}\"", record.revision)
}

fn tagged(mut response: Response, record: &Record) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&tag(record)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
