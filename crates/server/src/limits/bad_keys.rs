//! The rate limit on bad keys, for each source network. A valid key is never limited: the limiter is
//! called only for a key that was refused.

use crate::source::source_network;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// After the burst, one bad key is allowed in this period.
const REFILL_PERIOD: Duration = Duration::from_secs(1);
/// The number of sources that are distinguished, at some hundred bytes each; further ones share a limit.
const MAX_SOURCES: usize = 50_000;
const OTHER_SOURCES: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Counts the bad keys of each source.
pub(crate) struct BadKeyLimiter {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
    start: Instant,
    /// The second in which idle sources were last removed.
    last_prune: AtomicU64,
}

impl BadKeyLimiter {
    /// Limits a source after this many bad keys.
    pub(crate) fn new(allowed: NonZeroU32) -> Option<Self> {
        let quota = Quota::with_period(REFILL_PERIOD)?.allow_burst(allowed);
        Some(Self {
            limiter: RateLimiter::hashmap(quota),
            clock: DefaultClock::default(),
            start: Instant::now(),
            last_prune: AtomicU64::new(0),
        })
    }

    /// Records a bad key; the error is how long its source should wait.
    pub(crate) fn record(&self, source: IpAddr) -> Result<(), Duration> {
        let mut source = source_network(source);
        if self.limiter.len() >= MAX_SOURCES {
            self.remove_idle();
            if self.limiter.len() >= MAX_SOURCES {
                source = OTHER_SOURCES;
            }
        }
        self.limiter
            .check_key(&source)
            .map_err(|refused| refused.wait_time_from(self.clock.now()).max(REFILL_PERIOD))
    }

    /// Removes the sources that were idle, at most once a second.
    fn remove_idle(&self) {
        let second = self.start.elapsed().as_secs() + 1;
        if self.last_prune.swap(second, Relaxed) != second {
            self.limiter.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    const ALLOWED: NonZeroU32 = NonZeroU32::new(60).unwrap();

    #[test]
    fn source_of_many_bad_keys_is_limited_and_other_sources_are_not() {
        let bad_keys = BadKeyLimiter::new(ALLOWED).unwrap();
        let flood: IpAddr = "203.0.113.9".parse().unwrap();
        let accepted = (0..1000).filter(|_| bad_keys.record(flood).is_ok()).count();
        assert!((60..=62).contains(&accepted), "{accepted}");
        assert!(bad_keys.record(flood).unwrap_err() >= REFILL_PERIOD);
        assert!(bad_keys.record("203.0.113.10".parse().unwrap()).is_ok());
        // An IPv6 client can use any address of its network.
        let address = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n));
        let accepted = (0..1000).filter(|n| bad_keys.record(address(*n)).is_ok()).count();
        assert!((60..=62).contains(&accepted), "{accepted}");
    }

    #[test]
    fn memory_is_bounded_and_further_sources_share_a_limit() {
        let bad_keys = BadKeyLimiter::new(ALLOWED).unwrap();
        for n in 0..u32::try_from(MAX_SOURCES).unwrap() + 10_000 {
            let _ = bad_keys.record(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)));
        }
        assert!(bad_keys.limiter.len() <= MAX_SOURCES + 1);
        let known: IpAddr = "10.0.0.5".parse().unwrap();
        assert_eq!(source_network(known), known);
    }
}
