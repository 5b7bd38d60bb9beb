//! A secret is never anywhere but with its holder: after every kind of request the writable memory
//! of the running server, stacks included, holds no copy of a key that was presented or issued.
//!
//! The short form visits each scene once. The long form visits each scene ten times and scans
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
mod spelling;
mod stage;

use http2::Coding;
use scan::{Copy, Memory};
use spelling::{Spellings, basic};
use stage::Stage;
use std::{
    hint::black_box,
    thread::sleep,
    time::{Duration, Instant},
};

/// The time after which the long form scans.
const DELAY: Duration = Duration::from_secs(1);
/// A loaded host may take longer to close a connection; a copy that stays is there after this too.
const PATIENCE: Duration = Duration::from_secs(10);

/// One way in which keys reach the server. It returns the keys.
struct Scene {
    name: &'static str,
    run: fn(&Stage) -> Vec<String>,
}

fn scenes() -> Vec<Scene> {
    [routes::SCENES, browsing::SCENES, misuse::SCENES]
        .concat()
        .into_iter()
        .map(|(name, run)| Scene { name, run })
        .collect()
}

#[test]
fn no_copy_of_a_key_stays_in_memory_after_its_connection_closed() {
    let rounds = std::env::var("PORTCULLIS_MEMORY_ROUNDS").ok().map(|text| text.parse().unwrap());
    let only = std::env::var("PORTCULLIS_MEMORY_SCENE").ok();
    let stage = Stage::new();
    stage.assert_that_the_scan_sees_the_memory();
    let (mut all, mut failed, mut visits, mut scans) = (stage.roots(), Vec::new(), 0, 0);
    let scenes = scenes();
    for round in 0..rounds.unwrap_or(1) {
        for scene in &scenes {
            if only.as_ref().is_some_and(|only| !scene.name.contains(only.as_str())) {
                continue;
            }
            let keys = (scene.run)(&stage);
            assert!(!keys.is_empty(), "{} presents no key", scene.name);
            let spellings = Spellings::of(&keys);
            let copies = if rounds.is_some() {
                sleep(DELAY);
                scans += 1;
                stage.copies(&spellings)
            } else {
                let end = Instant::now() + PATIENCE;
                loop {
                    scans += 1;
                    let copies = stage.copies(&spellings);
                    if copies.is_empty() || Instant::now() > end {
                        break copies;
                    }
                    sleep(Duration::from_millis(100));
                }
            };
            visits += 1;
            if !copies.is_empty() {
                println!("round {round}, {}: {} copies", scene.name, copies.len());
                print(&copies);
                failed.push(format!("{}: {}", scene.name, copies.len()));
            }
            all.extend(keys);
        }
    }
    // Every key of every scene, the root keys and those that the scenes made ready included.
    all.extend(stage.prepared());
    let copies = stage.copies(&Spellings::of(&all));
    println!(
        "{} scenes, {visits} visits, {scans} scans, {} keys, {} visits with copies; at the end {} copies",
        scenes.len(),
        all.len(),
        failed.len(),
        copies.len()
    );
    print(&copies);
    assert!(failed.is_empty(), "{failed:?}");
    assert!(copies.is_empty(), "at the end");
    let file = stage.file_with(&Spellings::of(&all));
    assert_eq!(file, None, "a key is in a file");
}

/// What the libraries' buffers keep of an answered connection is on the heap, and ends with the
/// connection. The long form waits until the server ends it.
#[test]
fn idle_connection_keeps_no_copy_on_a_stack() {
    let is_long = std::env::var_os("PORTCULLIS_MEMORY_ROUNDS").is_some();
    let stage = Stage::new();
    for protocol in ["HTTP/1.1", "HTTP/2, indexed", "HTTP/2, literal"] {
        let key = stage.admin();
        let spellings = Spellings::of(std::slice::from_ref(&key));
        let header = basic(&key);
        let headers = [("authorization", header.as_str())];
        let (mut one, mut two) = (stage.http1(), stage.http2());
        let answer = match protocol {
            "HTTP/1.1" => one.ask(&http1::request("GET", "/v1/whoami", &key, "")),
            "HTTP/2, indexed" => two.ask_with("GET", "/v1/whoami", &headers, "", Coding::Indexed),
            _ => two.ask_with("GET", "/v1/whoami", &headers, "", Coding::Literal),
        };
        assert_eq!(answer.status, 200);
        let end = Instant::now() + PATIENCE;
        let copies = loop {
            let copies = stage.copies(&spellings);
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
        let end = Instant::now() + PATIENCE;
        while !stage.copies(&spellings).is_empty() {
            assert!(Instant::now() < end, "{protocol}: copies stay after the connection");
            sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn scan_finds_every_spelling_of_a_key_on_heap_and_stack() {
    let own = Memory::of(std::process::id());
    for alphabet in
        ["0a1b2c3d4e5f6g7h8i9jAkBlCmDnEoFpGqHrIs", "zYxWvUtSrQpOnMlKjIhGfEdCbA9876543210ZY"]
    {
        // Spelled in pieces, so that the program text and its copies do not count.
        let key = format!("pcl_8fK2mQ9xZ1a_{alphabet}");
        let spellings = Spellings::of(std::slice::from_ref(&key));
        for (name, spelling) in spelling::planted(&key) {
            let piece = black_box(spelling[spelling.len() / 4..][..24].to_vec());
            let found = own.copies(&spellings);
            assert!(is_among(&found, piece.as_ptr()), "{name}: {found:?}");
        }
        let mut on_the_stack = [0u8; 24];
        on_the_stack.copy_from_slice(&key.as_bytes()[20..44]);
        let found = own.copies(&spellings);
        assert!(is_among(&found, black_box(&on_the_stack).as_ptr()), "{found:?}");
    }
}

#[test]
fn wipe_stack_removes_what_deep_frames_left() {
    /// Leaves a copy of the key some 200 KiB below, and returns where.
    #[inline(never)]
    fn leave(key: &[u8], frames: usize) -> usize {
        let mut frame = [0u8; 4096];
        frame[..24].copy_from_slice(key);
        let place = black_box(&frame).as_ptr().addr();
        if frames == 0 { place } else { leave(key, frames - 1) }
    }
    let key = format!("pcl_8fK2mQ9xZ1a_{}", "1Qa2Ws3Ed4Rf5Tg6Yh7Uj8Ik9Ol0Pz1Xc2Vb3N");
    let spellings = Spellings::of(std::slice::from_ref(&key));
    let memory = Memory::of(std::process::id());
    let place = leave(&key.as_bytes()[20..44], 50) as *const u8;
    assert!(is_among(&memory.copies(&spellings), place), "the frame left a copy");
    leave(&key.as_bytes()[20..44], 50);
    portcullis::wipe_stack();
    assert!(!is_among(&memory.copies(&spellings), place));
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
    let _ = Memory::of(ended.id()).copies(&Spellings::of(&[format!("pcl_{}", "x".repeat(38))]));
}

fn print(copies: &[Copy]) {
    for copy in copies {
        println!("    {copy}");
    }
}

/// Authorization as a client sends it.
fn authorization(key: &str) -> String {
    format!("Authorization: {}", basic(key))
}
