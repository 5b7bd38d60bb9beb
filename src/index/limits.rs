//! The limits of keys that are restricted by more than their scopes and their expiry.
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

use super::{meter::Meter, word::Word};
use crate::{
    clock::Time, networks::Networks, origin::Origin, rate::Rate, record::Standing,
    refusal::Refusal, scope::Grant,
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

    /// The standing in the word of a limited key.
    pub(super) fn standing(&self, word: Word) -> Option<Standing> {
        let limits = self.get(word)?;
        Some(word.standing(limits.grant, limits.networks.clone(), limits.rate()))
    }

    /// Checks a limited key, and counts its request. The order is its state, its networks, its rate.
    pub(super) fn check(
        &self,
        word: Word,
        origin: impl Origin,
        time: impl Time,
    ) -> Result<Grant, Refusal> {
        let limits = self.get(word).ok_or(Refusal::Unknown)?;
        word.check(|| time.now())?;
        if !limits.networks.admit(origin.address()) {
            return Err(Refusal::Network);
        }
        if let Some(meter) = limits.meter.as_ref().filter(|_| origin.counts()) {
            meter.spend(time.elapsed())?;
        }
        Ok(limits.grant)
    }

    /// The number of the entry for a standing, whose key has the word `now`; `None` if the list is full.
    pub(super) fn number(&self, standing: &Standing, now: Option<Word>) -> Option<u64> {
        let now = now.and_then(|now| Some((now, self.get(now)?)));
        if let Some((now, _)) = now.filter(|(_, limits)| limits.are_of(standing)) {
            return Some(now.number());
        }
        // A count ends when the rate changes.
        let meter = now.and_then(|(_, limits)| limits.meter.clone());
        let meter = match (standing.rate, meter) {
            (Some(rate), Some(meter)) if meter.rate() == rate => Some(meter),
            (rate, _) => rate.map(|rate| Arc::new(Meter::new(rate))),
        };
        self.push(Limits { grant: standing.grant, networks: standing.networks.clone(), meter })
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
