//! The state of a slot in one word.
//!
//! ```text
//! bit 63        the slot is used (an empty slot is all zero)
//! bit 62        the key is active
//! bits 28..62   the expiry in seconds since the epoch; all ones: never
//! bit 27        the key is limited: it has networks or a rate
//! bits 0..27    the number of the grant; in the slot of a limited key, of its limits in the segment
//! ```

use crate::{
    networks::Networks,
    rate::Rate,
    record::{Expiry, Standing, check_state},
    refusal::Refusal,
    scope::Grant,
    time::Timestamp,
};

const TAKEN: u64 = 1 << 63;
const ACTIVE: u64 = 1 << 62;
const END_SHIFT: u32 = 28;
const NEVER: u64 = (1 << 34) - 1;
const LIMITED: u64 = 1 << 27;
/// The numbers of grants are below this.
pub(super) const GRANTS: u64 = LIMITED;

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    /// An empty slot, which ends a probe sequence.
    pub(super) const EMPTY: Self = Self(0);
    /// The slot of a deleted key. It is not reused, so a reader that has just matched the fingerprint never
    /// reads the state of another key.
    pub(super) const GONE: Self = Self(TAKEN);

    pub(super) fn new(active: bool, expiry: Expiry, grant: u64) -> Self {
        let end = match expiry {
            Expiry::At(end) => end.as_secs().min(NEVER - 1),
            Expiry::Never => NEVER,
        };
        // `GONE` has the expiry 0. An expiry at the epoch becomes 1 s, which is in the past as well.
        Self(TAKEN | (u64::from(active) * ACTIVE) | (end.max(1) << END_SHIFT) | (grant % GRANTS))
    }

    pub(super) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(super) const fn raw(self) -> u64 {
        self.0
    }

    /// The same word of a limited key, with this number.
    pub(super) fn limited(self, number: u64) -> Self {
        Self(self.0 & !(GRANTS - 1) | LIMITED | (number % GRANTS))
    }

    pub(super) fn is_limited(self) -> bool {
        self.0 & LIMITED != 0
    }

    /// The word of the same key without its limits. The directory's words have the number of the grant also
    /// where the key is limited.
    pub(super) fn unlimited(self) -> Self {
        Self(self.0 & !LIMITED)
    }

    /// Whether the key is active but has expired.
    pub(super) fn has_expired(self, now: Timestamp) -> bool {
        let end = self.0 >> END_SHIFT & NEVER;
        self.0 & ACTIVE != 0 && end != NEVER && end <= now.as_secs()
    }

    /// The number of the grant, or of the limits.
    pub(super) fn number(self) -> u64 {
        self.0 % GRANTS
    }

    /// The number, with the bit of a limited key. No grant has such a number.
    #[inline]
    pub(super) fn grant_number(self) -> u64 {
        self.0 % (2 * LIMITED)
    }

    #[inline]
    fn state(self) -> (bool, Expiry) {
        let end = self.0 >> END_SHIFT & NEVER;
        let expiry =
            if end == NEVER { Expiry::Never } else { Expiry::At(Timestamp::from_secs(end)) };
        (self.0 & ACTIVE != 0, expiry)
    }

    /// Checks whether the key is active and not expired.
    #[inline]
    pub(super) fn check(self, now: impl FnOnce() -> Timestamp) -> Result<(), Refusal> {
        let (active, expiry) = self.state();
        check_state(active, expiry, now)
    }

    pub(super) fn standing(self, grant: Grant, networks: Networks, rate: Option<Rate>) -> Standing {
        let (active, expiry) = self.state();
        Standing { active, grant, expiry, networks, rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_encodes_the_whole_standing() {
        for active in [true, false] {
            for secs in [1, 1_800_000_000, 16_725_225_600] {
                for grant in [0, 5, GRANTS - 1] {
                    let expiry = Expiry::At(Timestamp::from_secs(secs));
                    let word = Word::new(active, expiry, grant);
                    let networks = Networks::ANY;
                    let (grant_all, rate) = (Grant::All, None);
                    let standing = Standing { active, grant: grant_all, expiry, networks, rate };
                    let of = |word: Word| word.standing(Grant::All, Networks::ANY, None);
                    assert_eq!((of(word), word.grant_number()), (standing.clone(), grant));
                    assert!(word != Word::EMPTY && word != Word::GONE && !word.is_limited());
                    let limited = word.limited(7);
                    assert_eq!((of(limited), limited.number()), (standing, 7));
                    assert!(limited.is_limited() && limited.grant_number() >= GRANTS);
                    assert_eq!(word.limited(grant).unlimited(), word);
                }
            }
            let forever = Word::new(active, Expiry::Never, 3);
            assert_eq!(forever.standing(Grant::All, Networks::ANY, None).expiry, Expiry::Never);
        }
        assert_ne!(Word::new(false, Expiry::At(Timestamp::default()), 0), Word::GONE);
    }
}
