//! Backups over the control socket: streamed while they are taken, never held in memory as a whole.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
    routing::get,
};
use futures_util::{StreamExt, stream};
use portcullis::{Store, web::Problem};
use std::io::{self, Write};
use tokio::sync::mpsc::{Sender, channel};

/// Chunks that may wait for a slow reader. Beyond them the backup waits.
const MAX_QUEUED_CHUNKS: usize = 4;

/// Returns the router for the control socket only: a backup holds the whole store.
pub(crate) fn router(store: Store) -> Router {
    Router::new().route("/v1/backup", get(backup)).with_state(store)
}

async fn backup(State(store): State<Store>) -> Result<Response, Problem> {
    let (to, mut from) = channel(MAX_QUEUED_CHUNKS);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = store.backup(ChunkWriter(to.clone()), |_| ()) {
            tracing::error!(%error, "a backup was aborted");
            // The reader may have disconnected.
            let _ = to.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    match from.recv().await {
        Some(Ok(first)) => {
            // An error in the body aborts the connection, so that no reader takes a truncated backup for a complete one.
            let later = stream::poll_fn(move |context| from.poll_recv(context));
            let body = Body::from_stream(stream::iter([Ok(first)]).chain(later));
            let mut response = Response::new(body);
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
        first => {
            let detail = match first {
                Some(Err(error)) => error.to_string(),
                _ => "the backup was aborted before it began; see the server's log".into(),
            };
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail))
        }
    }
}

/// A writer whose bytes become the chunks of the body.
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
