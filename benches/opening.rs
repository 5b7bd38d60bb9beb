//! How long does it take to open a store of a million keys, as a multiple of a warm raw read of its
//! database file, and how much memory? And how long of the engine alone, which opens the same file and
//! goes through the records without looking at them?
//!
//! The raw read takes the file into memory, as whoever wants all of it must. Read through one buffer
//! that stays in the processor's cache, it is some times faster, and says more of that cache than of
//! the file; that ratio is printed as well.
//!
//! Each opening is a process of its own, since the engine holds its lock for a while. A ratio is of
//! a raw read and the opening after it; the median is printed. The store lies in memory, where the
//! machine has such a place, or in the directory that `DIR` names; `STORE` names a directory in which
//! it is made once and kept.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "support/furnished.rs"]
mod support;

use portcullis::Store;
use std::{fs::File, io::Read, path::Path, time::Instant};

/// As the store opens it (`src/ledger/engine.rs`).
const CACHE_BYTES: u64 = 16 << 20;

fn main() {
    if let Some(arguments) = support::as_child() {
        let [what, path] = arguments.try_into().unwrap();
        let begun = Instant::now();
        if what.as_os_str() == "engine" {
            let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
            let db = config.flush_every_ms(None).open().unwrap();
            assert_ne!(db.scan_prefix(b"k").flatten().count(), 0);
            support::tell(begun);
            return;
        }
        let store = Store::open(path).unwrap();
        support::tell(begun);
        drop(store);
        return;
    }
    let room = support::room();
    let dir = support::furnish(room.path());
    let file = dir.join("ledger/sled/db");
    let rounds = if support::is_measured() { 7 } else { 1 };
    read(&file);
    let (mut ratios, mut raws, mut children, mut engine) = (vec![], vec![], vec![], vec![]);
    let mut through = vec![];
    for _ in 0..rounds {
        let (raw, buffered) = (read(&file), read_through(&file));
        let child = support::child(&["store".as_ref(), dir.as_os_str()]);
        let alone = support::child(&["engine".as_ref(), dir.join("ledger/sled").as_os_str()]);
        ratios.push(child.seconds / raw);
        through.push(child.seconds / buffered);
        engine.push(alone.seconds / raw);
        raws.push(raw);
        children.push(child);
    }
    let mib = file.metadata().unwrap().len() >> 20;
    let (keys, here) = (support::keys(), dir.display());
    println!("{keys} keys, a file of {mib} MiB in {here}, medians of {rounds} rounds");
    let of =
        |figure: fn(&support::Told) -> f64| support::median(children.iter().map(figure).collect());
    let (seconds, processor) = (of(|told| told.seconds), of(|told| told.processor_seconds));
    println!("raw read {:.2} s, opening {seconds:.2} s", support::median(raws));
    println!("opening / raw read: {:.2}", support::median(ratios));
    println!("opening / read through one buffer: {:.2}", support::median(through));
    println!("the engine alone / raw read: {:.2}", support::median(engine));
    println!("processor time {processor:.2} s, peak memory {:.0} MiB", of(|told| told.peak_mib));
}

/// Seconds to take a file whose pages are in memory into memory of our own.
fn read(path: &Path) -> f64 {
    let begun = Instant::now();
    assert_ne!(std::fs::read(path).unwrap().len(), 0);
    begun.elapsed().as_secs_f64()
}

/// Seconds to read it to its end and keep nothing.
fn read_through(path: &Path) -> f64 {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let begun = Instant::now();
    while file.read(&mut buffer).unwrap() > 0 {}
    begun.elapsed().as_secs_f64()
}
