//! After every kind of request the writable memory of the running server, stacks included, holds no copy
//! of a key that was presented or issued.
//!
//! The short form visits each scenario once. The long form visits each scenario ten times and scans
//! exactly one second after the connection has closed:
//!
//! ```text
//! PORTCULLIS_MEMORY_ROUNDS=10 cargo test --test memory -- --nocapture
//! ```
//!
//! The server is not dumpable, so the scan needs `CAP_SYS_PTRACE` (or root). Without it the test fails.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too, and prints its counts"
)]

mod browsing;
mod cost;
mod http1;
mod http2;
mod huffman;
mod misuse;
mod routes;
mod scan;
mod encoding;
mod servers;

use encoding::{Encodings, basic};
use http2::Coding;
use scan::{Copy, Memory};
use servers::Servers;
use std::{
    hint::black_box,
    thread::sleep,
    time::{Duration, Instant},
};

/// The delay before a scan of the long form.
const DELAY: Duration = Duration::from_secs(1);
/// A loaded host may take longer to close a connection. A copy that remains is still there after this.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A scenario in which keys reach the servers. It returns the keys.
struct Scenario {
    name: &'static str,
    run: fn(&Servers) -> Vec<String>,
}

fn scenarios() -> Vec<Scenario> {
    [routes::SCENES, browsing::SCENES, misuse::SCENES]
        .concat()
        .into_iter()
        .map(|(name, run)| Scenario { name, run })
        .collect()
}

#[test]
fn no_copy_of_a_key_remains_after_its_connection_closed() {
    let rounds = std::env::var("PORTCULLIS_MEMORY_ROUNDS").ok().map(|text| text.parse().unwrap());
    let only = std::env::var("PORTCULLIS_MEMORY_SCENE").ok();
    let servers = Servers::new();
    servers.assert_scan_finds_stored_name();
    let (mut all, mut failed, mut visits, mut scans) = (servers.roots(), Vec::new(), 0, 0);
    let scenarios = scenarios();
    for round in 0..rounds.unwrap_or(1) {
        for scenario in &scenarios {
            if only.as_ref().is_some_and(|only| !scenario.name.contains(only.as_str())) {
                continue;
            }
            let keys = (scenario.run)(&servers);
            assert!(!keys.is_empty(), "{} presents no key", scenario.name);
            let encodings = Encodings::of(&keys);
            let copies = if rounds.is_some() {
                sleep(DELAY);
                scans += 1;
                servers.copies(&encodings)
            } else {
                let end = Instant::now() + CLOSE_TIMEOUT;
                loop {
                    scans += 1;
                    let copies = servers.copies(&encodings);
                    if copies.is_empty() || Instant::now() > end {
                        break copies;
                    }
                    sleep(Duration::from_millis(100));
                }
            };
            visits += 1;
            if !copies.is_empty() {
                println!("round {round}, {}: {} copies", scenario.name, copies.len());
                print(&copies);
                failed.push(format!("{}: {}", scenario.name, copies.len()));
            }
            all.extend(keys);
        }
    }
    // Every key of every scenario, including the root keys and those that the scenarios prepared.
    all.extend(servers.prepared());
    let copies = servers.copies(&Encodings::of(&all));
    println!(
        "{} scenarios, {visits} visits, {scans} scans, {} keys, {} visits with copies; at the end {} copies",
        scenarios.len(),
        all.len(),
        failed.len(),
        copies.len()
    );
    print(&copies);
    assert!(failed.is_empty(), "{failed:?}");
    assert!(copies.is_empty(), "at the end");
    let file = servers.file_with(&Encodings::of(&all));
    assert_eq!(file, None, "a key is in a file");
}

