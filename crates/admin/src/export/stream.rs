//! The response body of an export: the next chunk is read when the client has taken the last one.
//!
//! A client that does not read holds one chunk, but no thread and no lock. The header and the
//! trailer describe the moment at which the export began. If a later read fails, or retention
//! removes the next entries, the body ends with an error, so that no client takes it for complete.

use super::format::{EntryLine, Header, Trailer, append};
use crate::{audit::Entry, rate_limited_log::RateLimitedLog, wire::hex};
use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use portcullis::{AuditRange, AuditRangeEnd, Error, Store};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::task::{JoinHandle, spawn_blocking};

/// A chunk ends with the entry that reaches this size.
const CHUNK_BYTES: usize = 64 << 10;
/// Entries in one read of the store; as lines they have at most 32 KiB each.
const BATCH: usize = 8;

/// The entries that are still to be read.
struct Remaining {
    store: Store,
    /// The sequence of the last entry that was read.
    after: u64,
    /// The sequence of the last entry to read.
    through: u64,
    end: AuditRangeEnd,
}

/// A chunk, and the entries after it.
type Chunk = Result<(Vec<u8>, Option<Remaining>), Error>;

/// The body of an export.
pub(super) struct Export(State);

enum State {
    /// The next chunk is ready.
    Ready(Vec<u8>, Option<Remaining>),
    /// The client took the last chunk. Nothing is read until it polls again.
    Idle(Remaining),
    /// The client waits for the next chunk.
    Reading(JoinHandle<Chunk>),
    Done,
}

impl Export {
    /// Reads the first chunk.
    pub(super) fn start(store: &Store, after: u64, limit: usize) -> Result<Self, Error> {
        let part = store.audit_range(after, BATCH.min(limit))?;
        let mut lines = Vec::new();
        append(&mut lines, &Header::of(&part.start))?;
        let after = part.start.after;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let remaining = Remaining {
            store: store.clone(),
            after,
            through: after.saturating_add(limit).min(part.end.sequence),
            end: part.end.clone(),
        };
        let (lines, remaining) = remaining.read_chunk(lines, Some(part))?;
        Ok(Self(State::Ready(lines, remaining)))
    }
}

impl Remaining {
    /// Appends lines until the chunk is full, and the trailer after the last entry.
    fn read_chunk(mut self, mut lines: Vec<u8>, mut read: Option<AuditRange>) -> Chunk {
        while self.after < self.through {
            if lines.len() >= CHUNK_BYTES {
                return Ok((lines, Some(self)));
            }
            let count = self.through.saturating_sub(self.after).min(BATCH as u64);
            let limit = usize::try_from(count).unwrap_or(BATCH);
            let part = match read.take() {
                Some(part) => part,
                None => self.store.audit_range(self.after, limit)?,
            };
            if part.start.after != self.after {
                let pruned = io::Error::other("retention removed the next entries");
                return Err(Error::io("exporting the audit log", pruned));
            }
            for (entry, frame) in part.entries {
                let entry = entry.as_ref().map(Entry::new);
                append(&mut lines, &EntryLine { entry, frame: hex(&frame) })?;
            }
            self.after += count;
        }
        append(&mut lines, &Trailer::of(&self.end))?;
        Ok((lines, None))
    }
}

impl HttpBody for Export {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match std::mem::replace(&mut self.0, State::Done) {
                State::Ready(lines, remaining) => {
                    self.0 = remaining.map_or(State::Done, State::Idle);
                    return Poll::Ready(Some(Ok(Frame::data(lines.into()))));
                }
                State::Idle(remaining) => {
                    let read = spawn_blocking(|| remaining.read_chunk(Vec::new(), None));
                    self.0 = State::Reading(read);
                }
                State::Reading(mut reading) => match Pin::new(&mut reading).poll(cx) {
                    Poll::Pending => {
                        self.0 = State::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Ok((lines, remaining)))) => {
                        self.0 = State::Ready(lines, remaining);
                    }
                    Poll::Ready(Ok(Err(error))) => return Poll::Ready(Some(Err(abort(&error)))),
                    Poll::Ready(Err(stopped)) => return Poll::Ready(Some(Err(abort(&stopped)))),
                },
                State::Done => return Poll::Ready(None),
            }
        }
    }
}

