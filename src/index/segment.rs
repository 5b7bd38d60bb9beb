//! A segment of the table: open addressing over slots of atomics, 32 bytes each.
//!
//! One writer at a time changes it, under the directory's lock; any number of readers read it. A
//! slot's fingerprint and id are written once, before its word: a reader that sees the word sees them.
//! A slot is within one cache line. The last uses are in a separate array, four bytes each, because
//! readers write to it and must not invalidate the cache lines of the slots.

use super::{limits::LimitsList, word::Word};
use crate::{
    id::KeyId,
    sync::{
        self,
        atomic::{
            AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// The fewest slots of a segment.
const MIN_SLOTS: usize = if sync::MODELLED { 4 } else { 8 };
/// The percentage of used slots after a rebuild, and at the next rebuild. With 36 bytes a slot the first
/// keeps a key below 48 bytes, and the second keeps probe sequences short.
const INITIAL_LOAD_PERCENT: usize = 76;
const MAX_LOAD_PERCENT: usize = 86;

#[derive(Default)]
#[repr(align(32))]
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

/// Slots, and the last use of the key in each.
pub(super) struct Segment {
    slots: Box<[Slot]>,
    /// The [`stamp`] of each use, plus one if the columns of lists have it; 0 if no use is known.
    uses: Box<[AtomicU32]>,
    taken: AtomicUsize,
    /// The limits of its limited keys, if it has any. Apart, so that other segments need no room for them.
    limits: Option<Box<LimitsList>>,
}

/// The index of a key's slot in its segment.
#[derive(Clone, Copy)]
pub(super) struct SlotIndex(usize);

/// The stamp of a use in this minute since the epoch. Its lowest bit is free: a later use clears it.
pub(super) const fn stamp(minute: u32) -> u32 {
    minute << 1
}

impl Segment {
    /// Creates a segment for `keys` keys and some more, none of them limited.
    pub(super) fn with_room_for(keys: usize) -> Self {
        Self::with_limits(keys, None)
    }

    fn with_limits(keys: usize, limits: Option<LimitsList>) -> Self {
        let slots = (keys.max(MIN_SLOTS) * 100).div_ceil(INITIAL_LOAD_PERCENT);
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            uses: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            taken: AtomicUsize::new(0),
            limits: limits.map(Box::new),
        }
    }

    /// The limits of its limited keys.
    pub(super) fn limits(&self) -> Option<&LimitsList> {
        self.limits.as_deref()
    }

    /// Finds the key with this fingerprint. A deleted key is found with the word `GONE`.
    #[inline]
    pub(super) fn find(&self, fingerprint: [u64; 2]) -> Option<(KeyId, Word, SlotIndex)> {
        let mut at = self.home(fingerprint);
        for _ in 0..self.slots.len() {
            let slot = self.slots.get(at)?;
            let word = Word::from_raw(slot.word.load(Acquire));
            if word == Word::EMPTY {
                return None;
            }
            if slot.has(fingerprint) {
                return Some((KeyId::from_u64(slot.id.load(Relaxed)), word, SlotIndex(at)));
            }
            at = self.after(at);
        }
        None
    }

    pub(super) fn holds(&self, fingerprint: [u64; 2]) -> bool {
        self.find(fingerprint).is_some()
    }

    /// Records a use with this stamp. Costs a load, and a store once a minute.
    #[inline]
    pub(super) fn record_use(&self, SlotIndex(at): SlotIndex, stamp: u32) {
        if let Some(last) = self.uses.get(at)
            && last.load(Relaxed) < stamp
        {
            // The later of two threads wins, and a clock that is set back changes nothing.
            last.fetch_max(stamp, Relaxed);
        }
    }

    /// The uses that the columns of lists do not have, in minutes.
    pub(super) fn uses_without_columns(&self) -> Vec<(SlotIndex, KeyId, u32)> {
        let slots = self.slots.iter().zip(&self.uses).enumerate();
        let used = slots.filter_map(|(at, (slot, last))| {
            let last = last.load(Relaxed);
            let key = || slot.key().map(|(_, id, _)| (SlotIndex(at), id, last >> 1));
            if last > 0 && last & 1 == 0 { key() } else { None }
        });
        used.collect()
    }

    /// Records that the columns of lists have the use in this minute, unless a later one was recorded.
    pub(super) fn mark_in_columns(&self, SlotIndex(at): SlotIndex, minute: u32) {
        if let Some(last) = self.uses.get(at) {
            let stamp = stamp(minute);
            let _ = last.compare_exchange(stamp, stamp | 1, Relaxed, Relaxed);
        }
    }

    /// The minute of the last use, or 0.
    pub(super) fn last_use(&self, SlotIndex(at): SlotIndex) -> u32 {
        self.uses.get(at).map_or(0, |last| last.load(Relaxed) >> 1)
    }

    /// The keys that were used in this minute or later.
    pub(super) fn used_since(&self, minute: u32) -> Vec<(KeyId, u32)> {
        let slots = self.slots.iter().zip(&self.uses);
        let used = slots.filter_map(|(slot, last)| {
            let last = last.load(Relaxed) >> 1;
            let key = || slot.key().map(|(_, id, _)| (id, last));
            if last >= minute && last > 0 { key() } else { None }
        });
        used.collect()
    }

    /// Copies the last uses from the segment that this one replaced, after its last reader has finished.
    pub(super) fn take_uses(&self, from: &Self) {
        for (slot, last) in from.slots.iter().zip(&from.uses) {
            let last = last.load(Relaxed);
            if last > 0
                && let Some((fingerprint, _, _)) = slot.key()
                && let Some((_, _, at)) = self.find(fingerprint)
            {
                self.record_use(at, last);
            }
        }
    }

    /// Sets the word of a key; `false` for an unknown key.
    pub(super) fn set(&self, fingerprint: [u64; 2], word: Word) -> bool {
        let slot = self.find(fingerprint).and_then(|(_, _, SlotIndex(at))| self.slots.get(at));
        if let Some(slot) = slot {
            slot.word.store(word.raw(), Release);
        }
        slot.is_some()
    }

    /// Adds a new key; `false` if the segment is full.
    pub(super) fn insert(&self, fingerprint: [u64; 2], id: KeyId, word: Word) -> bool {
        let taken = self.taken.load(Relaxed);
        if (taken + 1) * 100 > self.slots.len() * MAX_LOAD_PERCENT {
            return false;
        }
        let mut at = self.home(fingerprint);
        for _ in 0..self.slots.len() {
            let Some(slot) = self.slots.get(at) else { return false };
            if slot.word.load(Relaxed) == Word::EMPTY.raw() {
                let parts = slot.fingerprint.iter().zip(fingerprint);
                parts.for_each(|(to, from)| to.store(from, Relaxed));
                slot.id.store(id.as_u64(), Relaxed);
                slot.word.store(word.raw(), Release);
                self.taken.store(taken + 1, Relaxed);
                return true;
            }
            at = self.after(at);
        }
        false
    }

    /// A segment with the same keys, without the deleted ones, and room for one more key and for the limits of
    /// this many more. [`take_uses`](Self::take_uses) copies the last uses later.
    pub(super) fn rebuilt(&self, more_limited: usize) -> Self {
        let keys = || self.slots.iter().filter_map(Slot::key);
        let limited = keys().filter(|(_, _, word)| word.is_limited()).count() + more_limited;
        let list = (limited > 0).then(|| LimitsList::with_room_for(limited));
        let rebuilt = Self::with_limits(keys().count() + 1, list);
        for (fingerprint, id, mut word) in keys() {
            if let (Some(from), Some(to)) = (self.limits(), rebuilt.limits()) {
                word = to.take(from, word);
            }
            rebuilt.insert(fingerprint, id, word);
        }
        rebuilt
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
            + size_of_val(&*self.uses)
            + self.limits().map_or(0, LimitsList::bytes)
            + size_of::<Self>()
    }

    #[inline]
    fn home(&self, [_, high]: [u64; 2]) -> usize {
        usize::try_from((u128::from(high) * self.slots.len() as u128) >> 64).unwrap_or(0)
    }

    /// The next slot of a probe sequence, which wraps around.
    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }
}

impl Slot {
    /// The key in this slot, unless it was deleted.
    fn key(&self) -> Option<([u64; 2], KeyId, Word)> {
        let word = Word::from_raw(self.word.load(Acquire));
        if word == Word::EMPTY || word == Word::GONE {
            return None;
        }
        let [low, high] = &self.fingerprint;
        let fingerprint = [low.load(Relaxed), high.load(Relaxed)];
        Some((fingerprint, KeyId::from_u64(self.id.load(Relaxed)), word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Expiry;

    fn word(number: u64) -> Word {
        Word::new(true, Expiry::Never, number)
    }

    fn found(segment: &Segment, fingerprint: [u64; 2]) -> Option<(KeyId, Word)> {
        segment.find(fingerprint).map(|(id, word, _)| (id, word))
    }

    #[test]
    fn full_segment_rejects_inserts_and_its_rebuild_has_the_live_keys() {
        let segment = Segment::with_room_for(0);
        let mut kept = 0;
        while segment.insert([kept, u64::MAX - kept], KeyId::from_u64(kept), word(kept)) {
            kept += 1;
        }
        assert_eq!(kept, 9);
        assert!(segment.set([0, u64::MAX], Word::GONE));
        assert_eq!(found(&segment, [0, u64::MAX]), Some((KeyId::from_u64(0), Word::GONE)));
        let larger = segment.rebuilt(0);
        assert_eq!(found(&larger, [0, u64::MAX]), None);
        for n in 1..kept {
            assert_eq!(found(&larger, [n, u64::MAX - n]), Some((KeyId::from_u64(n), word(n))));
        }
        assert_eq!(found(&larger, [99, 99]), None);
        assert!(!larger.set([99, 99], Word::GONE));
    }

    #[test]
    fn segment_has_room_for_its_initial_keys() {
        for keys in 0..120_u16 {
            let segment = Segment::with_room_for(keys.into());
            let keys = u64::from(keys);
            for n in 0..keys {
                assert!(segment.insert([n, n << 55], KeyId::from_u64(n), word(n)), "{n} of {keys}");
            }
            assert!(segment.rebuilt(0).insert([keys, 0], KeyId::from_u64(keys), word(0)), "{keys}");
        }
    }

    #[test]
    fn keys_spread_over_a_segment_up_to_its_maximum_load() {
        let segment = Segment::with_room_for(38);
        let homes = [0, 1 << 62, 1 << 63, u64::MAX].map(|high| segment.home([7, high]));
        assert_eq!(homes, [0, 12, 25, 49]);
        let kept = (0..50).take_while(|&n| segment.insert([n, 0], KeyId::from_u64(n), word(n)));
        assert_eq!(kept.count(), 43);
    }

    #[test]
    fn key_takes_at_most_48_bytes_at_any_size() {
        let mut segment = Segment::with_room_for(0);
        for n in 0..20_000u64 {
            let spread = [n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)];
            if !segment.insert(spread, KeyId::from_u64(n), word(n)) {
                segment = segment.rebuilt(0);
                assert!(segment.insert(spread, KeyId::from_u64(n), word(n)));
            }
            let keys = usize::try_from(n).unwrap() + 1;
            assert!(keys < 200 || segment.bytes() <= 48 * keys, "{keys} keys");
        }
        assert!(Segment::with_room_for(4000).bytes() <= 48 * 4000);
    }

    #[test]
    fn colliding_keys_are_all_found() {
        let segment = Segment::with_room_for(8);
        for n in 0..8 {
            assert!(segment.insert([n, u64::MAX], KeyId::from_u64(n), word(n)));
        }
        for n in 0..8 {
            assert_eq!(found(&segment, [n, u64::MAX]), Some((KeyId::from_u64(n), word(n))));
        }
    }

    #[test]
    fn later_use_wins_and_survives_a_rebuild() {
        let segment = Segment::with_room_for(0);
        for n in 0..3 {
            assert!(segment.insert([n, 0], KeyId::from_u64(n), word(n)));
        }
        let at = |segment: &Segment, n| segment.find([n, 0]).unwrap().2;
        segment.record_use(at(&segment, 1), stamp(7));
        segment.record_use(at(&segment, 1), stamp(6));
        segment.record_use(at(&segment, 2), stamp(9));
        segment.set([2, 0], Word::GONE);
        assert_eq!(segment.used_since(0), [(KeyId::from_u64(1), 7)]);
        assert_eq!((segment.used_since(7).len(), segment.used_since(8).len()), (1, 0));

        let larger = segment.rebuilt(0);
        larger.record_use(at(&larger, 0), stamp(8));
        larger.take_uses(&segment);
        let uses = [0, 1].map(|n| larger.last_use(at(&larger, n)));
        assert_eq!(uses, [8, 7]);
        segment.record_use(at(&segment, 0), stamp(5));
        larger.take_uses(&segment);
        assert_eq!(larger.last_use(at(&larger, 0)), 8);
    }
}
