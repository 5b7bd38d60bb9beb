//! What does authenticating a header cost, as a multiple of one `blake3::hash` of the same key, and
//! of a plain `RwLock<HashMap<blake3::Hash, …>>` behind a naive base64 decode?
//!
//! A latency is that of a dependent chain: where the next input lies depends on the last result, so
//! that the processor cannot overlap two calls. Contender and baseline walk the same keys in the
//! same order. A ratio is the median of those of many short rounds, in which both take turns; the
//! ratios of the run are printed at its end, after criterion's own figures.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use criterion::{BenchmarkId, Criterion, criterion_group};
use portcullis::{Expiry, Grant, KeyId, Metadata, NewKey, Store};
use std::{
    collections::HashMap,
    hash::{Hash as _, Hasher},
    hint::black_box,
    sync::{Barrier, RwLock},
    thread,
    time::{Duration, Instant},
};

const KEYS: usize = 10_000;
const ROUNDS: usize = 61;
const CALLS: u64 = 20_000;
const WINDOW: Duration = Duration::from_secs(1);
const SCALING_ROUNDS: usize = 5;
/// The order in which the keys are walked follows from it.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

criterion_group!(benches, criterion_figures);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Cargo passes `--bench` where figures are wanted; otherwise this run only shows that it works.
    if std::env::args().any(|argument| argument == "--bench") {
        print_ratios(&House::furnish());
    }
}

fn criterion_figures(criterion: &mut Criterion) {
    let house = House::furnish();
    let mut group = criterion.benchmark_group("authenticate");
    for contender in CONTENDERS {
        for (name, walk) in house.walks() {
            group.bench_function(BenchmarkId::new(contender.name(), name), |bencher| {
                bencher.iter_custom(|calls| house.time(contender, walk, calls));
            });
        }
    }
    group.finish();
}

fn print_ratios(house: &House) {
    println!("\nmedians of {ROUNDS} rounds of {CALLS} calls, {KEYS} keys, seed {SEED:#x}");
    for (name, walk) in house.walks() {
        for rival in [Contender::Blake3, Contender::Map] {
            let ratio = house.ratio(Contender::Store, rival, walk);
            println!("{name} / {}: {ratio:.2}", rival.name());
        }
    }
    for (name, walk) in
        [("another scheme", &house.garbage), ("too long for a key", &house.too_long)]
    {
        println!("garbage, {name}: {:.1} ns", house.refusal_ns(walk));
    }
    let [store, map] = [Contender::Store, Contender::Map].map(|c| house.scaling(c));
    println!("one hot key, 1→2 threads: {store:.2} ({}: {map:.2})", Contender::Map.name());
}

// ── who is measured, and on what

#[derive(Clone, Copy)]
enum Contender {
    Store,
    Blake3,
    Map,
}

const CONTENDERS: [Contender; 3] = [Contender::Store, Contender::Blake3, Contender::Map];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Store => "portcullis",
            Self::Blake3 => "blake3::hash",
            Self::Map => "RwLock<HashMap>",
        }
    }
}

/// The headers of one question, and the keys that they carry.
struct Walk {
    headers: Rows,
    keys: Rows,
    refused: bool,
}

struct House {
    store: Store,
    map: RwLock<HashMap<blake3::Hash, Entry>>,
    hot: Walk,
    uniform: Walk,
    strangers: Walk,
    garbage: Walk,
    too_long: Walk,
    /// Zero, which the compiler cannot know.
    zero: u64,
}

/// What the plain map keeps of a key.
struct Entry {
    id: KeyId,
    active: bool,
}

