//! The time to open a store of a million keys, as a multiple of a warm raw read of its database file,
//! and the memory. Also the time of sled alone, which opens the same file and iterates over the
//! records without decoding them.
//!
//! The raw read loads the complete file into memory. A read through one buffer is several times
//! faster, since the buffer stays in the processor's cache; that ratio is printed, too.
//!
//! Each opening runs in a process of its own, since sled releases its lock with a delay. A ratio is of
//! a raw read and the opening after it; the median is printed. The store is in memory where the system
//! has `/dev/shm`, or in the directory `DIR`. `STORE` names a directory in which the store is kept from
//! run to run.

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

mod support {
    pub(crate) mod arguments;
    pub(crate) mod child;
    pub(crate) mod issue;
    pub(crate) mod memory;
    pub(crate) mod populated;
    pub(crate) mod run;
    pub(crate) mod statistics;
}

use std::{fs::File, io::Read, path::Path, time::Instant};
use support::{
    arguments::child_arguments,
    child::{Measurement, print_measurement, run_child},
    populated::{keys, populate, temporary_directory},
    run::is_measured,
    statistics::percentile,
};

/// The cache size with which the store opens sled (`src/ledger/engine.rs`).
const CACHE_BYTES: u64 = 16 << 20;

fn main() {
    if let Some(arguments) = child_arguments() {
        let [what, path] = arguments.try_into().unwrap();
        let begun = Instant::now();
        if what.as_os_str() == "sled" {
            let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
            let db = config.flush_every_ms(None).open().unwrap();
            assert_ne!(db.scan_prefix(b"k").flatten().count(), 0);
            print_measurement(begun);
            return;
        }
        let store = portcullis_testkit::builder().open(path).unwrap();
        print_measurement(begun);
        drop(store);
        return;
    }
    let parent = temporary_directory();
    let dir = populate(parent.path());
    let file = dir.join("ledger/sled/db");
    let rounds = if is_measured() { 7 } else { 1 };
    read(&file);
    let (mut ratios, mut raws, mut children, mut sled_alone) = (vec![], vec![], vec![], vec![]);
    let mut through = vec![];
    for _ in 0..rounds {
        let (raw, buffered) = (read(&file), read_through(&file));
        let child = run_child(&["store".as_ref(), dir.as_os_str()]);
        let alone = run_child(&["sled".as_ref(), dir.join("ledger/sled").as_os_str()]);
        ratios.push(child.seconds / raw);
        through.push(child.seconds / buffered);
        sled_alone.push(alone.seconds / raw);
        raws.push(raw);
        children.push(child);
    }
    let mib = file.metadata().unwrap().len() >> 20;
    let (keys, location) = (keys(), dir.display());
    println!("{keys} keys, a file of {mib} MiB in {location}, medians of {rounds} rounds");
    let median = |figure: fn(&Measurement) -> f64| {
        percentile(&mut children.iter().map(figure).collect::<Vec<_>>(), 0.5)
    };
    let (seconds, processor) =
        (median(|child| child.seconds), median(|child| child.processor_seconds));
    println!("raw read {:.2} s, opening {seconds:.2} s", percentile(&mut raws, 0.5));
    println!("opening / raw read: {:.2}", percentile(&mut ratios, 0.5));
    println!("opening / read through one buffer: {:.2}", percentile(&mut through, 0.5));
    println!("sled alone / raw read: {:.2}", percentile(&mut sled_alone, 0.5));
    println!(
        "processor time {processor:.2} s, peak memory {:.0} MiB",
        median(|child| child.peak_mib)
    );
}

/// Returns the seconds to read a cached file into a buffer of its full size.
fn read(path: &Path) -> f64 {
    let begun = Instant::now();
    assert_ne!(std::fs::read(path).unwrap().len(), 0);
    begun.elapsed().as_secs_f64()
}

/// Returns the seconds to read a cached file through one small buffer.
fn read_through(path: &Path) -> f64 {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let begun = Instant::now();
    while file.read(&mut buffer).unwrap() > 0 {}
    begun.elapsed().as_secs_f64()
}
