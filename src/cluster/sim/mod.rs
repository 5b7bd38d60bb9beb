//! The protocol over a consensus store in memory, on a simulated clock: every run replays.
//!
//! Replica, committer and revoker are the ones that ship. The consensus store is linearizable because it
//! is one mutex. What goes wrong is between it and the replicas (`link`), in their clocks, and in what
//! happens to them (`world`).

mod conformance;
mod cut_off;
pub(crate) mod memory;
pub(crate) mod link;
mod node;
mod failed_bootstrap;
mod tests;
mod world;

use super::timing::{Simulated, Timing};
use crate::gate::Steady;
use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};
use tokio::time::Instant;

/// Numbers that follow from a seed.
#[derive(Clone)]
pub(crate) struct Dice(Arc<Mutex<u64>>);

impl Dice {
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

/// Durations on a clock that errs.
fn timing(
    freshness: Duration,
    (start, origin): (Instant, u64),
    rate: f64,
    members: &Arc<AtomicU64>,
) -> Timing {
    let clock = Steady::Simulated(Arc::new(move || {
        let passed = start.elapsed().mul_f64(rate).as_nanos();
        origin + u64::try_from(passed).unwrap()
    }));
    let mut timing = Timing::new(freshness, clock);
    timing.simulated = Simulated { rate, members: Arc::clone(members) };
    timing
}
