//! The lines of an exported audit log: a header, one line for each entry, a trailer.
//!
//! Each entry has two forms: JSON for people, and the bytes of its frame, which the hash chain
//! covers.

use crate::{audit::Entry, rfc3339};
use data_encoding::HEXLOWER;
use portcullis::{
    Error, Scope, Timestamp,
    audit::{AuditRangeEnd, AuditRangeStart},
    web,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of this format.
pub(super) const FORMAT: u32 = 1;

/// The first line: where the range begins, and a seal over it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) portcullis_trail: u32,
    pub(super) store: String,
    pub(super) after: u64,
    pub(super) head: String,
    pub(super) pepper_check: String,
    pub(super) scopes: Vec<String>,
    pub(super) seal: String,
}

/// An entry as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadLine {
    pub(super) entry: Value,
    pub(super) frame: String,
}

/// An entry as it is written.
#[derive(Serialize)]
pub(super) struct EntryLine<'e> {
    pub(super) entry: Option<Entry<'e>>,
    pub(super) frame: String,
}

/// The last line: where the audit log ended when the export began, and a seal over it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trailer {
    pub(super) store: String,
    pub(super) sequence: u64,
    pub(super) head: String,
    pub(super) time: String,
    pub(super) seal: String,
}

impl Header {
    pub(super) fn of(start: &AuditRangeStart) -> Self {
        Self {
            portcullis_trail: FORMAT,
            store: HEXLOWER.encode(&start.store),
            after: start.after,
            head: HEXLOWER.encode(&start.head),
            pepper_check: HEXLOWER.encode(&start.pepper_check),
            scopes: start.scopes.iter().map(ToString::to_string).collect(),
            seal: HEXLOWER.encode(&start.seal),
        }
    }

    pub(super) fn read(self) -> Option<AuditRangeStart> {
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
    pub(super) fn of(end: &AuditRangeEnd) -> Self {
        Self {
            store: HEXLOWER.encode(&end.store),
            sequence: end.sequence,
            head: HEXLOWER.encode(&end.head),
            time: rfc3339::format(end.at),
            seal: HEXLOWER.encode(&end.seal),
        }
    }

    pub(super) fn read(self) -> Option<AuditRangeEnd> {
        let at: Timestamp = rfc3339::parse(&self.time)?;
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
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// Formats a range of the audit log as the lines of an export.
#[cfg(any(fuzzing, test))]
pub(crate) fn write(part: &portcullis::audit::AuditRange) -> Result<Vec<u8>, Error> {
    let mut lines = Vec::new();
    append(&mut lines, &Header::of(&part.start))?;
    for (entry, frame) in &part.entries {
        append(
            &mut lines,
            &EntryLine { entry: entry.as_ref().map(Entry::new), frame: HEXLOWER.encode(frame) },
        )?;
    }
    append(&mut lines, &Trailer::of(&part.end))?;
    Ok(lines)
}

/// Appends a value as a line of JSON.
pub(super) fn append(lines: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Error> {
    web::json::write(&mut *lines, value)
        .map_err(|e| Error::io("writing the audit log as JSON", e.into()))?;
    lines.push(b'\n');
    Ok(())
}
