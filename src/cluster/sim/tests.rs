//! The promise over many seeds, and constructed worst cases. `tests/faults/cluster` has the injected faults
//! that these tests must find.
//!
//! The long form has more seeds, on all processors, and prints its counts in one line:
//!
//! ```text
//! PORTCULLIS_SIM_SEEDS=5000 cargo test --release -p portcullis --features cluster --lib by_no_replica -- --nocapture
//! ```
//!
//! A failed seed replays: `PORTCULLIS_SIM_SEEDS=239..240 PORTCULLIS_SIM_LOG=1` prints its log.

use super::{
    cut_off::{Cut, CutOff, Waits},
    failed_bootstrap::failed_bootstrap,
    repeated_join::repeated_join,
    world::{Tally, World},
};
use std::{
    env,
    num::NonZero,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::task::LocalSet;

/// The duration of a run, in simulated time.
const SECONDS: u64 = 8;

fn run(seed: u64) -> Tally {
    simulated(World::run(seed, SECONDS))
}

pub(super) fn simulated<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, what)
}

/// Returns the seeds of `PORTCULLIS_SIM_SEEDS`, or the default.
fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(asked) = env::var("PORTCULLIS_SIM_SEEDS") else { return default };
    let number = |text: &str| text.parse().expect("PORTCULLIS_SIM_SEEDS is 5000 or 239..240");
    asked.split_once("..").map_or_else(|| 0..number(&asked), |(a, b)| number(a)..number(b))
}

/// Checks that no validation that starts after a returned revocation accepts, and that all replicas recover
/// after the disruptions.
fn check_promise(seeds: Range<u64>) -> Tally {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let unrecovered = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let tally = run(seed);
                    if env::var_os("PORTCULLIS_SIM_LOG").is_some() {
                        tally.log.iter().for_each(|line| eprintln!("{line}"));
                    }
                    let accepted = tally.violations.first();
                    assert!(accepted.is_none(), "keys were accepted: seed {seed}: {accepted:?}");
                    if !tally.unrecovered.is_empty() {
                        unrecovered.lock().unwrap().push((seed, tally.unrecovered.clone()));
                    }
                    all.lock().unwrap().add(&tally);
                }
            });
        }
    });
    let unrecovered = unrecovered.into_inner().unwrap();
    assert!(unrecovered.is_empty(), "not recovered, by seed: {unrecovered:?}");
    let all = all.into_inner().unwrap();
    eprintln!(
        "simulation: {} seeds, {} revocations ({} with a replica timed out), {} restores, {} validations ({} accepted, \
         {} refused by shut gates), 0 accepted after a returned revocation",
        seeds.end - seeds.start,
        all.revocations,
        all.timed_out,
        all.restores,
        all.validations,
        all.accepted,
        all.refused_by_gates
    );
    all
}

#[test]
fn revoked_key_is_accepted_by_no_replica() {
    let seeds = seeds(0..300);
    let count = seeds.end - seeds.start;
    let all = check_promise(seeds);
    if count < 100 {
        return;
    }
    // A simulation in which nothing happens would pass as well.
    let a_seed = |counted: u64| counted / count;
    assert!(a_seed(all.revocations) >= 5 && a_seed(all.timed_out) >= 2, "{all:?}");
    assert!(all.restores * 5 > count && a_seed(all.refused_by_gates) >= 20, "{all:?}");
    assert!(a_seed(all.validations) > 1000 && a_seed(all.accepted) >= 50, "{all:?}");
}

#[test]
fn seed_replays_exactly_and_other_seeds_differ() {
    let mut worlds = Vec::new();
    for seed in [7, 8, 21, 22] {
        let (once, again) = (run(seed), run(seed));
        assert!(once == again, "seed {seed}: {:?}", first_difference(&once, &again));
        worlds.push(once.memory);
    }
    let all = worlds.len();
    worlds.sort();
    worlds.dedup();
    assert_eq!(worlds.len(), all);
}

fn first_difference(one: &Tally, other: &Tally) -> Option<(String, String)> {
    let lines = one.log.iter().chain(&one.memory).zip(other.log.iter().chain(&other.memory));
    let mut differing = lines.filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone()));
    differing.next()
}

/// Returns how often a replica that was cut off accepted a key whose revocation had returned.
fn accepted(case: CutOff) -> u64 {
    simulated(case.run())
}

#[test]
fn replica_cut_off_at_any_time_accepts_no_revoked_key() {
    assert_eq!(accepted(CutOff::new([1.0; 2], Cut::BeforeAnswers)), 0, "keys were accepted");
}

#[test]
fn replica_cut_off_after_a_proof_accepts_no_revoked_key_by_a_slow_clock() {
    assert_eq!(accepted(CutOff::new([0.99, 1.01], Cut::AfterProof)), 0, "keys were accepted");
}

/// The proofs of the replica that is cut off stay valid for longer than those of the other.
fn with_unequal_freshness(waits: Waits) -> CutOff {
    let freshness = [Duration::from_secs(6), Duration::from_secs(1)];
    CutOff { freshness, waits, ..CutOff::new([0.99, 1.01], Cut::AfterProof) }
}

#[test]
fn revocation_waits_for_each_member_by_the_freshness_of_that_member() {
    assert_eq!(accepted(with_unequal_freshness(Waits::ByReceipt)), 0, "keys were accepted");
}

#[test]
fn revocation_that_cannot_read_the_members_waits_for_the_longest_freshness() {
    for waits in [Waits::AsTheStore, Waits::Blindly, Waits::BlindlyForOthers] {
        assert_eq!(accepted(with_unequal_freshness(waits)), 0, "keys were accepted: {waits:?}");
    }
}

#[test]
fn bootstrap_that_failed_leaves_no_part_of_a_lost_history() {
    assert_eq!(simulated(failed_bootstrap()), 0, "keys of a lost history are accepted");
}

#[test]
fn replica_that_was_fenced_before_its_join_was_repeated_accepts_no_revoked_key() {
    assert!(!simulated(repeated_join()), "keys were accepted");
}
