//! How many instructions does authenticating a header take? Counted by valgrind's callgrind, which
//! gives the same number whatever else the machine does; fails above the limit.
//!
//! The path counted is the whole of `Store::authenticate`: from the header's bytes to a principal.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis::{Expiry, Grant, Metadata, NewKey, Store, Timestamp};
use std::{env, hint::black_box, process::Command};

const KEYS: usize = 1_000;
const CALLS: u32 = 2_000;
/// Of a key without an end, which reads no clock.
const LIMIT: f64 = 1_250.0;
/// Says what to count, in the process that callgrind watches.
const WATCHED: &str = "PORTCULLIS_WATCHED";

fn main() {
    if let Ok(what) = env::var(WATCHED) {
        return walk(&what);
    }
    // Cargo passes `--bench` where figures are wanted; otherwise this run only shows that it works.
    if !env::args().any(|argument| argument == "--bench") {
        return ["endless", "ending", "garbage", "hash"].into_iter().for_each(walk);
    }
    let counts = ["endless", "ending", "garbage", "hash"].map(count);
    let [endless, ending, garbage, hash] = counts;
    println!("instructions a call, mean of {CALLS} over {KEYS} keys:");
    println!("a key without an end {endless:.0} (limit {LIMIT}), with one {ending:.0}");
    println!("garbage {garbage:.0}, blake3::hash of the key alone {hash:.0}");
    assert!(endless <= LIMIT, "authenticating a header takes {endless:.0} instructions");
}

/// Runs this program again under callgrind, which counts within `counted` only.
fn count(what: &str) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted*", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().unwrap())
        .env(WATCHED, what)
        .output()
        .expect("valgrind is needed: install Debian's package valgrind");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")).unwrap().1;
    collected.trim().parse::<f64>().unwrap() / f64::from(CALLS)
}

fn walk(what: &str) {
    let store = Store::in_memory().unwrap();
    let scopes = store.scopes(["api.read"]).unwrap();
    let expiry = match what {
        "ending" => Expiry::At(Timestamp::from_secs(4_000_000_000)),
        _ => Expiry::Never,
    };
    let rows: Vec<Vec<u8>> = (0..KEYS)
        .map(|number| {
            let new = NewKey {
                name: format!("key {number}"),
                grant: Grant::Scopes(scopes),
                active: true,
                expiry,
                owner: None,
                metadata: Metadata::new(),
            };
            store.issue(new).unwrap().secret.reveal(|text| match what {
                "hash" => text.as_bytes().to_vec(),
                "garbage" => vec![b'%'; 82],
                _ => format!("Basic {}", BASE64_STANDARD.encode(format!("{text}:"))).into_bytes(),
            })
        })
        .collect();
    let accepted = match what {
        "hash" => counted(&rows, |key| *blake3::hash(key).as_bytes() != [0; 32]),
        _ => counted(&rows, |header| store.authenticate(header).is_ok()),
    };
    assert_eq!(accepted, if what == "garbage" { 0 } else { CALLS });
}

#[inline(never)]
fn counted(rows: &[Vec<u8>], call: impl Fn(&[u8]) -> bool) -> u32 {
    let calls = (0..CALLS).zip(rows.iter().cycle());
    calls.map(|(_, row)| u32::from(call(black_box(row)))).sum()
}
