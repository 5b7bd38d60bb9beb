//! The way to the router: the control socket of a running server, or a store of our own.

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
use portcullis_admin::LocalUser;
use portcullis_server::control;
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{ErrorKind, Write};
use tower::ServiceExt;

/// A way to the router, with root's rights.
pub(crate) enum Client {
    /// A server runs.
    Socket(SendRequest<Full<Bytes>>),
    /// No server runs.
    Own(Store, Router),
}

/// What the router did.
pub(crate) struct Answer(Bytes);

impl Client {
    /// Over the control socket if a server answers there, else over the store itself.
    pub(crate) async fn open(location: &Location) -> Result<Self, Failure> {
        match Self::of_server(location).await? {
            Some(client) => Ok(client),
            None => match location.open() {
                Ok(store) => Ok(Self::over(store)),
                Err(failure) => Self::after(failure, location).await,
            },
        }
    }

    /// A server that opens its store has its lock and no socket yet; it may have one by now.
    async fn after(failure: Failure, location: &Location) -> Result<Self, Failure> {
        let Failure::Unreachable(text) = failure else { return Err(failure) };
        let hint = "if that is a server that is starting, repeat the command once it listens";
        Self::of_server(location)
            .await?
            .ok_or_else(|| Failure::unreachable(format!("{text}; {hint}")))
    }

    /// Over the control socket, if a server answers there.
    pub(crate) async fn of_server(location: &Location) -> Result<Option<Self>, Failure> {
        let unreachable = |error: &dyn std::error::Error| {
            let data = location.data.display();
            Failure::unreachable(format!("the server of {data} cannot be reached: {error}"))
        };
        match control::connect(&location.data) {
            Ok(stream) => {
                let (sender, connection) =
                    handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
                // It ends with the sender; what it has to say, the sender says as well.
                tokio::spawn(connection);
                Ok(Some(Self::Socket(sender)))
            }
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                    Ok(None)
                }
                // A directory that others could have changed. Opening the store says the same.
                ErrorKind::InvalidInput => Err(Failure::failed(error.to_string())),
                _ => Err(unreachable(&error)),
            },
        }
    }

    /// Over a store that is open in this process.
    pub(crate) fn over(store: Store) -> Self {
        Self::Own(store.clone(), portcullis_admin::router(store))
    }

    /// Sends a request; an answer that is no success is a failure of the command.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
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

    /// Takes a backup; who writes it down looks whether its end came.
    pub(crate) async fn backup(&mut self, to: &mut impl Write, bar: &Bar) -> Result<(), Failure> {
        let sender = match self {
            Self::Own(store, _) => {
                store.backup(to, |told| bar.tell(told))?;
                return Ok(());
            }
            Self::Socket(sender) => sender,
        };
        let request = Request::builder()
            .uri("/v1/backup")
            .header(header::HOST, "localhost")
            .body(Full::default())
            .map_err(|error| Failure::failed(format!("there is no such path: {error}")))?;
        let lost = |error: hyper::Error| {
            Failure::unreachable(format!(
                "the server broke the backup off; its log says why: {error}"
            ))
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
    /// The answer as it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the answer says.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        // The parser's own message might quote a key.
        serde_json::from_slice(&self.0)
            .map_err(|_| Failure::failed("the answer of the server is of another version"))
    }
}

async fn over_socket(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let lost = |error: hyper::Error| {
        Failure::unreachable(format!(
            "the server went away before it answered, so look whether the change was made: {error}"
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
    let body = body.map_err(|error| Failure::failed(format!("the answer broke off: {error}")))?;
    Ok((status, body.to_bytes()))
}
