//! Requests that are done once, however often they are sent.
//!
//! What is kept of one lies in the trail's own entry of the change, so that both are written
//! together, nothing needs to be cleared away later, and the format stays. Here is what of it is
//! remembered: a day's worth, within limits, read back from the end of the trail at opening.

use crate::{
    audit::{Act, AuditEntry, Once},
    digest::Seal,
    error::Error,
    id::KeyId,
    ledger::Ledger,
    record::{Actor, Record},
    scope::Catalogue,
    store::Issued,
    time::Timestamp,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

pub(super) const KEPT: Duration = Duration::from_hours(24);
const MOST: usize = 10_000;
/// Entries that are looked at when the store is opened.
pub(super) const MOST_ENTRIES: u64 = 20_000;
const STRIDE: u64 = 1000;

/// What makes a request to make a key one that is done once: its name belongs to its actor and its
/// route. It is remembered for a day, for the last ten thousand requests.
#[derive(Clone, Copy, Debug)]
pub struct Idempotency<'r> {
    /// The name that the caller gave it.
    pub key: &'r [u8],
    /// What it asks for, such as `POST /v1/keys`.
    pub route: &'r str,
    /// All that it says: the same name with another payload is [`Error::OtherRequest`].
    pub payload: &'r [u8],
}

impl Idempotency<'_> {
    pub(super) fn once(&self, actor: Actor, seal: &Seal) -> Once {
        let actor = actor.to_string();
        Once {
            request: seal.tag(&[actor.as_bytes(), self.route.as_bytes(), self.key]),
            payload: seal.tag(&[self.payload]),
        }
    }
}

/// What became of a request that is done once.
#[derive(Debug)]
pub enum Outcome {
    /// It was done now.
    Issued(Issued),
    /// It had been done before: the key that it made, whose secret was shown then.
    Before(Arc<Record>),
}

/// What is known of a request that was done, or is on its way.
#[derive(Clone, Copy)]
pub(super) struct Done {
    payload: [u8; 16],
    at: Timestamp,
    pub(super) sequence: u64,
    pub(super) id: KeyId,
}

/// The requests of the last day.
#[derive(Default)]
pub(super) struct Remembered {
    done: HashMap<[u8; 16], Done>,
    by_age: VecDeque<(Timestamp, [u8; 16])>,
}

impl Remembered {
    /// Reads them back from the end of the trail.
    pub(super) fn load(
        ledger: &Ledger,
        catalogue: &'static Catalogue,
        last: u64,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let mut newest_first = Vec::new();
        let (floor, mut end) = (ledger.floor().through, last);
        while end > floor && last - end < MOST_ENTRIES {
            let start = end.saturating_sub(STRIDE).max(floor);
            let limit = usize::try_from(end - start).unwrap_or(usize::MAX);
            let stride = ledger.trail(start, limit, catalogue)?;
            end = if stride.first().is_none_or(|entry| is_over(entry.at, now)) { 0 } else { start };
            newest_first.extend(stride.into_iter().rev().filter(|entry| entry.once.is_some()));
        }
        let mut remembered = Self::default();
        for entry in newest_first.iter().rev() {
            remembered.note(entry);
        }
        Ok(remembered)
    }

    /// Remembers the request that this entry tells of, if it does.
    pub(super) fn note(&mut self, entry: &AuditEntry) {
        let id = match entry.act {
            Act::Rotate { into } => Some(into),
            _ => entry.key,
        };
        let (Some(once), Some(id)) = (entry.once, id) else { return };
        let (at, sequence) = (entry.at, entry.sequence);
        self.done.insert(once.request, Done { payload: once.payload, at, sequence, id });
        self.by_age.push_back((at, once.request));
        while self.by_age.len() > MOST
            || self.by_age.front().is_some_and(|(oldest, _)| is_over(*oldest, at))
        {
            let Some((at, request)) = self.by_age.pop_front() else { return };
            // One that was done again since is younger than this.
            if self.done.get(&request).is_some_and(|done| done.at == at) {
                self.done.remove(&request);
            }
        }
    }

    /// Forgets what was noted of changes after this one: they were not made.
    #[cfg(feature = "cluster")]
    pub(super) fn forget_after(&mut self, sequence: u64) {
        self.done.retain(|_, done| done.sequence <= sequence);
    }

    /// The same request, if it was done; it is an error if it was another of that name.
    pub(super) fn find(&self, once: Once, now: Timestamp) -> Result<Option<Done>, Error> {
        match self.done.get(&once.request).filter(|done| !is_over(done.at, now)) {
            None => Ok(None),
            Some(done) if done.payload == once.payload => Ok(Some(*done)),
            Some(_) => Err(Error::OtherRequest),
        }
    }
}

