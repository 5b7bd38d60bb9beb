//! Reading a complete request body, within limits of size and time.
//!
//! No route acts on an incomplete body, not even a route whose handler ignores its body.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use portcullis::web::Problem;
use std::{future::poll_fn, pin::Pin, time::Duration};

const MAX_BODY_BYTES: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the complete body. Stops as soon as the body is larger than the limit.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Problem> {
    let mut kept = Vec::new();
    let mut length = 0;
    let reading = async {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let data = frame?.into_data().unwrap_or_default();
            length += data.len();
            if length > MAX_BODY_BYTES {
                break;
            }
            kept.extend_from_slice(&data);
        }
        Ok::<(), axum::Error>(())
    };
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            let detail = "the body is incomplete and nothing was changed; send it again";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "incomplete-body", detail));
        }
        Err(_) => {
            let detail = "the body did not arrive in time, and nothing was changed; send it again";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail));
        }
    }
    if length > MAX_BODY_BYTES {
        let detail = format!("the body is larger than {MAX_BODY_BYTES} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail));
    }
    Ok(Bytes::from(kept))
}

/// Middleware for handlers that ignore the body: calls them only after the complete body arrived.
pub(crate) async fn require_complete(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match read(body).await {
        Ok(_) => next.run(Request::from_parts(parts, Body::empty())).await,
        Err(problem) => problem.into_response(),
    }
}
