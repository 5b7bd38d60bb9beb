//! Plain HTTP is refused and not redirected: the key has crossed the network already.

use super::{
    connection::MonitoredStream,
    exposed::{ExposedKeys, Head},
};
use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_server::accept::Accept;
use portcullis::web::Problem;
use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_IGNORED_BYTES: u64 = 256 * 1024;

/// Accepts TLS, and answers anything else with an unencrypted 403.
#[derive(Clone)]
pub(crate) struct TlsOnly {
    /// Revokes the keys that arrive unencrypted, if the operator asks for it.
    exposed: Option<Arc<ExposedKeys>>,
}

impl TlsOnly {
    pub(crate) fn new(exposed: Option<Arc<ExposedKeys>>) -> Self {
        Self { exposed }
    }
}

impl<S: Send + 'static> Accept<MonitoredStream<TcpStream>, S> for TlsOnly {
    type Stream = MonitoredStream<TcpStream>;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, S)>> + Send>>;

    fn accept(&self, stream: MonitoredStream<TcpStream>, service: S) -> Self::Future {
        let exposed = self.exposed.clone();
        Box::pin(async move {
            let mut first = [0];
            match timeout(FIRST_BYTE_TIMEOUT, stream.get_ref().peek(&mut first)).await {
                Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) if first == [TLS_HANDSHAKE] => {
                    stream.get_ref().set_nodelay(true)?;
                    Ok((stream, service))
                }
                Ok(Ok(_)) => {
                    let stream = stream.into_inner();
                    let source = stream.peer_addr().ok().map(|peer| peer.ip().to_canonical());
                    let mut head = Head::new(exposed, source);
                    let _ = timeout(REFUSAL_TIMEOUT, refuse(stream, &mut head)).await;
                    Err(io::Error::other("plain HTTP on the TLS port"))
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

fn refusal(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "plain-http", detail)
}

/// Responds before it reads: the response must not depend on the request.
async fn refuse(mut stream: TcpStream, head: &mut Head) -> io::Result<()> {
    let body =
        refusal("this port speaks HTTPS only; a key that was sent in the clear should be replaced")
            .text();
    let response_head = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(response_head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection before the client reads the response.
    let mut buffer = [0; 4096];
    let mut rest = stream.take(MAX_IGNORED_BYTES);
    loop {
        match rest.read(&mut buffer).await? {
            0 => return Ok(()),
            count => head.extend(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Middleware behind a proxy: refuses a request that reached the proxy by plain HTTP.
pub(crate) async fn refuse_forwarded_plain_http(request: Request, next: Next) -> Response {
    let forwarded = request.headers().get_all("x-forwarded-proto");
    if forwarded.iter().all(is_https) {
        return next.run(request).await;
    }
    refusal("use https; a key that was sent in the clear should be replaced").into_response()
}

/// A chain of proxies lists a scheme for each hop; every hop must be encrypted. Some proxies write the
/// scheme of a WebSocket over TLS, `wss`.
fn is_https(schemes: &HeaderValue) -> bool {
    let is_tls =
        |scheme: &[u8]| [&b"https"[..], b"wss"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    schemes.as_bytes().split(|&b| b == b',').all(|scheme| is_tls(scheme.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_on_every_hop_is_https() {
        for (schemes, https) in [
            ("https", true),
            ("HTTPS", true),
            ("https, https", true),
            ("http", false),
            ("https,http", false),
            ("", false),
            ("wss", true),
            ("https, WSS", true),
            ("ws", false),
            ("wss, http", false),
            ("wsss", false),
        ] {
            assert_eq!(is_https(&HeaderValue::from_static(schemes)), https, "{schemes}");
        }
    }
}
