//! How long does a revocation take while readers saturate every core, and how long does a reader
//! wait while the index grows?
//!
//! The store keeps nothing on disk, so what is timed is planning, denying, the way to the writer
//! thread and back. What of it happens in the index alone is printed by the index's own figures:
//! `cargo test --release --lib figures -- --ignored --nocapture --test-threads=1`.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use portcullis::{Change, Store};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};
use support::many::{fill, percentile, sizes, wants_figures};

const READERS: usize = 2;

fn main() {
    let revocations = if wants_figures() { 2000 } else { 20 };
    for keys in sizes(&[10_000, 1_000_000]) {
        let store = Store::in_memory().unwrap();
        let texts = Mutex::new(Vec::new());
        fill(&store, keys, |number, id, text| {
            if number % 8 != 0 {
                texts.lock().unwrap().push((id, text.to_owned()));
            }
        });
        let texts = texts.into_inner().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..READERS {
                let (store, texts, done) = (&store, &texts, &done);
                scope.spawn(move || {
                    let mut at = reader;
                    while !done.load(SeqCst) {
                        at = (at + 7) % texts.len();
                        let _ = store.authenticate_key(texts[at].1.as_bytes());
                    }
                });
            }
            let mut took: Vec<f64> = (0..revocations)
                .map(|n| {
                    let (id, text) = &texts[n * 13 % texts.len()];
                    let start = Instant::now();
                    store.revoke(*id).unwrap();
                    let took = start.elapsed().as_secs_f64() * 1e6;
                    assert!(store.authenticate_key(text.as_bytes()).is_err());
                    store.update(*id, Change::activate()).unwrap();
                    took
                })
                .collect();
            took.sort_by(f64::total_cmp);
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(&took, share));
            println!("{keys:>9} keys, {READERS} readers: revoke p50 {p50:.0} µs, p99 {p99:.0} µs");
            done.store(true, SeqCst);
        });
    }
}
