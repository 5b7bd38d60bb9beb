//! How long does a revocation take that is kept in memory alone: on an idle machine, while readers
//! saturate every core, and while the number of keys grows as well?
//!
//! The store keeps nothing on disk, so what is timed is planning, denying, the way to the writer
//! thread and back: two changes of thread, which are most of it where readers keep the cores busy.
//! From denying on the key is refused, before the call returns; so the time until another thread,
//! which does nothing but present the key, is refused is printed as well. What denying takes in the
//! index alone is not to be seen from outside; the index's own figures print it:
//! `cargo test --release --lib figures -- --ignored --nocapture --test-threads=1`.
//!
//! `cargo bench --bench revocation` for 10,000 and a million keys.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use portcullis::{Change, Expiry, Grant, KeyId, Metadata, NewKey, Store};
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
use support::many::{fill, percentile, sizes, wants_figures};

const READERS: usize = 2;

fn main() {
    let revocations = if wants_figures() { 2000 } else { 20 };
    for keys in sizes(&[10_000, 1_000_000]) {
        let house = House::furnish(keys);
        say(keys, "until another thread is refused", house.until_refused(revocations));
        say(keys, "until it returns, idle", house.revoke(revocations));
        let busy = house.beside(READERS, 0, || house.revoke(revocations));
        say(keys, "until it returns, beside 2 readers", busy);
        let grown = house.beside(READERS, 1, || house.revoke(revocations));
        say(keys, "until it returns, beside 2 readers and one who issues keys", grown);
    }
}

fn say(keys: usize, what: &str, mut took: Vec<f64>) {
    took.sort_by(f64::total_cmp);
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&took, share));
    println!("{keys:>9} keys, {what}: p50 {p50:.1} µs, p99 {p99:.1} µs");
}

struct House {
    store: Store,
    keys: Vec<(KeyId, String)>,
}

impl House {
    fn furnish(keys: usize) -> Self {
        let store = Store::in_memory().unwrap();
        let texts = Mutex::new(Vec::new());
        fill(&store, keys, |number, id, text| {
            if number % 8 != 0 {
                texts.lock().unwrap().push((id, text.to_owned()));
            }
        });
        Self { store, keys: texts.into_inner().unwrap() }
    }

    /// Who is revoked in the `n`th place.
    fn key(&self, n: usize) -> &(KeyId, String) {
        &self.keys[n * 13 % self.keys.len()]
    }

    /// Microseconds from the call of `revoke` to the first refusal on another thread, each.
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

    /// Microseconds each. Every key is refused once `revoke` has returned.
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

    /// Runs `work` while some threads do nothing but authenticate, and some issue keys.
    fn beside<T>(&self, readers: usize, makers: usize, work: impl FnOnce() -> T) -> T {
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
            for _ in 0..makers {
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
        let new = NewKey {
            name: "Nightly export".into(),
            grant: Grant::Scopes(scopes),
            active: true,
            expiry: Expiry::Never,
            owner: None,
            metadata: Metadata::new(),
        };
        self.store.issue(new).unwrap();
    }
}
