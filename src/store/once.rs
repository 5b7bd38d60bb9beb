//! Requests that are done once, however often they are sent.
//!
//! Each is an entry of the audit log, written with its change, and remembered for 24 hours. Every
//! entry written within that time names the last such entry before it, so that after a restart the
//! requests are found by following these links, however many other entries lie between them.

use crate::{
    audit::{Act, AuditEntry, Once},
    digest::Seal,
    error::Error,
    id::KeyId,
    record::{Actor, Record},
    store::Issued,
    time::Timestamp,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// How long a request is remembered.
pub(super) const KEPT: Duration = Duration::from_hours(24);
/// The most requests of one actor that are remembered at a time.
const MOST_OF_ONE: usize = 10_000;
/// The most requests of all actors: about 16 MB.
const MOST_OF_ALL: usize = 100_000;
/// Entries without a link that are read when a store is opened: an older version wrote no links.
pub(super) const MOST_UNLINKED: u64 = 20_000;
/// The most entries that are read at once.
const STRIDE: u64 = 1000;

/// What makes a request to issue or rotate a key idempotent: sent again within 24 hours, it is not
/// done again. Its name belongs to its actor and its route.
///
/// At most 10,000 requests of one actor and 100,000 of all actors are remembered at a time. None is
/// forgotten early: a further request is [`Error::TooManyRequests`], which says when to repeat it.
#[derive(Clone, Copy, Debug)]
pub struct Idempotency<'r> {
    /// The name that the caller gave it.
    pub key: &'r [u8],
    /// What it asks for, such as `POST /v1/keys`.
    pub route: &'r str,
    /// All that it says: the same name with another payload is [`Error::IdempotencyKeyReused`].
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

/// What is known of a request that was done, or is queued.
#[derive(Clone, Copy)]
pub(super) struct Done {
    payload: [u8; 16],
    at: Timestamp,
    pub(super) sequence: u64,
    pub(super) id: KeyId,
}

/// The requests of the last 24 hours.
#[derive(Default)]
pub(super) struct Remembered {
    done: HashMap<[u8; 16], Done>,
    by_age: VecDeque<(Timestamp, Actor, [u8; 16])>,
    /// When each actor sent its requests, oldest first.
    of_one: HashMap<Actor, VecDeque<Timestamp>>,
}

impl Remembered {
    /// Remembers the requests among entries, oldest first.
    pub(super) fn of(entries: &[AuditEntry]) -> Self {
        let mut remembered = Self::default();
        for entry in entries {
            remembered.note(entry);
        }
        remembered
    }

    /// Remembers the request of this entry, if it has one.
    pub(super) fn note(&mut self, entry: &AuditEntry) {
        let id = match entry.act {
            Act::Rotate { into } => Some(into),
            _ => entry.key,
        };
        let (Some(once), Some(id)) = (entry.once, id) else { return };
        let (at, sequence) = (entry.at, entry.sequence);
        self.forget_until(at);
        let done = Done { payload: once.payload, at, sequence, id };
        let known = self.done.insert(once.request, done);
        if known.is_none_or(|known| known.sequence != sequence) {
            self.by_age.push_back((at, entry.actor, once.request));
            self.of_one.entry(entry.actor).or_default().push_back(at);
        }
    }

    /// Forgets the requests whose time is over.
    fn forget_until(&mut self, now: Timestamp) {
        while let Some((at, actor, request)) = self.by_age.front().copied()
            && is_over(at, now)
        {
            self.by_age.pop_front();
            if let Some(times) = self.of_one.get_mut(&actor) {
                times.pop_front();
                if times.is_empty() {
                    self.of_one.remove(&actor);
                }
            }
            // One that was done again since is younger than this.
            if self.done.get(&request).is_some_and(|done| done.at == at) {
                self.done.remove(&request);
            }
        }
    }

    /// Forgets the requests of changes after this one, which were not made.
    #[cfg(feature = "cluster")]
    pub(super) fn forget_after(&mut self, sequence: u64) {
        let Self { done, by_age, of_one } = self;
        done.retain(|_, done| done.sequence <= sequence);
        by_age.retain(|(at, _, request)| done.get(request).is_some_and(|done| done.at == *at));
        of_one.clear();
        for (at, actor, _) in by_age {
            of_one.entry(*actor).or_default().push_back(*at);
        }
    }

    /// The same request, if it was done; it is an error if it was another of that name.
    pub(super) fn find(&self, once: Once, now: Timestamp) -> Result<Option<Done>, Error> {
        match self.done.get(&once.request).filter(|done| !is_over(done.at, now)) {
            None => Ok(None),
            Some(done) if done.payload == once.payload => Ok(Some(*done)),
            Some(_) => Err(Error::IdempotencyKeyReused),
        }
    }

    /// Fails where another request of this actor could not be remembered for as long as promised.
    pub(super) fn check_room(&mut self, actor: Actor, now: Timestamp) -> Result<(), Error> {
        self.forget_until(now);
        let times = self.of_one.get(&actor);
        let (who, oldest) = if times.is_some_and(|times| times.len() >= MOST_OF_ONE) {
            ("this actor", times.and_then(VecDeque::front).copied())
        } else if self.by_age.len() >= MOST_OF_ALL {
            ("all actors together", self.by_age.front().map(|(at, ..)| *at))
        } else {
            return Ok(());
        };
        let age = oldest.map_or(0, |at| now.as_millis().saturating_sub(at.as_millis()));
        let retry_after = KEPT.saturating_sub(Duration::from_millis(age));
        Err(Error::TooManyRequests { who, retry_after })
    }

    /// The number of the last entry with a request that is remembered at this time, 0 where there is
    /// none.
    pub(super) fn newest(&self, now: Timestamp) -> u64 {
        let newest = self.by_age.back().and_then(|(_, _, request)| self.done.get(request));
        newest.filter(|done| !is_over(done.at, now)).map_or(0, |done| done.sequence)
    }
}

/// The entries from `floor` to `last` with a request of the last 24 hours, oldest first. Follows the
/// links from the end; where an entry has none, reads the one before, `most_unlinked` times at most.
pub(super) fn requests_in(
    trail: impl Fn(u64, usize) -> Result<Vec<AuditEntry>, Error>,
    (floor, last): (u64, u64),
    now: Timestamp,
    most_unlinked: u64,
) -> Result<Vec<AuditEntry>, Error> {
    let mut newest_first = Vec::new();
    let (mut end, mut unlinked, mut stride) = (last, 0, 1);
    'parts: while end > floor {
        let start = end.saturating_sub(stride).max(floor);
        let part = trail(start, usize::try_from(end - start).unwrap_or(usize::MAX))?;
        if part.is_empty() {
            break;
        }
        stride = (stride * 2).min(STRIDE);
        end = start;
        for entry in part.into_iter().rev() {
            let (sequence, link) = (entry.sequence, entry.last_once);
            if is_over(entry.at, now) {
                break 'parts;
            }
            if entry.once.is_some() {
                newest_first.push(entry);
            }
            match link {
                None if unlinked + 1 >= most_unlinked => break 'parts,
                None => unlinked += 1,
                Some(link) if link < sequence => {
                    (end, stride) = (link, 1);
                    continue 'parts;
                }
                Some(_) => return Err(Error::damaged("a link in its audit log leads nowhere")),
            }
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

fn is_over(at: Timestamp, now: Timestamp) -> bool {
    u128::from(now.as_millis().saturating_sub(at.as_millis())) >= KEPT.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{self, AuditStart, Place},
        digest::Seals,
        ledger::{Bulk, Disk, Ledger, Location, Mode, Tip},
        record::Change,
        scope::Catalogue,
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
            last_once: None,
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
        assert!(matches!(found, Err(Error::IdempotencyKeyReused)));
        remembered.note(&entry(2, Timestamp::from_secs(1000 + 86_400)));
        assert_eq!((remembered.done.len(), remembered.by_age.len()), (1, 1));
    }

    /// The entry with the number `sequence` of an actor, linked to the one before.
    fn of_actor(sequence: u64, actor: Actor, at: Timestamp) -> AuditEntry {
        AuditEntry { actor, last_once: Some(sequence - 1), ..entry(sequence, at) }
    }

    fn retry_after(room: Result<(), Error>) -> (&'static str, Duration) {
        match room {
            Err(Error::TooManyRequests { who, retry_after }) => (who, retry_after),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_actor_at_its_bound_is_refused_until_its_oldest_request_expires_and_none_is_forgotten() {
        let (busy, idle) = (Actor::Key(KeyId::from_u64(1)), Actor::Key(KeyId::from_u64(2)));
        let mut remembered = Remembered::default();
        let start = Timestamp::from_secs(1000);
        for sequence in 1..=MOST_OF_ONE as u64 {
            assert!(remembered.check_room(busy, start).is_ok());
            let at = Timestamp::from_secs(1000 + u64::from(sequence > 1));
            remembered.note(&of_actor(sequence, busy, at));
        }
        let later = Timestamp::from_secs(1000 + 3600);
        let left = Duration::from_hours(23);
        assert_eq!(retry_after(remembered.check_room(busy, later)), ("this actor", left));
        assert!(remembered.check_room(idle, later).is_ok());
        let first = entry(1, start).once.unwrap();
        assert!(remembered.find(first, later).unwrap().is_some());
        assert!(remembered.check_room(busy, Timestamp::from_secs(1000 + DAY)).is_ok());
        assert_eq!(remembered.by_age.len(), MOST_OF_ONE - 1);
        assert!(remembered.check_room(busy, Timestamp::from_secs(1001 + DAY)).is_ok());
        assert!(remembered.done.is_empty() && remembered.of_one.is_empty());
    }

    #[test]
    fn all_actors_together_have_a_bound_too() {
        let mut remembered = Remembered::default();
        let at = Timestamp::from_secs(1000);
        for sequence in 1..=MOST_OF_ALL as u64 {
            let actor = Actor::Key(KeyId::from_u64(sequence / 5000));
            assert!(remembered.check_room(actor, at).is_ok());
            remembered.note(&of_actor(sequence, actor, at));
        }
        let other = Actor::Key(KeyId::from_u64(u64::MAX));
        assert_eq!(retry_after(remembered.check_room(other, at)), ("all actors together", KEPT));
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn requests_of_discarded_changes_take_no_room() {
        let actor = Actor::Key(KeyId::from_u64(1));
        let mut remembered = Remembered::default();
        let at = Timestamp::from_secs(1000);
        for sequence in 1..=MOST_OF_ONE as u64 {
            remembered.note(&of_actor(sequence, actor, at));
        }
        // Entries that were noted when they were queued are read again once they are committed.
        remembered.note(&of_actor(MOST_OF_ONE as u64, actor, at));
        assert_eq!(remembered.by_age.len(), MOST_OF_ONE);
        remembered.forget_after(MOST_OF_ONE as u64 - 1);
        assert!(remembered.check_room(actor, at).is_ok());
        assert_eq!(remembered.newest(at), MOST_OF_ONE as u64 - 1);
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
            let floor = AuditStart { through: floor, head: tip.head, cut: floor + 1 };
            bulk.put(Place::AuditStart, codec::encode_audit_start(&floor, &seals.meta).unwrap())
                .unwrap();
        }
        for sequence in floor + 1..=last {
            let entry = each(sequence);
            let (frame, head) = codec::encode_entry(&entry, &tip.head, &seals.trail).unwrap();
            bulk.put(Place::Entry(sequence), frame).unwrap();
            tip = Tip { sequence, head, newest: entry.at };
        }
        bulk.finish(tip).unwrap();
        let at = Location { dir: dir.to_path_buf(), mode: Mode::Open, anchor: None, reserve: None };
        let disk = Disk::open(&at, None, seals).unwrap();
        (Ledger::Disk(Box::new(disk)), Catalogue::new(Vec::new(), None).unwrap())
    }

    fn load(
        (ledger, catalogue): &(Ledger, &'static Catalogue),
        last: u64,
        now: Timestamp,
    ) -> Remembered {
        let trail = |after, limit| ledger.trail(after, limit, catalogue);
        let all = (ledger.floor().through, last);
        Remembered::of(&requests_in(trail, all, now, MOST_UNLINKED).unwrap())
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
            let ledger = trail(&dir.path().join("keys"), floor, last, |sequence| {
                let at = if sequence <= older { 1000 } else { 1000 + DAY };
                entry(sequence, Timestamp::from_secs(at))
            });
            let now = Timestamp::from_secs(1000 + DAY);
            let remembered = load(&ledger, last, now);
            let expected: Vec<u64> = (older.max(floor) + 1..=last).collect();
            assert_eq!(numbers(&remembered), expected, "{floor} {older} {last}");
        }
    }

    #[test]
    fn requests_are_found_behind_any_number_of_other_entries() {
        let dir = tempfile::tempdir().unwrap();
        let last = MOST_UNLINKED + 3500;
        let (older, now) = (700, Timestamp::from_secs(1000 + DAY));
        let is_once = |sequence| [10, 600, 701, 702, 1500, 2000].contains(&sequence);
        let ledger = trail(&dir.path().join("keys"), 0, last, |sequence| {
            let at = Timestamp::from_secs(if sequence <= older { 1000 } else { 1000 + DAY });
            let before = (1..sequence).rev().find(|&n| n <= 2000 && is_once(n));
            let before = before.filter(|&n| (n > older) == (sequence > older)).unwrap_or(0);
            let entry = entry(sequence, at);
            AuditEntry {
                once: entry.once.filter(|_| is_once(sequence)),
                last_once: Some(before),
                ..entry
            }
        });
        assert_eq!(numbers(&load(&ledger, last, now)), [701, 702, 1500, 2000]);
    }

    #[test]
    fn of_the_entries_of_an_older_version_the_last_twenty_thousand_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let linked = MOST_UNLINKED + 500;
        let last = linked + 1000;
        let ledger = trail(&dir.path().join("keys"), 0, last, |sequence| {
            let entry = entry(sequence, Timestamp::from_secs(1000 + sequence));
            let once = entry.once.filter(|_| sequence.is_multiple_of(500) || sequence == 501);
            // The newer version continues with links to what it had found.
            let last_once = (sequence > linked).then(|| (sequence - 1) / 500 * 500);
            AuditEntry { once, last_once, ..entry }
        });
        let now = Timestamp::from_secs(1000 + last);
        let remembered = load(&ledger, last, now);
        let expected: Vec<u64> = [501].into_iter().chain((1000..=last).step_by(500)).collect();
        assert_eq!(numbers(&remembered), expected);
        assert!(remembered.by_age.iter().is_sorted_by_key(|(at, ..)| *at));
    }

    #[test]
    fn of_a_name_that_was_given_again_the_last_request_counts() {
        let dir = tempfile::tempdir().unwrap();
        let last = 2200;
        let ledger = trail(&dir.path().join("keys"), 0, last, |sequence| AuditEntry {
            once: Some(Once {
                request: [7; 16],
                payload: sequence.to_le_bytes().repeat(2).try_into().unwrap(),
            }),
            ..entry(sequence, Timestamp::from_secs(1000 + sequence))
        });
        let now = Timestamp::from_secs(1000 + last);
        let remembered = load(&ledger, last, now);
        let done = &remembered.done[&[7; 16]];
        assert_eq!((done.sequence, done.id), (last, KeyId::from_u64(last)));
        assert_eq!(done.payload[..8], last.to_le_bytes());
    }
}
