//! Backups over the control socket: streamed while they are taken, never held in memory as a whole.

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

/// Chunks that may wait for a slow reader; then the backup waits.
const MAX_QUEUED_CHUNKS: usize = 4;

/// Returns the router for the control socket only: a backup holds the whole store.
pub(crate) fn router(store: Store) -> Router {
    Router::new().route("/v1/backup", get(backup)).with_state(store)
}

async fn backup(State(store): State<Store>) -> Result<Response, Problem> {
    let (to, mut from) = channel(MAX_QUEUED_CHUNKS);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = store.backup(ChunkWriter(to.clone()), |_| ()) {
            tracing::error!(%error, "a backup broke off");
            // The reader may have disconnected.
            let _ = to.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    match from.recv().await {
        Some(Ok(first)) => {
            let mut response = Response::new(Body::new(BackupBody { first: Some(first), from }));
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

/// Sends what is written to the body.
struct ChunkWriter(Sender<io::Result<Bytes>>);

impl Write for ChunkWriter {
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

/// The body. An error in it aborts the connection, so that no reader takes a part for the whole.
struct BackupBody {
    first: Option<Bytes>,
    from: Receiver<io::Result<Bytes>>,
}

impl HttpBody for BackupBody {
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
