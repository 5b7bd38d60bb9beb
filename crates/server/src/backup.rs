//! A backup over the control socket: sent on as it is taken, and never held as a whole.

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
    routing::get,
};
use http_body::Frame;
use portcullis::{Store, web::Problem};
use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Parts that wait for a slow reader; after so many the backup waits.
const WAITING: usize = 4;

/// For the control socket alone: a backup is the whole store.
pub(crate) fn router(store: Store) -> Router {
    Router::new().route("/v1/backup", get(backup)).with_state(store)
}

async fn backup(State(store): State<Store>) -> Result<Response, Problem> {
    let (to, mut from) = channel(WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = store.backup(Parts(to.clone()), |_| ()) {
            tracing::error!(%error, "a backup broke off");
            // The reader may be why.
            let _ = to.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    match from.recv().await {
        Some(Ok(first)) => {
            let mut response = Response::new(Body::new(Sent { first: Some(first), from }));
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
        first => {
            let detail = match first {
                Some(Err(error)) => error.to_string(),
                _ => "the backup broke off before it began; look into the log".into(),
            };
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail))
        }
    }
}

/// What is written goes to the body.
struct Parts(Sender<io::Result<Bytes>>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The body; an error in it breaks the connection off, so that nobody takes a part for the whole.
struct Sent {
    first: Option<Bytes>,
    from: Receiver<io::Result<Bytes>>,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.from.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }
}
