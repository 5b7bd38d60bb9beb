//! The trail as JSON lines that prove themselves: `GET /v1/audit/export`, and the reader of such a
//! file.
//!
//! A header, an entry a line, a trailer. Each entry is there twice: as JSON for people, and as the
//! bytes of its frame, of which the chain is made. The reader checks the chain, and that both say
//! the same.

mod stream;

use super::{
    caller::{Caller, read_many},
    denied::Denied,
    moment, query,
    trail::Entry,
    wire::{bytes_of, hex},
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::Response,
};
use portcullis::{
    Attempt, AuditEntry, AuditRangeEnd, AuditRangeStart, AuditVerifier, AuditVerifyError, Builder,
    Error, Scope, Store, Timestamp,
    scope::catalogue,
    web::{self, FieldError, Problem},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const LARGEST_LIMIT: usize = 1000;
const LIMITS: &str = "must be a number from 1 to 1000";
/// What the header says of itself.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    portcullis_trail: u32,
    store: String,
    after: u64,
    head: String,
    pepper_check: String,
    scopes: Vec<String>,
    seal: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: Value,
    frame: String,
}

#[derive(Serialize)]
struct Written<'e> {
    entry: Option<Entry<'e>>,
    frame: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    store: String,
    sequence: u64,
    head: String,
    time: String,
    seal: String,
}

