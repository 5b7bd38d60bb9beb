//! The order of gate, clock and index, under every interleaving that the memory model allows.
//!
//! A replica was counted out: its gate has ended, and the revocation that waited for that has
//! returned. Now the replica is back. It applies the revocation to its index and then proves that
//! it is fresh, which moves the gate on. A validation that starts meanwhile must refuse: either it
//! finds the gate still shut, or the key taken away. The gate is the crate's own file, with loom's
//! atomics in place of the machine's; a planted fault weakens an order of that very file.

#![allow(dead_code, clippy::unwrap_used, clippy::pedantic, missing_docs)]

#[path = "../src/gate"]
mod gate {
    #[path = "until.rs"]
    mod until;

    use loom::{
        sync::{Arc, atomic},
        thread,
    };
    use std::{
        cell::Cell,
        sync::atomic::Ordering::{self, Acquire, Relaxed, Release},
    };
    use until::Until;

    /// The old gate ended at 10, the revocation returned at 20, the new proof is good until 30.
    const ENDED: u64 = 10;
    const NOW: u64 = 20;
    const PROVED: u64 = 30;

    #[derive(Clone, Copy, PartialEq)]
    enum Weak {
        Nothing,
        Reads,
        Writes,
    }

    // loom runs all threads of a model on the one that started it.
    thread_local! {
        static WEAK: Cell<Weak> = const { Cell::new(Weak::Nothing) };
    }

    fn unless(weak: Weak, order: Ordering) -> Ordering {
        if WEAK.get() == weak { Relaxed } else { order }
    }

    /// loom's word, by the orders that the gate asks for unless they are weakened.
    struct AtomicU64(atomic::AtomicU64);

    impl AtomicU64 {
        fn new(value: u64) -> Self {
            Self(atomic::AtomicU64::new(value))
        }

        fn load(&self, order: Ordering) -> u64 {
            self.0.load(unless(Weak::Reads, order))
        }

        fn swap(&self, value: u64, order: Ordering) -> u64 {
            self.0.swap(value, unless(Weak::Writes, order))
        }

        /// loom tries another order where it sees two accesses that conflict, and remembers of each
        /// word only the last one. The load that an update begins with would hide the reader's, and
        /// only one order be tried; so the update tells of itself before it.
        fn fetch_update(
            &self,
            set: Ordering,
            fetch: Ordering,
            next: impl FnMut(u64) -> Option<u64>,
        ) -> Result<u64, u64> {
            self.0.fetch_add(0, Relaxed);
            self.0.fetch_update(unless(Weak::Writes, set), fetch, next)
        }
    }

    /// How a validation goes through.
    type Passes = fn(&Until, &atomic::AtomicBool) -> Option<bool>;

    /// Runs a validation against the return of a replica.
    fn nothing_is_accepted(weak: Weak, passes: Passes) {
        WEAK.set(weak);
        loom::model(move || {
            let until = Until::shut_at_first();
            until.extend(ENDED);
            let parts = Arc::new((until, atomic::AtomicBool::new(true)));
            let replica = thread::spawn({
                let parts = Arc::clone(&parts);
                move || {
                    let (until, active) = &*parts;
                    active.store(false, Release);
                    until.extend(PROVED);
                }
            });
            let (until, active) = &*parts;
            let accepted = passes(until, active) == Some(true);
            assert!(!accepted, "a key passed after its revocation had returned");
            replica.join().unwrap();
        });
    }

    fn ours(until: &Until, active: &atomic::AtomicBool) -> Option<bool> {
        until.pass(|| NOW, || active.load(Acquire))
    }

    #[test]
    fn a_validation_that_starts_after_the_revocation_returned_refuses() {
        nothing_is_accepted(Weak::Nothing, ours);
    }

    #[test]
    #[should_panic = "a key passed"]
    fn an_index_that_is_looked_at_before_the_gate_is_caught() {
        let index_first: Passes = |until, active| {
            let found = active.load(Acquire);
            until.pass(|| NOW, || found)
        };
        nothing_is_accepted(Weak::Nothing, index_first);
    }

    #[test]
    #[should_panic = "a key passed"]
    fn a_gate_that_is_extended_with_relaxed_is_caught() {
        nothing_is_accepted(Weak::Writes, ours);
    }

    #[test]
    #[should_panic = "a key passed"]
    fn a_gate_that_is_read_with_relaxed_is_caught() {
        nothing_is_accepted(Weak::Reads, ours);
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