impl House {
    fn furnish() -> Self {
        let store = Store::in_memory().unwrap();
        let scopes = store.scopes(["api.read"]).unwrap();
        let mut map = HashMap::new();
        let mut keys = Vec::new();
        for number in 0..KEYS {
            let issued = store.issue(NewKey {
                name: format!("key {number}"),
                grant: Grant::Scopes(scopes),
                active: true,
                expiry: Expiry::Never,
                owner: None,
                metadata: Metadata::new(),
            });
            let issued = issued.unwrap();
            let id = issued.record.id;
            let key = issued.secret.reveal(|text| text.as_bytes().to_vec());
            map.insert(blake3::hash(&key), Entry { id, active: true });
            keys.push(key);
        }
        // What no store ever issued, in the shape of a key: the last digit differs.
        let mut strangers = keys.clone();
        for last in strangers.iter_mut().filter_map(|key| key.last_mut()) {
            *last = if *last == b'0' { b'1' } else { b'0' };
        }
        let hot = vec![keys.first().unwrap().clone()];
        let garbage = Rows::new(&hot.iter().map(|_| vec![b'%'; 82]).collect::<Vec<_>>());
        let long = [b"Basic ".as_slice(), &[b'A'; 100]].concat();
        let long = Rows::new(&hot.iter().map(|_| long.clone()).collect::<Vec<_>>());
        let house = Self {
            store,
            map: RwLock::new(map),
            too_long: Walk { headers: long, keys: Rows::new(&hot), refused: true },
            garbage: Walk { headers: garbage, keys: Rows::new(&hot), refused: true },
            hot: Walk::of(&hot),
            uniform: Walk::of(&keys),
            strangers: Walk { refused: true, ..Walk::of(&strangers) },
            zero: black_box(0),
        };
        house.assert_that_contenders_agree();
        house
    }

    fn assert_that_contenders_agree(&self) {
        for (name, walk) in self.walks() {
            for header in (0..walk.headers.count()).map(|at| walk.headers.row(at)) {
                let id = self.store.authenticate(header).ok().map(|principal| principal.id());
                assert_eq!(id.is_none(), walk.refused, "{name}");
                assert_eq!(id, look_up(&self.map, header), "{name}");
                assert_ne!(id.map(bits), Some(0), "an id has no number to depend on");
            }
        }
    }

