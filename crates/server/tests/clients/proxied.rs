//! The setup that the reverse-proxy tests share: a server behind a proxy, a certificate, and a shipped
//! configuration with the addresses of the test.

use portcullis_testkit::serving::{Home, Serving};
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Creates a store and starts a server on it that expects a proxy in front.
pub(crate) fn serve_behind_proxy(options: &[&str]) -> (Home, Serving) {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&[&["--behind-proxy"], options].concat());
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

/// Starts a proxy that listens on a free address. Another program may take the address first; then the proxy
/// is started again on another one.
#[track_caller]
pub(crate) fn start_proxy(
    mut start: impl FnMut(SocketAddr) -> Child,
    log: impl Fn() -> String,
) -> (Child, SocketAddr) {
    loop {
        let (address, begun) = (free_address(), Instant::now());
        let mut proxy = start(address);
        while TcpStream::connect(address).is_err() && proxy.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < START_TIMEOUT, "{}", log());
            thread::sleep(Duration::from_millis(20));
        }
        // Something else may listen there, while the proxy ends.
        thread::sleep(Duration::from_millis(50));
        match proxy.try_wait().unwrap() {
            None => return (proxy, address),
            Some(_) => {
                assert!(log().to_lowercase().contains("address already in use"), "{}", log());
            }
        }
    }
}
