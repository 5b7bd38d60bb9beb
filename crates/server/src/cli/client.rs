//! The client of the router: over the control socket of a running server, or over a store that is open
//! in this process.

use super::{failure::Failure, location::Location, progress::Bar};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{Method, Request, StatusCode, header},
};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use portcullis::Store;
use portcullis_admin::{LocalUser, control};
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{ErrorKind, Write};
use tower::ServiceExt;

/// A connection to the router, with root's rights.
pub(crate) enum Client {
    /// The control socket of a running server.
    Socket(SendRequest<Full<Bytes>>),
    /// A store that is open in this process.
    Own(Store, Router),
}

/// The body of a response.
pub(crate) struct Answer(Bytes);

impl Client {
    /// Connects to the server if one runs, or else opens the store.
    pub(crate) async fn open(location: &Location) -> Result<Self, Failure> {
        match Self::of_server(location).await? {
            Some(client) => Ok(client),
            None => match location.open() {
                Ok(store) => Ok(Self::over(store)),
                Err(failure) => Self::after_lock(failure, location).await,
            },
        }
    }

    /// Tries the control socket again: a server that was starting had the lock and no socket yet.
    async fn after_lock(failure: Failure, location: &Location) -> Result<Self, Failure> {
        let Failure::Unreachable(text) = failure else { return Err(failure) };
        let hint = "if a server is starting, repeat the command once it listens";
        Self::of_server(location)
            .await?
            .ok_or_else(|| Failure::unreachable(format!("{text}; {hint}")))
    }

    /// Connects to the control socket, if a server runs.
    pub(crate) async fn of_server(location: &Location) -> Result<Option<Self>, Failure> {
        let unreachable = |error: &dyn std::error::Error| {
            let data = location.data.display();
            Failure::unreachable(format!("the server of {data} cannot be reached: {error}"))
        };
        match control::connect(&location.data) {
            Ok(stream) => {
                let (sender, connection) =
                    handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
                // The task ends with the sender, which reports its errors.
                tokio::spawn(connection);
                Ok(Some(Self::Socket(sender)))
            }
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                    Ok(None)
                }
                // A directory that other users could have changed; opening the store fails likewise.
                ErrorKind::InvalidInput => Err(Failure::failed(error.to_string())),
                _ => Err(unreachable(&error)),
            },
        }
    }

    /// Uses a store that is open in this process.
    pub(crate) fn over(store: Store) -> Self {
        Self::Own(store.clone(), portcullis_admin::router(store))
    }

    /// Sends a request. Any status but success is a failure of the command.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.send_bytes(method, path, "application/json", bytes).await
    }

    /// Sends a request with one JSON object a line.
    pub(crate) async fn send_lines(
        &mut self,
        method: Method,
        path: &str,
        lines: String,
    ) -> Result<Answer, Failure> {
        self.send_bytes(method, path, "application/x-ndjson", Bytes::from(lines)).await
    }

    /// Sends a text. Any status but success is a failure of the command.
    pub(crate) async fn send_text(&mut self, path: &str, text: Vec<u8>) -> Result<Answer, Failure> {
        self.send_bytes(Method::POST, path, "text/plain", text.into()).await
    }

    async fn send_bytes(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        bytes: Bytes,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, content_type)
            .body(bytes)
            .map_err(|error| Failure::failed(format!("{path} is no path: {error}")))?;
        let (status, bytes) = match self {
            Self::Socket(sender) => over_socket(sender, request.map(Full::new)).await?,
            Self::Own(_, router) => {
                request.extensions_mut().insert(LocalUser::new(geteuid().as_raw()));
                in_process(router.clone(), request.map(Body::from)).await?
            }
        };
        if status.is_success() {
            Ok(Answer(bytes))
        } else {
            Err(Failure::answer(status.as_u16(), &bytes))
        }
    }

    /// Passes each part of a streamed response to `each`, until the stream ends. A part ends with a line.
    pub(crate) async fn lines(
        &mut self,
        path: &str,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let lost = |error: &dyn std::error::Error| {
            Failure::unreachable(format!("the stream was interrupted: {error}"))
        };
        let mut request = Request::builder()
            .uri(path)
            .header(header::HOST, "localhost")
            .body(Full::default())
            .map_err(|error| Failure::failed(format!("{path} is no path: {error}")))?;
        let response = match self {
            Self::Socket(sender) => {
                let response = sender.send_request(request).await;
                response.map_err(|error| lost(&error))?.map(Body::new)
            }
            Self::Own(_, router) => {
                request.extensions_mut().insert(LocalUser::new(geteuid().as_raw()));
                let Ok(response) = router.clone().oneshot(request.map(Body::new)).await;
                response
            }
        };
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let bytes = body.collect().await.map_err(|error| lost(&error))?.to_bytes();
            return Err(Failure::answer(status.as_u16(), &bytes));
        }
        let mut unfinished = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| lost(&error))?.into_data() else { continue };
            unfinished.extend_from_slice(&data);
            let end = unfinished.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let later = unfinished.split_off(end);
            let lines = std::mem::replace(&mut unfinished, later);
            let other = |_| Failure::failed("the response is from another version of the server");
            each(str::from_utf8(&lines).map_err(other)?)?;
        }
        Ok(())
    }

    /// Takes a backup. The caller checks that its end arrived.
    pub(crate) async fn backup(&mut self, to: &mut impl Write, bar: &Bar) -> Result<(), Failure> {
        let sender = match self {
            Self::Own(store, _) => {
                store.backup(to, |progress| bar.report(progress))?;
                return Ok(());
            }
            Self::Socket(sender) => sender,
        };
        let request = Request::builder()
            .uri("/v1/backup")
            .header(header::HOST, "localhost")
            .body(Full::default())
            .map_err(|error| Failure::failed(format!("the request is malformed: {error}")))?;
        let lost = |error: hyper::Error| {
            Failure::unreachable(format!("the server aborted the backup; see its log: {error}"))
        };
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let bytes = body.collect().await.map_err(lost)?.to_bytes();
            return Err(Failure::answer(status.as_u16(), &bytes));
        }
        let mut count = 0;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(lost)?.into_data() {
                to.write_all(&data).map_err(Failure::io("writing the backup"))?;
                count += data.len() as u64;
                bar.bytes(count);
            }
        }
        Ok(())
    }
}

impl Answer {
    /// Returns the body as it arrived.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Parses the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        // The parser's message could quote a key.
        serde_json::from_slice(&self.0)
            .map_err(|_| Failure::failed("the response is from another version of the server"))
    }
}

async fn over_socket(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let lost = |error: hyper::Error| {
        Failure::unreachable(format!(
            "the server disconnected before it responded; check whether the change was made: {error}"
        ))
    };
    let response = sender.send_request(request).await.map_err(lost)?;
    let status = response.status();
    Ok((status, response.into_body().collect().await.map_err(lost)?.to_bytes()))
}

async fn in_process(
    router: Router,
    request: Request<Body>,
) -> Result<(StatusCode, Bytes), Failure> {
    let Ok(response) = router.oneshot(request).await;
    let status = response.status();
    let body = response.into_body().collect().await;
    let body =
        body.map_err(|error| Failure::failed(format!("the response was interrupted: {error}")))?;
    Ok((status, body.to_bytes()))
}
