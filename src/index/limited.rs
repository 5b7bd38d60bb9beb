//! Limited keys: those that are restricted by more than their scopes and their expiry.
//!
//! Design. A segment has a list of limits. An entry is written once, before the word of the slot that has its
//! number, so a reader that sees the word sees the entry. An entry is not reused: when the list is full, the
//! segment is rebuilt with a new list, which has only the entries of its keys. A reader finds word and list
//! through one reference to the segment, so it never reads an entry of another list under a number.
//!
//! The list is at most half full after a rebuild. So its memory is bounded by the number of limited keys,
//! however often their limits change.
//!
//! Rejected: limits in the list of grants, which only grows. A maker of keys could fill the memory, and an
//! entry could be reused only if no reader still had its number.

use super::{Index, Table, meter::Meter, segment::Segment, segment_number, word::Word};
use crate::{
    clock::Time,
    digest::Digest,
    id::KeyId,
    index::{directory::Directory, grants::Numbers},
    networks::Networks,
    origin::Origin,
    rate::Rate,
    record::Standing,
    refusal::Refusal,
    scope::Grant,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The fewest entries of a list that has any.
const MIN_ENTRIES: usize = 4;

/// The limits of a key.
#[derive(Clone)]
struct Limits {
    grant: Grant,
    networks: Networks,
    /// Shared by the entries of one key, so that its count survives a rebuild and other changes.
    meter: Option<Arc<Meter>>,
}

impl Limits {
    fn rate(&self) -> Option<Rate> {
        self.meter.as_ref().map(|meter| meter.rate())
    }

    /// Whether these are the limits of this standing.
    fn are_of(&self, standing: &Standing) -> bool {
        (self.grant, &self.networks, self.rate())
            == (standing.grant, &standing.networks, standing.rate)
    }
}

/// The limits of the keys of a segment, by number.
pub(super) struct LimitsList {
    entries: Box<[OnceLock<Limits>]>,
    /// The number of the next entry. Only the writer uses it.
    next: AtomicUsize,
}

impl LimitsList {
    /// Creates a list for this many keys and as many changes.
    pub(super) fn with_room_for(keys: usize) -> Self {
        let entries = (2 * keys).max(MIN_ENTRIES);
        Self { entries: (0..entries).map(|_| OnceLock::new()).collect(), next: AtomicUsize::new(0) }
    }

    fn get(&self, word: Word) -> Option<&Limits> {
        let number = usize::try_from(word.number()).ok()?;
        if word.is_limited() { self.entries.get(number)?.get() } else { None }
    }

    /// Adds an entry and returns its number; `None` if the list is full.
    fn push(&self, limits: Limits) -> Option<u64> {
        let number = self.next.load(Relaxed);
        self.entries.get(number)?.set(limits).ok()?;
        self.next.store(number + 1, Relaxed);
        u64::try_from(number).ok()
    }

    /// Copies the entry of a word from another list, and returns the word with its number here.
    pub(super) fn take(&self, from: &Self, word: Word) -> Word {
        let number = from.get(word).and_then(|limits| self.push(limits.clone()));
        number.map_or(word, |number| word.limited(number))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of::<Self>()
    }
}

impl Index {
    /// The standing in a slot; `None` for a slot without a key.
    pub(super) fn standing(&self, segment: &Segment, word: Word) -> Option<Standing> {
        if !word.is_limited() {
            return self.grants.standing(word);
        }
        let limits = segment.limits()?.get(word)?;
        Some(word.standing(limits.grant, limits.networks.clone(), limits.rate()))
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
        let limits = segment.limits().and_then(|list| list.get(word)).ok_or(Refusal::Unknown)?;
        word.check(|| time.now())?;
        if !limits.networks.admit(origin.address()) {
            return Err(Refusal::Network);
        }
        if let Some(meter) = limits.meter.as_ref().filter(|_| origin.counts()) {
            meter.spend(time.elapsed())?;
        }
        Ok(limits.grant)
    }

    /// The word of a slot for this standing; `None` if the segment has no room for its limits.
    fn slot_word(
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
        let list = segment.limits()?;
        let now = segment.find(fingerprint).and_then(|(_, now, _)| Some((now, list.get(now)?)));
        if let Some((now, _)) = now.filter(|(_, limits)| limits.are_of(standing)) {
            return Some(word.limited(now.number()));
        }
        // A count ends when the rate changes.
        let meter = now.and_then(|(_, limits)| limits.meter.clone());
        let meter = match (standing.rate, meter) {
            (Some(rate), Some(meter)) if meter.rate() == rate => Some(meter),
            (rate, _) => rate.map(|rate| Arc::new(Meter::new(rate))),
        };
        let (grant, networks) = (standing.grant, standing.networks.clone());
        let number = list.push(Limits { grant, networks, meter });
        number.map(|number| word.limited(number))
    }

    /// Shows readers the standing of a key that has a slot.
    pub(super) fn publish(
        &self,
        digest: Digest,
        directory: &mut Directory,
        visible: Option<Standing>,
    ) {
        let fingerprint = digest.fingerprint();
        let Some(table) = self.table() else { return };
        let Some(segment) = table.segment(fingerprint) else { return };
        let word = match &visible {
            Some(standing) => {
                self.slot_word(segment, fingerprint, standing, &mut directory.numbers)
            }
            None => Some(Word::GONE),
        };
        if let Some(word) = word {
            let found = segment.set(fingerprint, word);
            debug_assert!(found || word == Word::GONE, "a live key has a slot");
        } else if let Some(standing) = visible {
            let larger = segment.rebuilt(1);
            larger.set(fingerprint, self.word_in(&larger, fingerprint, &standing, directory));
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
        directory: &mut Directory,
    ) {
        let Some(table) = self.table() else { return };
        let Some(segment) = table.segment(fingerprint) else { return };
        let word = self.slot_word(segment, fingerprint, standing, &mut directory.numbers);
        if word.is_some_and(|word| segment.insert(fingerprint, id, word)) {
            return;
        }
        let larger = segment.rebuilt(usize::from(standing.is_limited()));
        let word = self.word_in(&larger, fingerprint, standing, directory);
        larger.insert(fingerprint, id, word);
        self.swap(&table, fingerprint, segment, larger);
    }

    /// The word in a segment that was just rebuilt, which has room.
    fn word_in(
        &self,
        segment: &Segment,
        fingerprint: [u64; 2],
        standing: &Standing,
        directory: &mut Directory,
    ) -> Word {
        let numbers = &mut directory.numbers;
        let word = self.slot_word(segment, fingerprint, standing, numbers);
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
        let next = Arc::new(next);
        for stripe in &self.stripes {
            *stripe.write() = Arc::clone(&next);
        }
        // No reader uses the old segment any more, so no further use is recorded there.
        to.take_uses(from);
    }
}
