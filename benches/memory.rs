//! How many bytes of memory does a key take, all in all: its slot, its record, its place in the
//! order, and what a search looks through?
//!
//! Each size is measured in a process of its own, as the growth of what is resident. The names have
//! 14 bytes on average and the owners 8; what is printed as `beyond` is the rest. What the slots
//! alone take is printed by the index's own figures:
//! `cargo test --release --lib figures -- --ignored --nocapture --test-threads=1`.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use portcullis::Store;
use std::{fs, process::Command, sync::atomic::AtomicUsize, sync::atomic::Ordering::Relaxed};
use support::many::{fill, sizes};

fn main() {
    if let Ok(keys) = std::env::var("PORTCULLIS_MEMORY_OF") {
        return measure(keys.parse().unwrap());
    }
    for keys in sizes(&[100_000, 1_000_000]) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        // What the makers' threads leave in arenas of their own is not the store's.
        child.env("MALLOC_ARENA_MAX", "1");
        assert!(child.env("PORTCULLIS_MEMORY_OF", keys.to_string()).status().unwrap().success());
    }
}

fn measure(keys: usize) {
    let store = Store::in_memory().unwrap();
    let text = AtomicUsize::new(0);
    fill(&store, 1, |_, _, _| {});
    let before = resident();
    fill(&store, keys, |_, _, _| {});
    let after = resident();
    for record in &store.list(&Default::default()).unwrap().records {
        text.fetch_add(record.name.len() + record.owner.as_ref().map_or(0, String::len), Relaxed);
    }
    // Of few keys it may be less than what was given back meanwhile.
    let a_key = (after as f64 - before as f64) / keys as f64;
    let text =
        text.into_inner() as f64 / store.list(&Default::default()).unwrap().records.len() as f64;
    println!("{keys:>9} keys: {a_key:.0} bytes a key, {:.0} beyond name and owner", a_key - text);
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
