//! The attacks. Each runs until `over` is set. Then it keeps its connections open and silent until
//! `gone` is set.

use super::wire::{Http, Target, Two, ask, read_answer, request};
use portcullis_testkit::basic;
use std::{
    io::{self, Write},
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{scope, sleep},
    time::Duration,
};

/// The address of all attacks.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// The maximum of streams that the server grants a connection.
const STREAMS: usize = 64;
const TICK: Duration = Duration::from_millis(50);

/// The target and the keys of an attacker.
pub(crate) struct Attacker<'a> {
    pub(crate) target: &'a Target,
    /// A key with `api.read` alone.
    pub(crate) reader: &'a str,
    /// A key with `admin.key.list` alone.
    pub(crate) lister: &'a str,
    /// How many connections the largest attacks open.
    pub(crate) connections: usize,
    /// The attack is over.
    pub(crate) over: &'a AtomicBool,
    /// Its connections may be closed.
    pub(crate) gone: &'a AtomicBool,
}

impl Attacker<'_> {
    fn is_running(&self) -> bool {
        !self.over.load(Relaxed)
    }

    /// Keeps the connections open until they may be closed.
    fn hold<T>(&self, open: T) {
        while !self.gone.load(Relaxed) {
            sleep(TICK);
        }
        drop(open);
    }

    /// Opens this many connections, each with the maximum of streams with this request. Replaces those
    /// that the server closes.
    fn hold_streams(&self, connections: usize, window: u32, each: Each<'_>) {
        let mut open: Vec<Option<Two>> = (0..connections).map(|_| None).collect();
        while self.is_running() {
            for held in &mut open {
                if held.as_mut().is_none_or(|two| two.ping().is_err()) {
                    *held = self.filled(window, each).ok();
                }
            }
            sleep(TICK);
        }
        self.hold(open);
    }

    fn filled(&self, window: u32, each: Each<'_>) -> io::Result<Two> {
        let mut two = self.target.http2(ATTACKER, window)?;
        for _ in 0..STREAMS {
            two.open(each.method, each.path, each.headers, each.is_whole)?;
        }
        Ok(two)
    }
}

/// The request that fills a stream.
#[derive(Clone, Copy)]
struct Each<'h> {
    method: &'h str,
    path: &'h str,
    headers: &'h [(&'h str, &'h str)],
    is_whole: bool,
}

pub(crate) const EXPORTS: &str = "exports that nobody reads, 6 connections of 64 streams";
pub(crate) const LISTS: &str = "lists that nobody reads, pipelined on each connection";

/// An attack and its name.
pub(crate) type Attack = (&'static str, fn(&Attacker<'_>));

/// All attacks.
pub(crate) const ATTACKS: &[Attack] = &[
    ("logins without a body, 20 connections of 64 streams", logins_without_a_body),
    ("changes without a body by a valid key, 20 connections of 64 streams", changes_without_a_body),
    (EXPORTS, exports_that_nobody_reads),
    (LISTS, lists_that_nobody_reads),
    ("connections that say nothing", silent_connections),
    ("connections that send their headers byte by byte", slow_headers),
    ("incomplete handshakes", incomplete_handshakes),
    ("streams that are reset at once", rapid_resets),
    ("large bodies with a wrong key", large_bodies),
    ("lists by a key that may not list", refused_lists),
    ("60 kB of unknown members", unknown_members),
    ("wrong keys on many streams", wrong_keys),
];

fn form() -> Vec<(&'static str, &'static str)> {
    vec![("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")]
}

fn logins_without_a_body(attacker: &Attacker<'_>) {
    let headers = form();
    let each = Each { method: "POST", path: "/login", headers: &headers, is_whole: false };
    attacker.hold_streams(20, 65_535, each);
}

fn changes_without_a_body(attacker: &Attacker<'_>) {
    let key = basic(attacker.reader.as_bytes());
    let headers = [("content-type", "application/json"), ("authorization", key.as_str())];
    // Any key may deactivate itself, so that the body of this request is read.
    let path = own_path(attacker.reader);
    let each = Each { method: "PATCH", path: &path, headers: &headers, is_whole: false };
    attacker.hold_streams(20, 65_535, each);
}

fn exports_that_nobody_reads(attacker: &Attacker<'_>) {
    let key = basic(attacker.lister.as_bytes());
    let headers = [("authorization", key.as_str())];
    let each = Each { method: "GET", path: "/v1/audit/export", headers: &headers, is_whole: true };
    attacker.hold_streams(6, 0, each);
}