/// Answers lines of JSON, sent as they are read. Where the last entry is not the one that the trailer
/// tells of there is more, after that entry. An answer without a trailer broke off.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    params(
        ("after" = Option<u64>, Query, description = "Only entries after this one"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most: 1000 unless said")
    ),
    responses(
        (status = 200, description = "a header, entries and a trailer, a line each", body = String, content_type = "application/x-ndjson")
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn export(
    State(store): State<Store>,
    caller: Caller,
    pairs: query::Pairs,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let (mut after, mut limit) = (0, LARGEST_LIMIT);
    query::each(pairs, "after and limit", |name, value| {
        match name {
            "after" => after = query::number(value, "must be the number of an entry")?,
            "limit" => limit = query::number(value, LIMITS)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !(1..=LARGEST_LIMIT).contains(&limit) {
        return Err(Problem::invalid(vec![FieldError::parameter("limit", LIMITS)]).into());
    }
    let body = read_many(&store, move |store| stream::Export::begin(store, after, limit)).await?;
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// A part of the trail as the lines of an export.
#[cfg(any(fuzzing, test))]
pub(crate) fn write(part: &portcullis::AuditRange) -> Result<Vec<u8>, Error> {
    let mut lines = Vec::new();
    line(&mut lines, &Header::of(&part.start))?;
    for (entry, frame) in &part.entries {
        line(&mut lines, &Written { entry: entry.as_ref().map(Entry::new), frame: hex(frame) })?;
    }
    line(&mut lines, &Trailer::of(&part.end))?;
    Ok(lines)
}

fn line(lines: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Error> {
    web::json::write(&mut *lines, value)
        .map_err(|e| Error::io("writing the trail as JSON", e.into()))?;
    lines.push(b'\n');
    Ok(())
}

/// What is wrong with an exported trail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A line is none of an export.
    #[error("it is not a header, an entry or a trailer of an exported trail")]
    Foreign,
    /// It was exported by a newer version.
    #[error("it has format {0}, and this version reads format 1; use a newer version")]
    Newer(u32),
    /// The chain does not hold.
    #[error(transparent)]
    Invalid(#[from] AuditVerifyError),
    /// The text for people says something else than the frame.
    #[error("entry {0} says something else than its frame: its text was altered")]
    Text(u64),
    /// There is no trailer.
    #[error("it ends after entry {0} without a trailer: it was truncated")]
    NoTrailer(u64),
    /// There is nothing.
    #[error("it is empty")]
    Empty,
}

/// Reads an exported trail, line by line, and checks it. Several exports may follow one another,
/// each joined on to the one before.
pub struct ExportReader<'b> {
    builder: &'b Builder,
    chain: Option<AuditVerifier>,
    /// Of the part that was read last, once it has ended.
    end: Option<AuditRangeEnd>,
    /// The end of the part that reaches furthest.
    furthest: Option<AuditRangeEnd>,
    entries: u64,
}

impl<'b> ExportReader<'b> {
    /// A reader of what a store exported that has the pepper, or none, that was given here.
    pub fn new(builder: &'b Builder) -> Self {
        Self { builder, chain: None, end: None, furthest: None, entries: 0 }
    }

    /// Reads the next line; gives the entry where it is one that no part before had.
    pub fn line(&mut self, text: &str) -> Result<Option<AuditEntry>, ExportError> {
        if self.end.is_some() || self.chain.is_none() {
            self.header(text)?;
            return Ok(None);
        }
        let Some(chain) = &mut self.chain else { return Err(ExportError::Foreign) };
        if let Ok(line) = serde_json::from_str::<Line>(text) {
            let frame = bytes_of(&line.frame).ok_or(AuditVerifyError::Entry(chain.last() + 1))?;
            let is_known = chain.is_next_repeated();
            let entry = chain.verify(&frame)?;
            if serde_json::to_value(Entry::new(&entry)).ok() != Some(line.entry) {
                return Err(ExportError::Text(entry.sequence));
            }
            if is_known {
                return Ok(None);
            }
            self.entries += 1;
            return Ok(Some(entry));
        }
        let end = serde_json::from_str::<Trailer>(text).ok().and_then(Trailer::read);
        let end = end.ok_or(ExportError::Foreign)?;
        chain.verify_end(&end)?;
        if self.furthest.as_ref().is_none_or(|furthest| furthest.sequence <= end.sequence) {
            self.furthest = Some(end.clone());
        }
        self.end = Some(end);
        Ok(None)
    }

    fn header(&mut self, text: &str) -> Result<(), ExportError> {
        let header: Header = serde_json::from_str(text).map_err(|_| ExportError::Foreign)?;
        if header.portcullis_trail != FORMAT {
            return Err(ExportError::Newer(header.portcullis_trail));
        }
        let start = header.read().ok_or(AuditVerifyError::Start)?;
        match &mut self.chain {
            Some(chain) => chain.continue_with(&start)?,
            None => self.chain = Some(self.builder.audit_verifier(&start)?),
        }
        self.end = None;
        Ok(())
    }

    /// What is wrong if a file ends here.
    pub fn cut_short(&self) -> Option<ExportError> {
        match (&self.chain, &self.end) {
            (_, Some(_)) => None,
            (Some(chain), None) => Some(ExportError::NoTrailer(chain.last())),
            (None, None) => Some(ExportError::Empty),
        }
    }

    /// How many entries there were, each counted once however many parts had it, and what the trail
    /// had come to at the end of the part that reaches furthest.
    pub fn finish(self) -> Result<(u64, AuditRangeEnd), ExportError> {
        match (self.cut_short(), self.furthest) {
            (None, Some(end)) => Ok((self.entries, end)),
            (wrong, _) => Err(wrong.unwrap_or(ExportError::Empty)),
        }
    }
}

impl Header {
    fn of(start: &AuditRangeStart) -> Self {
        Self {
            portcullis_trail: FORMAT,
            store: hex(&start.store),
            after: start.after,
            head: hex(&start.head),
            pepper_check: hex(&start.pepper_check),
            scopes: start.scopes.iter().map(ToString::to_string).collect(),
            seal: hex(&start.seal),
        }
    }

    fn read(self) -> Option<AuditRangeStart> {
        let scopes: Result<Vec<Scope>, _> = self.scopes.iter().map(|name| name.parse()).collect();
        Some(AuditRangeStart {
            store: array(&self.store)?,
            after: self.after,
            head: array(&self.head)?,
            pepper_check: array(&self.pepper_check)?,
            scopes: scopes.ok()?,
            seal: array(&self.seal)?,
        })
    }
}

impl Trailer {
    fn of(end: &AuditRangeEnd) -> Self {
        Self {
            store: hex(&end.store),
            sequence: end.sequence,
            head: hex(&end.head),
            time: moment::to_text(end.at),
            seal: hex(&end.seal),
        }
    }

    fn read(self) -> Option<AuditRangeEnd> {
        let at: Timestamp = moment::from_text(&self.time)?;
        Some(AuditRangeEnd {
            store: array(&self.store)?,
            sequence: self.sequence,
            head: array(&self.head)?,
            at,
            seal: array(&self.seal)?,
        })
    }
}

fn array<const N: usize>(text: &str) -> Option<[u8; N]> {
    bytes_of(text)?.try_into().ok()
}
