//! A loom model of the order of gate, clock and index: every interleaving that the memory model
//! allows.
//!
//! A replica was fenced: its gate has closed, and the revocation that waited for that has returned.
//! Now the replica reconnects. It applies the revocation to its index, and then extends the gate
//! after a proof of freshness. An authentication that starts at the same time must refuse: it finds
//! either the gate closed or the key revoked.
//!
//! The gate is the crate's own file with loom's atomics. `tests/faults/gate` has the faults that this
//! model must find.

#![expect(dead_code, reason = "the model uses a part of the gate's file")]

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

    /// The old gate closed at 10, the revocation returned at 20, and the new proof is valid until 30.
    const CLOSED_AT: u64 = 10;
    const NOW: u64 = 20;
    const PROVED_UNTIL: u64 = 30;

    /// loom's atomic, with the interface that the gate uses.
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

        /// loom explores another order only if two accesses conflict, and it remembers the last access
        /// of each atomic. The load at the start of an update would hide the load of the reader. So
        /// the update first writes, which conflicts with that load.
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
    fn authentication_started_after_the_revocation_returned_is_refused() {
        loom::model(|| {
            let until = Until::shut_at_first();
            until.extend(CLOSED_AT);
            let parts = Arc::new((until, atomic::AtomicBool::new(true)));
            let replica = thread::spawn({
                let parts = Arc::clone(&parts);
                move || {
                    let (until, active) = &*parts;
                    active.store(false, Release);
                    until.extend(PROVED_UNTIL);
                }
            });
            let (until, active) = &*parts;
            let accepted = until.pass(|| NOW, || active.load(Acquire)) == Some(true);
            assert!(!accepted, "a key was accepted after its revocation had returned");
            replica.join().unwrap();
        });
    }

    #[test]
    fn closed_gate_stays_closed_after_a_late_proof() {
        loom::model(|| {
            let until = Arc::new(Until::shut_at_first());
            let late = thread::spawn({
                let until = Arc::clone(&until);
                move || until.extend(PROVED_UNTIL)
            });
            until.close();
            assert_eq!(until.pass(|| NOW, || ()), None);
            late.join().unwrap();
            assert_eq!(until.pass(|| NOW, || ()), None);
        });
    }
}
