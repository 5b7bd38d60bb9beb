//! `/v1/bulk`: an act on many keys. The keys are counted first; then the act is done in parts.
//!
//! The counted keys are kept in memory for ten minutes, by a token: a client that was cut off repeats the
//! request, and continues with the keys that remain.

use super::{
    api_error::ApiError,
    blocking, body,
    caller::Caller,
    fields::{Fields, Given},
    json_body::JSON,
    openapi, query, wire,
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use portcullis::{
    Acting, Actor, BulkAct, CountedKeys, Error, Expiry, KeyId, Scope, Store,
    audit::Attempt,
    list::ListQuery,
    random_bytes,
    scope::catalogue,
    web::{FieldError, Problem},
};
use serde::Serialize;
use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use utoipa::ToSchema;

/// The keys that one request acts on.
const PART: usize = 5000;
/// How long counted keys are kept.
const RETENTION: Duration = Duration::from_mins(10);
const MAX_COUNTS: usize = 32;
/// The keys that are counted for all acts together: 64 MB.
const MAX_KEYS: usize = 4_000_000;
/// The keys that were left alone and that a report names.
const MAX_NAMED: usize = 1000;
const ACTS: &str = "must be revoke, remove_scopes, set_expiry, set_owner or delete";

/// The acts whose keys were counted, by token.
#[derive(Clone, Default)]
pub(crate) struct Counted(Arc<Mutex<HashMap<String, Arc<Mutex<Counting>>>>>);

/// An act whose keys were counted, and what is done of it.
struct Counting {
    actor: Actor,
    act: BulkAct,
    expires: Instant,
    remaining: CountedKeys,
    done: usize,
    left_alone: Vec<LeftAlone>,
    left_alone_count: usize,
}

/// A key that was left alone.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct LeftAlone {
    /// The id of the key.
    pub(crate) id: String,
    /// The reason.
    pub(crate) detail: String,
}

/// The number of keys that an act will be done on.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkCount {
    /// Names the counted keys, for ten minutes. Only the same caller can use it, on the same replica.
    token: String,
    /// The number of keys.
    count: usize,
    /// The ids in the request that no key has.
    unknown_ids: Vec<String>,
}

/// The part of an act that is done.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkReport {
    /// The number of keys that are as the act makes them.
    pub(crate) done: usize,
    /// The number of keys that were left alone, for example because they changed since they were counted.
    pub(crate) left_alone_count: usize,
    /// The first 1000 of them.
    pub(crate) left_alone: Vec<LeftAlone>,
    /// The number of keys that remain. Repeat the request until it is 0.
    pub(crate) remaining: usize,
}

impl Counted {
    /// Keeps counted keys. Returns their token.
    pub(crate) fn keep(
        &self,
        actor: Actor,
        act: BulkAct,
        keys: CountedKeys,
    ) -> Result<String, Error> {
        let mut token = String::new();
        for byte in random_bytes::<16>()? {
            let _ = write!(token, "{byte:02x}");
        }
        let (expires, remaining) = (Instant::now() + RETENTION, keys);
        let (done, left_alone, left_alone_count) = (0, Vec::new(), 0);
        let counting =
            Counting { actor, act, expires, remaining, done, left_alone, left_alone_count };
        self.lock().insert(token.clone(), Arc::new(Mutex::new(counting)));
        Ok(token)
    }

    /// Fails if so many more keys cannot be kept.
    pub(crate) fn check_room(&self, keys: usize) -> Result<(), Problem> {
        let mut kept = self.lock();
        let now = Instant::now();
        kept.retain(|_, counting| lock(counting).expires > now);
        let all: usize = kept.values().map(|counting| lock(counting).remaining.len()).sum();
        if kept.len() < MAX_COUNTS && all + keys <= MAX_KEYS {
            return Ok(());
        }
        let detail = "too many acts are counted and not done yet; do them, or wait for ten minutes";
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-bulk-acts", detail))
    }

