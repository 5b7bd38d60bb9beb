//! What does a page of a list or a search cost with ten thousand, a hundred thousand and a million
//! keys, and how long does a revocation wait behind it?
//!
//! Each question is asked many times over; the median and the longest are printed. The last column
//! is the longest `revoke` on another thread while nothing but that question is asked.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use portcullis::{Change, ListQuery, Store, scope::catalogue};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};
use support::many::{fill, percentile, sizes, wants_figures};

fn main() {
    let asked = if wants_figures() { 31 } else { 3 };
    println!("milliseconds: median and longest page of 50; longest revocation meanwhile");
    for keys in sizes(&[10_000, 100_000, 1_000_000]) {
        let store = Store::in_memory().unwrap();
        let some = Mutex::new(None);
        fill(&store, keys, |number, id, _| {
            if number == 1 {
                *some.lock().unwrap() = Some(id);
            }
        });
        let victim = some.into_inner().unwrap().unwrap();
        let rare = format!("Branch {}", "x").replace('x', "rare");
        store.update(victim, Change { name: Some(rare), ..Change::default() }).unwrap();
        let text = |text: &str| ListQuery { text: Some(text.into()), ..ListQuery::default() };
        let questions = [
            ("newest", ListQuery::default()),
            ("inactive", ListQuery { active: Some(false), ..ListQuery::default() }),
            (
                "of no key's scope",
                ListQuery { scope: Some(catalogue::ADMIN_KEY_LIST), ..ListQuery::default() },
            ),
            ("frequent name", text("till")),
            ("one name, the oldest", text("branch rare")),
            ("no name", text("zebra crossing")),
            ("no name, one letter alike", text("tilz")),
            ("an id", text(&victim.to_string())),
            ("no name, inactive", ListQuery { active: Some(false), ..text("zebra") }),
        ];
        for (name, query) in &questions {
            let done = AtomicBool::new(false);
            let (mut took, waited) = thread::scope(|scope| {
                let changes = scope.spawn(|| {
                    let mut longest = 0f64;
                    while !done.load(SeqCst) {
                        let start = Instant::now();
                        store.revoke(victim).unwrap();
                        longest = longest.max(start.elapsed().as_secs_f64() * 1e3);
                        store.update(victim, Change::activate()).unwrap();
                    }
                    longest
                });
                let took: Vec<f64> = (0..asked)
                    .map(|_| {
                        let start = Instant::now();
                        store.list(query).unwrap();
                        start.elapsed().as_secs_f64() * 1e3
                    })
                    .collect();
                done.store(true, SeqCst);
                (took, changes.join().unwrap())
            });
            took.sort_by(f64::total_cmp);
            let (middle, longest) = (percentile(&took, 0.5), percentile(&took, 1.0));
            println!("{keys:>9} keys, {name:<26} {middle:8.2} {longest:8.2} {waited:8.2}");
        }
    }
}
