//! Long-running work that ends with its key: streamed bodies, event streams, sockets.

use crate::Revocation;
use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// The maximum time between two reads of the wall clock, which may have been set forward.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// The key of the request is no longer valid: it was revoked or has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key was revoked or has expired")]
pub struct Revoked;

/// A future that completes when a key is revoked or expires.
///
/// ```
/// use portcullis::{Revocation, web::{WhenRevoked, Revoked}};
/// # async fn serve_client() {}
/// // The task of a WebSocket, or any other: it is dropped when the key is no longer valid.
/// async fn socket(revocation: Revocation) {
///     if let Err(Revoked) = WhenRevoked::new(revocation).interrupt(serve_client()).await {
///         // Close the connection here; the key is no longer valid.
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct WhenRevoked {
    revocation: Revocation,
    /// Only for a key that expires.
    timer: Option<Pin<Box<Sleep>>>,
}

impl WhenRevoked {
    /// Creates the future. It must be polled within a tokio runtime that has a timer.
    pub fn new(revocation: Revocation) -> Self {
        Self { revocation, timer: None }
    }

    /// Runs `work` to completion, or drops it as soon as the key is no longer valid.
    pub async fn interrupt<F: Future>(mut self, work: F) -> Result<F::Output, Revoked> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if Pin::new(&mut self).poll(cx).is_ready() {
                return Poll::Ready(Err(Revoked));
            }
            work.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

impl Future for WhenRevoked {
    type Output = Revoked;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Revoked> {
        loop {
            if Pin::new(&mut self.revocation).poll(cx).is_ready() {
                return Poll::Ready(Revoked);
            }
            let Some(left) = self.revocation.remaining() else {
                self.timer = None;
                return Poll::Pending;
            };
            let due = Instant::now() + left.min(MAX_SLEEP);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            // The expiry moved nearer. A later expiry is noticed when the timer elapses.
            if due < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// A body that ends with an error as soon as its key is no longer valid. Data that the connection
/// has already buffered may still arrive.
#[derive(Debug)]
pub struct UntilRevoked {
    body: Body,
    end: WhenRevoked,
    is_done: bool,
}

impl UntilRevoked {
    /// Wraps a streamed body.
    pub fn new(body: Body, revocation: Revocation) -> Self {
        Self { body, end: WhenRevoked::new(revocation), is_done: false }
    }
}

impl HttpBody for UntilRevoked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if Pin::new(&mut self.end).poll(cx).is_ready() {
            self.is_done = true;
            self.body = Body::empty();
            return Poll::Ready(Some(Err(Revoked.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns the response with a body that ends with an error when the key is no longer valid.
///
/// ```
/// use axum::{body::Body, extract::State, http::HeaderMap, response::{IntoResponse, Response}};
/// use portcullis::{Refusal, Store, scope::catalogue, web};
/// # fn all_later_changes() -> Body { Body::empty() }
/// async fn changes(State(store): State<Store>, headers: HeaderMap) -> Result<Response, Refusal> {
///     let caller = web::authenticate(&store, &headers)?;
///     caller.require(&catalogue::API_READ)?;
///     Ok(web::until_revoked(all_later_changes(), store.revocation(&caller)))
/// }
/// ```
pub fn until_revoked(response: impl IntoResponse, revocation: Revocation) -> Response {
    response.into_response().map(|body| Body::new(UntilRevoked::new(body, revocation)))
}
