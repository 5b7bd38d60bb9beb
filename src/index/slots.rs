//! The slots that readers see, in segments, with the locks for their swaps.

use super::{
    grants::{Grants, Numbers},
    segment::{Segment, SlotIndex},
    word::Word,
};
use crate::{
    clock::Time,
    digest::Digest,
    id::KeyId,
    origin::Origin,
    record::Standing,
    refusal::Refusal,
    scope::Grant,
    sync::{self, RwLock},
};
use crossbeam_utils::CachePadded;
use std::{array, sync::Arc};

pub(super) const STRIPES: usize = if sync::MODELLED { 2 } else { 64 };
pub(super) const SEGMENTS: usize = if sync::MODELLED { 1 } else { 256 };

/// The segments, as one stripe has them.
#[derive(Clone)]
pub(super) struct Table(pub(super) [Arc<Segment>; SEGMENTS]);

impl Table {
    pub(super) fn with_room_for(keys: usize) -> Self {
        let segment = || Arc::new(Segment::with_room_for(keys.div_ceil(SEGMENTS)));
        Self(array::from_fn(|_| segment()))
    }

    #[inline]
    pub(super) fn segment(&self, fingerprint: [u64; 2]) -> Option<&Arc<Segment>> {
        self.0.get(segment_number(fingerprint))
    }
}

#[inline]
pub(super) fn segment_number([low, _]: [u64; 2]) -> usize {
    usize::try_from(low % SEGMENTS as u64).unwrap_or(0)
}

/// The slots of all keys.
pub(super) struct Slots {
    stripes: [CachePadded<RwLock<Arc<Table>>>; STRIPES],
    pub(super) grants: Grants,
}

impl Slots {
    pub(super) fn with_room_for(keys: usize) -> Self {
        let table = Arc::new(Table::with_room_for(keys));
        let stripe = |_| CachePadded::new(RwLock::new(Arc::clone(&table)));
        Self { stripes: array::from_fn(stripe), grants: Grants::new() }
    }

    #[inline]
    pub(super) fn look_up<'t>(
        table: &'t Table,
        digest: &Digest,
    ) -> Option<(&'t Segment, KeyId, Word, SlotIndex)> {
        let fingerprint = digest.fingerprint();
        let segment = table.segment(fingerprint)?;
        let (id, word, at) = segment.find(fingerprint)?;
        Some((segment, id, word, at))
    }

    /// The standing in a slot; `None` for a slot without a key.
    pub(super) fn standing(&self, segment: &Segment, word: Word) -> Option<Standing> {
        if word.is_limited() {
            segment.limits()?.standing(word)
        } else {
            self.grants.standing(word)
        }
    }

    /// Checks a key whose grant is not in the word of its slot: a limited or a deleted one.
    #[cold]
    #[inline(never)]
    pub(super) fn check_limited(
        segment: &Segment,
        word: Word,
        origin: impl Origin,
        time: impl Time,
    ) -> Result<Grant, Refusal> {
        segment.limits().ok_or(Refusal::Unknown)?.check(word, origin, time)
    }

    /// The word of a slot for this standing; `None` if the segment has no room for its limits.
    fn word(
        &self,
        segment: &Segment,
        fingerprint: [u64; 2],
        standing: &Standing,
        numbers: &mut Numbers,
    ) -> Option<Word> {
        let word = self.grants.word(standing, numbers);
        // An inactive key is refused before its limits count, and its count ends.
        if !standing.active || !standing.is_limited() {
            return Some(word);
        }
        let now = segment.find(fingerprint).map(|(_, now, _)| now);
        segment.limits()?.number(standing, now).map(|number| word.limited(number))
    }

    /// Shows readers the standing of a key that has a slot.
    pub(super) fn publish(
        &self,
        digest: Digest,
        visible: Option<&Standing>,
        numbers: &mut Numbers,
    ) {
        let fingerprint = digest.fingerprint();
        let Some(table) = self.table() else { return };
        let Some(segment) = table.segment(fingerprint) else { return };
        let word = match visible {
            Some(standing) => self.word(segment, fingerprint, standing, numbers),
            None => Some(Word::GONE),
        };
        if let Some(word) = word {
            let found = segment.set(fingerprint, word);
            debug_assert!(found || word == Word::GONE, "a live key has a slot");
        } else if let Some(standing) = visible {
            let larger = segment.rebuilt(1);
            larger.set(fingerprint, self.word_in(&larger, fingerprint, standing, numbers));
            self.swap(&table, fingerprint, segment, larger);
        }
    }

    /// Adds a slot for a new key. The caller holds the directory's write lock, so no state changes during a
    /// swap.
    pub(super) fn insert(
        &self,
        fingerprint: [u64; 2],
        id: KeyId,
        standing: &Standing,
        numbers: &mut Numbers,
    ) {
        let Some(table) = self.table() else { return };
        let Some(segment) = table.segment(fingerprint) else { return };
        let word = self.word(segment, fingerprint, standing, numbers);
        if word.is_some_and(|word| segment.insert(fingerprint, id, word)) {
            return;
        }
        let larger = segment.rebuilt(usize::from(standing.is_limited()));
        let word = self.word_in(&larger, fingerprint, standing, numbers);
        larger.insert(fingerprint, id, word);
        self.swap(&table, fingerprint, segment, larger);
    }

    /// The word in a segment that was just rebuilt, which has room.
    fn word_in(
        &self,
        segment: &Segment,
        fingerprint: [u64; 2],
        standing: &Standing,
        numbers: &mut Numbers,
    ) -> Word {
        let word = self.word(segment, fingerprint, standing, numbers);
        debug_assert!(word.is_some(), "a rebuilt segment has room for limits");
        // Without its limits the key must not be accepted.
        let refused = || self.grants.word(&Standing { active: false, ..standing.clone() }, numbers);
        word.unwrap_or_else(refused)
    }

    /// Replaces a segment in the tables of all readers.
    fn swap(&self, table: &Table, fingerprint: [u64; 2], from: &Segment, to: Segment) {
        let to = Arc::new(to);
        let mut next = Table::clone(table);
        if let Some(place) = next.0.get_mut(segment_number(fingerprint)) {
            *place = Arc::clone(&to);
        }
        self.replace(&Arc::new(next));
        // No reader uses the old segment any more, so no further use is recorded there.
        to.take_uses(from);
    }

    /// Replaces the tables of all readers.
    pub(super) fn replace(&self, table: &Arc<Table>) {
        for stripe in &self.stripes {
            *stripe.write() = Arc::clone(table);
        }
    }

    pub(super) fn holds(&self, fingerprint: [u64; 2]) -> bool {
        self.table().is_some_and(|t| t.segment(fingerprint).is_some_and(|s| s.holds(fingerprint)))
    }

    /// The table for the writer. All stripes have the same one except during a swap.
    pub(super) fn table(&self) -> Option<Arc<Table>> {
        self.stripes.first().map(|stripe| Arc::clone(&stripe.read()))
    }

    /// This thread's lock. More threads than stripes share some.
    #[inline]
    pub(super) fn stripe(&self) -> Option<&RwLock<Arc<Table>>> {
        self.stripes.get(sync::thread_number() % STRIPES).map(|stripe| &**stripe)
    }
}
