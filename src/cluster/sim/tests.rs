//! The promise over many seeds, and each planted fault found.
//!
//! A seed that fails replays: `SEEDS=239..240 STORY=1 cargo test --features cluster --lib
//! any_seeds -- --ignored --nocapture` tells all that happened in it.

use super::{
    duel::{Cut, Duel, Waits},
    world::{Tally, World},
};
use crate::cluster::plant::Plant;
use std::{env, ops::Range, time::Duration};
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

/// No validation that starts after a revocation has returned accepts, and all is well once nothing
/// goes wrong any more.
fn the_promise_is_kept(seeds: Range<u64>) -> Tally {
    let mut all = Tally::default();
    for seed in seeds {
        let tally = run(seed, None);
        if env::var_os("STORY").is_some() {
            tally.story.iter().for_each(|line| eprintln!("{line}"));
        }
        assert!(tally.offences.is_empty(), "seed {seed}: {:?}", tally.offences.first());
        assert!(tally.unhealed.is_empty(), "seed {seed}: {:?}", tally.unhealed);
        all.revocations += tally.revocations;
        all.waited_out += tally.waited_out;
        all.validations += tally.validations;
        all.refused_by_gates += tally.refused_by_gates;
        all.restores += tally.restores;
    }
    eprintln!("{all:?}");
    all
}

#[test]
fn a_revoked_key_is_accepted_by_no_replica() {
    let all = the_promise_is_kept(0..100);
    // A simulation in which nothing happens would pass as well.
    assert!(all.revocations > 400 && all.waited_out > 150 && all.restores > 10, "{all:?}");
    assert!(all.refused_by_gates > 500 && all.validations > 50_000, "{all:?}");
}

#[test]
fn a_revoked_key_is_accepted_by_no_replica_in_another_hundred_worlds() {
    the_promise_is_kept(100..200);
}

#[test]
fn a_revoked_key_is_accepted_by_no_replica_in_a_third_hundred() {
    the_promise_is_kept(200..300);
}

#[test]
#[ignore = "the long form: SEEDS=0..10000"]
fn any_seeds() {
    let seeds = env::var("SEEDS").unwrap_or_else(|_| "0..1000".into());
    let (from, to) = seeds.split_once("..").unwrap();
    the_promise_is_kept(from.parse().unwrap()..to.parse().unwrap());
}

#[test]
fn a_seed_replays() {
    assert_eq!(run(7, None), run(7, None));
}

/// Some seed finds the fault.
#[track_caller]
fn is_found(plant: Plant, most: u64) {
    let found = (0..most).find(|seed| !run(*seed, Some(plant)).offences.is_empty());
    eprintln!("{plant:?}: {found:?}");
    assert!(found.is_some(), "{plant:?} is not found by {most} seeds");
}

#[test]
fn an_acknowledgement_before_the_change_is_applied_is_found() {
    is_found(Plant::AcknowledgeBeforeApply, 20);
}

#[test]
fn a_proof_that_counts_from_its_response_is_found() {
    let outcome = |plant| simulated(Duel::new(plant, [1.0; 2], Cut::BeforeAnswers).fight());
    assert_eq!(outcome(None), 0);
    assert!(outcome(Some(Plant::ProofAtTheResponse)) > 0);
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
    let outcome = |plant| simulated(Duel::new(plant, [0.99, 1.01], Cut::AfterProof).fight());
    assert_eq!(outcome(None), 0);
    assert!(outcome(Some(Plant::ShortHold)) > 0);
}

/// How often a replica whose proofs are good for longer than those of the one that takes keys away
/// accepts one after that.
fn unequal(plant: Option<Plant>, waits: Waits) -> u64 {
    let freshness = [Duration::from_secs(6), Duration::from_secs(1)];
    let duel = Duel::new(plant, [0.99, 1.01], Cut::AfterProof);
    simulated(Duel { freshness, waits, ..duel }.fight())
}

#[test]
fn a_revoker_that_waits_by_its_own_freshness_is_found() {
    assert_eq!(unequal(None, Waits::ByReceipt), 0);
    assert!(unequal(Some(Plant::OwnHold), Waits::ByReceipt) > 0);
    is_found(Plant::OwnHold, 60);
}

#[test]
fn whoever_can_ask_nobody_who_there_is_waits_for_the_longest_freshness() {
    for waits in [Waits::AsTheStore, Waits::Blindly, Waits::BlindlyForOthers] {
        assert_eq!(unequal(None, waits), 0, "{waits:?}");
        assert!(unequal(Some(Plant::OwnHold), waits) > 0, "{waits:?}");
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
