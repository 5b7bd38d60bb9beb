//! Tests: how long idempotent requests are remembered, and that they are found again after a restart.

use super::*;
use crate::{
    codec::{self, AuditStart, DbKey},
    digest::Seals,
    ledger::{Bulk, Disk, Ledger, Location, Mode, Tip},
    record::Change,
    scope::Catalogue,
    secret::Prefix,
};
use std::sync::Arc;

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
        owner: None,
        before: Change::default(),
        after: Change::default(),
        once: Some(Once { request, payload: [1; 16] }),
        last_once: None,
    }
}

#[test]
fn request_is_remembered_for_24_hours() {
    let mut requests = Requests::default();
    let first = entry(1, Timestamp::from_secs(1000));
    requests.note(&first);
    let once = first.once.unwrap();
    let at = |secs| requests.find(once, Timestamp::from_secs(secs)).unwrap().is_some();
    assert!(at(1000) && at(1000 + 86_399) && !at(1000 + 86_400));
    let other = Once { payload: [2; 16], ..once };
    let found = requests.find(other, Timestamp::from_secs(1000));
    assert!(matches!(found, Err(Error::IdempotencyKeyReused)));
    requests.note(&entry(2, Timestamp::from_secs(1000 + 86_400)));
    assert_eq!((requests.executed.len(), requests.by_age.len()), (1, 1));
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
fn actor_at_its_limit_is_refused_until_its_oldest_request_expires() {
    let (busy, idle) = (Actor::Key(KeyId::from_u64(1)), Actor::Key(KeyId::from_u64(2)));
    let mut requests = Requests::default();
    let start = Timestamp::from_secs(1000);
    for sequence in 1..=MAX_PER_ACTOR as u64 {
        assert!(requests.check_limits(busy, start).is_ok());
        let at = Timestamp::from_secs(1000 + u64::from(sequence > 1));
        requests.note(&of_actor(sequence, busy, at));
    }
    let later = Timestamp::from_secs(1000 + 3600);
    let left = Duration::from_hours(23);
    assert_eq!(retry_after(requests.check_limits(busy, later)), ("this actor", left));
    assert!(requests.check_limits(idle, later).is_ok());
    let first = entry(1, start).once.unwrap();
    assert!(requests.find(first, later).unwrap().is_some());
    assert!(requests.check_limits(busy, Timestamp::from_secs(1000 + DAY)).is_ok());
    assert_eq!(requests.by_age.len(), MAX_PER_ACTOR - 1);
    assert!(requests.check_limits(busy, Timestamp::from_secs(1001 + DAY)).is_ok());
    assert!(requests.executed.is_empty() && requests.times_by_actor.is_empty());
}

#[test]
fn all_actors_together_have_a_limit() {
    let mut requests = Requests::default();
    let at = Timestamp::from_secs(1000);
    for sequence in 1..=MAX_TOTAL as u64 {
        let actor = Actor::Key(KeyId::from_u64(sequence / 5000));
        assert!(requests.check_limits(actor, at).is_ok());
        requests.note(&of_actor(sequence, actor, at));
    }
    let other = Actor::Key(KeyId::from_u64(u64::MAX));
    assert_eq!(retry_after(requests.check_limits(other, at)), ("all actors together", RETENTION));
}

#[test]
fn discarded_requests_do_not_count() {
    let actor = Actor::Key(KeyId::from_u64(1));
    let mut requests = Requests::default();
    let at = Timestamp::from_secs(1000);
    for sequence in 1..=MAX_PER_ACTOR as u64 {
        requests.note(&of_actor(sequence, actor, at));
    }
    // Queued entries are noted at once, and read again after their commit.
    requests.note(&of_actor(MAX_PER_ACTOR as u64, actor, at));
    assert_eq!(requests.by_age.len(), MAX_PER_ACTOR);
    requests.forget_after(MAX_PER_ACTOR as u64 - 1);
    assert!(requests.check_limits(actor, at).is_ok());
    assert_eq!(requests.newest(at), MAX_PER_ACTOR as u64 - 1);
}

/// Creates a ledger with the entries `pruned_through + 1..=last`, which `each` creates.
fn ledger(
    dir: &std::path::Path,
    pruned_through: u64,
    last: u64,
    each: impl Fn(u64) -> AuditEntry,
) -> (Disk, &'static Catalogue) {
    let seals = Arc::new(Seals::derive(None));
    let mut bulk = Bulk::begin(dir, None, Prefix::default(), Arc::clone(&seals)).unwrap();
    let mut tip = Tip { sequence: pruned_through, head: [0; 32], newest: Timestamp::default() };
    if pruned_through > 0 {
        let start =
            AuditStart { through: pruned_through, head: tip.head, pruned_by: pruned_through + 1 };
        bulk.put(DbKey::AuditStart, codec::encode_audit_start(&start, &seals.meta).unwrap())
            .unwrap();
    }
    for sequence in pruned_through + 1..=last {
        let entry = each(sequence);
        let (frame, head) = codec::encode_entry(&entry, &tip.head, &seals.audit).unwrap();
        bulk.put(DbKey::Entry(sequence), frame).unwrap();
        tip = Tip { sequence, head, newest: entry.at };
    }
    bulk.finish(tip).unwrap();
    let at = Location { dir: dir.to_path_buf(), mode: Mode::Open, anchor: None, reserve: None };
    let disk = Disk::open(&at, None, seals).unwrap();
    (disk, Catalogue::with_preset())
}

fn load((ledger, catalogue): &(Disk, &'static Catalogue), last: u64, now: Timestamp) -> Requests {
    let audit = |after, limit| ledger.audit(after, limit, catalogue);
    let all = ledger.audit_start().through..last;
    Requests::of(&read(audit, all, now, UNLINKED_LIMIT).unwrap())
}

/// Returns the numbers of the remembered requests, and checks that each has its own key.
fn numbers(requests: &Requests) -> Vec<u64> {
    assert_eq!(requests.executed.len(), requests.by_age.len());
    let mut numbers: Vec<u64> = requests.executed.values().map(|done| done.sequence).collect();
    numbers.sort_unstable();
    for number in &numbers {
        let request = entry(*number, Timestamp::default()).once.unwrap().request;
        let done = &requests.executed[&request];
        assert_eq!((done.sequence, done.id), (*number, KeyId::from_u64(*number)));
    }
    numbers
}

const DAY: u64 = 86_400;

#[test]
fn every_request_of_the_last_24_hours_is_found_in_a_long_audit_log() {
    for (pruned_through, older, last) in [(0, 0, 2001), (0, 1499, 2500), (700, 999, 2000)] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(&dir.path().join("keys"), pruned_through, last, |sequence| {
            let at = if sequence <= older { 1000 } else { 1000 + DAY };
            entry(sequence, Timestamp::from_secs(at))
        });
        let now = Timestamp::from_secs(1000 + DAY);
        let requests = load(&ledger, last, now);
        let expected: Vec<u64> = (older.max(pruned_through) + 1..=last).collect();
        assert_eq!(numbers(&requests), expected, "{pruned_through} {older} {last}");
    }
}

#[test]
fn requests_are_found_behind_any_number_of_other_entries() {
    let dir = tempfile::tempdir().unwrap();
    let last = UNLINKED_LIMIT + 3500;
    let (older, now) = (700, Timestamp::from_secs(1000 + DAY));
    let is_once = |sequence| [10, 600, 701, 702, 1500, 2000].contains(&sequence);
    let ledger = ledger(&dir.path().join("keys"), 0, last, |sequence| {
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
fn at_most_20000_entries_without_links_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let linked = UNLINKED_LIMIT + 500;
    let last = linked + 1000;
    let ledger = ledger(&dir.path().join("keys"), 0, last, |sequence| {
        let entry = entry(sequence, Timestamp::from_secs(1000 + sequence));
        let once = entry.once.filter(|_| sequence.is_multiple_of(500) || sequence == 501);
        // The newer version links to the last request that it found.
        let last_once = (sequence > linked).then(|| (sequence - 1) / 500 * 500);
        AuditEntry { once, last_once, ..entry }
    });
    let now = Timestamp::from_secs(1000 + last);
    let requests = load(&ledger, last, now);
    let expected: Vec<u64> = [501].into_iter().chain((1000..=last).step_by(500)).collect();
    assert_eq!(numbers(&requests), expected);
    assert!(requests.by_age.iter().is_sorted_by_key(|(at, ..)| *at));
}

#[test]
fn latest_request_with_a_reused_key_counts() {
    let dir = tempfile::tempdir().unwrap();
    let last = 2200;
    let ledger = ledger(&dir.path().join("keys"), 0, last, |sequence| AuditEntry {
        once: Some(Once {
            request: [7; 16],
            payload: sequence.to_le_bytes().repeat(2).try_into().unwrap(),
        }),
        ..entry(sequence, Timestamp::from_secs(1000 + sequence))
    });
    let now = Timestamp::from_secs(1000 + last);
    let requests = load(&ledger, last, now);
    let done = &requests.executed[&[7; 16]];
    assert_eq!((done.sequence, done.id), (last, KeyId::from_u64(last)));
    assert_eq!(done.payload[..8], last.to_le_bytes());
}
