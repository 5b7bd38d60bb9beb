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
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

const MAX_BODY_BYTES: usize = 64 * 1024;
/// The largest text that is searched for leaked keys.
pub(crate) const MAX_TEXT_BYTES: usize = 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Texts that are read and searched at once. They are larger than the memory that the server reserves for
/// the body of a request.
static LARGE_TEXTS: Semaphore = Semaphore::const_new(4);

/// Reads the complete body. Stops as soon as the body is larger than the limit.
pub(crate) async fn read(body: Body) -> Result<Bytes, Problem> {
    let mut kept = read_wiped(body, MAX_BODY_BYTES).await?;
    Ok(Bytes::from(std::mem::take(&mut *kept)))
}

/// Reads a text that may contain keys, into memory that is wiped. The permit limits how many there are.
pub(crate) async fn read_text(body: Body) -> Result<Text, Problem> {
    let permit = LARGE_TEXTS.acquire().await.ok();
    Ok(Text { bytes: read_wiped(body, MAX_TEXT_BYTES).await?, _permit: permit })
}

/// A large text, in wiped memory.
pub(crate) struct Text {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    _permit: Option<SemaphorePermit<'static>>,
}

/// Reads the complete body into memory that is wiped.
pub(crate) async fn read_wiped(
    mut body: Body,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let declared = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
    let mut kept = Zeroizing::new(Vec::with_capacity(declared.unwrap_or(0).min(limit)));
    let mut length = 0;
    let reading = async {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let data = frame?.into_data().unwrap_or_default();
            length += data.len();
            if length > limit {
                break;
            }
            append_wiped(&mut kept, &data);
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
    if length > limit {
        let detail = format!("the body is larger than {limit} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail));
    }
    Ok(kept)
}

/// Appends without the reallocation that would leave a copy behind.
fn append_wiped(kept: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    if kept.capacity() - kept.len() < data.len() {
        let mut larger = Vec::with_capacity((kept.len() + data.len()).next_power_of_two());
        larger.extend_from_slice(kept);
        *kept = Zeroizing::new(larger);
    }
    kept.extend_from_slice(data);
}

/// Middleware for handlers that ignore the body: calls them only after the complete body arrived.
pub(crate) async fn require_complete(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match read(body).await {
        Ok(_) => next.run(Request::from_parts(parts, Body::empty())).await,
        Err(problem) => problem.into_response(),
    }
}