    fn walks(&self) -> [(&'static str, &Walk); 4] {
        [
            ("hot key", &self.hot),
            ("uniform over all keys", &self.uniform),
            ("unknown keys", &self.strangers),
            ("garbage", &self.garbage),
        ]
    }

    fn time(&self, contender: Contender, walk: &Walk, calls: u64) -> Duration {
        let start = Instant::now();
        match contender {
            Contender::Store => {
                self.chain(walk, calls, |at| match self.store.authenticate(walk.headers.row(at)) {
                    Ok(principal) => bits(principal.id()),
                    Err(refusal) => u64::from(refusal.status()),
                });
            }
            Contender::Map => self.chain(walk, calls, |at| {
                look_up(&self.map, walk.headers.row(at)).map_or(401, bits)
            }),
            // A refusal says nothing that the next call could depend on, so that refusals overlap;
            // beside them the hashes may overlap as well.
            Contender::Blake3 if walk.refused => self.chain(walk, calls, |at| {
                black_box(blake3::hash(walk.keys.row(at)));
                0
            }),
            Contender::Blake3 => self.chain(walk, calls, |at| {
                let [byte, ..] = *blake3::hash(walk.keys.row(at)).as_bytes();
                u64::from(byte)
            }),
        }
        start.elapsed()
    }

    /// `calls` calls, each at a place that depends on the result before it.
    fn chain(&self, walk: &Walk, calls: u64, call: impl Fn(usize) -> u64) {
        let (count, mut order, mut last) = (walk.headers.count(), Order(SEED), 0);
        for _ in 0..calls {
            let at = order.next(count) + usize::try_from(last & self.zero).unwrap();
            last = call(at);
        }
        black_box(last);
    }

    fn ratio(&self, contender: Contender, rival: Contender, walk: &Walk) -> f64 {
        let time = |who| self.time(who, walk, CALLS).as_secs_f64();
        let rounds = (0..ROUNDS).map(|round| {
            // Neither is always the one that comes second.
            if round % 2 == 0 {
                let mine = time(contender);
                mine / time(rival)
            } else {
                let theirs = time(rival);
                time(contender) / theirs
            }
        });
        median(rounds.collect())
    }

    /// What a refusal takes, less what the loop round it does.
    fn refusal_ns(&self, walk: &Walk) -> f64 {
        let rounds = (0..ROUNDS).map(|_| {
            let refusing = self.time(Contender::Store, walk, CALLS);
            let begun = Instant::now();
            self.chain(walk, CALLS, |at| {
                black_box(walk.headers.row(at));
                401
            });
            let calls = f64::from(u32::try_from(CALLS).unwrap());
            (refusing.as_secs_f64() - begun.elapsed().as_secs_f64()) / calls * 1e9
        });
        median(rounds.collect())
    }

    /// How much more two threads do with one hot key than one.
    fn scaling(&self, contender: Contender) -> f64 {
        let rounds = (0..SCALING_ROUNDS).map(|_| {
            let one = self.calls_per_second(contender, 1);
            self.calls_per_second(contender, 2) / one
        });
        median(rounds.collect())
    }

    fn calls_per_second(&self, contender: Contender, threads: usize) -> f64 {
        let start = Barrier::new(threads);
        let work = || {
            start.wait();
            let begun = Instant::now();
            let mut calls = 0u32;
            while begun.elapsed() < WINDOW {
                self.time(contender, &self.hot, 1000);
                calls += 1000;
            }
            f64::from(calls) / begun.elapsed().as_secs_f64()
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    }
}

/// What one writes first: decode into a `Vec`, hash, look up under a shared lock.
fn look_up(map: &RwLock<HashMap<blake3::Hash, Entry>>, header: &[u8]) -> Option<KeyId> {
    let encoded = header.strip_prefix(b"Basic ")?;
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    let key = decoded.strip_suffix(b":")?;
    let map = map.read().ok()?;
    let entry = map.get(&blake3::hash(key))?;
    entry.active.then_some(entry.id)
}

// ── tools

impl Walk {
    fn of(keys: &[Vec<u8>]) -> Self {
        let header = |key: &Vec<u8>| {
            let encoded = BASE64_STANDARD.encode([key, b":".as_slice()].concat());
            format!("Basic {encoded}").into_bytes()
        };
        Self {
            headers: Rows::new(&keys.iter().map(header).collect::<Vec<_>>()),
            keys: Rows::new(keys),
            refused: false,
        }
    }
}

/// Rows of one length, side by side.
struct Rows {
    bytes: Vec<u8>,
    width: usize,
}

impl Rows {
    fn new(rows: &[Vec<u8>]) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        assert!(rows.iter().all(|row| row.len() == width));
        Self { bytes: rows.concat(), width }
    }

    fn count(&self) -> usize {
        self.bytes.len() / self.width
    }

    #[inline]
    fn row(&self, at: usize) -> &[u8] {
        self.bytes.get(at * self.width..(at + 1) * self.width).unwrap_or_default()
    }
}

/// A walk over `count` places that looks random and is the same each time.
struct Order(u64);

impl Order {
    #[inline]
    fn next(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // Scaled, for a division would be dearer than some of what is measured.
        let scaled = (self.0 >> 32) * u64::try_from(count).unwrap();
        usize::try_from(scaled >> 32).unwrap()
    }
}

/// The number inside an id, which is public only as text: its hash with a hasher that adds nothing.
#[inline]
fn bits(id: KeyId) -> u64 {
    struct Bare(u64);
    impl Hasher for Bare {
        fn write(&mut self, _: &[u8]) {}
        fn write_u64(&mut self, number: u64) {
            self.0 = number;
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut bare = Bare(0);
    id.hash(&mut bare);
    bare.finish()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
