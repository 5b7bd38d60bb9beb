//! The parts of a request about keys: the key's id, the conditions, and the fields of a new or
//! changed key.

use super::{
    api_error::ApiError,
    fields::{Fields, Given},
};
use axum::{
    body::Bytes,
    extract::{FromRequestParts, Path},
    http::{HeaderMap, StatusCode, header::IF_MATCH, request::Parts},
};
use portcullis::{
    Acting, Change, Error, Expiry, Grant, Idempotency, KeyId, Metadata, MetadataPatch, Networks,
    NewKey, Outcome, Record, Store,
    web::{FieldError, Problem},
};
use std::{convert::Infallible, sync::Arc};

const FIELDS: &str = "name, scopes, active, expires_at, owner, metadata, networks and rate";
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// The key id in the path. A malformed id is reported only after the caller's rights are checked.
pub(crate) struct KeyPath(Option<KeyId>);

impl KeyPath {
    /// The id, if it is well formed.
    pub(crate) fn id(&self) -> Option<KeyId> {
        self.0
    }

    pub(crate) fn id_or_not_found(&self) -> Result<KeyId, Problem> {
        self.0.ok_or_else(|| {
            let detail = "no key has this id; an id is 'key_' and 11 letters or digits, list the keys to find it";
            Problem::new(StatusCode::NOT_FOUND, "no-such-key", detail)
        })
    }
}

impl FromRequestParts<Store> for KeyPath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, store: &Store) -> Result<Self, Infallible> {
        let path = Path::<String>::from_request_parts(parts, store).await;
        Ok(Self(path.ok().and_then(|Path(id)| id.parse().ok())))
    }
}

/// Reads the revision that `If-Match` names. A malformed tag matches no revision.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut tags = headers.get_all(IF_MATCH).iter();
    let Some(tag) = tags.next() else { return Ok(None) };
    let tag = tag.as_bytes();
    if tag == b"*" {
        return Ok(None);
    }
    if tags.next().is_some() || tag.contains(&b',') {
        let detail = "give one entity tag in If-Match, as the ETag header had it";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "malformed-condition", detail));
    }
    let revision =
        tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")).and_then(|digits| {
            let digits = str::from_utf8(digits).ok()?;
            // Tags are compared as text: "04" is another tag than "4".
            digits.parse().ok().filter(|revision: &u64| revision.to_string() == digits)
        });
    revision.map(Some).ok_or_else(|| {
        let detail = "the key has another entity tag; read it again and repeat the change";
        Problem::new(StatusCode::PRECONDITION_FAILED, "changed-meanwhile", detail)
    })
}

/// Whether a request that issues a key is executed each time it arrives, or once.
pub(crate) enum Repetition {
    /// No `Idempotency-Key`: each request issues a key.
    Allowed,
    /// All requests with this `Idempotency-Key` together issue one key. The secret is shown once,
    /// so the response to a repetition has `"key": null`.
    Once { key: Vec<u8>, route: String, payload: Bytes },
}

impl Repetition {
    /// Reads the header `Idempotency-Key`.
    pub(crate) fn read(
        headers: &HeaderMap,
        route: String,
        payload: Bytes,
    ) -> Result<Self, Problem> {
        let mut keys = headers.get_all("idempotency-key").iter();
        let Some(key) = keys.next() else { return Ok(Self::Allowed) };
        let key = key.as_bytes();
        let is_valid = (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len())
            && key.iter().all(u8::is_ascii_graphic);
        if !is_valid || keys.next().is_some() {
            let detail = "must be one header of 1 to 255 visible ASCII characters";
            return Err(Problem::invalid(vec![FieldError::parameter("Idempotency-Key", detail)]));
        }
        Ok(Self::Once { key: key.to_vec(), route, payload })
    }

