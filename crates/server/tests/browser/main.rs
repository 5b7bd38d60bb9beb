//! The portal in a real browser: a server, headless Chromium, and `portal.mjs`, which
//! drives it; and the page of replicas, which only a store in etcd has. `PORTCULLIS_PICTURES=docs/img` keeps the pictures that it makes.
//!
//! It needs Node, Debian's chromium and `npm ci --prefix crates/server/tests/browser`.

#![expect(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too, and prints its counts"
)]

use portcullis_testkit::{WORKSPACE, needs};
use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

const CHROMIUM: &str = "/usr/bin/chromium";

#[needs(
    "node",
    "/usr/bin/chromium",
    "playwright-core and axe-core (npm ci --prefix crates/server/tests/browser): cd crates/server/tests/browser/node_modules && test -d playwright-core -a -d axe-core"
)]
#[test]
fn the_portal_works_in_a_browser() {
    let place = tempfile::tempdir().unwrap();
    drive("portal.mjs", place.path(), || Server::start(place.path(), &[]));
}

#[cfg(feature = "cluster")]
#[needs(
    "etcd",
    "etcdctl",
    "node",
    "/usr/bin/chromium",
    "playwright-core and axe-core (npm ci --prefix crates/server/tests/browser): cd crates/server/tests/browser/node_modules && test -d playwright-core -a -d axe-core"
)]
#[test]
fn the_page_of_replicas_works_in_a_browser() {
    let etcd = portcullis_testkit::etcd::Etcd::start(1);
    let place = tempfile::tempdir().unwrap();
    drive("replicas.mjs", place.path(), || {
        let key = place.path().join("root.key");
        let url = etcd.url();
        let made = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["--etcd", &url, "init", "--key-file"])
            .arg(&key)
            .env("PORTCULLIS_DATA", place.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = Server::start(place.path(), &["--etcd", &url]);
        std::fs::read_to_string(key).unwrap().trim().clone_into(&mut server.key);
        // One that has said nothing yet, and one that is counted out.
        for (number, row) in [(1, "m"), (2, "f")] {
            etcd.say(&["put", &format!("portcullis/s/m/{number:032x}"), row]);
        }
        server
    });
}

/// Has the script drive the server's portal.
fn drive(script: &str, place: &Path, server: impl FnOnce() -> Server) {
    let root = Path::new(WORKSPACE);
    let folder = root.join("crates/server/tests/browser");
    // Each run has other keys and times, so that the pictures are made anew only when asked for.
    let pictures = match env::var_os("PORTCULLIS_PICTURES") {
        Some(folder) => root.join(folder),
        None => place.join("pictures"),
    };
    let server = server();
    let tried = Command::new("node")
        .arg(folder.join(script))
        .env("PORTAL_URL", &server.url)
        .env("PORTAL_KEY", &server.key)
        .env("PORTAL_PROFILE", place.join("profile"))
        .env("PORTAL_PICTURES", &pictures)
        .env("CHROMIUM", CHROMIUM)
        .output()
        .unwrap();
    let (said, wrong) =
        (String::from_utf8_lossy(&tried.stdout), String::from_utf8_lossy(&tried.stderr));
    eprintln!("{said}");
    assert!(tried.status.success(), "{said}\n{wrong}");
}

/// A server with a new store; it is killed at the end.
struct Server {
    child: Child,
    url: String,
    key: String,
}

impl Server {
    fn start(place: &Path, more: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(more)
            .env("PORTCULLIS_DATA", place.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, url: String::new(), key: String::new() };
        for line in BufReader::new(server.child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if portcullis::Secret::is_well_formed(line.trim()) {
                line.trim().clone_into(&mut server.key);
            }
            if let Some(url) = line.strip_prefix("listening on ") {
                url.clone_into(&mut server.url);
                return server;
            }
        }
        panic!("the server did not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
