//! The scanned servers, their keys, and connections to them.

use crate::{
    encoding::Encodings,
    http1::{Http1, Stream, connect},
    http2::Http2,
    scan::{Copy, Memory},
};
use portcullis::Secret;
use portcullis_testkit::serving::{Home, Serving, free_address};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    cell::RefCell,
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
};

/// The scopes of an administrator and of the Data API.
const ALL: &str = "admin.key.create,admin.key.list,admin.key.update,admin.key.delete,admin.key.verify,api.read,api.write";
const CANARY: &str = "canary of the memory scan";
/// A text that is no key and that the scan must find.
const PEPPER: &str = "pepper_B7vQ2mZx9LrT4cWn8KdYp3HsJf6GuEa5oXiR1t";

/// A server with TLS, and one behind a proxy. The limit on bad keys is low.
pub(crate) struct Servers {
    home: Home,
    pub(crate) server: Serving,
    plain_home: Home,
    plain: Serving,
    pub(crate) metrics: String,
    roots: Vec<String>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    prepared: RefCell<Vec<String>>,
}

impl Servers {
    pub(crate) fn new() -> Self {
        let (home, plain_home) = (Home::new(), Home::new());
        let pepper = home.room().join("pepper");
        fs::write(&pepper, PEPPER).unwrap();
        fs::set_permissions(&pepper, fs::Permissions::from_mode(0o600)).unwrap();
        let metrics = free_address();
        let server = home.serve_with(
            &["--log-level", "debug", "--metrics-listen", &metrics, "--revoke-exposed"],
            &[("PORTCULLIS_PEPPER_FILE", pepper.to_str().unwrap())],
        );
        let plain_root = plain_home.done(&["init", "--scopes=financial-data"]);
        let plain = plain_home.serve(&["--behind-proxy", "--trusted-proxy", "127.0.0.1"]);
        let mut roots = keys_in(&server.said);
        // The key itself, and the command to try it.
        roots.dedup();
        roots.extend(keys_in(&plain_root));
        assert_eq!(roots.len(), 2);
        let certificate = fs::read(home.data().join("tls/cert.pem")).unwrap();
        let client = |protocol: &[u8]| {
            let mut trusted = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(&certificate) {
                trusted.add(certificate.unwrap()).unwrap();
            }
            let mut config =
                ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(trusted)
                    .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let (http1, http2) = (client(b"http/1.1"), client(b"h2"));
        let prepared = RefCell::default();
        Self { home, server, plain_home, plain, metrics, roots, http1, http2, prepared }
    }

    pub(crate) fn root(&self) -> &str {
        &self.roots[0]
    }

    pub(crate) fn roots(&self) -> Vec<String> {
        let mut roots = self.roots.clone();
        roots.push(PEPPER.to_owned());
        roots
    }

    pub(crate) fn prepared(&self) -> Vec<String> {
        self.prepared.borrow().clone()
    }

    // ── scan

    pub(crate) fn copies(&self, encodings: &Encodings) -> Vec<Copy> {
        let servers = [&self.server, &self.plain];
        servers.iter().flat_map(|server| Memory::of(server.id()).copies(encodings)).collect()
    }

    /// Asserts that the scan finds a name that the server keeps in memory.
    pub(crate) fn assert_scan_finds_stored_name(&self) {
        self.home.key(CANARY, "api.read");
        let memory = Memory::of(self.server.id());
        assert!(memory.holds(CANARY.as_bytes()), "the memory cannot be scanned: it shows nothing");
    }

    /// Returns a file of the servers, logs included, that contains a copy.
    pub(crate) fn file_with(&self, encodings: &Encodings) -> Option<PathBuf> {
        let mut paths = vec![self.home.data(), self.plain_home.data()];
        paths.extend([&self.home, &self.plain_home].map(|home| home.room().join("log")));
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if let Ok(mut content) = fs::read(&path) {
                content.resize(content.len().next_multiple_of(8), 0);
                let mut found = false;
                encodings.matches(&content, &mut |_| found = true);
                if found {
                    return Some(path);
                }
            }
        }
        None
    }

    // ── keys

    /// Creates a key with the administrator scopes.
    pub(crate) fn admin(&self) -> String {
        self.new_key(&self.home, ALL)
    }

    /// Creates a key with `api.read`.
    pub(crate) fn key(&self) -> String {
        self.new_key(&self.home, "api.read")
    }

    /// Creates a key with `api.read` on the server behind a proxy.
    pub(crate) fn plain_key(&self) -> String {
        self.new_key(&self.plain_home, ALL)
    }

    /// Creates a key and revokes it.
    pub(crate) fn inactive(&self) -> String {
        let key = self.admin();
        self.home.done(&["key", "revoke", &id_of(&key)]);
        key
    }

    fn new_key(&self, home: &Home, scopes: &str) -> String {
        let key = home.key("prepared", scopes);
        self.prepared.borrow_mut().push(key.clone());
        key
    }

    /// Runs a command with this standard input. Returns its standard output.
    pub(crate) fn command(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.home.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    // ── connections

    pub(crate) fn address(&self) -> &str {
        self.server.address()
    }

    pub(crate) fn tls(&self) -> Box<dyn Stream> {
        connect(self.address(), Some(&self.http1))
    }

    pub(crate) fn http1(&self) -> Http1 {
        Http1::new(self.tls())
    }

    pub(crate) fn http2(&self) -> Http2 {
        Http2::new(connect(self.address(), Some(&self.http2)))
    }

    pub(crate) fn plain_http1(&self) -> Http1 {
        Http1::new(connect(self.plain.address(), None))
    }

    pub(crate) fn plain_http2(&self) -> Http2 {
        Http2::new(connect(self.plain.address(), None))
    }

    pub(crate) fn control(&self) -> Http1 {
        Http1::new(Box::new(UnixStream::connect(self.home.data().join("control.sock")).unwrap()))
    }
}

impl Stream for UnixStream {
    fn end(&mut self) {
        let _ = self.shutdown(std::net::Shutdown::Both);
    }
}

/// Returns the keys in a text.
pub(crate) fn keys_in(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| Secret::is_well_formed(word))
        .map(str::to_owned)
        .collect()
}

/// Returns an unknown key that shares nothing with the secret of `key`.
pub(crate) fn wrong(key: &str) -> String {
    let (head, secret) = key.rsplit_once('_').unwrap();
    let turned = secret.bytes().rev().map(|byte| match byte {
        b'a'..=b'y' | b'A'..=b'Y' | b'0'..=b'8' => char::from(byte + 1),
        _ => 'q',
    });
    format!("{head}_{}", turned.collect::<String>())
}

pub(crate) use portcullis_testkit::serving::id_of;
