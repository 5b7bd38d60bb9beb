//! The body of an export: one chunk at a time, read from the disk when the client has taken the one
//! before.
//!
//! A client that does not read holds one chunk, and neither a thread nor a lock. The header and the
//! trailer are of the moment at which the export began. If a later read fails, or retention removes
//! what was to be read next, the body breaks off: nobody takes a part for the whole.

use super::{Header, Trailer, Written, line};
use crate::{sparingly::Sparingly, trail::Entry, wire::hex};
use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use portcullis::{AuditRange, AuditRangeEnd, Error, Store};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::task::{JoinHandle, spawn_blocking};

/// A chunk ends with the entry that makes it this long.
const CHUNK: usize = 64 << 10;
/// As many are read at a time; the longest have 32 KiB as lines.
const STEP: usize = 8;

/// What is still to be read.
struct Rest {
    store: Store,
    /// The last entry that was read.
    after: u64,
    /// The last one that is to be read.
    through: u64,
    end: AuditRangeEnd,
}

/// A chunk, and what comes after it.
type Read = Result<(Vec<u8>, Option<Rest>), Error>;

/// The body of an export.
pub(super) struct Export(State);

enum State {
    /// The next chunk waits for the client.
    Held(Vec<u8>, Option<Rest>),
    /// The client has taken all so far. Nothing is read until it wants more.
    Taken(Rest),
    /// The client waits for the next chunk.
    Reading(JoinHandle<Read>),
    Over,
}

impl Export {
    /// Reads the first chunk.
    pub(super) fn begin(store: &Store, after: u64, limit: usize) -> Result<Self, Error> {
        let part = store.audit_range(after, STEP.min(limit))?;
        let mut lines = Vec::new();
        line(&mut lines, &Header::of(&part.start))?;
        let after = part.start.after;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let rest = Rest {
            store: store.clone(),
            after,
            through: after.saturating_add(limit).min(part.end.sequence),
            end: part.end.clone(),
        };
        let (lines, rest) = rest.go_on(lines, Some(part))?;
        Ok(Self(State::Held(lines, rest)))
    }
}

impl Rest {
    /// Appends lines until the chunk is full; and the trailer after the last entry.
    fn go_on(mut self, mut lines: Vec<u8>, mut read: Option<AuditRange>) -> Read {
        while self.after < self.through {
            if lines.len() >= CHUNK {
                return Ok((lines, Some(self)));
            }
            let step = self.through.saturating_sub(self.after).min(STEP as u64);
            let limit = usize::try_from(step).unwrap_or(STEP);
            let part = match read.take() {
                Some(part) => part,
                None => self.store.audit_range(self.after, limit)?,
            };
            if part.start.after != self.after {
                let cut = io::Error::other("retention removed what was to be read next");
                return Err(Error::io("exporting the trail", cut));
            }
            for (entry, frame) in part.entries {
                let entry = entry.as_ref().map(Entry::new);
                line(&mut lines, &Written { entry, frame: hex(&frame) })?;
            }
            self.after += step;
        }
        line(&mut lines, &Trailer::of(&self.end))?;
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
            match std::mem::replace(&mut self.0, State::Over) {
                State::Held(lines, rest) => {
                    self.0 = rest.map_or(State::Over, State::Taken);
                    return Poll::Ready(Some(Ok(Frame::data(lines.into()))));
                }
                State::Taken(rest) => {
                    let read = spawn_blocking(|| rest.go_on(Vec::new(), None));
                    self.0 = State::Reading(read);
                }
                State::Reading(mut reading) => match Pin::new(&mut reading).poll(cx) {
                    Poll::Pending => {
                        self.0 = State::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Ok((lines, rest)))) => self.0 = State::Held(lines, rest),
                    Poll::Ready(Ok(Err(error))) => return Poll::Ready(Some(Err(broken(&error)))),
                    Poll::Ready(Err(stopped)) => return Poll::Ready(Some(Err(broken(&stopped)))),
                },
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

/// The cause is for the log; the client sees that the body is not whole.
fn broken(error: &dyn std::error::Error) -> io::Error {
    static BROKEN: Sparingly = Sparingly::new();
    if let Some(unsaid) = BROKEN.permit() {
        tracing::error!(error = %error, unsaid, "an export of the trail broke off");
    }
    io::Error::other("the export broke off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::write;
    use http_body_util::BodyExt;
    use portcullis::{Actor, Change, Expiry, Grant, Metadata, NewKey};

    const ENTRIES: usize = 400;

    /// A store whose trail has many long entries.
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
    async fn export_that_nobody_reads_holds_one_chunk_and_no_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut export = Export::begin(&store, 0, 1000).unwrap();
        // The longest step that a full chunk can end with.
        let most = CHUNK + STEP * (32 << 10);
        let mut chunks = 0;
        loop {
            match &export.0 {
                State::Held(lines, _) => {
                    assert!(lines.len() <= most && lines.capacity() <= 2 * most);
                }
                State::Taken(_) => {}
                State::Reading(_) => panic!("nothing is read before it is wanted"),
                State::Over => break,
            }
            let frame = export.frame().await;
            let Some(frame) = frame else { break };
            assert!(frame.unwrap().into_data().unwrap().len() <= most);
            chunks += 1;
        }
        assert!(chunks > 10, "{chunks}");
    }

    #[tokio::test]
    async fn streamed_export_is_that_of_one_moment() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for (after, limit) in
            [(0, 1000), (0, 1), (7, 100), (0, 8), (390, 1000), (400, 5), (9999, 1)]
        {
            let mut part = store.audit_range(after, limit).unwrap();
            let export = Export::begin(&store, after, limit).unwrap();
            let State::Held(_, _) = &export.0 else { panic!("the first chunk is there") };
            let lines = String::from_utf8(collected(export).await.unwrap()).unwrap();
            let mut lines: Vec<&str> = lines.lines().collect();
            // The moment of the end differs, and with it its seal.
            let end: Trailer = serde_json::from_str(lines.pop().unwrap()).unwrap();
            assert_eq!((end.sequence, end.head), (part.end.sequence, hex(&part.end.head)));
            part.end.at = portcullis::Timestamp::default();
            let whole = String::from_utf8(write(&part).unwrap()).unwrap();
            let mut whole: Vec<&str> = whole.lines().collect();
            whole.pop();
            assert_eq!(lines, whole, "{after} {limit}");
        }
        // What is written meanwhile is not in it.
        let export = Export::begin(&store, 0, 1000).unwrap();
        store.acting_as(Actor::Host, None).refuse(portcullis::Attempt::List, None, "no").unwrap();
        let lines = String::from_utf8(collected(export).await.unwrap()).unwrap();
        assert_eq!(lines.lines().count(), 1 + ENTRIES + 1);
        let end: Trailer = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(end.sequence, ENTRIES as u64);
    }

    #[tokio::test]
    async fn export_whose_next_entries_were_removed_breaks_off() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let rest = |after| Rest {
            store: store.clone(),
            after,
            through: after + 8,
            end: store.audit_range(0, 1).unwrap().end,
        };
        assert!(collected(Export(State::Taken(rest(100)))).await.is_ok());
        // The trail begins elsewhere: here, it ends before.
        assert!(collected(Export(State::Taken(rest(1000)))).await.is_err());
    }
}
