//! Floods of bad keys are slowed, by where they come from. A valid key is never limited: whoever
//! asks here was refused already.

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// After the first ones, one bad key in this time.
const PERIOD: Duration = Duration::from_secs(1);
/// So many sources are told apart, at some hundred bytes each; the others share one account.
const SOURCES: usize = 50_000;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Whoever has an IPv6 address has at least this many bits of them to himself.
const OWN_BITS: u32 = 64;

/// Counts the bad keys of each source.
pub(super) struct Floods {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
    start: Instant,
    /// The second in which sources that were quiet were last forgotten.
    swept: AtomicU64,
}

impl Floods {
    /// Slows a source after so many bad keys.
    pub(super) fn new(allowed: NonZeroU32) -> Option<Self> {
        let quota = Quota::with_period(PERIOD)?.allow_burst(allowed);
        Some(Self {
            limiter: RateLimiter::hashmap(quota),
            clock: DefaultClock::default(),
            start: Instant::now(),
            swept: AtomicU64::new(0),
        })
    }

    /// Notes a bad key; the error says how long its source should wait.
    pub(super) fn note(&self, source: IpAddr) -> Result<(), Duration> {
        let mut source = account(source);
        if self.limiter.len() >= SOURCES {
            self.sweep();
            if self.limiter.len() >= SOURCES {
                source = OTHERS;
            }
        }
        self.limiter
            .check_key(&source)
            .map_err(|refused| refused.wait_time_from(self.clock.now()).max(PERIOD))
    }

    /// Forgets the sources that were quiet, at most once a second.
    fn sweep(&self) {
        let second = self.start.elapsed().as_secs() + 1;
        if self.swept.swap(second, Relaxed) != second {
            self.limiter.retain_recent();
        }
    }
}

/// The network that counts as one source.
pub(super) fn account(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << (128 - OWN_BITS));
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: NonZeroU32 = NonZeroU32::new(60).unwrap();

    #[test]
    fn a_flood_is_slowed_and_its_neighbours_are_not() {
        let floods = Floods::new(ALLOWED).unwrap();
        let flood: IpAddr = "203.0.113.9".parse().unwrap();
        let let_through = (0..1000).filter(|_| floods.note(flood).is_ok()).count();
        assert!((60..=62).contains(&let_through), "{let_through}");
        assert!(floods.note(flood).unwrap_err() >= PERIOD);
        assert!(floods.note("203.0.113.10".parse().unwrap()).is_ok());
        // An IPv6 customer has a network to draw addresses from.
        let drawn = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n));
        let let_through = (0..1000).filter(|n| floods.note(drawn(*n)).is_ok()).count();
        assert!((60..=62).contains(&let_through), "{let_through}");
    }

    #[test]
    fn memory_is_bounded_and_those_without_an_account_share_one() {
        let floods = Floods::new(ALLOWED).unwrap();
        for n in 0..u32::try_from(SOURCES).unwrap() + 10_000 {
            let _ = floods.note(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)));
        }
        assert!(floods.limiter.len() <= SOURCES + 1);
        let known: IpAddr = "10.0.0.5".parse().unwrap();
        assert_eq!(account(known), known);
    }
}
