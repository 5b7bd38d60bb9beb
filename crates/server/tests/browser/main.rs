//! The portal in a real browser: a server, headless Chromium, and `portal.mjs`, which
//! drives it; and the page of replicas, which only a store in etcd has. `PORTCULLIS_PICTURES=docs/img` keeps the pictures that it makes.
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
fn the_portal_works_in_a_browser() {
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
fn the_page_of_replicas_works_in_a_browser() {
    let etcd = portcullis_testkit::etcd::Etcd::start(1);
    let home = Home::new();
    drive("replicas.mjs", &home, || {
        let url = etcd.url();
        let key = home.done(&["--etcd", &url, "init"]);
        let server = home.serve(&["--etcd", &url]);
        // One that has said nothing yet, and one that is counted out.
        for (number, row) in [(1, "m"), (2, "f")] {
            etcd.say(&["put", &format!("portcullis/s/m/{number:032x}"), row]);
        }
        (server, key)
    });
}

/// Has the script drive the server's portal.
fn drive(script: &str, home: &Home, start: impl FnOnce() -> (Serving, String)) {
    let (root, place) = (Path::new(WORKSPACE), home.room());
    let folder = root.join("crates/server/tests/browser");
    // Each run has other keys and times, so that the pictures are made anew only when asked for.
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
