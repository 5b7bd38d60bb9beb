//! The cost of a page of a list or a search with ten thousand, a hundred thousand and a million keys,
//! and how long a concurrent revocation takes.
//!
//! Each query runs many times alone, and then as often beside a thread that revokes and reactivates a key
//! without a pause. The bench prints the median and the longest time alone, the median beside that thread, and
//! the longest `revoke` of that thread.

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

use portcullis::{
    Actor, Change, Timestamp,
    list::{ListQuery, SortBy},
    scope::catalogue,
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use support::{fill::fill, run::is_measured, sizes::sizes, statistics::percentile};

fn main() {
    let repetitions = if is_measured() { 31 } else { 3 };
    println!(
        "milliseconds of a page of 50: median, longest, median beside changes; longest concurrent revocation"
    );
    for keys in sizes(&[10_000, 100_000, 1_000_000]) {
        let store = portcullis_testkit::builder().in_memory().unwrap();
        let second = Mutex::new(None);
        fill(&store, keys, |number, id, key| {
            if number == 1 {
                *second.lock().unwrap() = Some(id);
            }
            if number % 10 == 3 {
                store.authenticate_key(key.as_bytes()).unwrap();
            }
        });
        let revoked = second.into_inner().unwrap().unwrap();
        let rare = "Branch rare".to_owned();
        store.update(revoked, Change::default().with_name(rare)).unwrap();
        let text = |text: &str| ListQuery::default().with_text(text);
        let all = ListQuery::default;
        let queries = [
            ("newest", all()),
            ("inactive", ListQuery::default().with_active(false)),
            ("scope of no key", ListQuery::default().with_scope(catalogue::ADMIN_KEY_LIST)),
            ("frequent name", text("till")),
            ("name of the oldest key", text("branch rare")),
            ("no name", text("zebra crossing")),
            ("no name, similar prefix", text("tilz")),
            ("an id", text(&revoked.to_string())),
            ("no name, inactive", text("zebra").with_active(false)),
            ("oldest first", all().sorted_by(SortBy::CreatedAt, false)),
            ("by name", all().sorted_by(SortBy::Name, false)),
            ("by name, descending", all().sorted_by(SortBy::Name, true)),
            ("by last use", all().sorted_by(SortBy::LastUse, true)),
            ("by expiry", all().sorted_by(SortBy::Expiry, false)),
            ("total", all().with_total()),
            ("owner without keys", all().with_owner("nobody")),
            ("creator, total", all().with_creator(Actor::Host).with_total()),
            ("expired", all().with_expired(true)),
            ("replaced", all().with_replaced(true)),
            ("expiring within 30 days", all().expiring_within(Duration::from_hours(30 * 24))),
            ("unused since now", all().unused_since(store.now()).with_total()),
            ("never used, by name", all().with_used(false).sorted_by(SortBy::Name, false)),
            ("created before the first", all().created_until(Timestamp::from_secs(1))),
        ];
        for (name, query) in &queries {
            let times = || -> Vec<f64> {
                (0..repetitions)
                    .map(|_| {
                        let start = Instant::now();
                        store.list(query).unwrap();
                        start.elapsed().as_secs_f64() * 1e3
                    })
                    .collect()
            };
            let mut alone = times();
            let done = AtomicBool::new(false);
            let (mut beside, waited) = thread::scope(|scope| {
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
                let took = times();
                done.store(true, SeqCst);
                (took, changes.join().unwrap())
            });
            let [median, longest] = [0.5, 1.0].map(|share| percentile(&mut alone, share));
            let beside = percentile(&mut beside, 0.5);
            println!(
                "{keys:>9} keys, {name:<26} {median:8.2} {longest:8.2} {beside:8.2} {waited:8.2}"
            );
        }
    }
}
