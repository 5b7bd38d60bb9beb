//! The state of a slot in one word.
//!
//! ```text
//! bit 63        the slot is used (an empty slot is all zero)
//! bit 62        the key is active
//! bits 28..62   the expiry in seconds since the epoch; all ones: never
//! bits 0..28    the number of the grant
//! ```

use crate::{
    record::{Expiry, Standing},
    scope::Grant,
    time::Timestamp,
};

const TAKEN: u64 = 1 << 63;
const ACTIVE: u64 = 1 << 62;
const END_SHIFT: u32 = 28;
const NEVER: u64 = (1 << 34) - 1;
/// The numbers of grants are below this.
pub(super) const GRANTS: u64 = 1 << END_SHIFT;

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

    /// Whether the key is active but has expired.
    pub(super) fn has_expired(self, now: Timestamp) -> bool {
        let end = self.0 >> END_SHIFT & NEVER;
        self.0 & ACTIVE != 0 && end != NEVER && end <= now.as_secs()
    }

    pub(super) fn grant_number(self) -> u64 {
        self.0 % GRANTS
    }

    pub(super) fn standing(self, grant: Grant) -> Standing {
        let end = self.0 >> END_SHIFT & NEVER;
        let expiry =
            if end == NEVER { Expiry::Never } else { Expiry::At(Timestamp::from_secs(end)) };
        Standing { active: self.0 & ACTIVE != 0, grant, expiry }
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
                    let standing = Standing { active, grant: Grant::All, expiry };
                    assert_eq!((word.standing(Grant::All), word.grant_number()), (standing, grant));
                    assert!(word != Word::EMPTY && word != Word::GONE);
                }
            }
            let forever = Word::new(active, Expiry::Never, 3);
            assert_eq!(forever.standing(Grant::All).expiry, Expiry::Never);
        }
        assert_ne!(Word::new(false, Expiry::At(Timestamp::default()), 0), Word::GONE);
    }
}
