//! The keys: made, listed, shown, changed, deleted.

use super::{
    body,
    caller::{Caller, ask, read_many},
    denied::Denied,
    fields::{Fields, Given, JSON, MERGE_PATCH},
    once::Manner,
    openapi, query, wire,
};
use axum::{
    body::Body,
    extract::{FromRequestParts, OriginalUri, Path, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{IF_MATCH, LOCATION},
        request::Parts,
    },
    response::Response,
};
use portcullis::{
    Acting, Attempt, Change, Error, Expiry, Grant, Idempotency, KeyId, ListQuery, Metadata,
    MetadataPatch, NewKey, Outcome, Page, Record, Store,
    scope::catalogue,
    web::{FieldError, Problem},
};
use serde::Serialize;
use std::{convert::Infallible, sync::Arc};
use utoipa::ToSchema;

const FIELDS: &str = "name, scopes, active, expires_at, owner and metadata";

/// A page of keys.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyPage)]
pub(crate) struct Listing<'r> {
    keys: Vec<wire::Key<'r>>,
    next_page_token: Option<String>,
}

/// Lists keys, newest first. A page ends early at 128 KiB, so it may have fewer keys than
/// `page_size`: `next_page_token` alone tells the end.
#[utoipa::path(
    get,
    path = "/v1/keys",
    params(
        ("active" = Option<bool>, Query, description = "Only active, or only inactive keys"),
        ("scope" = Option<String>, Query, description = "Only keys that are entitled to this scope"),
        ("q" = Option<String>, Query, description = "Only keys with this text in their name or id"),
        ("page_size" = Option<u8>, Query, minimum = 1, maximum = 200, description = "How many at most: 50 unless said"),
        ("page_token" = Option<String>, Query, description = "Where the last page ended")
    ),
    responses(
        (status = 200, description = "a page of keys", body = Listing<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn list(
    State(store): State<Store>,
    caller: Caller,
    pairs: query::Pairs,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let query = query::list(&store, pairs)?;
    let page = read_many(&store, move |store| bounded_page(store, query)).await?;
    let keys = page.records.iter().map(|record| wire::Key::new(&store, record)).collect();
    Ok(wire::json(&Listing { keys, next_page_token: page.next_page_token }))
}

/// A page that is not longer than pages may be, but for its last key.
fn bounded_page(store: &Store, mut query: ListQuery) -> Result<Page, Error> {
    loop {
        let page = store.list(&query)?;
        let mut length = 0;
        let fitting = page.records.iter().take_while(|record| {
            let fits = length < wire::PAGE_BYTES;
            length += wire::length(&wire::Key::new(store, record));
            fits
        });
        let fitting = fitting.count();
        if fitting == page.records.len() {
            return Ok(page);
        }
        // The store makes the token of a page that ends there.
        query.page_size = Some(fitting);
    }
}

/// Makes a key, which is shown once.
#[utoipa::path(
    post,
    path = "/v1/keys",
    params(
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "A name for this request: sent again within 24 hours, it is not done again. 10,000 of a key and 100,000 in all are remembered; beyond that a further one is answered with 429")
    ),
    request_body(content = openapi::NewKey),
    responses(
        (status = 201, description = "the key, which is shown only this once", body = wire::Key<'_>,
            headers(("Location" = String), ("ETag" = String))),
        (status = 200, description = "it was made before, under the same Idempotency-Key", body = wire::Key<'_>,
            headers(("Idempotency-Replayed" = String), ("ETag" = String)))
    ),
    security(("key" = ["admin.key.create"]))
)]
pub(crate) async fn create(
    State(store): State<Store>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_CREATE, Attempt::Create, None).await?;
    let fields = Fields::read(&headers, body, &[JSON]).await?;
    let manner = Manner::read(&headers, "POST /v1/keys".to_owned(), fields.body())?;
    let new = new_key(&store, fields)?;
    let work = move |acting: Acting<'_>, request: Option<&Idempotency<'_>>| match request {
        Some(request) => acting.issue_once(new, request),
        None => acting.issue(new).map(Outcome::Issued),
    };
    manner.answer(&store, &caller, uri.path(), work).await
}

