//! Keys issued per second by 1, 8 and 64 writers, as a multiple of one writer's raw append and
//! fdatasync on the same disk.
//!
//! In each round all take turns for a short time, each with its own store. The bench prints the medians
//! of the ratios, and the largest number of keys in a store. `KEYS` is the number of keys that each
//! store has at the start; `DIR` is a directory on the disk to measure.

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

mod support {
    pub(crate) mod issue;
    pub(crate) mod run;
    pub(crate) mod statistics;
}

use portcullis::Store;
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{issue::issue, run::is_measured, statistics::percentile};

const WRITERS: [usize; 3] = [1, 8, 64];
/// The approximate size of a record and its audit entry.
const APPENDED: usize = 512;

fn main() {
    let (rounds, window) = if is_measured() {
        (9, Duration::from_millis(1500))
    } else {
        (1, Duration::from_millis(20))
    };
    let parent = std::env::var_os("DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let initial = std::env::var("KEYS").map_or(0, |text| text.parse().unwrap());
    let (mut ratios, mut most) = ([const { Vec::new() }; 3], [0; 3]);
    let mut raws = Vec::new();
    for round in 0..rounds {
        let raw = raw(&dir.path().join(format!("raw {round}")), window);
        for ((writers, ratios), most) in WRITERS.into_iter().zip(&mut ratios).zip(&mut most) {
            let store_dir = dir.path().join(format!("{writers} writers {round}"));
            let store = portcullis_testkit::builder().open(&store_dir).unwrap();
            issue_until(&store, 64, |count| count >= initial);
            ratios.push(issued(&store, writers, window) / raw);
            *most = store.count().active.max(*most);
            drop(store);
            std::fs::remove_dir_all(store_dir).unwrap();
        }
        raws.push(raw);
    }
    println!("medians of {rounds} rounds of {window:?}, by raw append + fdatasync");
    println!("raw: {:.0} a second", percentile(&mut raws, 0.5));
    for ((writers, mut ratios), most) in WRITERS.into_iter().zip(ratios).zip(most) {
        let ratio = percentile(&mut ratios, 0.5);
        println!("{writers} writers: {ratio:.2}, on a store that grew to {most} keys");
    }
}

/// Returns one writer's appends per second, each synced.
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

/// Returns the keys that this many writers issue per second.
fn issued(store: &Store, writers: usize, window: Duration) -> f64 {
    let begun = Instant::now();
    let count = issue_until(store, writers, |_| begun.elapsed() >= window);
    f64::from(u32::try_from(count).unwrap()) / begun.elapsed().as_secs_f64()
}

/// Issues keys until `is_enough` returns true for their number. Returns the number.
fn issue_until(store: &Store, writers: usize, is_enough: impl Fn(usize) -> bool + Sync) -> usize {
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while !is_enough(count.load(Ordering::Relaxed)) {
                    issue(store, count.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    count.into_inner()
}
