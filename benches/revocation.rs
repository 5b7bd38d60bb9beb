//! The time of a revocation in an in-memory store: on an idle machine, while readers saturate every
//! core, and while another thread also issues keys.
//!
//! Nothing is written to disk. The time covers planning, the denial in the index, and the way to the
//! writer thread and back. Those two thread switches dominate when readers keep the cores busy. The
//! key is refused from the denial on, before the call returns. So the bench also prints the time
//! until another thread, which presents the key continuously, is refused. The figures of the index
//! print the time of the denial alone:
//! `cargo test --release --lib figures -- --ignored --nocapture --test-threads=1`.
//!
//! `cargo bench --bench revocation` runs 10,000 and a million keys.

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

mod support {
    pub(crate) mod fill;
    pub(crate) mod run;
    pub(crate) mod sizes;
    pub(crate) mod statistics;
}

use portcullis::{Change, Expiry, KeyId, NewKey, Store};
use std::{
    hint::spin_loop,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Instant,
};
use support::{fill::fill, run::is_measured, sizes::sizes, statistics::percentile};

const READERS: usize = 2;

fn main() {
    let revocations = if is_measured() { 2000 } else { 20 };
    for keys in sizes(&[10_000, 1_000_000]) {
        let fixture = Fixture::new(keys);
        print_times(keys, "until another thread is refused", fixture.until_refused(revocations));
        print_times(keys, "until it returns, idle", fixture.revoke(revocations));
        let busy = fixture.with_load(READERS, 0, || fixture.revoke(revocations));
        print_times(keys, "until it returns, with 2 readers", busy);
        let grown = fixture.with_load(READERS, 1, || fixture.revoke(revocations));
        print_times(keys, "until it returns, with 2 readers and a thread that issues keys", grown);
    }
}

fn print_times(keys: usize, what: &str, mut took: Vec<f64>) {
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut took, share));
    println!("{keys:>9} keys, {what}: p50 {p50:.1} µs, p99 {p99:.1} µs");
}

struct Fixture {
    store: Store,
    keys: Vec<(KeyId, String)>,
}

impl Fixture {
    fn new(keys: usize) -> Self {
        let store = portcullis_testkit::builder().in_memory().unwrap();
        let texts = Mutex::new(Vec::new());
        fill(&store, keys, |number, id, text| {
            if number % 8 != 0 {
                texts.lock().unwrap().push((id, text.to_owned()));
            }
        });
        Self { store, keys: texts.into_inner().unwrap() }
    }

    /// Returns the key of the `n`th revocation.
    fn key(&self, n: usize) -> &(KeyId, String) {
        &self.keys[n * 13 % self.keys.len()]
    }

    /// Returns the microseconds from each call of `revoke` to the first refusal on another thread.
    fn until_refused(&self, revocations: usize) -> Vec<f64> {
        let (turn, passed) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let (refused, when) = mpsc::channel();
        thread::scope(|scope| {
            let (turn, passed) = (&turn, &passed);
            scope.spawn(move || {
                for n in 0..revocations {
                    while turn.load(SeqCst) != n {
                        spin_loop();
                    }
                    let key = self.key(n).1.as_bytes();
                    assert!(self.store.authenticate_key(key).is_ok());
                    passed.store(n, SeqCst);
                    while self.store.authenticate_key(key).is_ok() {}
                    refused.send(Instant::now()).unwrap();
                }
            });
            let revoke = |n| {
                turn.store(n, SeqCst);
                while passed.load(SeqCst) != n {
                    spin_loop();
                }
                let start = Instant::now();
                self.store.revoke(self.key(n).0).unwrap();
                let took = when.recv().unwrap().duration_since(start);
                self.store.update(self.key(n).0, Change::activate()).unwrap();
                took.as_secs_f64() * 1e6
            };
            (0..revocations).map(revoke).collect()
        })
    }

    /// Returns the microseconds of each revocation. Asserts that the key is refused afterwards.
    fn revoke(&self, revocations: usize) -> Vec<f64> {
        (0..revocations)
            .map(|n| {
                let (id, text) = self.key(n);
                let start = Instant::now();
                self.store.revoke(*id).unwrap();
                let took = start.elapsed().as_secs_f64() * 1e6;
                assert!(self.store.authenticate_key(text.as_bytes()).is_err());
                self.store.update(*id, Change::activate()).unwrap();
                took
            })
            .collect()
    }

    /// Runs `work` while some threads authenticate keys and some issue keys.
    fn with_load<T>(&self, readers: usize, writers: usize, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..readers {
                let done = &done;
                scope.spawn(move || {
                    let mut at = reader;
                    while !done.load(SeqCst) {
                        at = (at + 7) % self.keys.len();
                        let _ = self.store.authenticate_key(self.keys[at].1.as_bytes());
                    }
                });
            }
            for _ in 0..writers {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        self.issue();
                    }
                });
            }
            let result = work();
            done.store(true, SeqCst);
            result
        })
    }

    fn issue(&self) {
        let scopes = self.store.scopes(["api.read"]).unwrap();
        let new = NewKey::new("Nightly export", scopes, Expiry::Never);
        self.store.issue(new).unwrap();
    }
}
