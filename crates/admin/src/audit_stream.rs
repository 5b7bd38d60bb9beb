//! `GET /v1/audit/stream`: follows the audit log as lines of JSON, for another program that keeps it.
//!
//! | state of a stream | on | next |
//! |---|---|---|
//! | behind | the client takes the lines before | reads the next batch from the ledger and sends it |
//! | at the end | an entry is durable and applied | behind |
//! | at the end | no line for [`HEARTBEAT`] | sends a heartbeat |
//! | any | the key is revoked, expires or is narrowed; a read fails | ends with an error |
//! | any | the server stops | ends |
//!
//! A stream holds no queue. A client that reads slowly delays only itself. If pruning removes entries that it
//! has not read, a line says so.

use super::{api_error::ApiError, audit::Entry, caller::Caller, query};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::Response,
};
use futures_util::{StreamExt, stream};
use portcullis::{
    Actor, Store,
    audit::Attempt,
    scope::catalogue,
    web::{self, FieldError, Problem},
};
use serde_json::json;
use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// The longest time without a line. Proxies close a silent connection after a minute, as a rule.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Entries in one read of the store.
const BATCH: usize = 100;
/// A chunk ends with the entry that reaches this size.
const CHUNK_BYTES: usize = 64 << 10;
/// The streams that one key may have, and the streams of all keys.
const MAX_OF_ACTOR: usize = 8;
const MAX_STREAMS: usize = 256;

/// nginx buffers responses unless a response forbids it.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A response extension: the response has no end. A server must not count its request as one in flight, nor
/// limit its duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndlessResponse;

/// A request extension of a server that stops: ends its audit streams, which would otherwise delay the stop.
#[derive(Clone, Debug)]
pub struct StreamStop(Arc<watch::Sender<bool>>);

impl StreamStop {
    /// Creates the extension. All clones stop together.
    #[expect(clippy::new_without_default, reason = "each one stops only its own clones")]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Ends all streams, those that begin later included.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    async fn stopped(self) {
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|is_stopped| *is_stopped).await;
    }
}

/// How many streams each actor has.
#[derive(Clone, Default)]
pub(crate) struct AuditStreams(Arc<Mutex<HashMap<Actor, usize>>>);

/// The right to one stream.
struct Permit {
    streams: AuditStreams,
    actor: Actor,
}

impl AuditStreams {
    fn lock(&self) -> MutexGuard<'_, HashMap<Actor, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, actor: Actor) -> Result<Permit, Problem> {
        let mut streams = self.lock();
        let own = streams.get(&actor).copied().unwrap_or(0);
        if own >= MAX_OF_ACTOR || streams.values().sum::<usize>() >= MAX_STREAMS {
            let detail = if own >= MAX_OF_ACTOR {
                format!("this key has {MAX_OF_ACTOR} streams of the audit log; end one of them")
            } else {
                "there are too many streams of the audit log; try again later".into()
            };
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-streams", detail);
            return Err(problem.with_header(RETRY_AFTER, HeaderValue::from(HEARTBEAT.as_secs())));
        }
        streams.insert(actor, own + 1);
        Ok(Permit { streams: self.clone(), actor })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        match streams.get(&self.actor) {
            Some(own @ 2..) => {
                let left = own - 1;
                streams.insert(self.actor, left);
            }
            _ => drop(streams.remove(&self.actor)),
        }
    }
}

impl fmt::Debug for AuditStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditStreams").finish_non_exhaustive()
    }
}

