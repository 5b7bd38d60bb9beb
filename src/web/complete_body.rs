//! An incomplete request body ends with an error.
//!
//! hyper reports most incomplete bodies as an error. But an HTTP/2 stream that its client cancels
//! looks like the end of the body, and a handler would act on a part of it.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Version, header::CONTENT_LENGTH},
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Middleware that makes an incomplete body end with an error, however the handler reads it.
pub async fn require_complete_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        body
    } else {
        let declared = parts.headers.get(CONTENT_LENGTH);
        let missing = declared.and_then(|length| length.to_str().ok()?.parse().ok());
        Body::new(CompleteBody { body, missing, version: parts.version })
    };
    next.run(Request::from_parts(parts, body)).await
}

/// A body that ends with an error unless it is complete.
struct CompleteBody {
    body: Body,
    /// How many bytes of the declared length have not arrived yet.
    missing: Option<u64>,
    version: Version,
}

impl CompleteBody {
    fn is_incomplete(&self) -> bool {
        // Layers between hyper and this body must preserve `is_end_stream`.
        let is_cancelled = self.version == Version::HTTP_2 && !self.body.is_end_stream();
        is_cancelled || self.missing.is_some_and(|missing| missing > 0)
    }
}

impl HttpBody for CompleteBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(missing), Some(data)) = (&mut self.missing, frame.data_ref()) {
                    *missing = missing.saturating_sub(data.len() as u64);
                }
            }
            None if self.is_incomplete() => {
                let incomplete = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Poll::Ready(Some(Err(axum::Error::new(incomplete))));
            }
            Some(Err(_)) | None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, http::StatusCode, middleware, routing::post};
    use tower::ServiceExt;

    /// A body of one frame. The flag is the result of `is_end_stream` after it: false for a
    /// cancelled stream.
    struct Text(Option<&'static [u8]>, bool);

    impl HttpBody for Text {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            let text = self.0.take().map(|text| Ok(Frame::data(Bytes::from_static(text))));
            Poll::Ready(text)
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_none() && self.1
        }
    }

    async fn status(version: Version, length: Option<u64>, ends: bool) -> StatusCode {
        let echo = async |body: Bytes| body;
        let app =
            Router::new().route("/", post(echo)).layer(middleware::from_fn(require_complete_body));
        let mut request = Request::post("/").version(version);
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        let body = Body::new(Text(Some(b"{}"), ends));
        app.oneshot(request.body(body).unwrap()).await.unwrap().status()
    }

    #[tokio::test]
    async fn incomplete_body_is_an_error_to_every_extractor() {
        for (version, length, ends, is_complete) in [
            (Version::HTTP_11, Some(2), false, true),
            (Version::HTTP_11, None, false, true),
            (Version::HTTP_11, Some(3), true, false),
            (Version::HTTP_2, Some(2), true, true),
            (Version::HTTP_2, None, true, true),
            (Version::HTTP_2, None, false, false),
            (Version::HTTP_2, Some(2), false, false),
            (Version::HTTP_2, Some(3), true, false),
        ] {
            let status = status(version, length, ends).await;
            assert_eq!(status.is_success(), is_complete, "{version:?} {length:?} {ends}: {status}");
        }
    }
}
