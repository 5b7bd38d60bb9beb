//! The memory of a key in bytes: its slot, its record, its position in the order, and its search text.
//!
//! Each size is measured in a process of its own, as the growth of resident memory. The names have 14
//! bytes on average and the owners 8; `beyond` is the rest. The figures of the index print the memory
//! of the slots alone:
//! `cargo test --release --lib figures -- --ignored --nocapture --test-threads=1`.

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

mod support {
    pub(crate) mod fill;
    pub(crate) mod memory;
    pub(crate) mod run;
    pub(crate) mod sizes;
}

use std::{process::Command, sync::atomic::AtomicUsize, sync::atomic::Ordering::Relaxed};
use support::{fill::fill, memory::memory_mib, sizes::sizes};

fn main() {
    if let Ok(keys) = std::env::var("PORTCULLIS_MEMORY_OF") {
        return measure(keys.parse().unwrap());
    }
    for keys in sizes(&[100_000, 1_000_000]) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        // One arena, so that memory of the writers' threads does not count.
        child.env("MALLOC_ARENA_MAX", "1");
        assert!(child.env("PORTCULLIS_MEMORY_OF", keys.to_string()).status().unwrap().success());
    }
}

fn measure(keys: usize) {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let text = AtomicUsize::new(0);
    fill(&store, 1, |_, _, _| {});
    let before = memory_mib("VmRSS");
    fill(&store, keys, |_, _, _| {});
    let after = memory_mib("VmRSS");
    for record in &store.list(&Default::default()).unwrap().records {
        text.fetch_add(record.name.len() + record.owner.as_ref().map_or(0, String::len), Relaxed);
    }
    // With few keys the growth may be negative, if other memory was released.
    let bytes = (after - before) * 1048576.0 / keys as f64;
    let text =
        text.into_inner() as f64 / store.list(&Default::default()).unwrap().records.len() as f64;
    println!("{keys:>9} keys: {bytes:.0} bytes per key, {:.0} beyond name and owner", bytes - text);
}