    fn find(&self, token: &str, actor: Actor) -> Option<Arc<Mutex<Counting>>> {
        let counting = self.lock().get(token).map(Arc::clone)?;
        let is_its = {
            let counting = lock(&counting);
            counting.actor == actor && counting.expires > Instant::now()
        };
        is_its.then_some(counting)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Mutex<Counting>>>> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counting {
    /// Does the act on the next keys.
    fn run(&mut self, acting: &Acting<'_>) -> BulkReport {
        let report = acting.bulk(&self.act, &self.remaining.take_first(PART));
        self.done += report.done.len();
        self.left_alone_count += report.not_done.len();
        let room = MAX_NAMED.saturating_sub(self.left_alone.len());
        self.left_alone.extend(
            report
                .not_done
                .into_iter()
                .take(room)
                .map(|(id, error)| LeftAlone { id: id.to_string(), detail: detail(error) }),
        );
        BulkReport {
            done: self.done,
            left_alone_count: self.left_alone_count,
            left_alone: self.left_alone.clone(),
            remaining: self.remaining.len(),
        }
    }
}

/// The text of an error as a response has it.
fn detail(error: Error) -> String {
    match ApiError::from(error) {
        ApiError::Problem(problem) => problem.detail().to_owned(),
        ApiError::Refused(refusal) => refusal.to_string(),
    }
}

/// Counts the keys for a bulk act
///
/// Returns the number of keys that the filter selects, and a token. Nothing is changed yet. The act needs the
/// same rights as a change of each key: `admin.key.update`, or `admin.key.delete` to delete.
#[utoipa::path(
    post,
    path = "/v1/bulk",
    operation_id = "count_bulk_act",
    tag = "Keys",
    request_body(content = openapi::NewBulkAct),
    responses(
        (status = 200, description = "the number of keys", body = BulkCount)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn count(
    State(store): State<Store>,
    Extension(counted): Extension<Counted>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let fields = Fields::read(&headers, body, &[JSON]).await?;
    let (act, selection) = read(&store, fields)?;
    let (scope, attempt) = needed(&act);
    caller.require(&store, &scope, attempt, None).await?;
    let actor = caller.actor();
    let work = move |acting: Acting<'_>| {
        let (keys, unknown_ids) = selection.count(&acting)?;
        Ok(counted.check_room(keys.len()).map(|()| (counted, act, keys, unknown_ids)))
    };
    let (counted, act, keys, unknown_ids) = caller.read_many(&store, work).await??;
    let count = keys.len();
    let token = counted.keep(actor, act, keys)?;
    Ok(wire::json(&BulkCount { token, count, unknown_ids }))
}

/// Does a bulk act
///
/// Does the act on the next 5000 counted keys, and returns what is done so far. Repeat the request until no key
/// remains, also if a response is lost. A key that changed since it was counted is left alone. Access that the
/// act removes ends before the response arrives.
#[utoipa::path(
    post,
    path = "/v1/bulk/{token}",
    operation_id = "run_bulk_act",
    tag = "Keys",
    params(
        ("token" = String, Path, pattern = "^[0-9a-f]{32}$", description = "The token of the count", example = "00000000000000000000000000000000")
    ),
    responses(
        (status = 200, description = "what is done so far", body = BulkReport)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn run(
    State(store): State<Store>,
    Extension(counted): Extension<Counted>,
    caller: Caller,
    Path(token): Path<String>,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    // The body is ignored, but a request with an incomplete body must not take effect.
    body::read(body).await?;
    let report = part(&store, &counted, &caller, &token).await?;
    Ok(wire::json(&report))
}

/// Does the act on the next keys.
pub(crate) async fn part(
    store: &Store,
    counted: &Counted,
    caller: &Caller,
    token: &str,
) -> Result<BulkReport, ApiError> {
    let Some(counting) = counted.find(token, caller.actor()) else {
        let detail = "no counted keys have this token; they are kept for ten minutes, for the caller that counted \
                      them and on that replica; count again";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-count", detail).into());
    };
    let (scope, attempt) = needed(&lock(&counting).act);
    caller.require(store, &scope, attempt, None).await?;
    let (store, caller) = (store.clone(), caller.clone());
    // Two requests with one token do their parts one after the other.
    blocking::run(move || Ok(lock(&counting).run(&caller.acting(&store)))).await
}

/// The scope that an act needs, and the attempt that a refusal is recorded as.
pub(crate) fn needed(act: &BulkAct) -> (Scope, Attempt) {
    match act {
        BulkAct::Delete => (catalogue::ADMIN_KEY_DELETE, Attempt::Delete),
        _ => (catalogue::ADMIN_KEY_UPDATE, Attempt::Update),
    }
}

/// The keys of an act.
enum Selection {
    Filter(Box<ListQuery>),
    Ids(Vec<String>),
}

impl Selection {
    /// Counts the keys. Also returns the ids that no key has.
    fn count(self, acting: &Acting<'_>) -> Result<(CountedKeys, Vec<String>), Error> {
        let texts = match self {
            Self::Filter(query) => return Ok((acting.count_for_bulk(&query)?, Vec::new())),
            Self::Ids(texts) => texts,
        };
        let ids: Vec<KeyId> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let keys = acting.count_ids_for_bulk(&ids)?;
        let known: std::collections::HashSet<String> =
            keys.ids().map(|id| id.to_string()).collect();
        // Not a text that may be a key.
        let shown = |text: String| match text.parse::<KeyId>() {
            Ok(id) => id.to_string(),
            Err(_) => "(not an id)".to_owned(),
        };
        let unknown = texts.into_iter().filter(|text| !known.contains(text)).map(shown);
        Ok((keys, unknown.collect()))
    }
}

fn read(store: &Store, mut fields: Fields) -> Result<(BulkAct, Selection), ApiError> {
    fields.require(&["act"]);
    let name = fields.plain_text("act").unwrap_or_default();
    let scopes = fields.texts("scopes");
    let (expiry, owner) = (fields.expiry("expires_at"), fields.text("owner"));
    let (filter, ids) = (fields.scalars("filter"), fields.texts("ids"));
    fields.finish("act, scopes, expires_at, owner, filter and ids")?;
    let wrong = |name: &str, detail: &str| Problem::invalid(vec![FieldError::field(name, detail)]);
    let act = match (name.as_str(), scopes, expiry, owner) {
        ("revoke", None, Given::Absent, Given::Absent) => BulkAct::Revoke,
        ("delete", None, Given::Absent, Given::Absent) => BulkAct::Delete,
        ("remove_scopes", Some(names), Given::Absent, Given::Absent) => {
            let find =
                |name: &String| store.catalogue().find(name).map(|entry| entry.scope.clone());
            let scopes = names.iter().map(find).collect::<Result<_, _>>();
            BulkAct::RemoveScopes(scopes.map_err(Error::from)?)
        }
        ("set_expiry", None, Given::Value(end), Given::Absent) => {
            BulkAct::SetExpiry(Expiry::At(end))
        }
        ("set_expiry", None, Given::Null, Given::Absent) => BulkAct::SetExpiry(Expiry::Never),
        ("set_owner", None, Given::Absent, Given::Value(owner)) => BulkAct::SetOwner(Some(owner)),
        ("set_owner", None, Given::Absent, Given::Null) => BulkAct::SetOwner(None),
        ("revoke" | "delete" | "remove_scopes" | "set_expiry" | "set_owner", ..) => {
            let detail = "needs scopes for remove_scopes, expires_at for set_expiry and owner for set_owner, and takes \
                          none of the others";
            return Err(wrong("act", detail).into());
        }
        _ => return Err(wrong("act", ACTS).into()),
    };
    let selection = match (filter, ids) {
        (Some(pairs), None) => Selection::Filter(Box::new(query::filter(store, &pairs)?)),
        (None, Some(ids)) => Selection::Ids(ids),
        _ => return Err(wrong("filter", "give either filter or ids; {} selects all keys").into()),
    };
    Ok((act, selection))
}