/// The buffers of an idle connection are on the heap and are freed with the connection. The long form
/// waits until the server closes it.
#[test]
fn idle_connection_keeps_no_copy_on_a_stack() {
    let is_long = std::env::var_os("PORTCULLIS_MEMORY_ROUNDS").is_some();
    let servers = Servers::new();
    for protocol in ["HTTP/1.1", "HTTP/2, indexed", "HTTP/2, literal"] {
        let key = servers.admin();
        let encodings = Encodings::of(std::slice::from_ref(&key));
        let header = basic(&key);
        let headers = [("authorization", header.as_str())];
        let (mut one, mut two) = (servers.http1(), servers.http2());
        let answer = match protocol {
            "HTTP/1.1" => one.ask(&http1::request("GET", "/v1/whoami", &key, "")),
            "HTTP/2, indexed" => two.ask_with("GET", "/v1/whoami", &headers, "", Coding::Indexed),
            _ => two.ask_with("GET", "/v1/whoami", &headers, "", Coding::Literal),
        };
        assert_eq!(answer.status, 200);
        let end = Instant::now() + CLOSE_TIMEOUT;
        let copies = loop {
            let copies = servers.copies(&encodings);
            if !copies.iter().any(Copy::is_on_a_stack) || Instant::now() > end {
                break copies;
            }
            sleep(Duration::from_millis(100));
        };
        println!("{protocol}: {} copies while it idles", copies.len());
        print(&copies);
        assert!(!copies.iter().any(Copy::is_on_a_stack));
        if is_long {
            let start = Instant::now();
            if protocol == "HTTP/1.1" {
                one.drain();
            } else {
                two.drain();
            }
            println!("{protocol}: the server closed it after {:?}", start.elapsed());
        } else {
            one.close();
            two.close();
        }
        let end = Instant::now() + CLOSE_TIMEOUT;
        while !servers.copies(&encodings).is_empty() {
            assert!(Instant::now() < end, "{protocol}: copies stay after the connection");
            sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn scan_finds_every_encoding_of_a_key_on_heap_and_stack() {
    let own = Memory::of(std::process::id());
    for alphabet in
        ["0a1b2c3d4e5f6g7h8i9jAkBlCmDnEoFpGqHrIs", "zYxWvUtSrQpOnMlKjIhGfEdCbA9876543210ZY"]
    {
        // Split in pieces, so that the program text does not count as a copy.
        let key = format!("pcl_8fK2mQ9xZ1a_{alphabet}");
        let encodings = Encodings::of(std::slice::from_ref(&key));
        for (name, encoding) in encoding::samples(&key) {
            let piece = black_box(encoding[encoding.len() / 4..][..24].to_vec());
            let found = own.copies(&encodings);
            assert!(is_among(&found, piece.as_ptr()), "{name}: {found:?}");
        }
        let mut on_the_stack = [0u8; 24];
        on_the_stack.copy_from_slice(&key.as_bytes()[20..44]);
        let found = own.copies(&encodings);
        assert!(is_among(&found, black_box(&on_the_stack).as_ptr()), "{found:?}");
    }
}

#[test]
fn wipe_stack_removes_what_deep_frames_left() {
    /// Leaves a copy of the key some 200 KiB down the stack. Returns its address.
    #[inline(never)]
    fn leave(key: &[u8], frames: usize) -> usize {
        let mut frame = [0u8; 4096];
        frame[..24].copy_from_slice(key);
        let place = black_box(&frame).as_ptr().addr();
        if frames == 0 { place } else { leave(key, frames - 1) }
    }
    let key = format!("pcl_8fK2mQ9xZ1a_{}", "1Qa2Ws3Ed4Rf5Tg6Yh7Uj8Ik9Ol0Pz1Xc2Vb3N");
    let encodings = Encodings::of(std::slice::from_ref(&key));
    let memory = Memory::of(std::process::id());
    let place = leave(&key.as_bytes()[20..44], 50) as *const u8;
    assert!(is_among(&memory.copies(&encodings), place), "the frame left a copy");
    leave(&key.as_bytes()[20..44], 50);
    portcullis::wipe_stack();
    assert!(!is_among(&memory.copies(&encodings), place));
}

fn is_among(found: &[Copy], place: *const u8) -> bool {
    let place = place.addr() as u64;
    found.iter().any(|copy| copy.at <= place && place + 20 <= copy.at + copy.length as u64)
}

#[test]
#[should_panic(expected = "cannot be scanned")]
fn scan_of_a_process_that_cannot_be_read_fails() {
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let _ = Memory::of(ended.id()).copies(&Encodings::of(&[format!("pcl_{}", "x".repeat(38))]));
}

fn print(copies: &[Copy]) {
    for copy in copies {
        println!("    {copy}");
    }
}

/// Returns the `Authorization` header of a key.
fn authorization(key: &str) -> String {
    format!("Authorization: {}", basic(key))
}
