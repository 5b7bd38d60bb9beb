//! A response body that holds its request's permit until the client has received it.
//!
//! hyper takes a whole chunk as soon as the client has granted window for one byte of it. After the last
//! chunk hyper drops the body, and the permit with it. So chunks are small, and over HTTP/2 the last byte
//! is a separate chunk. The permit is held until the client has granted window for all bytes before it.
//!
//! | state of a response | event | effect |
//! |---|---|---|
//! | being sent | the handler has a chunk | the chunk is sent; over HTTP/2 the send timeout starts |
//! | being sent | the handler has no chunk yet | the send timeout is off: the client waits for the server |
//! | being sent | the body ends, fails or is dropped | permit and count are returned |

use super::{accept::ActiveRequest, limits::Permit};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::Version,
    response::Response,
};
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

const MAX_CHUNK_BYTES: usize = 16 * 1024;

/// The resources that a request holds until its response is sent.
pub(super) struct RequestResources {
    pub(super) permit: Option<Permit>,
    pub(super) active: Option<ActiveRequest>,
}

/// Moves the request's resources into the response body. Releases them at once if the body is empty.
pub(super) fn hold_until_sent(
    response: Response,
    held: RequestResources,
    version: Version,
) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| {
        let is_multiplexed = version == Version::HTTP_2;
        let mut held = held;
        if is_multiplexed && let Some(active) = &mut held.active {
            active.await_client();
        }
        Body::new(ResponseBody { body, rest: Bytes::new(), held: Some(held), is_multiplexed })
    })
}

struct ResponseBody {
    body: Body,
    /// The unsent remainder of a chunk from the handler.
    rest: Bytes,
    held: Option<RequestResources>,
    is_multiplexed: bool,
}

impl ResponseBody {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let chunk = match self.rest.len() {
            length @ 2..=MAX_CHUNK_BYTES if self.is_multiplexed => length - 1,
            length => length.min(MAX_CHUNK_BYTES),
        };
        let chunk = self.rest.split_to(chunk);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = self.next(cx);
        let is_multiplexed = self.is_multiplexed;
        match &frame {
            Poll::Ready(Some(Ok(_))) if is_multiplexed => {
                if let Some(active) = self.held.as_mut().and_then(|held| held.active.as_mut()) {
                    active.await_client();
                }
            }
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_)) | None) => self.held = None,
            // The client waits for the server.
            Poll::Pending => {
                if let Some(active) = self.held.as_mut().and_then(|held| held.active.as_mut()) {
                    active.await_server();
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint.set_lower(inner.lower().saturating_add(rest).min(hint.upper().unwrap_or(u64::MAX)));
        hint
    }
}
