//! The cost of a page of a list or a search with ten thousand, a hundred thousand and a million keys,
//! and how long a concurrent revocation takes.
//!
//! Each query runs many times; the bench prints the median and the longest time. The last column is
//! the longest `revoke` on another thread while that query runs.

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

use portcullis::{Change, list::ListQuery, scope::catalogue};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};
use support::{fill::fill, run::is_measured, sizes::sizes, statistics::percentile};

fn main() {
    let repetitions = if is_measured() { 31 } else { 3 };
    println!("milliseconds: median and longest page of 50; longest concurrent revocation");
    for keys in sizes(&[10_000, 100_000, 1_000_000]) {
        let store = portcullis_testkit::builder().in_memory().unwrap();
        let second = Mutex::new(None);
        fill(&store, keys, |number, id, _| {
            if number == 1 {
                *second.lock().unwrap() = Some(id);
            }
        });
        let revoked = second.into_inner().unwrap().unwrap();
        let rare = "Branch rare".to_owned();
        store.update(revoked, Change::default().with_name(rare)).unwrap();
        let text = |text: &str| ListQuery::default().with_text(text);
        let queries = [
            ("newest", ListQuery::default()),
            ("inactive", ListQuery::default().with_active(false)),
            ("scope of no key", ListQuery::default().with_scope(catalogue::ADMIN_KEY_LIST)),
            ("frequent name", text("till")),
            ("name of the oldest key", text("branch rare")),
            ("no name", text("zebra crossing")),
            ("no name, similar prefix", text("tilz")),
            ("an id", text(&revoked.to_string())),
            ("no name, inactive", text("zebra").with_active(false)),
        ];
        for (name, query) in &queries {
            let done = AtomicBool::new(false);
            let (mut took, waited) = thread::scope(|scope| {
                let changes = scope.spawn(|| {
                    let mut longest = 0f64;
                    while !done.load(SeqCst) {
                        let start = Instant::now();
                        store.revoke(revoked).unwrap();
                        longest = longest.max(start.elapsed().as_secs_f64() * 1e3);
                        store.update(revoked, Change::activate()).unwrap();
                    }
                    longest
                });
                let took: Vec<f64> = (0..repetitions)
                    .map(|_| {
                        let start = Instant::now();
                        store.list(query).unwrap();
                        start.elapsed().as_secs_f64() * 1e3
                    })
                    .collect();
                done.store(true, SeqCst);
                (took, changes.join().unwrap())
            });
            let [median, longest] = [0.5, 1.0].map(|share| percentile(&mut took, share));
            println!("{keys:>9} keys, {name:<26} {median:8.2} {longest:8.2} {waited:8.2}");
        }
    }
}
