//! The protocol over a consensus store in memory, on a simulated clock: every run replays.
//!
//! Replica, committer and revocation barrier are the production code. The consensus store is linearizable because it
//! is one mutex. Faults are injected into the links between it and the replicas (`link`), into clocks, and
//! by disruptions (`world`).

mod conformance;
mod cut_off;
pub(crate) mod memory;
pub(crate) mod link;
mod node;
mod failed_bootstrap;
mod repeated_join;
mod tests;
mod world;

use super::timing::{Simulated, Timing};
use crate::gate::SteadyClock;
use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};
use tokio::time::Instant;

/// A seeded random number generator.
#[derive(Clone)]
pub(crate) struct Rng(Arc<Mutex<u64>>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d)))
    }

    /// A number below `end`.
    fn below(&self, end: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'t, T>(&self, from: &'t [T]) -> &'t T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// Returns durations on a clock with a wrong rate.
fn timing(
    freshness: Duration,
    (start, origin): (Instant, u64),
    rate: f64,
    members: &Arc<AtomicU64>,
) -> Timing {
    let clock = SteadyClock::Simulated(Arc::new(move || {
        let passed = start.elapsed().mul_f64(rate).as_nanos();
        origin + u64::try_from(passed).unwrap()
    }));
    let mut timing = Timing::new(freshness, clock);
    timing.simulated = Simulated { rate, members: Arc::clone(members) };
    timing
}
