//! Counts the requests of a key with a rate: the generic cell rate algorithm in one word.
//!
//! The word is the time at which the key will have paid for all its requests. A request is allowed if that time
//! is at most the time for the requests of a span, less one, away, and moves it on by the time for one request.
//! So an idle key has the requests of a whole span at once.

use crate::{rate::Rate, refusal::Refusal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The requests of a key, in this process.
pub(super) struct Meter {
    rate: Rate,
    /// In nanoseconds of [`Time::elapsed`](crate::clock::Time::elapsed).
    paid_until: AtomicU64,
}

impl Meter {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, paid_until: AtomicU64::new(0) }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Counts a request at this time, or refuses it. A refused request is not counted.
    pub(super) fn spend(&self, now: u64) -> Result<(), Refusal> {
        let interval = self.rate.interval();
        let ahead = interval.saturating_mul(u64::from(self.rate.requests() - 1));
        let spend = |paid: u64| {
            let paid = paid.max(now);
            (paid - now <= ahead).then(|| paid.saturating_add(interval))
        };
        let refused = |paid: u64| {
            let wait = paid.saturating_sub(now).saturating_sub(ahead);
            let seconds = wait.div_ceil(NANOS_PER_SECOND).max(1);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            Refusal::RateLimited { rate: self.rate, retry_after: seconds }
        };
        self.paid_until.fetch_update(Relaxed, Relaxed, spend).map(|_| ()).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    const SECOND: u64 = NANOS_PER_SECOND;

    fn meter(requests: u32, seconds: u32) -> Meter {
        Meter::new(Rate::new(requests, seconds).unwrap())
    }

    /// How many of some requests at this time are allowed.
    fn allowed(meter: &Meter, now: u64, of: usize) -> usize {
        (0..of).filter(|_| meter.spend(now).is_ok()).count()
    }

    #[test]
    fn idle_key_has_a_whole_span_and_then_one_request_an_interval() {
        let meter = meter(3, 60);
        let start = 7 * SECOND;
        assert_eq!(allowed(&meter, start, 9), 3);
        let at = |now: u64| meter.spend(now);
        assert!(at(start + 20 * SECOND - 1).is_err());
        assert!(at(start + 20 * SECOND).is_ok() && at(start + 20 * SECOND).is_err());
        assert!(at(start + 40 * SECOND - 1).is_err() && at(start + 40 * SECOND).is_ok());
        // Two intervals later there are two requests, and never more than a span.
        assert_eq!(allowed(&meter, start + 80 * SECOND, 9), 2);
        assert_eq!(allowed(&meter, start + 1000 * SECOND, 9), 3);
    }

    #[test]
    fn refusal_has_the_time_to_wait_rounded_up() {
        let meter = meter(2, 60);
        let rate = Rate::new(2, 60).unwrap();
        assert_eq!(allowed(&meter, 0, 2), 2);
        let refused = |retry_after| Err(Refusal::RateLimited { rate, retry_after });
        assert_eq!(meter.spend(0), refused(30));
        assert_eq!(meter.spend(1), refused(30));
        assert_eq!(meter.spend(SECOND), refused(29));
        assert_eq!(meter.spend(30 * SECOND - 1), refused(1));
        assert_eq!(meter.spend(30 * SECOND), Ok(()));
    }

    #[test]
    fn concurrent_requests_never_exceed_a_span_and_the_rate() {
        for (requests, seconds) in [(1, 1), (100, 60), (1_000_000, 1)] {
            let meter = Arc::new(meter(requests, seconds));
            let threads = 4;
            // Each thread makes a request in each of many short times, which pass alike for all.
            let (steps, step) = (5_000u64, 1_000_000);
            let spends = (0..threads).map(|_| {
                let meter = Arc::clone(&meter);
                thread::spawn(move || {
                    (0..steps).filter(|at| meter.spend(at * step).is_ok()).count() as u64
                })
            });
            let spends: Vec<_> = spends.collect();
            let allowed: u64 = spends.into_iter().map(|thread| thread.join().unwrap()).sum();
            let interval = Rate::new(requests, seconds).unwrap().interval();
            let most = u64::from(requests) + (steps - 1) * step / interval;
            assert!(allowed <= most, "{allowed} of at most {most}");
            assert!(allowed >= most.min(u64::from(requests).min(steps)), "{allowed}");
        }
    }
}
