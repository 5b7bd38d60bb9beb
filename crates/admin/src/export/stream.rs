//! The response body of an export: the next chunk is read when the client has taken the last one.
//!
//! A client that does not read holds one chunk, but no thread and no lock. The header and the
//! trailer describe the moment at which the export began. If a later read fails, or retention
//! removes the next entries, the body ends with an error, so that no client takes it for complete.

use super::format::{EntryLine, Header, Trailer, append};
use crate::{audit::Entry, rate_limited_log::RateLimitedLog};
use axum::body::Body;
use data_encoding::HEXLOWER;
use futures_util::{StreamExt, stream};
use portcullis::{
    Error, Store,
    audit::{AuditRange, AuditRangeEnd},
};
use std::io;
use tokio::task::spawn_blocking;

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

/// An export that has begun: its first chunk, and the entries after it.
pub(super) struct Export {
    first: Vec<u8>,
    remaining: Option<Remaining>,
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
        let (first, remaining) = remaining.read_chunk(lines, Some(part))?;
        Ok(Self { first, remaining })
    }

    /// Converts the export into a body. Each later chunk is read when the client asks for it.
    pub(super) fn into_body(self) -> Body {
        let later = stream::try_unfold(self.remaining, |remaining| async {
            let Some(remaining) = remaining else { return Ok(None) };
            match spawn_blocking(|| remaining.read_chunk(Vec::new(), None)).await {
                Ok(Ok(chunk)) => Ok(Some(chunk)),
                Ok(Err(error)) => Err(abort(&error)),
                Err(stopped) => Err(abort(&stopped)),
            }
        });
        Body::from_stream(stream::iter([Ok(self.first)]).chain(later))
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
                append(&mut lines, &EntryLine { entry, frame: HEXLOWER.encode(&frame) })?;
            }
            self.after += count;
        }
        append(&mut lines, &Trailer::of(&self.end))?;
        Ok((lines, None))
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
    use portcullis::{Actor, Change, Expiry, Metadata, NewKey, Timestamp};

    const ENTRIES: usize = 400;

    /// A store whose audit log has many long entries.
    fn store(dir: &std::path::Path) -> Store {
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .open(dir.join("keys"))
            .unwrap();
        let metadata = |n: usize| -> Metadata {
            (0..4).map(|entry| (entry.to_string(), format!("{n:0200}"))).collect()
        };
        let new = NewKey::new("a", store.scopes(["api.read"]).unwrap(), Expiry::Never)
            .with_metadata(metadata(0));
        let id = store.issue(new).unwrap().record.id;
        for n in 3..=ENTRIES {
            store.update(id, Change::default().with_metadata(metadata(n))).unwrap();
        }
        store
    }

    async fn collected(body: Body) -> Result<Vec<u8>, axum::Error> {
        body.collect().await.map(|body| body.to_bytes().to_vec())
    }

    #[test]
    fn chunks_of_an_export_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        // The largest batch that a full chunk can end with.
        let max_bytes = CHUNK_BYTES + BATCH * (32 << 10);
        let Export { first, mut remaining } = Export::start(&store, 0, 1000).unwrap();
        let mut chunks = vec![first];
        while let Some(more) = remaining.take() {
            let (chunk, after) = more.read_chunk(Vec::new(), None).unwrap();
            chunks.push(chunk);
            remaining = after;
        }
        for chunk in &chunks {
            assert!(chunk.len() <= max_bytes && chunk.capacity() <= 2 * max_bytes);
        }
        assert!(chunks.len() > 10, "{}", chunks.len());
    }

    #[tokio::test]
    async fn export_reads_a_chunk_only_when_the_client_asks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        // Retention keeps entries that the anchor does not have yet; closing the store saves them.
        drop(store(dir.path()));
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .open(dir.path().join("keys"))
            .unwrap();
        let mut body = Export::start(&store, 0, 1000).unwrap().into_body();
        for _ in 0..3 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        let before = store.now().as_millis() + 1000;
        // Retention keeps the last day.
        let later = Timestamp::from_millis(before + 2 * 86_400_000);
        portcullis::testing::advance_time(&store, later);
        let local = store.acting_as(Actor::Local(0));
        let pruned = local.prune_audit(Timestamp::from_millis(before)).unwrap().unwrap();
        assert!(pruned.through > 300, "{pruned:?}");
        assert!(body.frame().await.unwrap().is_err(), "the chunk was read too early");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn streamed_export_equals_one_consistent_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for (after, limit) in
            [(0, 1000), (0, 1), (7, 100), (0, 8), (390, 1000), (400, 5), (9999, 1)]
        {
            let mut part = store.audit_range(after, limit).unwrap();
            let body = Export::start(&store, after, limit).unwrap().into_body();
            let lines = String::from_utf8(collected(body).await.unwrap()).unwrap();
            let mut lines: Vec<&str> = lines.lines().collect();
            // The time of the trailer differs, and with it the seal.
            let end: Trailer = serde_json::from_str(lines.pop().unwrap()).unwrap();
            assert_eq!(
                (end.sequence, end.head),
                (part.end.sequence, HEXLOWER.encode(&part.end.head))
            );
            part.end.at = Timestamp::default();
            let expected = String::from_utf8(write(&part).unwrap()).unwrap();
            let mut expected: Vec<&str> = expected.lines().collect();
            expected.pop();
            assert_eq!(lines, expected, "{after} {limit}");
        }
        // Entries written after the start are not part of the export.
        let body = Export::start(&store, 0, 1000).unwrap().into_body();
        store.acting_as(Actor::Host).refuse(portcullis::audit::Attempt::List, None, "no").unwrap();
        let lines = String::from_utf8(collected(body).await.unwrap()).unwrap();
        assert_eq!(lines.lines().count(), 1 + ENTRIES + 1);
        let end: Trailer = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(end.sequence, ENTRIES as u64);
    }

    #[tokio::test]
    async fn export_fails_when_retention_removes_its_next_entries() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let export = |after| {
            let end = store.audit_range(0, 1).unwrap().end;
            let remaining = Remaining { store: store.clone(), after, through: after + 8, end };
            Export { first: Vec::new(), remaining: Some(remaining) }.into_body()
        };
        assert!(collected(export(100)).await.is_ok());
        // The log does not continue at this entry: here, it ends before it.
        assert!(collected(export(1000)).await.is_err());
    }
}