/// The answer that says where the new key is.
pub(crate) fn created(mut response: Response, location: &str) -> Response {
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Shows a key, but not its secret.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The key's id, `key_…`")
    ),
    responses(
        (status = 200, description = "the key", body = wire::Key<'_>, headers(("ETag" = String)))
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn show(
    State(store): State<Store>,
    caller: Caller,
    id: Id,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, id.known()).await?;
    let id = id.or_not_found()?;
    let record = ask(&store, move |store| store.get(id)).await?;
    Ok(wire::key(&store, &record))
}

/// Changes a key: what it denies is denied at once. Any key may deactivate itself.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The key's id, `key_…`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the key as it was read")
    ),
    request_body(content(
        (openapi::KeyChange = "application/merge-patch+json"),
        (openapi::KeyChange = "application/json")
    )),
    responses(
        (status = 200, description = "the key", body = wire::Key<'_>, headers(("ETag" = String))),
        (status = 409, description = "it is the last root key", body = openapi::ProblemDetails,
            content_type = "application/problem+json")
    ),
    security(("key" = ["admin.key.update"]))
)]
pub(crate) async fn update(
    State(store): State<Store>,
    caller: Caller,
    id: Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Denied> {
    let own = id.known().is_some_and(|id| caller.is(id));
    if !own {
        caller.require(&store, &catalogue::ADMIN_KEY_UPDATE, Attempt::Update, id.known()).await?;
    }
    let fields = Fields::read(&headers, body, &[JSON, MERGE_PATCH]).await;
    let asked = fields.map_err(Denied::from).and_then(|fields| Asked::read(&store, fields));
    // Any key may take itself away, and without the scope nothing more.
    let resigns = matches!(&asked, Ok(asked) if asked.is_resignation());
    if own && !resigns {
        caller.require(&store, &catalogue::ADMIN_KEY_UPDATE, Attempt::Update, id.known()).await?;
    }
    let (asked, id, revision) = (asked?, id.or_not_found()?, revision(&headers)?);
    let work = move |acting: Acting<'_>| {
        if resigns && revision.is_none() {
            return revoke(&acting, id);
        }
        asked.apply(acting, id, revision).map(|record| (record, None))
    };
    let (record, settled) = caller.act(&store, work).await?;
    Ok(wire::revoked(&store, &record, settled))
}

/// Takes a key away, and says how the other replicas took it, where there are any.
fn revoke(acting: &Acting<'_>, id: KeyId) -> Result<(Arc<Record>, Option<wire::Settled>), Error> {
    #[cfg(feature = "cluster")]
    {
        let (record, settled) = acting.revoke_everywhere(id)?;
        let (acknowledged, waited_out) = (settled.acknowledged, settled.waited_out);
        let settled =
            (acknowledged + waited_out > 0).then_some(wire::Settled { acknowledged, waited_out });
        Ok((record, settled))
    }
    #[cfg(not(feature = "cluster"))]
    acting.revoke(id).map(|record| (record, None))
}

/// Deletes an inactive key for good.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    params(
        ("id" = String, Path, pattern = "^key_[0-9A-Za-z]{11}$", description = "The key's id, `key_…`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the key as it was read")
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 409, description = "it is active", body = openapi::ProblemDetails,
            content_type = "application/problem+json")
    ),
    security(("key" = ["admin.key.delete"]))
)]
pub(crate) async fn delete(
    State(store): State<Store>,
    caller: Caller,
    id: Id,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_DELETE, Attempt::Delete, id.known()).await?;
    // The body means nothing; a request that was cut within it does nothing all the same.
    body::read(body).await?;
    let (id, revision) = (id.or_not_found()?, revision(&headers)?);
    let deleted = caller.act(&store, move |acting| match revision {
        Some(revision) => acting.delete_if(id, revision),
        None => acting.delete(id),
    });
    deleted.await?;
    Ok(StatusCode::NO_CONTENT)
}

