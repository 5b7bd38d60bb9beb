//! Writes when keys were last used.
//!
//! Validations record uses in the index. The writer thread writes them in rounds: a thousand at a time,
//! with changes in between, and one sync at the end. A round begins at the earliest a minute after the
//! last one began. Rounds take at most a tenth of the time, however many keys are in use.
//!
//! No decision depends on a use. So a use is no change: it has no number and no audit entry, and the mark
//! does not cover it.
//!
//! If replicas share a store, each writes its own uses every ten minutes and when it leaves. It reads the
//! uses of the others as often.
//!
//! A failed round ends writing, as a failed commit does. The uses share pages with records, so after a
//! failure it is unknown which records are on disk.

use super::core::Core;
use crate::{error::Error, id::KeyId};
use std::time::{Duration, Instant};

/// The interval between rounds. A crash loses the uses of at most this time.
pub(super) const INTERVAL: Duration = Duration::from_mins(1);
/// The interval if replicas share the store. It is longer, because the history of the consensus store
/// keeps each use.
#[cfg(feature = "cluster")]
pub(super) const SHARED_INTERVAL: Duration = Duration::from_mins(10);
/// The maximum number of uses that a change waits for.
#[cfg(not(test))]
const BATCH_SIZE: usize = 1000;
/// Small, so that a round of a test has several batches.
#[cfg(test)]
const BATCH_SIZE: usize = 8;

/// The schedule of the rounds, and the current one.
pub(super) struct Uses {
    interval: Duration,
    /// The minute from which on uses may not have been written.
    since: u32,
    due: Instant,
    round: Option<Round>,
}

struct Round {
    begun: Instant,
    minute: u32,
    next_segment: usize,
    collected: Vec<(KeyId, u32)>,
    has_written: bool,
    /// The consensus store did not answer. This round is not retried.
    has_failed: bool,
}

impl Uses {
    pub(super) fn new(interval: Duration, minute: u32) -> Self {
        Self { interval, since: minute, due: Instant::now() + interval, round: None }
    }

    /// Whether a round has begun or is due.
    pub(super) fn is_due(&self) -> bool {
        self.round.is_some() || Instant::now() >= self.due
    }

    /// Writes a batch of a round, if one is due.
    pub(super) fn step(&mut self, core: &Core) -> Result<(), Error> {
        core.index.tick(core.clock.now());
        if !self.is_due() || core.poisoned().is_some() {
            return Ok(());
        }
        if !core.has_space() {
            // The uses stay in memory until the disk has space again.
            (self.round, self.due) = (None, Instant::now() + self.interval);
            return Ok(());
        }
        let round = self.round.get_or_insert_with(|| Round::new(core.index.minute()));
        if round.step(self.since, core)? {
            return Ok(());
        }
        if round.has_written {
            core.ledger.sync_uses()?;
        }
        if !round.has_failed {
            // More uses of this minute may come: the next round writes them.
            self.since = round.minute;
            core.report_uses(round.minute);
        }
        self.due = next(round.begun, self.interval, Instant::now());
        self.round = None;
        Ok(())
    }

    /// Writes all uses that are not written yet.
    pub(super) fn finish(&mut self, core: &Core) -> Result<(), Error> {
        if core.poisoned().is_some() || !core.has_space() {
            return Ok(());
        }
        let mut last = Round::new(core.index.minute());
        while last.step(self.since, core)? {}
        if !last.has_failed {
            core.end_known_uses()?;
        }
        core.ledger.sync_uses()
    }
}

impl Round {
    fn new(minute: u32) -> Self {
        Self {
            begun: Instant::now(),
            minute,
            next_segment: 0,
            collected: Vec::new(),
            has_written: false,
            has_failed: false,
        }
    }

    /// Writes a batch of uses; `false` when none are left.
    fn step(&mut self, since: u32, core: &Core) -> Result<bool, Error> {
        let mut are_left = true;
        while are_left && self.collected.len() < BATCH_SIZE {
            match core.index.used_since(since, self.next_segment) {
                Some(more) => {
                    self.collected.extend(more);
                    core.index.refresh_uses_of(self.next_segment);
                }
                None => are_left = false,
            }
            self.next_segment += 1;
        }
        let mut uses = self.collected.split_off(self.collected.len().saturating_sub(BATCH_SIZE));
        // Skip keys that were deleted since they were collected.
        uses.retain(|(id, _)| core.index.last_use(*id).is_some());
        if !uses.is_empty() {
            match core.ledger.write_uses(&uses) {
                // The consensus store cannot be reached. The next round writes these uses.
                Err(Error::Consensus(_) | Error::ConsensusRefused(_)) => {
                    self.has_failed = true;
                    return Ok(false);
                }
                outcome => outcome?,
            }
            self.has_written = true;
        }
        Ok(are_left || !self.collected.is_empty())
    }
}