/// Follows the audit log
///
/// Streams the entries after `after` as lines of JSON, oldest first, and then each new entry when it is
/// durable. The response has no end. After 15 seconds without a line it sends
/// `{"heartbeat":{"after":N}}`. If entries were pruned before they were sent, it sends
/// `{"pruned":{"through":N}}` in their place. To resume, pass the last number that a line had as `after`:
/// `sequence` of an entry, `after` or `through`.
///
/// The stream ends with an error when its key is revoked, expires or loses a scope. A key has at most 8
/// streams. A key with an owner gets the entries about keys of that owner.
#[utoipa::path(
    get,
    path = "/v1/audit/stream",
    operation_id = "follow_audit_log",
    tag = "Audit log",
    params(
        ("after" = Option<u64>, Query, description = "Only entries with a greater sequence number; 0 by default. A number after the newest entry is refused")
    ),
    responses(
        (status = 200, description = "entries, heartbeats and notes of pruned entries, one line each", body = String, content_type = "application/x-ndjson")
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn follow(
    State(store): State<Store>,
    Extension(streams): Extension<AuditStreams>,
    stop: Option<Extension<StreamStop>>,
    caller: Caller,
    parameters: query::Parameters,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let mut after = 0;
    query::each(parameters, "after", |name, value| {
        let is_known = name == "after";
        if is_known {
            after = query::number(value, "must be the number of an entry")?;
        }
        Ok(is_known)
    })?;
    let permit = streams.admit(caller.actor())?;
    let from = store.clone();
    let newest = caller.read_many(&store, move |_| Ok(from.audit_range(after, 0)?.end.sequence));
    let newest = newest.await?;
    if after > newest {
        let detail = format!(
            "is after the newest entry, {newest}; if the store was restored, follow from the entry that records it"
        );
        return Err(Problem::invalid(vec![FieldError::parameter("after", detail)]).into());
    }
    let revocation = caller.principal().map(|principal| store.revocation(principal));
    let follower = Follower {
        store,
        caller,
        _permit: permit,
        after,
        newest: after,
        is_behind: true,
        heartbeat: Instant::now() + HEARTBEAT,
    };
    let chunks = stream::try_unfold(follower, |follower| async {
        follower
            .next_chunk()
            .await
            .map(Some)
            .map_err(|_| io::Error::other("the stream was aborted"))
    });
    let body = match stop {
        Some(Extension(stop)) => Body::from_stream(chunks.take_until(Box::pin(stop.stopped()))),
        None => Body::from_stream(chunks),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    response.extensions_mut().insert(EndlessResponse);
    Ok(match revocation {
        Some(revocation) => web::until_revoked(response, revocation),
        None => response,
    })
}

/// A stream, and its position in the log.
struct Follower {
    store: Store,
    caller: Caller,
    _permit: Permit,
    /// The last entry that was sent, or that the caller may not see.
    after: u64,
    /// The newest entry when the log was last read.
    newest: u64,
    /// Whether there may be entries to read.
    is_behind: bool,
    /// When the next heartbeat is due.
    heartbeat: Instant,
}

impl Follower {
    /// Waits for the next lines.
    async fn next_chunk(mut self) -> Result<(Bytes, Self), ApiError> {
        loop {
            let mut lines = Vec::new();
            if self.is_behind {
                lines = self.read().await?;
            } else {
                let newer = self.store.newer_audit_entry(self.newest);
                self.is_behind = timeout_at(self.heartbeat, newer).await.is_ok();
            }
            if lines.is_empty() && Instant::now() >= self.heartbeat {
                lines = line(&json!({"heartbeat": {"after": self.after}}))?;
            }
            if !lines.is_empty() {
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Ok((lines.into(), self));
            }
        }
    }

    /// Reads the next lines, possibly none.
    async fn read(&mut self) -> Result<Vec<u8>, ApiError> {
        let after = self.after;
        let read =
            self.caller.read_many(&self.store, move |acting| acting.audit_batch(after, BATCH));
        let batch = read.await?;
        // A store in memory has no entries to advance to.
        self.is_behind = after < batch.last && batch.last < batch.newest;
        (self.after, self.newest) = (batch.last, batch.newest);
        let mut lines = Vec::new();
        if let Some(through) = batch.pruned_through {
            lines = line(&json!({"pruned": {"through": through}}))?;
        }
        for entry in &batch.entries {
            if lines.len() >= CHUNK_BYTES {
                (self.after, self.is_behind) = (entry.sequence - 1, true);
                break;
            }
            lines.extend(line(&Entry::new(entry))?);
        }
        Ok(lines)
    }
}

fn line(value: &impl serde::Serialize) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    web::json::write(&mut text, value).map_err(|_| {
        let detail = "an entry could not be serialized";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })?;
    text.push(b'\n');
    Ok(text)
}