fn new_key(store: &Store, mut fields: Fields) -> Result<NewKey, Denied> {
    fields.require(&["name", "scopes"]);
    let name = fields.plain_text("name").unwrap_or_default();
    let scopes = fields.texts("scopes").unwrap_or_default();
    let active = fields.flag("active").unwrap_or(true);
    let expiry = match fields.moment("expires_at") {
        Given::Value(end) => Expiry::At(end),
        Given::Null | Given::Absent => Expiry::Never,
    };
    let owner = match fields.text("owner") {
        Given::Value(owner) => Some(owner),
        Given::Null | Given::Absent => None,
    };
    let metadata = match fields.notes("metadata") {
        Given::Value(notes) => {
            notes.into_iter().filter_map(|(key, note)| Some((key, note?))).collect()
        }
        Given::Null | Given::Absent => Metadata::new(),
    };
    fields.finish(FIELDS)?;
    Ok(NewKey { name, grant: grant(store, &scopes)?, active, expiry, owner, metadata })
}

/// A change as it was asked for. Metadata is merged (RFC 7396), which needs what is there: the store
/// does that when it plans the change.
struct Asked {
    change: Change,
    notes: MetadataPatch,
}

impl Asked {
    fn read(store: &Store, mut fields: Fields) -> Result<Self, Denied> {
        let name = fields.plain_text("name");
        let scopes = fields.texts("scopes");
        let active = fields.flag("active");
        let expiry = match fields.moment("expires_at") {
            Given::Value(end) => Some(Expiry::At(end)),
            Given::Null => Some(Expiry::Never),
            Given::Absent => None,
        };
        let owner = match fields.text("owner") {
            Given::Value(owner) => Some(Some(owner)),
            Given::Null => Some(None),
            Given::Absent => None,
        };
        let (metadata, notes) = match fields.notes("metadata") {
            Given::Value(notes) => (None, notes),
            Given::Null => (Some(Metadata::new()), MetadataPatch::new()),
            Given::Absent => (None, MetadataPatch::new()),
        };
        fields.finish(FIELDS)?;
        let grant = scopes.map(|scopes| grant(store, &scopes)).transpose()?;
        Ok(Self { change: Change { name, grant, active, expiry, owner, metadata }, notes })
    }

    fn is_resignation(&self) -> bool {
        self.notes.is_empty() && self.change == Change::deactivate()
    }

    fn apply(
        self,
        acting: Acting<'_>,
        id: KeyId,
        revision: Option<u64>,
    ) -> Result<Arc<Record>, Error> {
        match revision {
            Some(revision) => acting.patch_if(id, revision, self.change, self.notes),
            None => acting.patch(id, self.change, self.notes),
        }
    }
}

/// The scopes by name; `*` alone means all of them, which the store leaves to the machine.
fn grant(store: &Store, names: &[String]) -> Result<Grant, Denied> {
    if names == ["*"] {
        return Ok(Grant::All);
    }
    if names.iter().any(|name| name == "*") {
        let error = FieldError::field("scopes", "'*' means every scope and stands alone");
        return Err(Problem::invalid(vec![error]).into());
    }
    Ok(Grant::Scopes(store.scopes(names)?))
}

/// The revision that `If-Match` asks for. A tag that is none of ours matches nothing.
fn revision(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
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
            // A tag is text: "04" is not the "4" that was given.
            digits.parse().ok().filter(|revision: &u64| revision.to_string() == digits)
        });
    revision.map(Some).ok_or_else(|| {
        let detail = "the key has another entity tag; read it again and repeat the change";
        Problem::new(StatusCode::PRECONDITION_FAILED, "changed-meanwhile", detail)
    })
}

/// The id in the path. Whether there can be such a key is said after the caller's rights are known.
pub(crate) struct Id(Option<KeyId>);

impl Id {
    pub(crate) fn known(&self) -> Option<KeyId> {
        self.0
    }

    pub(crate) fn or_not_found(&self) -> Result<KeyId, Problem> {
        self.0.ok_or_else(|| {
            let detail = "no key has this id; an id is 'key_' and 11 letters or digits, list the keys to find it";
            Problem::new(StatusCode::NOT_FOUND, "no-such-key", detail)
        })
    }
}

impl FromRequestParts<Store> for Id {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, store: &Store) -> Result<Self, Infallible> {
        let path = Path::<String>::from_request_parts(parts, store).await;
        Ok(Self(path.ok().and_then(|Path(id)| id.parse().ok())))
    }
}
