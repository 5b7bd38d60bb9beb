//! The time over which all uses of keys are known, kept as two values among the last uses.
//!
//! A key without a use is only known to be unused over this time. A backup does not contain the two values, so
//! a restored store begins a new time.

use crate::id::KeyId;

/// The longest time between two processes, or without a report of a replica, that does not interrupt the
/// known time, in minutes.
pub(crate) const MAX_GAP: u32 = 24 * 60;
/// The minute since which all uses are known.
pub(crate) const SINCE: KeyId = KeyId::from_u64(0);
/// The minute until which all uses were known when the last process ended, or a replica last reported. 0 while a
/// process that has the store alone runs.
pub(crate) const UNTIL: KeyId = KeyId::from_u64(1);

/// The time over which all uses are known, in minutes since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownUses {
    pub(crate) since: u32,
    pub(crate) until: u32,
    /// A replica that has not reported its uses lately. Then the time is not known.
    pub(crate) missing: Option<Box<str>>,
    /// The values of replicas that have ended, which can be deleted.
    pub(crate) obsolete: Vec<KeyId>,
}

/// The two values, as they were read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoredKnownUses {
    pub(crate) since: Option<u32>,
    pub(crate) until: Option<u32>,
}

impl StoredKnownUses {
    /// Takes a value if it is one of the two.
    pub(crate) fn note(&mut self, id: KeyId, minute: u32) {
        match id {
            SINCE => self.since = Some(minute),
            UNTIL => self.until = Some(minute),
            _ => {}
        }
    }

    /// The minute since which all uses are known, for a process that starts or reports now. After a gap, and if
    /// the last process did not end cleanly, that is now.
    pub(crate) fn since_at(self, now: u32) -> u32 {
        let has_gap = self.until.is_none_or(|until| until.abs_diff(now) > MAX_GAP);
        self.since.filter(|_| !has_gap).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_time_continues_only_after_a_clean_end_within_a_day() {
        let since = |since, until, now| StoredKnownUses { since, until }.since_at(now);
        let now = 9_000_000;
        assert_eq!(since(Some(7), Some(now - MAX_GAP), now), 7);
        assert_eq!(since(Some(7), Some(now - MAX_GAP - 1), now), now, "a gap");
        assert_eq!(since(Some(7), Some(now + MAX_GAP + 1), now), now, "the clock went back");
        assert_eq!(since(Some(7), Some(0), now), now, "not ended");
        assert_eq!(since(Some(7), None, now), now);
        assert_eq!(since(None, Some(now), now), now);
    }

    #[test]
    fn values_have_ids_that_no_key_has() {
        assert!(SINCE.is_reserved() && UNTIL.is_reserved());
        assert!(!KeyId::from_u64(KeyId::RESERVED).is_reserved());
    }
}
