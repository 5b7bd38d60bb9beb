//! The order of gate, clock and index, under every interleaving that the memory model allows.
//!
//! A replica was counted out: its gate has ended, and the revocation that waited for that has
//! returned. Now the replica is back. It applies the revocation to its index and then proves that
//! it is fresh, which moves the gate on. A validation that starts meanwhile must refuse: either it
//! finds the gate still shut, or the key taken away. The gate is the crate's own file, with loom's
//! atomics in place of the machine's.

#![allow(dead_code, clippy::unwrap_used, clippy::pedantic, missing_docs)]

#[path = "../src/gate"]
mod gate {
    use loom::sync::atomic::AtomicU64;
    #[path = "until.rs"]
    mod until;

    use loom::{
        sync::{Arc, atomic::AtomicBool},
        thread,
    };
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use until::Until;

    /// The old gate ended at 10, the revocation returned at 20, the new proof is good until 30.
    const ENDED: u64 = 10;
    const NOW: u64 = 20;
    const PROVED: u64 = 30;

    /// What an order makes of a gate: how a validation goes through, and how a proof moves it on.
    type Passes = fn(&Until, &AtomicU64, &AtomicBool) -> Option<bool>;
    type Extends = fn(&Until, &AtomicU64);

    /// Runs a validation against the return of a replica.
    fn nothing_is_accepted(passes: Passes, extends: Extends) {
        loom::model(move || {
            let (until, rival) = (Until::shut_at_first(), AtomicU64::new(ENDED));
            until.extend(ENDED);
            let parts = Arc::new((until, rival, AtomicBool::new(true)));
            let replica = thread::spawn({
                let parts = Arc::clone(&parts);
                move || {
                    let (until, rival, active) = &*parts;
                    active.store(false, Release);
                    extends(until, rival);
                }
            });
            let (until, rival, active) = &*parts;
            let accepted = passes(until, rival, active) == Some(true);
            assert!(!accepted, "a key passed after its revocation had returned");
            replica.join().unwrap();
        });
    }

    fn ours(until: &Until, _: &AtomicU64, active: &AtomicBool) -> Option<bool> {
        until.pass(|| NOW, || active.load(Acquire))
    }

    fn extend(until: &Until, _: &AtomicU64) {
        until.extend(PROVED);
    }

    #[test]
    fn a_validation_that_starts_after_the_revocation_returned_refuses() {
        nothing_is_accepted(ours, extend);
    }

    #[test]
    #[should_panic = "a key passed"]
    fn an_index_that_is_looked_at_before_the_gate_is_caught() {
        let index_first: Passes = |until, _, active| {
            let found = active.load(Acquire);
            until.pass(|| NOW, || found)
        };
        nothing_is_accepted(index_first, extend);
    }

    #[test]
    #[should_panic = "a key passed"]
    fn a_gate_that_is_extended_with_relaxed_is_caught() {
        // The same gate but for its orderings, which cannot be handed in.
        let passes: Passes =
            |_, rival, active| (NOW < rival.load(Acquire)).then(|| active.load(Acquire));
        nothing_is_accepted(passes, |_, rival| rival.store(PROVED, Relaxed));
    }

    #[test]
    #[should_panic = "a key passed"]
    fn a_gate_that_is_read_with_relaxed_is_caught() {
        let passes: Passes =
            |_, rival, active| (NOW < rival.load(Relaxed)).then(|| active.load(Acquire));
        nothing_is_accepted(passes, |_, rival| rival.store(PROVED, Release));
    }

    #[test]
    fn a_closed_gate_stays_closed_however_a_late_proof_meets_it() {
        loom::model(|| {
            let until = Arc::new(Until::shut_at_first());
            let late = thread::spawn({
                let until = Arc::clone(&until);
                move || until.extend(PROVED)
            });
            until.close();
            assert_eq!(until.pass(|| NOW, || ()), None);
            late.join().unwrap();
            assert_eq!(until.pass(|| NOW, || ()), None);
        });
    }
}
