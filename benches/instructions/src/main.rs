//! The number of instructions to authenticate a header. valgrind's callgrind counts them, so the
//! number does not depend on other load. The program fails above the limit.
//!
//! The count covers all of `Store::authenticate_header`, from the bytes of the header to a principal, and
//! of `Store::authenticate`, from all headers of a request.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement prints its figures and fails by panicking"
)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis::{Expiry, NewKey, Store, Timestamp};
use std::{env, hint::black_box, process::Command};

const CASES: [&str; 5] = ["no expiry", "expiry", "request", "malformed", "hash"];
const KEYS: usize = 1_000;
const CALLS: u32 = 2_000;
/// The maximum for a key without expiry, which reads no clock.
const LIMIT: f64 = 1_250.0;
/// The maximum that all headers of a request add to that of one header.
const REQUEST_LIMIT: f64 = 40.0;
/// The variable that names the case to count, in the process that callgrind runs.
const CASE: &str = "PORTCULLIS_CASE";

fn main() {
    if let Ok(case) = env::var(CASE) {
        return run(&case);
    }
    let [no_expiry, expiry, request, malformed, hash] = CASES.map(count);
    println!("instructions a call, mean of {CALLS} over {KEYS} keys:");
    println!("a key without expiry {no_expiry:.0} (limit {LIMIT}), with one {expiry:.0}");
    println!("all headers of a request {request:.0}");
    println!("a malformed header {malformed:.0}, blake3::hash of the key alone {hash:.0}");
    assert!(no_expiry <= LIMIT, "authenticating a header takes {no_expiry:.0} instructions");
    let limit = no_expiry + REQUEST_LIMIT;
    assert!(request <= limit, "authenticating a request takes {request:.0} instructions");
}

/// Runs this program under callgrind, which counts only within the function `counted`.
fn count(case: &str) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted*", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().unwrap())
        .env(CASE, case)
        .output()
        .expect("valgrind is needed: install Debian's package valgrind");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")).unwrap().1;
    collected.trim().parse::<f64>().unwrap() / f64::from(CALLS)
}

/// Runs a case.
fn run(case: &str) {
    let store = Store::builder()
        .scopes(portcullis::scope::catalogue::financial_data())
        .in_memory()
        .unwrap();
    let scopes = store.scopes(["api.read"]).unwrap();
    let expiry = match case {
        "expiry" => Expiry::At(Timestamp::from_secs(4_000_000_000)),
        _ => Expiry::Never,
    };
    let rows: Vec<Vec<u8>> = (0..KEYS)
        .map(|number| {
            let new = NewKey::new(format!("key {number}"), scopes, expiry);
            store.issue(new).unwrap().secret.reveal(|text| match case {
                "hash" => text.as_bytes().to_vec(),
                "malformed" => vec![b'%'; 82],
                _ => format!("Basic {}", BASE64_STANDARD.encode(format!("{text}:"))).into_bytes(),
            })
        })
        .collect();
    let accepted = match case {
        "hash" => counted(&rows, |key| *blake3::hash(key).as_bytes() != [0; 32]),
        "request" => counted(&rows, |header| store.authenticate([header].iter()).is_ok()),
        _ => counted(&rows, |header| store.authenticate_header(header).is_ok()),
    };
    assert_eq!(accepted, if case == "malformed" { 0 } else { CALLS });
}

#[inline(never)]
fn counted(rows: &[Vec<u8>], call: impl Fn(&[u8]) -> bool) -> u32 {
    let calls = (0..CALLS).zip(rows.iter().cycle());
    calls.map(|(_, row)| u32::from(call(black_box(row)))).sum()
}
