//! The promise over many seeds, and each planted fault found.
//!
//! The long form has more seeds, on all processors, and prints its counts in one line:
//!
//! ```text
//! PORTCULLIS_SIM_SEEDS=5000 cargo test --release --features cluster --lib by_no_replica -- --nocapture
//! ```
//!
//! A seed that fails replays: `PORTCULLIS_SIM_SEEDS=239..240 PORTCULLIS_SIM_STORY=1` tells all that
//! happened in it. `cluster::sim -- --nocapture` tells of each planted fault what found it.

use super::{
    duel::{Cut, Duel, Waits},
    relapse::relapse,
    world::{Tally, World},
};
use crate::cluster::plant::Plant;
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

/// How long a run is, on its own clock.
const SECONDS: u64 = 8;

fn run(seed: u64, plant: Option<Plant>) -> Tally {
    simulated(World::run(seed, plant, SECONDS))
}

fn simulated<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, what)
}

/// The seeds that were asked for; else these.
fn seeds(otherwise: Range<u64>) -> Range<u64> {
    let Ok(asked) = env::var("PORTCULLIS_SIM_SEEDS") else { return otherwise };
    let number = |text: &str| text.parse().expect("PORTCULLIS_SIM_SEEDS is 5000 or 239..240");
    asked.split_once("..").map_or_else(|| 0..number(&asked), |(a, b)| number(a)..number(b))
}

/// No validation that starts after a revocation has returned accepts, and all is well once nothing
/// goes wrong any more.
fn the_promise_is_kept(seeds: Range<u64>) -> Tally {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let tally = run(seed, None);
                    if env::var_os("PORTCULLIS_SIM_STORY").is_some() {
                        tally.story.iter().for_each(|line| eprintln!("{line}"));
                    }
                    assert!(tally.offences.is_empty(), "seed {seed}: {:?}", tally.offences.first());
                    assert!(tally.unhealed.is_empty(), "seed {seed}: {:?}", tally.unhealed);
                    all.lock().unwrap().add(&tally);
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    eprintln!(
        "simulation: {} seeds, {} revocations ({} with a replica waited out), {} restores, {} validations ({} accepted, \
         {} refused by shut gates), 0 accepted after a returned revocation",
        seeds.end - seeds.start,
        all.revocations,
        all.waited_out,
        all.restores,
        all.validations,
        all.accepted,
        all.refused_by_gates
    );
    all
}

#[test]
fn a_revoked_key_is_accepted_by_no_replica() {
    let seeds = seeds(0..300);
    let count = seeds.end - seeds.start;
    let all = the_promise_is_kept(seeds);
    if count < 100 {
        return;
    }
    // A simulation in which nothing happens would pass as well.
    let a_seed = |counted: u64| counted / count;
    assert!(a_seed(all.revocations) >= 5 && a_seed(all.waited_out) >= 2, "{all:?}");
    assert!(all.restores * 5 > count && a_seed(all.refused_by_gates) >= 20, "{all:?}");
    assert!(a_seed(all.validations) > 1000 && a_seed(all.accepted) >= 50, "{all:?}");
}

#[test]
fn a_seed_replays_to_the_last_revision_and_another_one_is_another_world() {
    let mut worlds = Vec::new();
    for (seed, plant) in [(7, None), (8, None), (21, None), (7, Some(Plant::NoFenceWait))] {
        let (once, again) = (run(seed, plant), run(seed, plant));
        assert!(once == again, "seed {seed}: {:?}", first_difference(&once, &again));
        worlds.push(once.engine);
    }
    let all = worlds.len();
    worlds.sort();
    worlds.dedup();
    assert_eq!(worlds.len(), all);
}

fn first_difference(one: &Tally, other: &Tally) -> Option<(String, String)> {
    let lines = one.story.iter().chain(&one.engine).zip(other.story.iter().chain(&other.engine));
    let mut differing = lines.filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone()));
    differing.next()
}

/// Some seed finds the fault.
#[track_caller]
fn is_found(plant: Plant, most: u64) {
    let found = (0..most).find(|seed| !run(*seed, Some(plant)).offences.is_empty());
    let Some(found) = found else { panic!("{plant:?} is not found by {most} seeds") };
    eprintln!("planted {plant:?}: found by the seed {found}, so after {} seeds", found + 1);
}

/// A fight finds the fault, and none is found where there is none.
#[track_caller]
fn is_found_in(duel: impl Fn(Option<Plant>) -> Duel, plant: Plant) {
    assert_eq!(simulated(duel(None).fight()), 0, "without {plant:?}");
    let accepted = simulated(duel(Some(plant)).fight());
    eprintln!("planted {plant:?}: found by a duel, in {accepted} of its rounds");
    assert!(accepted > 0, "{plant:?} is not found");
}

#[test]
fn an_acknowledgement_before_the_change_is_applied_is_found() {
    is_found(Plant::AcknowledgeBeforeApply, 20);
}

#[test]
fn a_proof_that_counts_from_its_response_is_found() {
    let duel = |plant| Duel::new(plant, [1.0; 2], Cut::BeforeAnswers);
    is_found_in(duel, Plant::ProofAtTheResponse);
}

#[test]
fn an_index_that_is_looked_at_before_the_gate_is_found() {
    is_found(Plant::IndexBeforeGate, 100);
}

#[test]
fn a_writer_that_leaves_the_epoch_out_is_found() {
    is_found(Plant::NoEpoch, 20);
}

#[test]
fn a_fenced_member_that_counts_as_gone_at_once_is_found() {
    is_found(Plant::NoFenceWait, 20);
}

#[test]
fn a_hold_that_two_clocks_can_outrun_is_found() {
    let duel = |plant| Duel::new(plant, [0.99, 1.01], Cut::AfterProof);
    is_found_in(duel, Plant::ShortHold);
}

/// The proofs of the one that is cut off are good for longer than those of the other.
fn unequal(waits: Waits) -> impl Fn(Option<Plant>) -> Duel {
    move |plant| Duel {
        freshness: [Duration::from_secs(6), Duration::from_secs(1)],
        waits,
        ..Duel::new(plant, [0.99, 1.01], Cut::AfterProof)
    }
}

#[test]
fn a_revoker_that_waits_by_its_own_freshness_is_found() {
    is_found_in(unequal(Waits::ByReceipt), Plant::OwnHold);
    is_found(Plant::OwnHold, 60);
}

#[test]
fn whoever_can_ask_nobody_who_there_is_waits_for_the_longest_freshness() {
    for waits in [Waits::AsTheStore, Waits::Blindly, Waits::BlindlyForOthers] {
        is_found_in(unequal(waits), Plant::OwnHold);
    }
}

#[test]
fn a_proof_that_comes_after_leaving_is_found() {
    is_found(Plant::LateProof, 60);
}

#[test]
fn an_engine_that_was_put_back_and_is_believed_is_found() {
    is_found(Plant::TrustTheNumbers, 60);
}

#[test]
fn a_proof_of_what_is_not_applied_is_found() {
    is_found(Plant::ProofWithoutApply, 60);
}

#[test]
fn a_bootstrap_that_failed_and_is_forgotten_is_found() {
    assert_eq!(simulated(relapse(None)), 0, "parts of a history that is gone are accepted");
    let accepted = simulated(relapse(Some(Plant::FailureForgotten)));
    eprintln!("planted {:?}: found, {accepted} keys were accepted", Plant::FailureForgotten);
    assert!(accepted > 0);
}
