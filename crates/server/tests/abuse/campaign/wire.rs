//! Low-level connections to the server: TLS from a chosen loopback address, HTTP/1.1 as text and HTTP/2
//! as frames, so that a client can stop at any point.

use portcullis_testkit::frames::{
    CANCEL, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, RST_STREAM,
    SETTINGS, frame, string,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// The timeout of a response, so that a hanging client fails.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The protocol that a connection asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// The address of the server and the certificates that it may present.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
}

/// A TLS connection.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Target {
    pub(crate) fn new(address: SocketAddr, certificate: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for trusted in CertificateDer::pem_file_iter(certificate).unwrap() {
            roots.add(trusted.unwrap()).unwrap();
        }
        Self { address, roots: Arc::new(roots) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// A TCP connection from this address, without TLS.
    pub(crate) fn tcp(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
            let connected =
                tokio::time::timeout(RESPONSE_TIMEOUT, socket.connect(self.address)).await;
            connected.map_err(io::Error::other)??.into_std()
        })?;
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        stream.set_write_timeout(Some(RESPONSE_TIMEOUT))?;
        Ok(stream)
    }

    /// A TLS connection from this address, after its handshake.
    pub(crate) fn tls(&self, from: Ipv4Addr, http: Http) -> io::Result<Tls> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = match http {
            Http::One => vec![b"http/1.1".to_vec()],
            Http::Two => vec![b"h2".to_vec()],
        };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = self.tcp(from)?;
        while client.is_handshaking() {
            client.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(client, stream))
    }

    /// An HTTP/2 connection with this flow-control window for each stream.
    pub(crate) fn http2(&self, from: Ipv4Addr, window: u32) -> io::Result<Two> {
        let mut stream = self.tls(from, Http::Two)?;
        stream.write_all(PREFACE)?;
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        let mut two = Two { stream, next: 1 };
        two.frame(SETTINGS, 0, 0, &settings)?;
        Ok(two)
    }
}

/// An answer over HTTP/1.1.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether another request may follow on this connection.
    pub(crate) is_reusable: bool,
}

/// Formats a request of HTTP/1.1.
pub(crate) fn request(what: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() && what.starts_with("GET") {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    format!("{what} HTTP/1.1\r\nhost: localhost\r\n{length}{headers}\r\n{body}")
}

/// Sends a request over HTTP/1.1 and reads its answer.
pub(crate) fn ask(stream: &mut Tls, request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    read_answer(stream)
}

/// Reads one answer over HTTP/1.1.
pub(crate) fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the answer has no status"))?;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length = header("content-length:").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let is_reusable = header("connection:") != Some("close");
    Ok(Answer { status, body, is_reusable })
}

/// An HTTP/2 connection whose client writes its own frames and does not read.
pub(crate) struct Two {
    pub(crate) stream: Tls,
    next: u32,
}

impl Two {
    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(kind, flags, id, payload))
    }

    /// Opens a stream with this request; `is_whole` means that no body follows. Returns the
    /// id of the stream.
    pub(crate) fn open(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        is_whole: bool,
    ) -> io::Result<u32> {
        // Literals without indexing (RFC 7541 §6.2.2): no table, no Huffman code.
        let mut block = match method {
            "GET" => vec![0x82],
            "POST" => vec![0x83],
            _ => {
                let mut block = vec![0x02];
                string(&mut block, method.as_bytes(), 0);
                block
            }
        };
        block.push(0x87);
        block.push(0x04);
        string(&mut block, path.as_bytes(), 0);
        block.push(0x01);
        string(&mut block, b"localhost", 0);
        for (name, value) in headers {
            block.push(0);
            string(&mut block, name.as_bytes(), 0);
            string(&mut block, value.as_bytes(), 0);
        }
        let id = self.next;
        self.next += 2;
        let end = if is_whole { END_STREAM } else { 0 };
        self.frame(HEADERS, END_HEADERS | end, id, &block)?;
        Ok(id)
    }

    /// Resets a stream.
    pub(crate) fn reset(&mut self, id: u32) -> io::Result<()> {
        self.frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes())
    }

    /// Sends a ping.
    pub(crate) fn ping(&mut self) -> io::Result<()> {
        self.frame(PING, 0, 0, &[0; 8])
    }
}
