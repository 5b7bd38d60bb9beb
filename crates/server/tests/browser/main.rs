//! The portal in headless Chromium, driven by `portal.mjs`, and the replica page of a store in etcd,
//! driven by `replicas.mjs`. `PORTCULLIS_PICTURES=docs/img` keeps the screenshots.
//!
//! It needs Node, Debian's chromium and `npm ci --prefix crates/server/tests/browser`.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too, and prints its counts"
)]

use portcullis::Secret;
use portcullis_testkit::{
    WORKSPACE, needs,
    serving::{Home, Serving},
};
use std::{env, path::Path, process::Command};

const CHROMIUM: &str = "/usr/bin/chromium";

#[needs(
    "node",
    "/usr/bin/chromium",
    "playwright-core and axe-core (npm ci --prefix crates/server/tests/browser): cd crates/server/tests/browser/node_modules && test -d playwright-core -a -d axe-core"
)]
#[test]
fn portal_works_in_a_browser() {
    let home = Home::new();
    drive("portal.mjs", &home, || {
        let server = home.serve(&[]);
        let key = server.said.lines().map(str::trim).find(|line| Secret::is_well_formed(line));
        let key = key.unwrap().to_owned();
        (server, key)
    });
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
fn replica_page_works_in_a_browser() {
    let etcd = portcullis_testkit::etcd::Etcd::start(1);
    let home = Home::new();
    drive("replicas.mjs", &home, || {
        let url = etcd.url();
        let key = home.done(&["--etcd", &url, "init", "--scopes=financial-data"]);
        let server = home.serve(&["--etcd", &url]);
        // A member without metadata, and a fenced one.
        for (number, row) in [(1, "m"), (2, "f")] {
            etcd.say(&["put", &format!("portcullis/s/m/{number:032x}"), row]);
        }
        (server, key)
    });
}

/// Runs a script against the portal of a server.
fn drive(script: &str, home: &Home, start: impl FnOnce() -> (Serving, String)) {
    let (root, place) = (Path::new(WORKSPACE), home.room());
    let folder = root.join("crates/server/tests/browser");
    // Each run has other keys and times, so screenshots are replaced only on request.
    let pictures = match env::var_os("PORTCULLIS_PICTURES") {
        Some(folder) => root.join(folder),
        None => place.join("pictures"),
    };
    let (server, key) = start();
    let tried = Command::new("node")
        .arg(folder.join(script))
        .env("PORTAL_URL", &server.url)
        .env("PORTAL_KEY", key)
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
