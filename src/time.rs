//! A point in time as a value. `clock` reads the clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since the Unix epoch (UTC), never before it.
///
/// ```
/// use portcullis::Timestamp;
/// let time = Timestamp::from_millis(1_700_000_000_123);
/// assert_eq!(time.as_secs(), 1_700_000_000);
/// assert!(time > Timestamp::from_secs(1_700_000_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates the time `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Creates the time `secs` seconds after the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Returns the milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The beginning of this minute since the epoch.
    pub(crate) const fn from_minutes(minutes: u32) -> Self {
        Self(minutes as u64 * 60_000)
    }

    /// Whole minutes since the epoch, rounded down. Saturates in the year 10135.
    pub(crate) fn as_minutes(self) -> u32 {
        u32::try_from(self.0 / 60_000).unwrap_or(u32::MAX)
    }
}

impl From<SystemTime> for Timestamp {
    /// A time before the epoch becomes the epoch.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_converts_to_system_time_and_back_and_starts_at_the_epoch() {
        let moment = Timestamp::from_millis(1_700_000_000_123);
        let system = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!((SystemTime::from(moment), Timestamp::from(system)), (system, moment));
        assert_eq!(moment.as_secs(), 1_700_000_000);
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::from(before), Timestamp::default());
    }
}
