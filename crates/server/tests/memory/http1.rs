//! A client of HTTP/1.1 that can send incomplete requests.

use crate::authorization;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_mins(1);

/// A response.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Empty for HTTP/2.
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) trait Stream: Read + Write {
    /// Ends the connection in order.
    fn end(&mut self);
}

impl Stream for TcpStream {
    fn end(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
        self.sock.end();
    }
}

/// Connects, with TLS where there is a configuration.
pub(crate) fn connect(address: &str, tls: Option<&Arc<ClientConfig>>) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    match tls {
        None => Box::new(stream),
        Some(config) => {
            let name = "localhost".try_into().unwrap();
            let client = ClientConnection::new(Arc::clone(config), name).unwrap();
            Box::new(StreamOwned::new(client, stream))
        }
    }
}

/// A connection.
pub(crate) struct Http1(Box<dyn Stream>);

/// The text of a request with a key and a JSON body, or none.
pub(crate) fn request(method: &str, path: &str, key: &str, body: &str) -> String {
    with_headers(method, path, &[authorization(key)], "application/json", body)
}

pub(crate) fn with_headers(
    method: &str,
    path: &str,
    headers: &[String],
    content_type: &str,
    body: &str,
) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        let _ = write!(text, "{header}\r\n");
    }
    if !body.is_empty() {
        let length = body.len();
        let _ = write!(text, "Content-Type: {content_type}\r\nContent-Length: {length}\r\n");
    }
    text + "\r\n" + body
}

impl Http1 {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self(stream)
    }

    /// Sends these bytes. Ignores errors: the server may have closed the connection.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).and_then(|()| self.0.flush());
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request.as_bytes());
        self.answer()
    }

    /// Reads the next response; its status is 0 if the connection ends without one.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if !self.read(&mut head, 1) {
                return Answer::default();
            }
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = Vec::new();
        if let Some((_, length)) = head.split_once("\r\ncontent-length: ") {
            let length: usize = length.split('\r').next().unwrap().parse().unwrap();
            self.read(&mut body, length);
        } else if head.contains("\r\ntransfer-encoding: chunked") {
            while !body.ends_with(b"\r\n0\r\n\r\n") && body != b"0\r\n\r\n" {
                if !self.read(&mut body, 1) {
                    break;
                }
            }
        }
        Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() }
    }

    fn read(&mut self, to: &mut Vec<u8>, length: usize) -> bool {
        let start = to.len();
        to.resize(start + length, 0);
        let whole = self.0.read_exact(&mut to[start..]).is_ok();
        if !whole {
            to.truncate(start);
        }
        whole
    }

    /// Reads until the server closes.
    pub(crate) fn drain(&mut self) {
        let _ = self.0.read_to_end(&mut Vec::new());
    }

    /// Closes the connection in order. Dropping it aborts it.
    pub(crate) fn close(mut self) {
        self.0.end();
    }
}