fn is_over(at: Timestamp, now: Timestamp) -> bool {
    u128::from(now.as_millis().saturating_sub(at.as_millis())) >= KEPT.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{self, Floor, Place},
        digest::Seals,
        ledger::{Bulk, Disk, Location, Mode, Tip},
        record::Change,
        secret::Prefix,
    };

    fn entry(sequence: u64, at: Timestamp) -> AuditEntry {
        let mut request = [0; 16];
        request[..8].copy_from_slice(&sequence.to_le_bytes());
        AuditEntry {
            sequence,
            at,
            actor: Actor::Host,
            source: None,
            act: Act::Create,
            key: Some(KeyId::from_u64(sequence)),
            before: Change::default(),
            after: Change::default(),
            once: Some(Once { request, payload: [1; 16] }),
        }
    }

    #[test]
    fn a_request_is_remembered_for_a_day() {
        let mut remembered = Remembered::default();
        let first = entry(1, Timestamp::from_secs(1000));
        remembered.note(&first);
        let once = first.once.unwrap();
        let at = |secs| remembered.find(once, Timestamp::from_secs(secs)).unwrap().is_some();
        assert!(at(1000) && at(1000 + 86_399) && !at(1000 + 86_400));
        let other = Once { payload: [2; 16], ..once };
        let found = remembered.find(other, Timestamp::from_secs(1000));
        assert!(matches!(found, Err(Error::OtherRequest)));
        remembered.note(&entry(2, Timestamp::from_secs(1000 + 86_400)));
        assert_eq!((remembered.done.len(), remembered.by_age.len()), (1, 1));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut remembered = Remembered::default();
        for sequence in 0..=MOST as u64 {
            remembered.note(&entry(sequence, Timestamp::from_secs(1000)));
        }
        assert_eq!((remembered.done.len(), remembered.by_age.len()), (MOST, MOST));
        let oldest = entry(0, Timestamp::default()).once.unwrap();
        assert!(remembered.find(oldest, Timestamp::from_secs(1000)).unwrap().is_none());
    }

    /// A ledger whose trail has so many entries, as `each` makes them.
    fn trail(
        dir: &std::path::Path,
        floor: u64,
        last: u64,
        each: impl Fn(u64) -> AuditEntry,
    ) -> (Ledger, &'static Catalogue) {
        let seals = Arc::new(Seals::derive(None));
        let mut bulk = Bulk::begin(dir, None, Prefix::default(), Arc::clone(&seals)).unwrap();
        let mut tip = Tip { sequence: floor, head: [0; 32], newest: Timestamp::default() };
        if floor > 0 {
            let floor = Floor { through: floor, head: tip.head, cut: floor + 1 };
            bulk.put(Place::Floor, codec::encode_floor(&floor, &seals.meta).unwrap()).unwrap();
        }
        for sequence in floor + 1..=last {
            let entry = each(sequence);
            let (frame, head) = codec::encode_entry(&entry, &tip.head, &seals.trail).unwrap();
            bulk.put(Place::Entry(sequence), frame).unwrap();
            tip = Tip { sequence, head, newest: entry.at };
        }
        bulk.finish(tip).unwrap();
        let at = Location { dir: dir.to_path_buf(), mode: Mode::Open, anchor: None };
        let disk = Disk::open(&at, None, seals).unwrap();
        (Ledger::Disk(Box::new(disk)), Catalogue::new(Vec::new(), None).unwrap())
    }

    /// The numbers of the requests that are remembered, each with its own key.
    fn numbers(remembered: &Remembered) -> Vec<u64> {
        assert_eq!(remembered.done.len(), remembered.by_age.len());
        let mut numbers: Vec<u64> = remembered.done.values().map(|done| done.sequence).collect();
        numbers.sort_unstable();
        for number in &numbers {
            let request = entry(*number, Timestamp::default()).once.unwrap().request;
            let done = &remembered.done[&request];
            assert_eq!((done.sequence, done.id), (*number, KeyId::from_u64(*number)));
        }
        numbers
    }

    const DAY: u64 = 86_400;

    #[test]
    fn a_long_trail_gives_back_each_request_of_the_last_day() {
        for (floor, older, last) in [(0, 0, 2001), (0, 1499, 2500), (700, 999, 2000)] {
            let dir = tempfile::tempdir().unwrap();
            let (ledger, catalogue) = trail(&dir.path().join("keys"), floor, last, |sequence| {
                let at = if sequence <= older { 1000 } else { 1000 + DAY };
                entry(sequence, Timestamp::from_secs(at))
            });
            let now = Timestamp::from_secs(1000 + DAY);
            let remembered = Remembered::load(&ledger, catalogue, last, now).unwrap();
            let expected: Vec<u64> = (older.max(floor) + 1..=last).collect();
            assert_eq!(numbers(&remembered), expected, "{floor} {older} {last}");
        }
    }

    #[test]
    fn the_last_twenty_thousand_entries_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let last = MOST_ENTRIES + 500;
        let (ledger, catalogue) = trail(&dir.path().join("keys"), 0, last, |sequence| {
            let entry = entry(sequence, Timestamp::from_secs(1000 + sequence));
            let once = entry.once.filter(|_| sequence.is_multiple_of(500) || sequence == 501);
            AuditEntry { once, ..entry }
        });
        let now = Timestamp::from_secs(1000 + last);
        let remembered = Remembered::load(&ledger, catalogue, last, now).unwrap();
        let expected: Vec<u64> = [501].into_iter().chain((1000..=last).step_by(500)).collect();
        assert_eq!(numbers(&remembered), expected);
        assert!(remembered.by_age.iter().is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn of_a_name_that_was_given_again_the_last_request_counts() {
        let dir = tempfile::tempdir().unwrap();
        let last = 2200;
        let (ledger, catalogue) = trail(&dir.path().join("keys"), 0, last, |sequence| AuditEntry {
            once: Some(Once {
                request: [7; 16],
                payload: sequence.to_le_bytes().repeat(2).try_into().unwrap(),
            }),
            ..entry(sequence, Timestamp::from_secs(1000 + sequence))
        });
        let now = Timestamp::from_secs(1000 + last);
        let remembered = Remembered::load(&ledger, catalogue, last, now).unwrap();
        let done = &remembered.done[&[7; 16]];
        assert_eq!((done.sequence, done.id), (last, KeyId::from_u64(last)));
        assert_eq!(done.payload[..8], last.to_le_bytes());
    }
}
