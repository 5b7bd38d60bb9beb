//! The gate: whether this replica may validate now.
//!
//! If replicas share a store, a replica that is cut off must stop validating before the others stop
//! waiting for it. Its gate is open until a time on its own clock. Each proof of freshness extends this
//! time. A validation passes the gate first and reads the index second. The states of a gate:
//!
//! | state | word | validations | next |
//! |---|---|---|---|
//! | always open | `ALWAYS` | pass, and read no clock | stays so: the store is not shared |
//! | shut | `SHUT` | are unavailable | *open until*, by a proof; *closed*, when the replica leaves |
//! | open until t | t | pass before t | a later t, by a proof; *shut*, by a fence or another history; *closed* |
//! | closed | `CLOSED` | are unavailable | stays so: no proof opens it |

mod until;

use self::until::Until;
use crate::refusal::Refusal;
use std::sync::atomic::AtomicU64;

/// Whether this replica may validate now.
pub(crate) struct Gate {
    until: Until,
    clock: SteadyClock,
}

impl Gate {
    /// Creates the gate of a store that is not shared.
    pub(crate) fn always_open() -> Self {
        Self { until: Until::always(), clock: SteadyClock::System }
    }

    /// Returns how long the gate stays open without another proof, in nanoseconds.
    pub(crate) fn remaining(&self) -> u64 {
        self.until.end().saturating_sub(self.clock.now())
    }

    /// Reads the index, if the gate is open: first the gate, then the clock, then the index.
    #[inline]
    pub(crate) fn pass<T>(&self, look: impl FnOnce() -> T) -> Result<T, Refusal> {
        self.until.pass(|| self.clock.now(), look).ok_or(Refusal::Unavailable)
    }
}

#[cfg(feature = "cluster")]
impl Gate {
    /// Creates the gate of a replica: shut until the first proof.
    pub(crate) fn shut_at_first(clock: SteadyClock) -> Self {
        Self { until: Until::shut_at_first(), clock }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pass(|| ()).is_ok()
    }

    /// Shuts the gate permanently: no later proof opens it.
    pub(crate) fn close(&self) {
        self.until.close();
    }
}

#[cfg(any(test, feature = "cluster", feature = "testing"))]
impl Gate {
    /// Keeps the gate open at least until this time on its clock.
    pub(crate) fn extend(&self, until: u64) {
        self.until.extend(until);
    }

    /// Shuts the gate until the next proof.
    pub(crate) fn shut(&self) {
        self.until.shut();
    }
}

/// A clock that cannot be set, and that counts the time in which the host slept.
#[derive(Clone)]
pub(crate) enum SteadyClock {
    System,
    /// A simulated one.
    #[cfg(all(test, feature = "cluster"))]
    Simulated(std::sync::Arc<dyn Fn() -> u64 + Send + Sync>),
}

impl SteadyClock {
    /// Returns the nanoseconds since an arbitrary start.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::System => boot_time(),
            #[cfg(all(test, feature = "cluster"))]
            Self::Simulated(clock) => clock(),
        }
    }
}

/// Neither a coarse nor a cached clock: the gate shuts to the millisecond.
#[cfg(target_os = "linux")]
fn boot_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

/// Elsewhere the monotonic clock, which may stop while the host sleeps.
#[cfg(not(target_os = "linux"))]
fn boot_time() -> u64 {
    use std::{sync::OnceLock, time::Instant};
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_of_an_unshared_store_reads_no_clock() {
        let until = Until::always();
        assert_eq!(until.pass(|| unreachable!("the clock was read"), || 7), Some(7));
    }

    #[test]
    fn gate_is_open_until_its_end_and_proofs_only_extend_it() {
        let until = Until::shut_at_first();
        let passes = |now| until.pass(|| now, || ()).is_some();
        assert!(!passes(0) && !passes(5));
        until.extend(10);
        until.extend(8);
        assert!(passes(9) && !passes(10));
        until.shut();
        assert!(!passes(0));
        until.extend(20);
        assert!(passes(19));
    }

    #[test]
    fn closed_gate_stays_closed_despite_later_proofs() {
        let until = Until::shut_at_first();
        until.extend(10);
        until.close();
        until.extend(1_000);
        until.shut();
        until.extend(1_000);
        assert_eq!(until.pass(|| 0, || ()), None);
    }

    #[test]
    fn refused_pass_does_not_read_the_index() {
        let until = Until::shut_at_first();
        assert_eq!(until.pass(|| 5, || unreachable!("the index was looked at")), None::<()>);
    }
}
