//! What does authenticating any of n keys cost, as a multiple of the least that it could: one
//! `blake3::hash` of the key and one read of memory at a place that depends on it?
//!
//! The keys are walked in the order in which they were made, so that their texts come from memory
//! in time; where each lies in the index is as good as random. The memory that the baseline reads
//! is as large as the index, 48 bytes a key. Both are dependent chains, and take turns; a ratio is
//! the median of those of many rounds.
//!
//! `cargo bench --bench scale` for 10,000 to a million keys, `cargo bench --bench scale -- 10000000`
//! for ten million.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use portcullis::Store;
use std::{hint::black_box, sync::Mutex, time::Instant};
use support::many::{fill, median, sizes, wants_figures};

const BYTES: usize = 48;
const KEY: usize = 54;

fn main() {
    let (rounds, calls) = if wants_figures() { (41, 50_000) } else { (3, 1000) };
    println!("medians of {rounds} rounds of {calls} calls; all keys active");
    for keys in sizes(&[10_000, 100_000, 1_000_000]) {
        let house = House::furnish(keys);
        let (mut ours, mut floors, mut ratios) = (vec![], vec![], vec![]);
        let mut at = 0;
        for round in 0..rounds {
            // Neither is always the one that comes second.
            let (mine, floor) = if round % 2 == 0 {
                let mine = house.authenticate(at, calls);
                (mine, house.floor(at + calls, calls))
            } else {
                let floor = house.floor(at + calls, calls);
                (house.authenticate(at, calls), floor)
            };
            at += 2 * calls;
            ours.push(mine);
            floors.push(floor);
            ratios.push(mine / floor);
        }
        println!(
            "{keys:>9} keys: {:4.0} ns, hash and one dependent read {:4.0} ns, ratio {:.2}",
            median(ours),
            median(floors),
            median(ratios)
        );
    }
}

struct House {
    store: Store,
    keys: Vec<u8>,
    memory: Vec<u64>,
    /// Zero, which the compiler cannot know.
    zero: u64,
}

impl House {
    fn furnish(keys: usize) -> Self {
        let store = Store::in_memory().unwrap();
        let texts = Mutex::new(vec![0; keys * KEY]);
        fill(&store, keys, |number, _, text| {
            texts.lock().unwrap()[number * KEY..][..KEY].copy_from_slice(text.as_bytes());
        });
        for record in inactive(&store) {
            store.update(record, portcullis::Change::activate()).unwrap();
        }
        let keys_text = texts.into_inner().unwrap();
        let memory = (0..(keys * BYTES / 8) as u64).collect();
        Self { store, keys: keys_text, memory, zero: black_box(0) }
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = at % (self.keys.len() / KEY) * KEY;
        &self.keys[start..start + KEY]
    }

    fn authenticate(&self, from: usize, calls: usize) -> f64 {
        self.chain(from, calls, |key| {
            let principal = self.store.authenticate_key(key).unwrap();
            principal.grant().allows(&portcullis::scope::catalogue::API_READ) as u64
        })
    }

    fn floor(&self, from: usize, calls: usize) -> f64 {
        self.chain(from, calls, |key| {
            let hash = blake3::hash(key);
            let (words, _) = hash.as_bytes().as_chunks::<8>();
            let place = u128::from(u64::from_le_bytes(words[0])) * self.memory.len() as u128;
            self.memory[(place >> 64) as usize]
        })
    }

    /// Nanoseconds a call, each at a place that depends on the result before it.
    fn chain(&self, from: usize, calls: usize, call: impl Fn(&[u8]) -> u64) -> f64 {
        let (start, mut last) = (Instant::now(), 0);
        for n in from..from + calls {
            last = call(self.key(n + (last & self.zero) as usize));
        }
        black_box(last);
        start.elapsed().as_secs_f64() * 1e9 / calls as f64
    }
}

fn inactive(store: &Store) -> Vec<portcullis::KeyId> {
    let mut query =
        portcullis::ListQuery { active: Some(false), page_size: Some(200), ..Default::default() };
    let mut ids = Vec::new();
    loop {
        let page = store.list(&query).unwrap();
        ids.extend(page.records.iter().map(|record| record.id));
        query.page_token = page.next_page_token;
        if query.page_token.is_none() {
            return ids;
        }
    }
}
