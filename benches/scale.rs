//! The cost of authenticating any of n keys, as a multiple of the lower bound: one `blake3::hash` of
//! the key and one dependent memory read.
//!
//! The keys are used in the order of their creation, so that the processor prefetches their texts;
//! their slots in the index are at random positions. The memory that the baseline reads is as large
//! as the index, 48 bytes per key. Both are dependent chains and take turns; a ratio is the median
//! over many rounds.
//!
//! `cargo bench --bench scale` runs 10,000 to a million keys, `cargo bench --bench scale -- 10000000`
//! ten million.

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

mod support {
    pub(crate) mod fill;
    pub(crate) mod run;
    pub(crate) mod sizes;
    pub(crate) mod statistics;
}

use portcullis::Store;
use std::{hint::black_box, sync::Mutex, time::Instant};
use support::{fill::fill, run::is_measured, sizes::sizes, statistics::percentile};

const INDEX_BYTES_PER_KEY: usize = 48;
const KEY_BYTES: usize = 54;

fn main() {
    let (rounds, calls) = if is_measured() { (41, 50_000) } else { (3, 1000) };
    println!("medians of {rounds} rounds of {calls} calls; all keys active");
    for keys in sizes(&[10_000, 100_000, 1_000_000]) {
        let fixture = Fixture::new(keys);
        let (mut ours, mut baselines, mut ratios) = (vec![], vec![], vec![]);
        let mut at = 0;
        for round in 0..rounds {
            // Alternate the order, so that neither always runs second.
            let (mine, baseline) = if round % 2 == 0 {
                let mine = fixture.authenticate(at, calls);
                (mine, fixture.baseline(at + calls, calls))
            } else {
                let baseline = fixture.baseline(at + calls, calls);
                (fixture.authenticate(at, calls), baseline)
            };
            at += 2 * calls;
            ours.push(mine);
            baselines.push(baseline);
            ratios.push(mine / baseline);
        }
        println!(
            "{keys:>9} keys: {:4.0} ns, hash and one dependent read {:4.0} ns, ratio {:.2}",
            percentile(&mut ours, 0.5),
            percentile(&mut baselines, 0.5),
            percentile(&mut ratios, 0.5)
        );
    }
}

struct Fixture {
    store: Store,
    keys: Vec<u8>,
    memory: Vec<u64>,
    /// Zero, which the compiler cannot know.
    zero: u64,
}

impl Fixture {
    fn new(keys: usize) -> Self {
        let store = portcullis_testkit::builder().in_memory().unwrap();
        let texts = Mutex::new(vec![0; keys * KEY_BYTES]);
        fill(&store, keys, |number, _, text| {
            texts.lock().unwrap()[number * KEY_BYTES..][..KEY_BYTES]
                .copy_from_slice(text.as_bytes());
        });
        for record in inactive(&store) {
            store.update(record, portcullis::Change::activate()).unwrap();
        }
        let keys_text = texts.into_inner().unwrap();
        let memory = (0..(keys * INDEX_BYTES_PER_KEY / 8) as u64).collect();
        Self { store, keys: keys_text, memory, zero: black_box(0) }
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = at % (self.keys.len() / KEY_BYTES) * KEY_BYTES;
        &self.keys[start..start + KEY_BYTES]
    }

    fn authenticate(&self, from: usize, calls: usize) -> f64 {
        self.chain(from, calls, |key| {
            let principal = self.store.authenticate_key(key).unwrap();
            principal.grant().allows(&portcullis::scope::catalogue::API_READ) as u64
        })
    }

    fn baseline(&self, from: usize, calls: usize) -> f64 {
        self.chain(from, calls, |key| {
            let hash = blake3::hash(key);
            let (words, _) = hash.as_bytes().as_chunks::<8>();
            let position = u128::from(u64::from_le_bytes(words[0])) * self.memory.len() as u128;
            self.memory[(position >> 64) as usize]
        })
    }

    /// Returns the nanoseconds per call, each with a position that depends on the previous result.
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
    let mut query = portcullis::list::ListQuery::default().with_active(false).with_page_size(200);
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
