//! Measurements that need the internals of the index: bytes per slot, and latencies of denials and lookups.
//!
//! `cargo test --release --lib figures -- --ignored --nocapture --test-threads=1`

#![expect(clippy::cast_precision_loss, reason = "the figures are printed, not computed with")]

use super::{segment::Segment, slots::SEGMENTS, tests::digest, *};
use crate::{
    codec::Resident,
    record::{Actor, Expiry, NewKey},
    scope::{Catalogue, Grant},
};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const READERS: u64 = 2;

fn record(id: u64, revision: u64) -> Record {
    let grant = Grant::Scopes(Catalogue::with_preset().set(["api.read"]).unwrap());
    let new = NewKey::new(format!("Nightly export {id}"), grant, Expiry::Never)
        .with_owner(format!("shop-{}", id % 1000));
    Record::new(key(id), new, Timestamp::from_secs(id), Actor::Host, revision).unwrap()
}

/// As far apart as those that are drawn.
fn key(id: u64) -> KeyId {
    KeyId::from_u64(id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn loaded(keys: u64) -> Index {
    let loading = Loading::with_room_for(usize::try_from(keys).unwrap());
    for id in 0..keys {
        let resident = Resident::of(&record(id, id + 1)).unwrap();
        loading.records(vec![(digest(id), resident)]).unwrap();
    }
    loading.finish()
}

fn percentiles(mut took: Vec<Duration>) -> [Duration; 3] {
    took.sort();
    [took.len() / 2, took.len() * 99 / 100, took.len() - 1].map(|at| took[at])
}

#[test]
#[ignore = "prints figures"]
fn bytes_per_key_of_the_slots() {
    for keys in [1_000_000usize, 10_000_000] {
        let each = keys.div_ceil(SEGMENTS);
        let loaded = Segment::with_room_for(each).bytes() * SEGMENTS;
        let (mut worst, mut sum, mut grown) = (0f64, 0f64, Segment::with_room_for(0));
        for n in 0..each as u64 {
            let at = [n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)];
            if !grown.insert(at, KeyId::from_u64(n), Word::new(true, Expiry::Never, 0)) {
                grown = grown.rebuilt(0);
                grown.insert(at, KeyId::from_u64(n), Word::new(true, Expiry::Never, 0));
            }
            let a_key = grown.bytes() as f64 / (n + 1) as f64;
            sum += a_key;
            worst = if n > 1000 { worst.max(a_key) } else { worst };
        }
        println!(
            "{keys} keys: {:.1} bytes a key loaded; grown: {:.1} at the end, {:.1} on average, {worst:.1} at worst",
            loaded as f64 / keys as f64,
            grown.bytes() as f64 / each as f64,
            sum / each as f64,
        );
    }
}

#[test]
#[ignore = "prints figures; run it alone, since it looks at what is resident"]
fn bytes_per_key_of_the_index() {
    let (keys, before) = (1_000_000, resident());
    let index = loaded(keys);
    println!("{keys} keys: {} bytes a key loaded", (resident() - before) / keys);
    let before = resident();
    let grown = Index::new();
    for id in 0..keys {
        grown.apply(id + 1, key(id), digest(id), Some(&record(id, id + 1))).unwrap();
    }
    println!("{keys} keys: {} bytes a key grown", (resident() - before) / keys);
    assert_eq!(index.count(), grown.count());
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "prints figures"]
fn latency_of_a_denial_under_full_read_load() {
    for keys in [10_000, 1_000_000] {
        let index = loaded(keys);
        let took = with_readers(&index, keys, || {
            let deny = |n: u64| {
                let (id, sequence) = (n * 37 % keys, keys + n + 1);
                let mut record = record(id, sequence);
                record.active = n.is_multiple_of(2);
                let start = Instant::now();
                index.deny(sequence, record.id, record.standing());
                let took = start.elapsed();
                index.apply(sequence, record.id, digest(id), Some(&record)).unwrap();
                took
            };
            (0..20_000).map(deny).collect()
        });
        println!("{keys} keys, deny p50, p99, longest: {:?}", percentiles(took.0));
    }
}

#[test]
#[ignore = "prints figures"]
fn latency_of_denial_and_lookup_while_the_index_grows() {
    for (from, to) in [(100_000, 300_000), (1_000_000, 1_300_000), (7_000_000, 7_300_000)] {
        let index = loaded(from);
        let grown = AtomicBool::new(false);
        let mut changes = Vec::new();
        let (denials, lookups) = with_readers(&index, from, || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    for id in from..to {
                        let record = record(id, id + 1);
                        let start = Instant::now();
                        let fits = index.apply(id + 1, record.id, digest(id), Some(&record));
                        fits.unwrap();
                        changes.push(start.elapsed());
                    }
                    grown.store(true, Ordering::SeqCst);
                });
                let mut took = Vec::new();
                for n in 0u64.. {
                    let id = n * 37 % from;
                    let start = Instant::now();
                    index.deny(0, key(id), record(id, 1).standing());
                    took.push(start.elapsed());
                    if grown.load(Ordering::SeqCst) {
                        break;
                    }
                }
                took
            })
        });
        println!(
            "{from} to {to} keys, p50, p99, longest: deny {:?}, insert {:?}, lookup {:?}",
            percentiles(denials),
            percentiles(changes),
            percentiles(lookups)
        );
    }
}

/// Runs `change` while readers look up keys. Returns its result and the durations of the lookups.
fn with_readers<T>(index: &Index, keys: u64, change: impl FnOnce() -> T) -> (T, Vec<Duration>) {
    let (done, seed) = (AtomicBool::new(false), AtomicU64::new(1));
    thread::scope(|scope| {
        let reader = || {
            let (mut at, mut took) = (seed.fetch_add(1000, Ordering::SeqCst), Vec::new());
            while !done.load(Ordering::SeqCst) {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let digest = digest((at >> 11) % keys);
                let start = Instant::now();
                let _ = index.admit(&digest, crate::origin::Unknown, Timestamp::default);
                if took.len() < 20_000_000 {
                    took.push(start.elapsed());
                }
            }
            took
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(reader)).collect();
        let changed = change();
        done.store(true, Ordering::SeqCst);
        (changed, readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect())
    })
}
