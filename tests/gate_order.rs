//! The order of gate, clock and index, under every interleaving that the memory model allows.
//!
//! A replica was counted out: its gate has ended, and the revocation that waited for that has
//! returned. Now the replica is back. It applies the revocation to its index and then proves that
//! it is fresh, which moves the gate on. A validation that starts meanwhile must refuse: either it
//! finds the gate still shut, or the key taken away. The gate is the crate's own file, with loom's
//! atomics in place of the machine's; `tests/faults/gate` has the faults that this model must find.

#![allow(dead_code, clippy::unwrap_used, clippy::pedantic, missing_docs)]

#[path = "../src/gate"]
mod gate {
    #[path = "until.rs"]
    mod until;

    use loom::{
        sync::{Arc, atomic},
        thread,
    };
    use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
    use until::Until;

    /// The old gate ended at 10, the revocation returned at 20, the new proof is good until 30.
    const ENDED: u64 = 10;
    const NOW: u64 = 20;
    const PROVED: u64 = 30;

    /// loom's word.
    struct AtomicU64(atomic::AtomicU64);

    impl AtomicU64 {
        fn new(value: u64) -> Self {
            Self(atomic::AtomicU64::new(value))
        }

        fn load(&self, order: Ordering) -> u64 {
            self.0.load(order)
        }

        fn swap(&self, value: u64, order: Ordering) -> u64 {
            self.0.swap(value, order)
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
            self.0.fetch_update(set, fetch, next)
        }
    }

    #[test]
    fn a_validation_that_starts_after_the_revocation_returned_refuses() {
        loom::model(|| {
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
            let accepted = until.pass(|| NOW, || active.load(Acquire)) == Some(true);
            assert!(!accepted, "a key passed after its revocation had returned");
            replica.join().unwrap();
        });
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
