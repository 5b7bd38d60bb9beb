//! How many keys a second do 1, 8 and 64 writers issue, as a multiple of one writer's raw append and
//! fdatasync on the same disk?
//!
//! In each round all take turns for a short while, each on a store of its own. A ratio is of one round;
//! the medians of the rounds are printed, and how many keys a store came to. `KEYS` gives each store so
//! many keys beforehand, `DIR` names a directory on the disk in question.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "support/furnished.rs"]
mod support;

use portcullis::Store;
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

const WRITERS: [usize; 3] = [1, 8, 64];
/// About what a key takes: its record and its entry of the trail.
const APPENDED: usize = 512;

fn main() {
    let (rounds, window) = if support::is_measured() {
        (9, Duration::from_millis(1500))
    } else {
        (1, Duration::from_millis(20))
    };
    let here = std::env::var_os("DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let room = tempfile::tempdir_in(here).unwrap();
    let beforehand = std::env::var("KEYS").map_or(0, |text| text.parse().unwrap());
    let (mut ratios, mut most) = ([const { Vec::new() }; 3], [0; 3]);
    let mut raws = Vec::new();
    for round in 0..rounds {
        let raw = raw(&room.path().join(format!("raw {round}")), window);
        for ((writers, ratios), most) in WRITERS.into_iter().zip(&mut ratios).zip(&mut most) {
            let dir = room.path().join(format!("{writers} writers {round}"));
            let store = Store::open(&dir).unwrap();
            issue_until(&store, 64, |count| count >= beforehand);
            ratios.push(issued(&store, writers, window) / raw);
            *most = store.count().active.max(*most);
            drop(store);
            std::fs::remove_dir_all(dir).unwrap();
        }
        raws.push(raw);
    }
    println!("medians of {rounds} rounds of {window:?}, by raw append + fdatasync");
    println!("raw: {:.0} a second", support::median(raws));
    for ((writers, ratios), most) in WRITERS.into_iter().zip(ratios).zip(most) {
        let ratio = support::median(ratios);
        println!("{writers} writers: {ratio:.2}, on a store that came to {most} keys");
    }
}

/// One writer's appends a second, each synced.
fn raw(path: &Path, window: Duration) -> f64 {
    let mut file = File::create(path).unwrap();
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < window {
        file.write_all(&[0x5a; APPENDED]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Keys issued a second by so many writers.
fn issued(store: &Store, writers: usize, window: Duration) -> f64 {
    let begun = Instant::now();
    let count = issue_until(store, writers, |_| begun.elapsed() >= window);
    f64::from(u32::try_from(count).unwrap()) / begun.elapsed().as_secs_f64()
}

/// Issues until it is enough; gives how many.
fn issue_until(store: &Store, writers: usize, is_enough: impl Fn(usize) -> bool + Sync) -> usize {
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while !is_enough(count.load(Ordering::Relaxed)) {
                    support::issue(store, count.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    count.into_inner()
}
