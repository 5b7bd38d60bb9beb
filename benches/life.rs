//! The cost of each operation as the number of keys grows: opening a store, validating its keys, a
//! page of a list or a search, a revocation, a backup, and the memory.
//!
//! The bench prints a row for each size. A process of its own opens each store. `newest` is the first
//! page of the list; `slowest` is the longest page of the slowest query. A revocation includes the
//! write to disk. The stores are restored from synthetic backups, on the disk of `TMPDIR`. `STORE`
//! names a directory in which they are kept from run to run.
//!
//! `cargo bench --bench life` runs 10,000, 100,000 and a million keys. `cargo bench --bench life --
//! 10000000` runs ten million, which takes ten more minutes and 12 GB of disk.

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

mod support {
    pub(crate) mod arguments;
    pub(crate) mod memory;
    pub(crate) mod run;
    pub(crate) mod sizes;
    pub(crate) mod statistics;
    pub(crate) mod synthetic;
}

use portcullis::{Change, Store, list::ListQuery, scope::catalogue};
use std::{
    env, fs,
    fs::File,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, exit},
    time::Instant,
};
use support::{
    arguments::child_arguments,
    memory::memory_mib,
    run::is_measured,
    sizes::sizes,
    statistics::percentile,
    synthetic::{KEY, create, id, is_active, text},
};

/// The maximum number of keys that are validated, in a random order.
const MAX_VALIDATED: usize = 1_000_000;

fn main() {
    if let Some(arguments) = child_arguments() {
        let [keys, measured, dir] = arguments.try_into().unwrap();
        let number = |argument: PathBuf| argument.to_str().unwrap().parse().unwrap();
        measure(&dir, number(keys), number(measured) as usize);
    }
    let parent = tempfile::tempdir().unwrap();
    let stores = env::var_os("STORE").map_or_else(|| parent.path().to_path_buf(), PathBuf::from);
    let measured = if is_measured() { "1" } else { "0" };
    println!(
        "     keys | opening s  peak MiB  resident | validation ns | page ms: newest  slowest | \
         revocation ms: p50    p99 | backup s  peak MiB | disk MiB"
    );
    for keys in sizes(&[10_000, 100_000, 1_000_000]) {
        let (dir, count) = (stores.join(keys.to_string()), keys.to_string());
        if !dir.join("ledger").exists() {
            create(&dir, keys.try_into().unwrap());
        }
        let mut child = Command::new(env::current_exe().unwrap());
        assert!(child.args(["child", &count, measured]).arg(&dir).status().unwrap().success());
    }
}

/// Opens a store, measures every operation, and prints a row.
fn measure(dir: &Path, keys: u32, measured: usize) -> ! {
    let begun = Instant::now();
    let store = portcullis_testkit::builder().open(dir).unwrap();
    let (opening, peak, resident) =
        (begun.elapsed().as_secs_f64(), memory_mib("VmHWM"), memory_mib("VmRSS"));
    let [newest, slowest] = pages(&store, keys, 1 + measured * 10);
    let [p50, p99] = revocations(&store, keys, 1 + measured * 499);
    reset_peak();
    let begun = Instant::now();
    let file = dir.with_extension("backup");
    let to = File::create(&file).unwrap();
    store.backup(&to, |_| ()).unwrap();
    to.sync_all().unwrap();
    let (backup, backup_peak) = (begun.elapsed().as_secs_f64(), memory_mib("VmHWM"));
    fs::remove_file(file).unwrap();
    // Validate last: the store writes the uses, which would affect the other figures.
    let validation = validation(&store, keys, 1 + measured * 6);
    let disk = dir.join("ledger/sled/db").metadata().unwrap().len() >> 20;
    println!(
        "{keys:>9} | {opening:9.2} {peak:9.0} {resident:9.0} | {validation:13.0} | {newest:15.2} \
         {slowest:8.1} | {p50:18.2} {p99:6.2} | {backup:8.2} {backup_peak:9.0} | {disk:8}"
    );
    // Exit without closing the store, so that the next run finds it nearly unchanged.
    exit(0)
}

/// Returns the longest time of the newest page, and the longest page of the slowest query.
fn pages(store: &Store, keys: u32, repetitions: usize) -> [f64; 2] {
    let text = |text: &str| ListQuery::default().with_text(text);
    let inactive = |query: ListQuery| query.with_active(false);
    let scope = ListQuery::default().with_scope(catalogue::ADMIN_KEY_LIST);
    let mut longest = [
        ListQuery::default(),
        inactive(ListQuery::default()),
        scope,
        text("till"),
        text(&id(keys - 1).to_string()),
        text(&id(0).to_string()),
        text("zebra crossing"),
        text("tilz"),
        inactive(text("zebra")),
    ]
    .map(|query| {
        let page = || {
            let begun = Instant::now();
            store.list(&query).unwrap();
            begun.elapsed().as_secs_f64() * 1e3
        };
        (0..repetitions).map(|_| page()).fold(0.0, f64::max)
    });
    let newest = longest[0];
    longest.sort_by(f64::total_cmp);
    [newest, *longest.last().unwrap()]
}

/// Returns p50 and p99 of a revocation in milliseconds.
fn revocations(store: &Store, keys: u32, count: usize) -> [f64; 2] {
    let mut took: Vec<f64> = chosen(keys, count)
        .map(|number| {
            let begun = Instant::now();
            store.revoke(id(number)).unwrap();
            let took = begun.elapsed().as_secs_f64() * 1e3;
            assert!(store.authenticate_key(&text(number)).is_err());
            store.update(id(number), Change::activate()).unwrap();
            took
        })
        .collect();
    [0.5, 0.99].map(|share| percentile(&mut took, share))
}

/// Returns the nanoseconds of one validation.
fn validation(store: &Store, keys: u32, rounds: usize) -> f64 {
    let walk: Vec<[u8; KEY]> = chosen(keys, MAX_VALIDATED.min(keys as usize)).map(text).collect();
    let mut took = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        for text in &walk {
            black_box(store.authenticate_key(text).unwrap());
        }
        took.push(begun.elapsed().as_secs_f64() * 1e9 / walk.len() as f64);
    }
    percentile(&mut took, 0.5)
}

/// Returns pseudo-random active keys, the same in each run.
fn chosen(keys: u32, count: usize) -> impl Iterator<Item = u32> {
    let mut last = 1u64;
    let random = std::iter::repeat_with(move || {
        last = last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((last >> 32) * u64::from(keys)) >> 32) as u32
    });
    random.filter(|number| is_active(*number)).take(count)
}

/// Resets the peak of the memory of this process.
fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}