    /// Calls `issue`, with the idempotency of the request where it has one.
    pub(crate) fn apply(
        &self,
        issue: impl FnOnce(Option<&Idempotency<'_>>) -> Result<Outcome, Error>,
    ) -> Result<Outcome, Error> {
        match self {
            Self::Allowed => issue(None),
            Self::Once { key, route, payload } => issue(Some(&Idempotency { key, route, payload })),
        }
    }
}

/// Reads the body of a request that issues a key.
pub(crate) fn new_key(store: &Store, mut fields: Fields) -> Result<NewKey, ApiError> {
    fields.require(&["name", "scopes"]);
    let name = fields.plain_text("name").unwrap_or_default();
    let scopes = fields.texts("scopes").unwrap_or_default();
    let active = fields.flag("active").unwrap_or(true);
    let expiry = match fields.expiry("expires_at") {
        Given::Value(end) => Some(Expiry::At(end)),
        Given::Null => Some(Expiry::Never),
        Given::Absent => None,
    };
    let owner = match fields.text("owner") {
        Given::Value(owner) => Some(owner),
        Given::Null | Given::Absent => None,
    };
    let metadata = match fields.metadata("metadata") {
        Given::Value(entries) => {
            entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
        }
        Given::Null | Given::Absent => Metadata::new(),
    };
    let networks = match fields.networks("networks") {
        Given::Value(networks) => networks,
        Given::Null | Given::Absent => Networks::ANY,
    };
    let rate = match fields.rate("rate") {
        Given::Value(rate) => Some(rate),
        Given::Null | Given::Absent => None,
    };
    fields.finish(FIELDS)?;
    let grant = grant(store, &scopes)?;
    let expiry = expiry.map_or_else(|| store.default_expiry(&grant), Ok)?;
    let mut new = NewKey::new(name, grant, expiry);
    (new.active, new.owner, new.metadata) = (active, owner, metadata);
    (new.networks, new.rate) = (networks, rate);
    Ok(new)
}

/// The body of a request that changes a key. The metadata is a merge patch (RFC 7396), which the
/// store applies to the current record when it plans the change.
pub(crate) struct KeyPatch {
    change: Change,
    metadata: MetadataPatch,
}

impl KeyPatch {
    pub(crate) fn read(store: &Store, mut fields: Fields) -> Result<Self, ApiError> {
        let name = fields.plain_text("name");
        let scopes = fields.texts("scopes");
        let active = fields.flag("active");
        let expiry = match fields.expiry("expires_at") {
            Given::Value(end) => Some(Expiry::At(end)),
            Given::Null => Some(Expiry::Never),
            Given::Absent => None,
        };
        let owner = match fields.text("owner") {
            Given::Value(owner) => Some(Some(owner)),
            Given::Null => Some(None),
            Given::Absent => None,
        };
        let (replaced, metadata) = match fields.metadata("metadata") {
            Given::Value(patch) => (None, patch),
            Given::Null => (Some(Metadata::new()), MetadataPatch::new()),
            Given::Absent => (None, MetadataPatch::new()),
        };
        let networks = match fields.networks("networks") {
            Given::Value(networks) => Some(networks),
            Given::Null => Some(Networks::ANY),
            Given::Absent => None,
        };
        let rate = match fields.rate("rate") {
            Given::Value(rate) => Some(Some(rate)),
            Given::Null => Some(None),
            Given::Absent => None,
        };
        fields.finish(FIELDS)?;
        let grant = scopes.map(|scopes| grant(store, &scopes)).transpose()?;
        let mut change = Change::default();
        (change.name, change.grant, change.active) = (name, grant, active);
        (change.expiry, change.owner, change.metadata) = (expiry, owner, replaced);
        (change.networks, change.rate) = (networks, rate);
        Ok(Self { change, metadata })
    }

    /// Returns whether the request only deactivates the key.
    pub(crate) fn is_revocation(&self) -> bool {
        self.metadata.is_empty() && self.change == Change::deactivate()
    }

    pub(crate) fn apply(
        self,
        acting: Acting<'_>,
        id: KeyId,
        revision: Option<u64>,
    ) -> Result<Arc<Record>, Error> {
        match revision {
            Some(revision) => acting.patch_if(id, revision, self.change, self.metadata),
            None => acting.patch(id, self.change, self.metadata),
        }
    }
}

/// Parses scope names. `*` alone means all scopes; the store lets only local users grant it.
fn grant(store: &Store, names: &[String]) -> Result<Grant, ApiError> {
    if names == ["*"] {
        return Ok(Grant::All);
    }
    if names.iter().any(|name| name == "*") {
        let error = FieldError::field("scopes", "'*' means every scope and stands alone");
        return Err(Problem::invalid(vec![error]).into());
    }
    Ok(Grant::Scopes(store.scopes(names)?))
}
