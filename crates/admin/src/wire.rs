//! A key as JSON: the same in every answer and in `--json`.

use super::moment;
use axum::{
    body::Body,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, ETAG},
    },
    response::{IntoResponse, Response},
};
use portcullis::{
    Expiry, Grant, Issued, Metadata, Record, Scope, Store,
    web::{self, Problem},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Room for the largest key, so that no copy is left behind by growing: a record is at most
/// 1.5 KiB, of which each byte takes at most six in JSON.
const MOST_BYTES: usize = 12 * 1024;
/// A page ends with the item that makes it this long.
pub(crate) const PAGE_BYTES: usize = 128 << 10;

/// A key, its secret only where it was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key<'r> {
    id: String,
    name: &'r str,
    hint: String,
    scopes: Vec<&'static str>,
    active: bool,
    owner: Option<&'r str>,
    #[schema(value_type = BTreeMap<String, String>)]
    metadata: &'r Metadata,
    created_at: String,
    created_by: String,
    updated_at: String,
    updated_by: String,
    inactive_since: Option<String>,
    last_used_at: Option<String>,
    expires_at: Option<String>,
    replaces: Option<String>,
    replaced_by: Option<String>,
    /// Where replicas share the store, of a key that was just taken away: how they took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<Settled>,
    #[serde(rename = "key", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    secret: Option<Option<&'r str>>,
}

impl<'r> Key<'r> {
    pub(crate) fn new(store: &Store, record: &'r Record) -> Self {
        Self {
            id: record.id.to_string(),
            name: &record.name,
            hint: store.prefix().hint(record.id),
            scopes: scopes(&record.grant),
            active: record.active,
            owner: record.owner.as_deref(),
            metadata: &record.metadata,
            created_at: moment::to_text(record.created_at),
            created_by: record.created_by.to_string(),
            updated_at: moment::to_text(record.updated_at),
            updated_by: record.updated_by.to_string(),
            inactive_since: record.inactive_since.map(moment::to_text),
            last_used_at: store.last_used(record.id).map(moment::to_text),
            expires_at: match record.expiry {
                Expiry::At(end) => Some(moment::to_text(end)),
                Expiry::Never => None,
            },
            replaces: record.replaces.map(|id| id.to_string()),
            replaced_by: record.replaced_by.map(|id| id.to_string()),
            settled: None,
            secret: None,
        }
    }
}

/// How the replicas took a revocation.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Settled {
    /// So many have applied it and said so.
    pub(crate) acknowledged: usize,
    /// So many did not say so, and had stopped answering when the revocation was over.
    pub(crate) waited_out: usize,
}

/// The names of the scopes; `*` alone for root.
pub(crate) fn scopes(grant: &Grant) -> Vec<&'static str> {
    match grant {
        Grant::All => vec!["*"],
        Grant::Scopes(set) => set.iter().map(Scope::as_str).collect(),
    }
}

/// Bytes as text, two digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text
}

/// The bytes of such a text, in small letters only: no two texts mean the same.
pub(crate) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digit = |sign: u8| match sign {
        b'0'..=b'9' => Some(sign - b'0'),
        b'a'..=b'f' => Some(sign - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// How many bytes a value has as JSON.
pub(crate) fn length(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

/// An answer with this body.
pub(crate) fn json(body: &impl Serialize) -> Response {
    let mut text = Vec::with_capacity(MOST_BYTES);
    if web::json::write(&mut text, body).is_err() {
        let detail = "the answer could not be written";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response();
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer with this key, and its revision as the entity tag.
pub(crate) fn key(store: &Store, record: &Record) -> Response {
    tagged(json(&Key::new(store, record)), record)
}

/// An answer with a key that was just taken away from all replicas.
pub(crate) fn revoked(store: &Store, record: &Record, settled: Option<Settled>) -> Response {
    tagged(json(&Key { settled, ..Key::new(store, record) }), record)
}

/// An answer with a key that was just made, its secret in it.
pub(crate) fn issued(store: &Store, issued: Issued) -> Response {
    let record = issued.record;
    let body = Key::new(store, &record);
    let response = issued.secret.reveal(|text| json(&Key { secret: Some(Some(text)), ..body }));
    tagged(response, &record)
}

/// An answer with a key that was made before: its secret was shown then.
pub(crate) fn not_again(store: &Store, record: &Record) -> Response {
    tagged(json(&Key { secret: Some(None), ..Key::new(store, record) }), record)
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
