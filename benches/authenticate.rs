//! The cost of authenticating a header, as a multiple of one `blake3::hash` of the same key, and of a
//! plain `RwLock<HashMap<blake3::Hash, …>>` behind a naive base64 decode.
//!
//! Calls form a dependent chain: the position of the next input depends on the last result, so that
//! the processor cannot overlap two calls. Contender and baseline use the same keys in the same
//! order. A ratio is the median over many short rounds, in which both take turns. The ratios are
//! printed at the end, after criterion's own figures.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures and fails by panicking"
)]

mod support {
    pub(crate) mod run;
}

use base64::{Engine as _, prelude::BASE64_STANDARD};
use criterion::{BenchmarkId, Criterion, criterion_group};
use portcullis::{Expiry, KeyId, NewKey, Store};
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
/// The seed of the order in which the keys are used.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

criterion_group!(benches, criterion_figures);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    if support::run::is_measured() {
        print_ratios(&Fixture::new());
    }
}

fn criterion_figures(criterion: &mut Criterion) {
    let fixture = Fixture::new();
    let mut group = criterion.benchmark_group("authenticate");
    for contender in CONTENDERS {
        for (name, inputs) in fixture.inputs_by_name() {
            group.bench_function(BenchmarkId::new(contender.name(), name), |bencher| {
                bencher.iter_custom(|calls| fixture.time(contender, inputs, calls));
            });
        }
    }
    group.finish();
}

fn print_ratios(fixture: &Fixture) {
    println!("\nmedians of {ROUNDS} rounds of {CALLS} calls, {KEYS} keys, seed {SEED:#x}");
    for (name, inputs) in fixture.inputs_by_name() {
        for rival in [Contender::Blake3, Contender::Map] {
            let ratio = fixture.ratio(Contender::Store, rival, inputs);
            println!("{name} / {}: {ratio:.2}", rival.name());
        }
    }
    for (name, inputs) in
        [("another scheme", &fixture.malformed), ("too long for a key", &fixture.too_long)]
    {
        println!("malformed header, {name}: {:.1} ns", fixture.refusal_ns(inputs));
    }
    let [store, map] = [Contender::Store, Contender::Map].map(|c| fixture.scaling(c));
    println!("one hot key, 1→2 threads: {store:.2} ({}: {map:.2})", Contender::Map.name());
}

// ── contenders and inputs

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

/// A set of headers and the keys in them.
struct Inputs {
    headers: Rows,
    keys: Rows,
    refused: bool,
}

struct Fixture {
    store: Store,
    map: RwLock<HashMap<blake3::Hash, Entry>>,
    hot: Inputs,
    uniform: Inputs,
    unknown: Inputs,
    malformed: Inputs,
    too_long: Inputs,
    /// Zero, which the compiler cannot know.
    zero: u64,
}

/// The entry of a key in the plain map.
struct Entry {
    id: KeyId,
    active: bool,
}

impl Fixture {
    fn new() -> Self {
        let store = portcullis_testkit::builder().in_memory().unwrap();
        let scopes = store.scopes(["api.read"]).unwrap();
        let mut map = HashMap::new();
        let mut keys = Vec::new();
        for number in 0..KEYS {
            let issued = store.issue(NewKey::new(format!("key {number}"), scopes, Expiry::Never));
            let issued = issued.unwrap();
            let id = issued.record.id;
            let key = issued.secret.reveal(|text| text.as_bytes().to_vec());
            map.insert(blake3::hash(&key), Entry { id, active: true });
            keys.push(key);
        }
        // Keys that no store has issued: the last digit differs.
        let mut unknown = keys.clone();
        for last in unknown.iter_mut().filter_map(|key| key.last_mut()) {
            *last = if *last == b'0' { b'1' } else { b'0' };
        }
        let hot = vec![keys.first().unwrap().clone()];
        let malformed = Rows::new(&hot.iter().map(|_| vec![b'%'; 82]).collect::<Vec<_>>());
        let long = [b"Basic ".as_slice(), &[b'A'; 100]].concat();
        let long = Rows::new(&hot.iter().map(|_| long.clone()).collect::<Vec<_>>());
        let fixture = Self {
            store,
            map: RwLock::new(map),
            too_long: Inputs { headers: long, keys: Rows::new(&hot), refused: true },
            malformed: Inputs { headers: malformed, keys: Rows::new(&hot), refused: true },
            hot: Inputs::of(&hot),
            uniform: Inputs::of(&keys),
            unknown: Inputs { refused: true, ..Inputs::of(&unknown) },
            zero: black_box(0),
        };
        fixture.assert_that_contenders_agree();
        fixture
    }

