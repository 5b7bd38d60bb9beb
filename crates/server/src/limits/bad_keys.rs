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

/// After the burst, one bad key in this time.
const PERIOD: Duration = Duration::from_secs(1);
/// At most this many sources are distinguished, at some hundred bytes each; the others share a limit.
const MAX_SOURCES: usize = 50_000;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Counts the bad keys of each source.
pub(crate) struct BadKeyLimiter {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
    start: Instant,
    /// The second in which idle sources were last removed.
    pruned: AtomicU64,
}

impl BadKeyLimiter {
    /// Limits a source after this many bad keys.
    pub(crate) fn new(allowed: NonZeroU32) -> Option<Self> {
        let quota = Quota::with_period(PERIOD)?.allow_burst(allowed);
        Some(Self {
            limiter: RateLimiter::hashmap(quota),
            clock: DefaultClock::default(),
            start: Instant::now(),
            pruned: AtomicU64::new(0),
        })
    }

    /// Records a bad key; the error is how long its source should wait.
    pub(crate) fn record(&self, source: IpAddr) -> Result<(), Duration> {
        let mut source = source_network(source);
        if self.limiter.len() >= MAX_SOURCES {
            self.remove_idle();
            if self.limiter.len() >= MAX_SOURCES {
                source = OTHERS;
            }
        }
        self.limiter
            .check_key(&source)
            .map_err(|refused| refused.wait_time_from(self.clock.now()).max(PERIOD))
    }

    /// Removes the sources that were idle, at most once a second.
    fn remove_idle(&self) {
        let second = self.start.elapsed().as_secs() + 1;
        if self.pruned.swap(second, Relaxed) != second {
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
    fn source_of_many_bad_keys_is_limited_and_its_neighbours_are_not() {
        let bad_keys = BadKeyLimiter::new(ALLOWED).unwrap();
        let flood: IpAddr = "203.0.113.9".parse().unwrap();
        let let_through = (0..1000).filter(|_| bad_keys.record(flood).is_ok()).count();
        assert!((60..=62).contains(&let_through), "{let_through}");
        assert!(bad_keys.record(flood).unwrap_err() >= PERIOD);
        assert!(bad_keys.record("203.0.113.10".parse().unwrap()).is_ok());
        // An IPv6 customer has a network to draw addresses from.
        let drawn = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n));
        let let_through = (0..1000).filter(|n| bad_keys.record(drawn(*n)).is_ok()).count();
        assert!((60..=62).contains(&let_through), "{let_through}");
    }

    #[test]
    fn memory_is_bounded_and_sources_beyond_the_bound_share_a_limit() {
        let bad_keys = BadKeyLimiter::new(ALLOWED).unwrap();
        for n in 0..u32::try_from(MAX_SOURCES).unwrap() + 10_000 {
            let _ = bad_keys.record(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)));
        }
        assert!(bad_keys.limiter.len() <= MAX_SOURCES + 1);
        let known: IpAddr = "10.0.0.5".parse().unwrap();
        assert_eq!(source_network(known), known);
    }
}
