//! How long a proof stays valid, and how long a revocation waits for a member.

use super::consensus::MemberId;
use crate::{error::Error, gate::SteadyClock};
use std::time::Duration;

const MILLI: u64 = 1_000_000;
/// Allows for inexact timers, and for the time between reading the clock and a decision.
const SLACK: u64 = 50 * MILLI;

/// The durations of a replica in nanoseconds on its own clock.
#[derive(Clone)]
pub(crate) struct Timing {
    freshness: u64,
    clock: SteadyClock,
    #[cfg(test)]
    pub(crate) simulated: Simulated,
}

/// The parameters of a simulated replica.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct Simulated {
    /// The rate of the clock.
    pub(crate) rate: f64,
    /// Counts members, so that a run replays.
    pub(crate) members: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Timing {
    pub(crate) fn new(freshness: Duration, clock: SteadyClock) -> Self {
        Self {
            freshness: nanos(freshness),
            clock,
            #[cfg(test)]
            simulated: Simulated { rate: 1.0, members: std::sync::Arc::default() },
        }
    }

    #[cfg(test)]
    pub(crate) fn clock(&self) -> &SteadyClock {
        &self.clock
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Returns how long a proof of this replica stays valid: D.
    pub(crate) fn freshness(&self) -> u64 {
        self.freshness
    }

    /// Returns the interval between proofs.
    pub(crate) fn proof_interval(&self) -> u64 {
        proof_interval(Duration::from_nanos(self.freshness))
    }

    /// Returns how long this replica's own gate may stay open without a proof, by any clock.
    pub(crate) fn hold(&self) -> u64 {
        hold(Duration::from_nanos(self.freshness))
    }

    /// Returns how long to wait before a failed call is retried.
    pub(crate) fn retry_delay(&self) -> u64 {
        self.freshness / 16
    }

    /// Returns how long a call may take before its answer is useless.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.real(self.freshness)
    }

    pub(crate) async fn sleep(&self, nanos: u64) {
        self.sleep_until(self.now().saturating_add(nanos)).await;
    }

    /// Sleeps until this replica's clock shows `end`. The runtime's timers may use another clock.
    pub(crate) async fn sleep_until(&self, end: u64) {
        loop {
            let left = end.saturating_sub(self.now());
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

    /// Returns the id of a new member. It is random, except in a simulation, which counts members.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a simulation counts")]
    pub(super) fn member_id(&self) -> Result<MemberId, Error> {
        MemberId::random()
    }

    #[cfg(test)]
    pub(super) fn member_id(&self) -> Result<MemberId, Error> {
        let mut id = MemberId::random()?;
        let number = self.simulated.members.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        id.0[..8].copy_from_slice(&number.to_be_bytes());
        Ok(id)
    }
}

/// Returns the time after which a member with this freshness has shut its gate. It allows for a waiting
/// clock that is 1 % too fast and a member's clock that is 1 % too slow.
pub(super) fn hold(freshness: Duration) -> u64 {
    (nanos(freshness) / 99).saturating_mul(101).saturating_add(SLACK)
}

/// Returns the interval at which a member with this freshness requests a proof. A member that is silent
/// for this time is fenced.
pub(super) fn proof_interval(freshness: Duration) -> u64 {
    nanos(freshness) / 4
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_outlasts_a_proof_by_any_two_clocks_within_a_hundredth() {
        for millis in [1, 100, 3_000, 10_000] {
            let timing = Timing::new(Duration::from_millis(millis), SteadyClock::System);
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let (hold, freshness) = (timing.hold() as f64, timing.freshness() as f64);
            assert!(hold / 1.01 > freshness / 0.99 + 49e6, "{millis}");
        }
        assert_eq!(hold(Duration::from_secs(3)) / MILLI, 3_110);
    }

    #[test]
    fn wait_for_a_member_depends_on_the_freshness_of_that_member() {
        for freshness in [Duration::from_secs(1), Duration::from_secs(10)] {
            let timing = Timing::new(freshness, SteadyClock::System);
            assert_eq!(
                (hold(freshness), proof_interval(freshness)),
                (timing.hold(), timing.proof_interval())
            );
        }
        assert!(hold(Duration::from_secs(1)) < hold(Duration::from_secs(10)));
    }
}