/// Returns when the next round begins.
fn next(begun: Instant, interval: Duration, ended: Instant) -> Instant {
    let took = ended.saturating_duration_since(begun);
    (begun + interval).max(ended + 9 * took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Change, Error, Expiry, NewKey, Refusal, Store, Timestamp,
        digest::Seals,
        ledger::{Disk, Location, Mode},
        store::{
            testing::scripted,
            tests::{issue, new_key},
        },
    };
    use std::{fs, path::Path, sync::Arc, thread};

    fn made(store: &Store, name: &str) -> (KeyId, String) {
        let issued =
            store.issue(NewKey::new(name, store.scopes(["api.read"]).unwrap(), Expiry::Never));
        let issued = issued.unwrap();
        (issued.record.id, issued.secret.reveal(str::to_owned))
    }

    /// Runs a whole round, as the writer thread does.
    fn round(store: &Store) {
        let (core, mut uses) = (&store.writer, Uses::new(Duration::ZERO, 0));
        while {
            uses.step(core).unwrap();
            uses.round.is_some()
        } {}
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    /// Reads the uses in the directory of a closed store.
    fn on_disk(dir: &Path) -> Vec<KeyId> {
        let at = Location { dir: dir.to_path_buf(), mode: Mode::Open, anchor: None, reserve: None };
        let disk = Disk::open(&at, None, Arc::new(Seals::derive(None))).unwrap();
        let mut ids = Vec::new();
        disk.load_uses(|id, _| ids.push(id)).unwrap();
        ids
    }

    #[test]
    fn written_uses_survive_a_crash_and_later_uses_are_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (home, crashed) = (dir.path().join("keys"), dir.path().join("crashed"));
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).open(&home).unwrap();
        let keys: Vec<_> = (0..2 * BATCH_SIZE + 5).map(|n| made(&store, &n.to_string())).collect();
        let (unused, late) = keys.first().unwrap();
        for (_, key) in keys.iter().skip(1) {
            store.authenticate_key(key.as_bytes()).unwrap();
        }
        let before = store.writer.ledger.audit(0, 9999, store.catalogue()).unwrap().len();
        round(&store);
        store.authenticate_key(late.as_bytes()).unwrap();
        copy(&home, &crashed);
        let reopened = Store::builder()
            .scopes(crate::scope::catalogue::financial_data())
            .open(&crashed)
            .unwrap();
        assert_eq!(reopened.last_used(*unused), None);
        for (id, _) in keys.iter().skip(1) {
            assert_eq!(reopened.last_used(*id), store.last_used(*id));
            assert!(reopened.last_used(*id).is_some());
        }
        let after = reopened.writer.ledger.audit(0, 9999, store.catalogue()).unwrap().len();
        assert_eq!(after, before, "a use is no change");
    }

    #[test]
    fn deleted_key_leaves_no_use_even_if_it_was_collected() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("keys");
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).open(&home).unwrap();
        let ((one, key), (two, other), (three, third)) =
            (made(&store, "one"), made(&store, "two"), made(&store, "three"));
        for key in [&key, &other, &third] {
            store.authenticate_key(key.as_bytes()).unwrap();
        }
        round(&store);
        let minute = store.writer.index.minute();
        store.revoke(one).unwrap();
        store.delete(one).unwrap();
        let mut round = Round::new(minute);
        round.collected = [one, two, three].map(|id| (id, minute)).into();
        while round.step(0, &store.writer).unwrap() {}
        drop(store);
        let mut expected = vec![two, three];
        expected.sort();
        assert_eq!(on_disk(&home), expected);
    }

    #[test]
    fn writer_writes_uses_between_changes() {
        let (store, script) = scripted(Duration::ZERO);
        let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
        let before = store.writer.index.minute();
        store.authenticate_key(key.as_bytes()).unwrap();
        let noted = script.noted();
        let [(used, minute)] = noted[..] else { panic!("{noted:?}") };
        assert_eq!(used, id);
        // The writer thread may advance the minute meanwhile.
        assert!((before..=store.writer.index.minute()).contains(&minute), "{before} {minute}");
        script.verdict(true);
        store.revoke(id).unwrap();
        assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
    }

    #[test]
    fn failed_write_of_uses_ends_writing_and_validation_continues() {
        let (store, script) = scripted(Duration::ZERO);
        let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
        script.fail_uses();
        store.authenticate_key(key.as_bytes()).unwrap();
        while store.health().poisoned.is_none() {
            thread::yield_now();
        }
        assert!(store.authenticate_key(key.as_bytes()).is_ok());
        assert!(matches!(store.update(id, Change::deactivate()), Err(Error::Poisoned(_))));
        assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
    }

    #[test]
    fn round_takes_at_most_a_tenth_of_the_time() {
        let begun = Instant::now();
        let due = |took| {
            next(begun, INTERVAL, begun + Duration::from_secs(took)).duration_since(begun).as_secs()
        };
        assert_eq!([0, 5, 6, 60].map(due), [60, 60, 60, 600]);
    }

    #[test]
    fn next_round_writes_only_newer_uses() {
        let (store, script) = scripted(INTERVAL);
        let (one, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
        let (two, other) = issue(&store, &script, new_key(&store, &["api.read"], true));
        let core = &store.writer;
        // The writer thread may advance the minute meanwhile.
        let minute = loop {
            let minute = core.index.minute();
            store.authenticate_key(key.as_bytes()).unwrap();
            if core.index.minute() == minute {
                break minute;
            }
        };
        let mut uses = Uses::new(Duration::ZERO, minute);
        core.index.tick(Timestamp::from_minutes(minute + 2));
        uses.step(core).unwrap();
        assert_eq!(script.noted(), [(one, minute)]);
        store.authenticate_key(other.as_bytes()).unwrap();
        uses.due = Instant::now();
        uses.step(core).unwrap();
        assert_eq!(script.noted(), [(two, minute + 2)]);
    }

    #[test]
    fn no_use_is_written_after_a_failure_or_before_it_is_due() {
        let (store, script) = scripted(INTERVAL);
        let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
        store.authenticate_key(key.as_bytes()).unwrap();
        // From now on an attempt to write uses fails.
        script.fail_uses();
        let core = &store.writer;
        Uses::new(INTERVAL, 0).step(core).unwrap();
        assert!(Uses::new(Duration::ZERO, 0).step(core).is_err());
        script.verdict(false);
        assert!(matches!(store.revoke(id), Err(Error::NotDurable(_))));
        let mut due = Uses::new(Duration::ZERO, 0);
        due.step(core).unwrap();
        due.finish(core).unwrap();
    }
}
