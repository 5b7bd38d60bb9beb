//! A request body that counts against a limit while it is unfinished. The part that no handler reads
//! is discarded.
//!
//! A client that still sends when its connection closes may never see the response. So the rest of
//! the body is read and dropped for at most two seconds, without a permit and without a buffer.
//! Over HTTP/1.1 this happens after the response, over HTTP/2 before it. Over HTTP/2, curl ends its
//! body early once it has read the head of an error. The stream is then reset for its wrong length,
//! and the unsent part of the response would be lost.

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

/// The size that is reserved for a body of unknown length: no handler reads more.
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_DISCARDED_BYTES: usize = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns how many bytes to reserve for a body with these headers.
pub(super) fn reserved_bytes(headers: &HeaderMap) -> usize {
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    declared.unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES)
}

/// A body whose unread rest is discarded when it is dropped.
pub(super) struct RequestBody {
    body: Option<Body>,
    reserved: Option<Reserved>,
    /// The client sends the body only after a 100 response, which reading the body causes.
    expects_continue: bool,
    /// Receives the rest, if the rest is discarded before the response.
    rest: Option<Rest>,
}

/// The part of a body that no handler has read.
#[derive(Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Body>>>);

impl Rest {
    fn lock(&self) -> MutexGuard<'_, Option<Body>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the rest, once the handler has dropped the body.
    pub(super) fn take(&self) -> Option<Body> {
        self.lock().take()
    }
}

impl RequestBody {
    pub(super) fn new(body: Body, headers: &HeaderMap, rest: Option<Rest>) -> Self {
        // Over HTTP/2, dropping the stream could lose the response.
        let expects_continue = rest.is_none() && headers.contains_key(EXPECT);
        Self { body: Some(body), reserved: None, expects_continue, rest }
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
        self.expects_continue = false;
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
        if self.expects_continue || body.is_end_stream() {
            return;
        }
        if let Some(rest) = &self.rest {
            *rest.lock() = Some(body);
        } else if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(discard(body));
        }
    }
}

/// Reads and drops a part of the body that a client may still be sending. If more is left, keeps the
/// stream open for two seconds: a client whose stream ends while it sends may not see the response.
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
    let is_complete = timeout(DISCARD_TIMEOUT, reading).await.unwrap_or(false);
    if !is_complete && let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            sleep(DISCARD_TIMEOUT).await;
            drop(body);
        });
    }
}
