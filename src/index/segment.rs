//! A part of the table: open addressing over slots of atomics, 32 bytes each.
//!
//! One writer at a time changes it (under the directory's lock); any number of readers look. A
//! slot's fingerprint and id are written once, before its word: whoever sees the word sees them.

use super::word::Word;
use crate::{
    id::KeyId,
    sync::{
        self,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// Fewer slots than this are not worth a rebuild.
const SMALLEST: usize = if sync::MODELLED { 4 } else { 8 };

#[derive(Default)]
struct Slot {
    fingerprint: [AtomicU64; 2],
    id: AtomicU64,
    word: AtomicU64,
}

impl Slot {
    /// Compared as a whole, without an early exit.
    #[inline]
    fn has(&self, [low, high]: [u64; 2]) -> bool {
        let [mine_low, mine_high] = &self.fingerprint;
        (mine_low.load(Relaxed) ^ low) | (mine_high.load(Relaxed) ^ high) == 0
    }
}

/// Some slots, at most four fifths of them taken.
pub(super) struct Segment {
    slots: Box<[Slot]>,
    taken: AtomicUsize,
}

impl Segment {
    /// Room for so many keys and a quarter more.
    pub(super) fn with_room_for(keys: usize) -> Self {
        let slots = (keys + keys / 4).max(SMALLEST) * 5 / 4;
        Self { slots: (0..slots).map(|_| Slot::default()).collect(), taken: AtomicUsize::new(0) }
    }

    /// The key with this fingerprint. A key that is gone is found as such.
    #[inline]
    pub(super) fn find(&self, fingerprint: [u64; 2]) -> Option<(KeyId, Word)> {
        for slot in self.probe(fingerprint) {
            let word = Word::from_raw(slot.word.load(Acquire));
            if word == Word::EMPTY {
                return None;
            }
            if slot.has(fingerprint) {
                return Some((KeyId::from_u64(slot.id.load(Relaxed)), word));
            }
        }
        None
    }

    pub(super) fn holds(&self, fingerprint: [u64; 2]) -> bool {
        self.find(fingerprint).is_some()
    }

    /// Gives a key another state; `false` if it is not here.
    pub(super) fn set(&self, fingerprint: [u64; 2], word: Word) -> bool {
        let slot = self
            .probe(fingerprint)
            .take_while(|slot| slot.word.load(Relaxed) != Word::EMPTY.raw())
            .find(|slot| slot.has(fingerprint));
        if let Some(slot) = slot {
            slot.word.store(word.raw(), Release);
        }
        slot.is_some()
    }

    /// Adds a key that is not here; `false` if the segment is full.
    pub(super) fn insert(&self, fingerprint: [u64; 2], id: KeyId, word: Word) -> bool {
        let taken = self.taken.load(Relaxed);
        if (taken + 1) * 5 > self.slots.len() * 4 {
            return false;
        }
        let free =
            self.probe(fingerprint).find(|slot| slot.word.load(Relaxed) == Word::EMPTY.raw());
        if let Some(slot) = free {
            slot.fingerprint.iter().zip(fingerprint).for_each(|(to, from)| to.store(from, Relaxed));
            slot.id.store(id.as_u64(), Relaxed);
            slot.word.store(word.raw(), Release);
            self.taken.store(taken + 1, Relaxed);
        }
        free.is_some()
    }

    /// A larger one with the same keys, but for those that are gone.
    pub(super) fn rebuilt(&self) -> Self {
        let live = |slot: &&Slot| {
            let word = slot.word.load(Relaxed);
            word != Word::EMPTY.raw() && word != Word::GONE.raw()
        };
        let larger = Self::with_room_for(self.slots.iter().filter(live).count() + 1);
        for slot in self.slots.iter().filter(live) {
            let [low, high] = &slot.fingerprint;
            larger.insert(
                [low.load(Relaxed), high.load(Relaxed)],
                KeyId::from_u64(slot.id.load(Relaxed)),
                Word::from_raw(slot.word.load(Relaxed)),
            );
        }
        larger
    }

    /// The slots in which a key may lie, in order: from its own place to the end, then from the
    /// start.
    #[inline]
    fn probe(&self, [_, high]: [u64; 2]) -> impl Iterator<Item = &Slot> {
        let home =
            usize::try_from((u128::from(high) * self.slots.len() as u128) >> 64).unwrap_or(0);
        let (before, after) = self.slots.split_at_checked(home).unwrap_or_default();
        after.iter().chain(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Expiry;

    fn word(number: u64) -> Word {
        Word::new(true, Expiry::Never, number)
    }

    #[test]
    fn a_full_segment_says_so_and_its_successor_has_the_live_keys() {
        let segment = Segment::with_room_for(0);
        let mut kept = 0;
        while segment.insert([kept, u64::MAX - kept], KeyId::from_u64(kept), word(kept)) {
            kept += 1;
        }
        assert_eq!(kept, 8);
        assert!(segment.set([0, u64::MAX], Word::GONE));
        assert_eq!(segment.find([0, u64::MAX]), Some((KeyId::from_u64(0), Word::GONE)));
        let larger = segment.rebuilt();
        assert_eq!(larger.find([0, u64::MAX]), None);
        for n in 1..kept {
            assert_eq!(larger.find([n, u64::MAX - n]), Some((KeyId::from_u64(n), word(n))));
        }
        assert_eq!(larger.find([99, 99]), None);
        assert!(!larger.set([99, 99], Word::GONE));
    }

    #[test]
    fn a_segment_has_room_for_the_keys_that_it_is_made_for() {
        for keys in 0..500 {
            let segment = Segment::with_room_for(keys as usize);
            for n in 0..keys {
                assert!(segment.insert([n, n << 55], KeyId::from_u64(n), word(n)), "{n} of {keys}");
            }
            assert!(segment.rebuilt().insert([keys, 0], KeyId::from_u64(keys), word(0)), "{keys}");
        }
    }

    #[test]
    fn keys_of_one_home_lie_behind_each_other() {
        let segment = Segment::with_room_for(8);
        for n in 0..8 {
            assert!(segment.insert([n, u64::MAX], KeyId::from_u64(n), word(n)));
        }
        for n in 0..8 {
            assert_eq!(segment.find([n, u64::MAX]), Some((KeyId::from_u64(n), word(n))));
        }
    }
}