/// Logs the cause. The client sees only that the body is incomplete.
fn abort(error: &dyn std::error::Error) -> io::Error {
    static ABORTED: RateLimitedLog = RateLimitedLog::new();
    if let Some(suppressed) = ABORTED.permit() {
        tracing::error!(error = %error, suppressed, "an export of the audit log was aborted");
    }
    io::Error::other("the export was aborted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::format::write;
    use http_body_util::BodyExt;
    use portcullis::{Actor, Change, Expiry, Grant, Metadata, NewKey};

    const ENTRIES: usize = 400;

    /// A store whose audit log has many long entries.
    fn store(dir: &std::path::Path) -> Store {
        let store = Store::open(dir.join("keys")).unwrap();
        let metadata = |n: usize| -> Metadata {
            (0..4).map(|entry| (entry.to_string(), format!("{n:0200}"))).collect()
        };
        let new = NewKey {
            name: "a".into(),
            grant: Grant::Scopes(store.scopes(["api.read"]).unwrap()),
            active: true,
            expiry: Expiry::Never,
            owner: None,
            metadata: metadata(0),
        };
        let id = store.issue(new).unwrap().record.id;
        for n in 3..=ENTRIES {
            let metadata = Some(metadata(n).into_iter().collect());
            store.update(id, Change { metadata, ..Change::default() }).unwrap();
        }
        store
    }

    async fn collected(export: Export) -> io::Result<Vec<u8>> {
        export.collect().await.map(|body| body.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn unread_export_holds_one_chunk_and_no_pending_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut export = Export::start(&store, 0, 1000).unwrap();
        // The largest batch that a full chunk can end with.
        let max_bytes = CHUNK_BYTES + BATCH * (32 << 10);
        let mut chunks = 0;
        loop {
            match &export.0 {
                State::Ready(lines, _) => {
                    assert!(lines.len() <= max_bytes && lines.capacity() <= 2 * max_bytes);
                }
                State::Idle(_) => {}
                State::Reading(_) => panic!("nothing is read before the client polls"),
                State::Done => break,
            }
            let frame = export.frame().await;
            let Some(frame) = frame else { break };
            assert!(frame.unwrap().into_data().unwrap().len() <= max_bytes);
            chunks += 1;
        }
        assert!(chunks > 10, "{chunks}");
    }

    #[tokio::test]
    async fn streamed_export_equals_one_consistent_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for (after, limit) in
            [(0, 1000), (0, 1), (7, 100), (0, 8), (390, 1000), (400, 5), (9999, 1)]
        {
            let mut part = store.audit_range(after, limit).unwrap();
            let export = Export::start(&store, after, limit).unwrap();
            let State::Ready(_, _) = &export.0 else { panic!("the first chunk is ready") };
            let lines = String::from_utf8(collected(export).await.unwrap()).unwrap();
            let mut lines: Vec<&str> = lines.lines().collect();
            // The time of the trailer differs, and with it the seal.
            let end: Trailer = serde_json::from_str(lines.pop().unwrap()).unwrap();
            assert_eq!((end.sequence, end.head), (part.end.sequence, hex(&part.end.head)));
            part.end.at = portcullis::Timestamp::default();
            let expected = String::from_utf8(write(&part).unwrap()).unwrap();
            let mut expected: Vec<&str> = expected.lines().collect();
            expected.pop();
            assert_eq!(lines, expected, "{after} {limit}");
        }
        // Entries written after the start are not part of the export.
        let export = Export::start(&store, 0, 1000).unwrap();
        store.acting_as(Actor::Host, None).refuse(portcullis::Attempt::List, None, "no").unwrap();
        let lines = String::from_utf8(collected(export).await.unwrap()).unwrap();
        assert_eq!(lines.lines().count(), 1 + ENTRIES + 1);
        let end: Trailer = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(end.sequence, ENTRIES as u64);
    }

    #[tokio::test]
    async fn export_fails_when_retention_removes_its_next_entries() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let remaining = |after| Remaining {
            store: store.clone(),
            after,
            through: after + 8,
            end: store.audit_range(0, 1).unwrap().end,
        };
        assert!(collected(Export(State::Idle(remaining(100)))).await.is_ok());
        // The log does not continue at this entry: here, it ends before it.
        assert!(collected(Export(State::Idle(remaining(1000)))).await.is_err());
    }
}
