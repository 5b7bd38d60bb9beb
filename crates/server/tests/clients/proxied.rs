//! The setup that the reverse-proxy tests share: a server behind a proxy, a certificate, and a shipped
//! configuration with the addresses of the test.

use portcullis_testkit::serving::{Home, Serving};
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Creates a store and starts a server on it that expects a proxy in front.
pub(crate) fn serve_behind_proxy() -> (Home, Serving) {
    let home = Home::new();
    home.done(&["init"]);
    let server = home.serve(&["--behind-proxy"]);
    (home, server)
}

/// Returns an address that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Writes a certificate for `host` to `cert.pem` and its key to `key.pem`.
pub(crate) fn write_certificate(dir: &Path, host: &str) {
    let certified = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), certified.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
}

/// Replaces parts of a shipped configuration, each of which must be in it.
#[track_caller]
pub(crate) fn adapt(shipped: &str, replacements: &[(&str, String)]) -> String {
    let mut text = shipped.to_owned();
    for (part, replacement) in replacements {
        assert!(text.contains(part), "{part}");
        text = text.replace(part, replacement);
    }
    text
}

/// Waits until a connection to this address succeeds.
#[track_caller]
pub(crate) fn wait_until_listening(address: SocketAddr, log: impl Fn() -> String) {
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < START_TIMEOUT, "{}", log());
        thread::sleep(Duration::from_millis(20));
    }
}