fn lists_that_nobody_reads(attacker: &Attacker<'_>) {
    let key = basic(attacker.lister.as_bytes());
    let one = request("GET /v1/keys?page_size=200", &format!("authorization: {key}\r\n"), "");
    let mut open = Vec::new();
    while attacker.is_running() {
        if open.len() < attacker.connections
            && let Ok(mut stream) = attacker.target.tls(ATTACKER, Http::One)
        {
            let _ = stream.sock.set_write_timeout(Some(TICK));
            let _ = stream.write_all(one.repeat(64).as_bytes());
            open.push(stream);
        } else {
            sleep(TICK);
        }
    }
    attacker.hold(open);
}

fn silent_connections(attacker: &Attacker<'_>) {
    let mut open = Vec::new();
    while attacker.is_running() {
        open.retain(is_open);
        match attacker.target.tcp(ATTACKER) {
            Ok(stream) if open.len() < attacker.connections => open.push(stream),
            _ => sleep(TICK),
        }
    }
    attacker.hold(open);
}

fn is_open(stream: &std::net::TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let end = stream.peek(&mut [0]);
    matches!(end, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn slow_headers(attacker: &Attacker<'_>) {
    let mut open = Vec::new();
    while attacker.is_running() {
        open.retain_mut(|stream: &mut super::wire::Tls| stream.write_all(b"x").is_ok());
        if open.len() < attacker.connections / 4
            && let Ok(mut stream) = attacker.target.tls(ATTACKER, Http::One)
            && stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").is_ok()
        {
            open.push(stream);
        } else {
            sleep(TICK);
        }
    }
    attacker.hold(open);
}

fn incomplete_handshakes(attacker: &Attacker<'_>) {
    scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while attacker.is_running() {
                    if let Ok(mut stream) = attacker.target.tcp(ATTACKER) {
                        // The first half of a handshake record.
                        let _ = stream.write_all(&[0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]);
                    }
                }
            });
        }
    });
}

fn rapid_resets(attacker: &Attacker<'_>) {
    let headers = form();
    while attacker.is_running() {
        let Ok(mut two) = attacker.target.http2(ATTACKER, 65_535) else {
            sleep(TICK);
            continue;
        };
        while attacker.is_running() {
            let opened = two.open("POST", "/login", &headers, false);
            if opened.and_then(|id| two.reset(id)).is_err() {
                break;
            }
        }
    }
}

fn large_bodies(attacker: &Attacker<'_>) {
    let headers = "authorization: Basic bm9ib2R5Og==\r\ncontent-type: application/json\r\n";
    let body = "x".repeat(4 << 20);
    scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                while attacker.is_running() {
                    if let Ok(mut stream) = attacker.target.tls(ATTACKER, Http::One) {
                        let _ =
                            stream.write_all(request("POST /v1/keys", headers, &body).as_bytes());
                        let _ = read_answer(&mut stream);
                    }
                }
            });
        }
    });
}

/// Sends one request after the other on each of four connections.
fn repeat(attacker: &Attacker<'_>, request: &str) {
    scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while attacker.is_running() {
                    let Ok(mut stream) = attacker.target.tls(ATTACKER, Http::One) else {
                        sleep(TICK);
                        continue;
                    };
                    while attacker.is_running() {
                        match ask(&mut stream, request) {
                            Ok(answer) if answer.is_reusable => {}
                            _ => break,
                        }
                    }
                }
            });
        }
    });
}

/// Returns the path of a key's own record.
fn own_path(key: &str) -> String {
    format!("/v1/keys/key_{}", key.split('_').nth(1).unwrap_or_default())
}

fn refused_lists(attacker: &Attacker<'_>) {
    let key = basic(attacker.reader.as_bytes());
    repeat(attacker, &request("GET /v1/keys", &format!("authorization: {key}\r\n"), ""));
}

fn unknown_members(attacker: &Attacker<'_>) {
    let key = basic(attacker.reader.as_bytes());
    let members: Vec<String> = (0..6_000).map(|n| format!("\"m{n}\":1")).collect();
    let headers = format!("authorization: {key}\r\ncontent-type: application/json\r\n");
    let what = format!("PATCH {}", own_path(attacker.reader));
    repeat(attacker, &request(&what, &headers, &format!("{{{}}}", members.join(","))));
}

fn wrong_keys(attacker: &Attacker<'_>) {
    let headers = [("authorization", "Basic bm9ib2R5Og==")];
    let each = Each { method: "GET", path: "/v1/whoami", headers: &headers, is_whole: true };
    while attacker.is_running() {
        if attacker.filled(65_535, each).is_err() {
            sleep(TICK);
        }
    }
}