    fn assert_that_contenders_agree(&self) {
        for (name, inputs) in self.inputs_by_name() {
            for header in (0..inputs.headers.count()).map(|at| inputs.headers.row(at)) {
                let id =
                    self.store.authenticate_header(header).ok().map(|principal| principal.id());
                assert_eq!(id.is_none(), inputs.refused, "{name}");
                assert_eq!(id, look_up(&self.map, header), "{name}");
                assert_ne!(id.map(bits), Some(0), "an id has no number to depend on");
            }
        }
    }

    fn inputs_by_name(&self) -> [(&'static str, &Inputs); 4] {
        [
            ("hot key", &self.hot),
            ("uniform over all keys", &self.uniform),
            ("unknown keys", &self.unknown),
            ("malformed header", &self.malformed),
        ]
    }

    fn time(&self, contender: Contender, inputs: &Inputs, calls: u64) -> Duration {
        let start = Instant::now();
        match contender {
            Contender::Store => {
                self.chain(inputs, calls, |at| {
                    match self.store.authenticate_header(inputs.headers.row(at)) {
                        Ok(principal) => bits(principal.id()),
                        Err(refusal) => u64::from(refusal.status()),
                    }
                });
            }
            Contender::Map => self.chain(inputs, calls, |at| {
                look_up(&self.map, inputs.headers.row(at)).map_or(401, bits)
            }),
            // A refusal has no result that the next call could depend on, so refusals may overlap. The
            // hashes compared with them may overlap, too.
            Contender::Blake3 if inputs.refused => self.chain(inputs, calls, |at| {
                black_box(blake3::hash(inputs.keys.row(at)));
                0
            }),
            Contender::Blake3 => self.chain(inputs, calls, |at| {
                let [byte, ..] = *blake3::hash(inputs.keys.row(at)).as_bytes();
                u64::from(byte)
            }),
        }
        start.elapsed()
    }

    /// Makes this many calls, each with an input that depends on the previous result.
    fn chain(&self, inputs: &Inputs, calls: u64, call: impl Fn(usize) -> u64) {
        let (count, mut order, mut last) = (inputs.headers.count(), Order(SEED), 0);
        for _ in 0..calls {
            let at = order.next(count) + usize::try_from(last & self.zero).unwrap();
            last = call(at);
        }
        black_box(last);
    }

    fn ratio(&self, contender: Contender, rival: Contender, inputs: &Inputs) -> f64 {
        let time = |who| self.time(who, inputs, CALLS).as_secs_f64();
        let rounds = (0..ROUNDS).map(|round| {
            // Alternate the order, so that neither always runs second.
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

    /// Returns the time of a refusal without the time of the loop around it.
    fn refusal_ns(&self, inputs: &Inputs) -> f64 {
        let rounds = (0..ROUNDS).map(|_| {
            let refusing = self.time(Contender::Store, inputs, CALLS);
            let begun = Instant::now();
            self.chain(inputs, CALLS, |at| {
                black_box(inputs.headers.row(at));
                401
            });
            let calls = f64::from(u32::try_from(CALLS).unwrap());
            (refusing.as_secs_f64() - begun.elapsed().as_secs_f64()) / calls * 1e9
        });
        median(rounds.collect())
    }

    /// Returns the throughput of two threads with one hot key, as a multiple of one thread.
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

/// The naive implementation: decode into a `Vec`, hash, look up under a shared lock.
fn look_up(map: &RwLock<HashMap<blake3::Hash, Entry>>, header: &[u8]) -> Option<KeyId> {
    let encoded = header.strip_prefix(b"Basic ")?;
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    let key = decoded.strip_suffix(b":")?;
    let map = map.read().ok()?;
    let entry = map.get(&blake3::hash(key))?;
    entry.active.then_some(entry.id)
}

// ── helpers

impl Inputs {
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

/// Rows of equal length in one buffer.
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

/// A pseudo-random sequence of positions, the same in each run.
struct Order(u64);

impl Order {
    #[inline]
    fn next(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // Scale by a multiplication: a division would cost more than some of the measured calls.
        let scaled = (self.0 >> 32) * u64::try_from(count).unwrap();
        usize::try_from(scaled >> 32).unwrap()
    }
}

/// Returns the number inside an id, which is public only as text, through an identity hasher.
#[inline]
fn bits(id: KeyId) -> u64 {
    struct Identity(u64);
    impl Hasher for Identity {
        fn write(&mut self, _: &[u8]) {}
        fn write_u64(&mut self, number: u64) {
            self.0 = number;
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut hasher = Identity(0);
    id.hash(&mut hasher);
    hasher.finish()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
