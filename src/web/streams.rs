//! Work in flight ends with its key: bodies that go on, event streams, sockets.

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

/// After so long the wall clock is looked at again: it may have been set forward.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The key that the work was done for is no longer valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key was taken away")]
pub struct Revoked;

/// A future that is ready once a key was taken away or has expired.
///
/// ```
/// use portcullis::{Revocation, web::{KeyEnd, Revoked}};
/// # async fn serve_client() {}
/// // A WebSocket's task, or any other: it is dropped where it stands when the key goes.
/// async fn socket(revocation: Revocation) {
///     if let Err(Revoked) = KeyEnd::new(revocation).interrupt(serve_client()).await {
///         // Say good-bye here; the key is gone.
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct KeyEnd {
    revocation: Revocation,
    /// Only for a key with an end.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl KeyEnd {
    /// The end of the watched key. To be awaited within a tokio runtime that has a timer.
    pub fn new(revocation: Revocation) -> Self {
        Self { revocation, alarm: None }
    }

    /// Runs `work` until it is done, or drops it at once when the key is taken away.
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

impl Future for KeyEnd {
    type Output = Revoked;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Revoked> {
        loop {
            if Pin::new(&mut self.revocation).poll(cx).is_ready() {
                return Poll::Ready(Revoked);
            }
            let Some(left) = self.revocation.remaining() else {
                self.alarm = None;
                return Poll::Pending;
            };
            let due = Instant::now() + left.min(LONGEST_SLEEP);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            // An end that came nearer; one that moved away is looked at when the old one comes.
            if due < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(due);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// A body that breaks off with an error as soon as its key is taken away, whatever it still had to
/// say. What the connection had buffered already may arrive.
#[derive(Debug)]
pub struct UntilRevoked {
    body: Body,
    end: KeyEnd,
    is_over: bool,
}

impl UntilRevoked {
    /// Wraps a body that goes on for a while.
    pub fn new(body: Body, revocation: Revocation) -> Self {
        Self { body, end: KeyEnd::new(revocation), is_over: false }
    }
}

impl HttpBody for UntilRevoked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if Pin::new(&mut self.end).poll(cx).is_ready() {
            self.is_over = true;
            self.body = Body::empty();
            return Poll::Ready(Some(Err(Revoked.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The same answer with a body that breaks off when the key is taken away.
///
/// ```
/// use axum::{body::Body, extract::State, http::HeaderMap, response::{IntoResponse, Response}};
/// use portcullis::{Refusal, Store, scope::catalogue, web};
/// # fn every_change_from_now_on() -> Body { Body::empty() }
/// async fn changes(State(store): State<Store>, headers: HeaderMap) -> Result<Response, Refusal> {
///     let caller = web::authenticate(&store, &headers)?;
///     caller.require(&catalogue::API_READ)?;
///     Ok(web::until_revoked(every_change_from_now_on(), store.revocation(&caller)))
/// }
/// ```
pub fn until_revoked(answer: impl IntoResponse, revocation: Revocation) -> Response {
    answer.into_response().map(|body| Body::new(UntilRevoked::new(body, revocation)))
}
