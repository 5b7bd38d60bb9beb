//! What does each part of a store's life cost as the number of keys grows: opening it, validating any
//! of its keys, a page of a list or a search, a revocation, a backup, and how much memory does it take?
//!
//! A row for each size; each store is opened by a process of its own. `newest` is the first page of the
//! list, `dearest` the longest of many pages of the dearest of the questions; a revocation is the
//! whole call with its way to the disk. The stores are restored from fabricated backups, on the disk
//! that `TMPDIR` is on; `STORE` names a directory in which they are kept from run to run.
//!
//! `cargo bench --bench life` for 10,000, 100,000 and a million keys, `cargo bench --bench life --
//! 10000000` for ten million, which takes ten minutes more and 12 GB of disk.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use portcullis::{Change, ListQuery, Store, scope::catalogue};
use std::{
    env, fs,
    fs::File,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, exit},
    time::Instant,
};
use support::{
    fabricated::{KEY, id, is_active, make, text},
    furnished::{as_child, peak_mib},
    many::{median, percentile, sizes, wants_figures},
};

/// Keys that are validated, at most, in the order of the chance by which they were taken.
const WALK: usize = 1_000_000;

fn main() {
    if let Some(arguments) = as_child() {
        let [keys, asked, dir] = arguments.try_into().unwrap();
        let number = |argument: PathBuf| argument.to_str().unwrap().parse().unwrap();
        live(&dir, number(keys), number(asked) as usize);
    }
    let room = tempfile::tempdir().unwrap();
    let stores = env::var_os("STORE").map_or_else(|| room.path().to_path_buf(), PathBuf::from);
    let asked = if wants_figures() { "1" } else { "0" };
    println!(
        "     keys | opening s  peak MiB  resident | validation ns | page ms: newest  dearest | \
         revocation ms: p50    p99 | backup s  peak MiB | disk MiB"
    );
    for keys in sizes(&[10_000, 100_000, 1_000_000]) {
        let (dir, count) = (stores.join(keys.to_string()), keys.to_string());
        if !dir.join("ledger").exists() {
            make(&dir, keys.try_into().unwrap());
        }
        let mut child = Command::new(env::current_exe().unwrap());
        assert!(child.args(["child", &count, asked]).arg(&dir).status().unwrap().success());
    }
}

/// Opens a store, does everything with it, and prints a row.
fn live(dir: &Path, keys: u32, measured: usize) -> ! {
    let begun = Instant::now();
    let store = Store::open(dir).unwrap();
    let (opening, peak, resident) = (begun.elapsed().as_secs_f64(), peak_mib(), resident_mib());
    let [newest, dearest] = pages(&store, keys, 1 + measured * 10);
    let [half, most] = revocations(&store, keys, 1 + measured * 499);
    forget_peak();
    let begun = Instant::now();
    let file = dir.with_extension("backup");
    let to = File::create(&file).unwrap();
    store.backup(&to, |_| ()).unwrap();
    to.sync_all().unwrap();
    let (backup, backup_peak) = (begun.elapsed().as_secs_f64(), peak_mib());
    fs::remove_file(file).unwrap();
    // Last: what is used is written, which would be heard in the others' figures.
    let validation = validation(&store, keys, 1 + measured * 6);
    let disk = dir.join("ledger/sled/db").metadata().unwrap().len() >> 20;
    println!(
        "{keys:>9} | {opening:9.2} {peak:9.0} {resident:9.0} | {validation:13.0} | {newest:15.2} \
         {dearest:8.1} | {half:18.2} {most:6.2} | {backup:8.2} {backup_peak:9.0} | {disk:8}"
    );
    // Without closing: the next run finds the store as it was, but for changes without effect.
    exit(0)
}

/// The longest of the newest pages, and of the pages of the dearest question.
fn pages(store: &Store, keys: u32, asked: usize) -> [f64; 2] {
    let text = |text: &str| ListQuery { text: Some(text.into()), ..ListQuery::default() };
    let off = |query| ListQuery { active: Some(false), ..query };
    let scope = ListQuery { scope: Some(catalogue::ADMIN_KEY_LIST), ..ListQuery::default() };
    let mut longest = [
        ListQuery::default(),
        off(ListQuery::default()),
        scope,
        text("till"),
        text(&id(keys - 1).to_string()),
        text(&id(0).to_string()),
        text("zebra crossing"),
        text("tilz"),
        off(text("zebra")),
    ]
    .map(|query| {
        let page = || {
            let begun = Instant::now();
            store.list(&query).unwrap();
            begun.elapsed().as_secs_f64() * 1e3
        };
        (0..asked).map(|_| page()).fold(0.0, f64::max)
    });
    let newest = longest[0];
    longest.sort_by(f64::total_cmp);
    [newest, *longest.last().unwrap()]
}

/// Milliseconds of a revocation: the middle, and what one in a hundred exceeds.
fn revocations(store: &Store, keys: u32, asked: usize) -> [f64; 2] {
    let mut took: Vec<f64> = chosen(keys, asked)
        .map(|number| {
            let begun = Instant::now();
            store.revoke(id(number)).unwrap();
            let took = begun.elapsed().as_secs_f64() * 1e3;
            assert!(store.authenticate_key(&text(number)).is_err());
            store.update(id(number), Change::activate()).unwrap();
            took
        })
        .collect();
    took.sort_by(f64::total_cmp);
    [0.5, 0.99].map(|share| percentile(&took, share))
}

/// Nanoseconds, each after the one before.
fn validation(store: &Store, keys: u32, rounds: usize) -> f64 {
    let walk: Vec<[u8; KEY]> = chosen(keys, WALK.min(keys as usize)).map(text).collect();
    let mut took = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        for text in &walk {
            black_box(store.authenticate_key(text).unwrap());
        }
        took.push(begun.elapsed().as_secs_f64() * 1e9 / walk.len() as f64);
    }
    median(took)
}

/// Active keys by chance, which is the same each time.
fn chosen(keys: u32, count: usize) -> impl Iterator<Item = u32> {
    let mut last = 1u64;
    let chance = std::iter::repeat_with(move || {
        last = last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((last >> 32) * u64::from(keys)) >> 32) as u32
    });
    chance.filter(|number| is_active(*number)).take(count)
}

fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// From now on the peak is that of what comes.
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}
