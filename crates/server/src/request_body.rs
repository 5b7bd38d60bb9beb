//! A request's body on its way to a handler: it counts while it is unfinished, and what no handler
//! reads is discarded after the answer.
//!
//! A client that still sends when its connection closes may never see the answer. So the rest of
//! the body is read and dropped for a moment, without a permit and without a buffer. Over HTTP/2
//! that comes before the answer: curl ends its body early once it has read the head of an error,
//! the stream is then reset for its wrong length, and an answer of which a part was not sent yet
//! would be lost.

use super::limits::Reserved;
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{
        HeaderMap,
        header::{CONTENT_LENGTH, EXPECT},
    },
};
use http_body::{Frame, SizeHint};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

/// What a body of unknown length may come to: no handler reads more.
const LARGEST: usize = 64 * 1024;
const MAX_DISCARDED_BYTES: usize = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// How many bytes of room a body with these headers needs.
pub(super) fn size(headers: &HeaderMap) -> usize {
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    declared.unwrap_or(LARGEST).min(LARGEST)
}

/// A body whose rest is discarded when it is dropped.
pub(super) struct RequestBody {
    body: Option<Body>,
    reserved: Option<Reserved>,
    /// The client sends nothing before it is told to, which reading the body does.
    is_awaited: bool,
    /// Where the rest goes that is discarded before the answer.
    rest: Option<Rest>,
}

/// What no handler has read of a body.
#[derive(Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Body>>>);

impl Rest {
    fn lock(&self) -> MutexGuard<'_, Option<Body>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rest, once the handler has dropped the body.
    pub(super) fn take(&self) -> Option<Body> {
        self.lock().take()
    }
}

impl RequestBody {
    pub(super) fn new(body: Body, headers: &HeaderMap, rest: Option<Rest>) -> Self {
        // Over HTTP/2 a stream that is dropped may take the answer with it.
        let is_awaited = rest.is_none() && headers.contains_key(EXPECT);
        Self { body: Some(body), reserved: None, is_awaited, rest }
    }

    /// Counts the body until it is read or dropped.
    pub(super) fn count(&mut self, reserved: Reserved) {
        self.reserved = Some(reserved);
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_awaited = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            self.reserved = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.is_awaited || body.is_end_stream() {
            return;
        }
        if let Some(rest) = &self.rest {
            *rest.lock() = Some(body);
        } else if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(discard(body));
        }
    }
}

/// Reads and drops a part of the body that a client may still be sending. What is left of it is kept
/// for a while and not read: a client whose stream ends while it is sending may not see its answer.
pub(super) async fn discard(mut body: Body) {
    let reading = async {
        let mut length = 0;
        while length < MAX_DISCARDED_BYTES {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let Some(Ok(frame)) = frame else { return true };
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        body.is_end_stream()
    };
    let is_over = timeout(DISCARD_TIMEOUT, reading).await.unwrap_or(false);
    if !is_over && let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            sleep(DISCARD_TIMEOUT).await;
            drop(body);
        });
    }
}
