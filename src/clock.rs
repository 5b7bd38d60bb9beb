//! The time of a store, which never goes back.

use crate::{record::Expiry, time::Timestamp};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

/// A wall clock that is further ahead of the elapsed time is reported.
const REPORTED_JUMP: Duration = Duration::from_hours(24);
/// A store's time that is further ahead of the wall clock is reported. Synchronized clocks differ by
/// less, also those of several replicas.
const REPORTED_LEAD: Duration = Duration::from_mins(1);

impl Timestamp {
    /// Returns the time of the system clock. [`Store::now`](crate::Store::now) never goes back.
    ///
    /// ```
    /// assert!(portcullis::Timestamp::now() > portcullis::Timestamp::from_secs(1_700_000_000));
    /// ```
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl Expiry {
    /// Returns the expiry after this duration from now by the system clock, in whole seconds, rounded
    /// up.
    ///
    /// ```
    /// use portcullis::{Expiry, Timestamp};
    /// let hour = Expiry::after(std::time::Duration::from_hours(1));
    /// assert!(!hour.has_come(Timestamp::now()));
    /// ```
    pub fn after(duration: Duration) -> Self {
        Self::after_since(Timestamp::now(), duration)
    }
}

/// The time of a store, as a validation reads it: only where it needs it.
pub(crate) trait Time: Copy {
    /// The time that decides on expiries.
    fn now(self) -> Timestamp;

    /// The nanoseconds since some moment, which nobody sets. Rates need it, because the other clock stops
    /// while it is ahead.
    fn elapsed(self) -> u64;
}

impl Time for &Clock {
    #[inline]
    fn now(self) -> Timestamp {
        Clock::now(self)
    }

    fn elapsed(self) -> u64 {
        let elapsed = u64::try_from(self.opened.0.elapsed().as_nanos()).unwrap_or(u64::MAX);
        #[cfg(any(test, feature = "testing"))]
        let elapsed = elapsed + self.passed.load(Ordering::Relaxed);
        elapsed
    }
}

/// The clock of a store: the later of the wall clock and the newest committed time. So no expired key is
/// accepted again when the wall clock is set back.
pub(crate) struct Clock {
    /// The newest committed time in milliseconds; only rises.
    newest: AtomicU64,
    opened: (Instant, Timestamp),
    /// The nanoseconds by which a test advances [`Time::elapsed`].
    #[cfg(any(test, feature = "testing"))]
    passed: AtomicU64,
}

impl Clock {
    pub(crate) fn new(newest: Timestamp) -> Self {
        let wall = Timestamp::now();
        Self {
            newest: AtomicU64::new(newest.as_millis()),
            opened: (Instant::now(), wall),
            #[cfg(any(test, feature = "testing"))]
            passed: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.not_before_newest(wall())
    }

    /// Records the time of a committed change.
    pub(crate) fn advance(&self, to: Timestamp) {
        self.newest.fetch_max(to.as_millis(), Ordering::AcqRel);
    }

    /// Returns how far the wall clock jumped ahead since the store was opened, if by more than a day.
    pub(crate) fn jump(&self) -> Option<Duration> {
        self.jump_at(wall(), self.opened.0.elapsed())
    }

    /// Returns how far the newest committed time is ahead of the wall clock, if by more than a minute.
    pub(crate) fn ahead(&self) -> Option<Duration> {
        self.ahead_at(wall())
    }

    fn ahead_at(&self, wall: Timestamp) -> Option<Duration> {
        let now = self.not_before_newest(wall).as_millis();
        Some(Duration::from_millis(now.saturating_sub(wall.as_millis())))
            .filter(|ahead| *ahead > REPORTED_LEAD)
    }

    fn not_before_newest(&self, wall: Timestamp) -> Timestamp {
        wall.max(Timestamp::from_millis(self.newest.load(Ordering::Acquire)))
    }

    fn jump_at(&self, wall: Timestamp, passed: Duration) -> Option<Duration> {
        let shown =
            Duration::from_millis(wall.as_millis().saturating_sub(self.opened.1.as_millis()));
        Some(shown.saturating_sub(passed)).filter(|ahead| *ahead > REPORTED_JUMP)
    }
}

/// Reads the coarse clock: a few milliseconds behind the exact one, at a fifth of its cost.
#[cfg(target_os = "linux")]
fn wall() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let millis = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn wall() -> Timestamp {
    Timestamp::now()
}

#[cfg(any(test, feature = "testing"))]
impl Clock {
    /// Creates a clock whose wall clock has jumped ahead by `ahead` since the store was opened.
    pub(crate) fn jumped(ahead: Duration) -> Self {
        let clock = Self::new(Timestamp::default());
        let (moment, wall) = clock.opened;
        let behind = SystemTime::from(wall) - ahead;
        Self { opened: (moment, behind.into()), ..clock }
    }

    /// Advances the time that rates see.
    pub(crate) fn pass(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.passed.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// A fixed time, for tests of the index.
#[cfg(test)]
impl<F: Fn() -> Timestamp + Copy> Time for F {
    fn now(self) -> Timestamp {
        self()
    }

    fn elapsed(self) -> u64 {
        self().as_millis() * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_time_does_not_go_back_when_the_clock_is_set_back() {
        let clock = Clock::new(Timestamp::from_secs(100));
        assert_eq!(clock.not_before_newest(Timestamp::from_secs(7)), Timestamp::from_secs(100));
        clock.advance(Timestamp::from_secs(200));
        clock.advance(Timestamp::from_secs(150));
        assert_eq!(clock.not_before_newest(Timestamp::from_secs(7)), Timestamp::from_secs(200));
        assert_eq!(clock.not_before_newest(Timestamp::from_secs(300)), Timestamp::from_secs(300));
    }

    #[test]
    fn clock_jump_of_more_than_a_day_is_reported() {
        let clock = Clock::new(Timestamp::default());
        let ahead = |secs: u64| Timestamp::from_millis(clock.opened.1.as_millis() + secs * 1000);
        assert_eq!(clock.jump_at(ahead(86_400), Duration::ZERO), None);
        assert_eq!(clock.jump_at(ahead(200_000), Duration::from_secs(190_000)), None);
        assert_eq!(clock.jump_at(ahead(86_401), Duration::ZERO), Some(Duration::from_secs(86_401)));
    }

    #[test]
    fn newest_change_more_than_a_minute_ahead_of_the_wall_clock_is_reported() {
        let clock = Clock::new(Timestamp::from_secs(1000));
        assert_eq!(clock.ahead_at(Timestamp::from_secs(1000)), None);
        assert_eq!(clock.ahead_at(Timestamp::from_secs(940)), None);
        assert_eq!(clock.ahead_at(Timestamp::from_secs(939)), Some(Duration::from_secs(61)));
        assert_eq!(clock.ahead_at(Timestamp::from_secs(2000)), None);
    }

    #[test]
    fn coarse_clock_is_within_a_second_of_the_exact_clock() {
        let exact = Timestamp::now().as_millis();
        assert!(exact.abs_diff(wall().as_millis()) < 1000);
    }
}
