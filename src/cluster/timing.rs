//! How long a proof is good for, and how long whoever takes something away waits.

use super::journal::Incarnation;
use crate::{error::Error, gate::Steady};
use std::time::Duration;

const MILLI: u64 = 1_000_000;
/// For what is not exact: timers, and the way from a clock to a decision.
const SLACK: u64 = 50 * MILLI;

/// Durations on the replica's own clock, in nanoseconds.
#[derive(Clone)]
pub(crate) struct Timing {
    freshness: u64,
    clock: Steady,
    #[cfg(test)]
    pub(crate) simulated: Simulated,
}

/// What a simulation has otherwise than the world.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct Simulated {
    /// How fast the clock runs.
    pub(crate) rate: f64,
    /// Counts incarnations, so that a run replays.
    pub(crate) lives: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Timing {
    pub(crate) fn new(freshness: Duration, clock: Steady) -> Self {
        Self {
            freshness: nanos(freshness),
            clock,
            #[cfg(test)]
            simulated: Simulated { rate: 1.0, lives: std::sync::Arc::default() },
        }
    }

    #[cfg(test)]
    pub(crate) fn clock(&self) -> &Steady {
        &self.clock
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// How long a proof is good for: D.
    pub(crate) fn freshness(&self) -> u64 {
        self.freshness
    }

    /// The same, as a member says it of itself.
    #[cfg(test)]
    pub(crate) fn freshness_told(&self) -> Duration {
        Duration::from_nanos(self.freshness)
    }

    /// How often a proof is asked for.
    pub(crate) fn beat(&self) -> u64 {
        beat(self.freshness)
    }

    /// How long our own gate may stay open without a proof, by any clock.
    pub(crate) fn hold(&self) -> u64 {
        self.hold_for(Duration::from_nanos(self.freshness))
    }

    /// How long to wait until the gate of a member must have shut whose proofs are good for this
    /// long: D where our clock is a hundredth too fast and theirs a hundredth too slow. D is the
    /// member's own; ours says nothing of when it shuts.
    #[expect(clippy::unused_self, reason = "asked of the timing, as the rest")]
    pub(crate) fn hold_for(&self, freshness: Duration) -> u64 {
        let freshness = nanos(freshness);
        (freshness / 99).saturating_mul(101).saturating_add(SLACK)
    }

    /// How long a member may be silent before it is fenced.
    #[expect(clippy::unused_self, reason = "asked of the timing, as the rest")]
    pub(crate) fn silence_of(&self, freshness: Duration) -> u64 {
        beat(nanos(freshness))
    }

    /// How long to wait before something that failed is tried again.
    pub(crate) fn pause(&self) -> u64 {
        self.freshness / 16
    }

    /// How long a call may take before its answer is of no use any more.
    pub(crate) fn patience(&self) -> Duration {
        self.real(self.freshness)
    }

    pub(crate) async fn sleep(&self, nanos: u64) {
        self.sleep_until(self.now().saturating_add(nanos)).await;
    }

    /// Until our own clock shows this: the runtime's timers may go by another one.
    pub(crate) async fn sleep_until(&self, moment: u64) {
        loop {
            let left = moment.saturating_sub(self.now());
            if left == 0 {
                return;
            }
            tokio::time::sleep(self.real(left)).await;
        }
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "a simulated clock has a rate"))]
    fn real(&self, nanos: u64) -> Duration {
        let duration = Duration::from_nanos(nanos);
        #[cfg(test)]
        let duration = duration.div_f64(self.simulated.rate);
        duration
    }

    /// The name of a new life: random, but where a simulation counts them.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a simulation counts")]
    pub(super) fn incarnation(&self) -> Result<Incarnation, Error> {
        Incarnation::fresh()
    }

    #[cfg(test)]
    pub(super) fn incarnation(&self) -> Result<Incarnation, Error> {
        let mut name = Incarnation::fresh()?;
        let life = self.simulated.lives.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        name.0[..8].copy_from_slice(&life.to_be_bytes());
        Ok(name)
    }
}

fn beat(freshness: u64) -> u64 {
    freshness / 4
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_outlasts_a_proof_by_any_two_clocks_within_a_hundredth() {
        for millis in [1, 100, 3_000, 10_000] {
            let timing = Timing::new(Duration::from_millis(millis), Steady::Machine);
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let (hold, freshness) = (timing.hold() as f64, timing.freshness() as f64);
            assert!(hold / 1.01 > freshness / 0.99 + 49e6, "{millis}");
        }
        let three = Timing::new(Duration::from_secs(3), Steady::Machine);
        assert_eq!(three.hold() / MILLI, 3_110);
    }

    #[test]
    fn a_member_is_waited_for_by_its_own_freshness() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(10));
        let timing = |freshness| Timing::new(freshness, Steady::Machine);
        assert_eq!(timing(short).hold_for(long), timing(long).hold());
        assert_eq!(timing(long).hold_for(short), timing(short).hold());
        assert_eq!(timing(short).silence_of(long), timing(long).beat());
    }
}
