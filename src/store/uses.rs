//! Writes when keys were last used.
//!
//! Validations note uses in the index. The writer thread writes them in rounds: a thousand at a time,
//! with changes in between, and one sync at the end. A round begins a minute after the last one
//! began, or later: rounds take at most a tenth of the time, however many keys are in use. A use
//! decides nothing. So it is no change: it has no number and no audit entry, and the mark does not
//! cover it.
//!
//! Where replicas share a store, each writes its own uses each ten minutes and when it leaves, and
//! reads those of the others as often.
//!
//! A failed round ends writing as a failed commit does. The store could do without the uses, but they
//! share pages with records, and then nobody knows which records are on disk.

use super::core::Core;
use crate::{error::Error, id::KeyId};
use std::time::{Duration, Instant};

/// How often uses are written, which bounds what a crash loses.
pub(super) const EVERY: Duration = Duration::from_mins(1);
/// The same where replicas share the store: the history of the consensus store keeps each use.
#[cfg(feature = "cluster")]
pub(super) const EVERY_SHARED: Duration = Duration::from_mins(10);
/// The most uses that a change waits behind.
#[cfg(not(test))]
const MOST: usize = 1000;
/// So few that a round of a test has several batches.
#[cfg(test)]
const MOST: usize = 8;

/// The rounds, one after the other.
pub(super) struct Uses {
    every: Duration,
    /// The minute from which on uses may not have been written.
    since: u32,
    due: Instant,
    round: Option<Round>,
}

struct Round {
    begun: Instant,
    minute: u32,
    next_segment: usize,
    gathered: Vec<(KeyId, u32)>,
    has_written: bool,
    /// The consensus store did not answer, and this round is not tried again.
    is_given_up: bool,
}

impl Uses {
    pub(super) fn new(every: Duration, minute: u32) -> Self {
        Self { every, since: minute, due: Instant::now() + every, round: None }
    }

    /// Whether there are uses to write at once.
    pub(super) fn are_under_way(&self) -> bool {
        self.round.is_some() || Instant::now() >= self.due
    }

    /// Writes a batch of a round, if one is due.
    pub(super) fn step(&mut self, core: &Core) -> Result<(), Error> {
        core.index.tick(core.clock.now());
        if !self.are_under_way() || core.failure().is_some() {
            return Ok(());
        }
        if !core.has_room() {
            // They stay in memory; the round after the disk has room again writes them.
            (self.round, self.due) = (None, Instant::now() + self.every);
            return Ok(());
        }
        let round = self.round.get_or_insert_with(|| Round::new(core.index.minute()));
        if round.step(self.since, core)? {
            return Ok(());
        }
        if round.has_written {
            core.ledger.sync_uses()?;
        }
        // More uses of this minute may come: the next round writes them.
        self.since = if round.is_given_up { self.since } else { round.minute };
        self.due = next(round.begun, self.every, Instant::now());
        self.round = None;
        Ok(())
    }

    /// Writes all uses that are not written yet.
    pub(super) fn finish(&mut self, core: &Core) -> Result<(), Error> {
        if core.failure().is_some() || !core.has_room() {
            return Ok(());
        }
        let mut last = Round::new(core.index.minute());
        while last.step(self.since, core)? {}
        if last.has_written || self.round.is_some() { core.ledger.sync_uses() } else { Ok(()) }
    }
}

impl Round {
    fn new(minute: u32) -> Self {
        Self {
            begun: Instant::now(),
            minute,
            next_segment: 0,
            gathered: Vec::new(),
            has_written: false,
            is_given_up: false,
        }
    }

    /// Writes some of the uses; `false` when none are left.
    fn step(&mut self, since: u32, core: &Core) -> Result<bool, Error> {
        let mut are_left = true;
        while are_left && self.gathered.len() < MOST {
            match core.index.used_since(since, self.next_segment) {
                Some(more) => self.gathered.extend(more),
                None => are_left = false,
            }
            self.next_segment += 1;
        }
        let mut uses = self.gathered.split_off(self.gathered.len().saturating_sub(MOST));
        // A key that was deleted since it was gathered leaves nothing behind.
        uses.retain(|(id, _)| core.index.last_use(*id).is_some());
        if !uses.is_empty() {
            match core.ledger.write_uses(&uses) {
                // The consensus store is not reachable. The next round writes these uses.
                Err(Error::Consensus(_) | Error::ConsensusRefused(_)) => {
                    self.is_given_up = true;
                    return Ok(false);
                }
                outcome => outcome?,
            }
            self.has_written = true;
        }
        Ok(are_left || !self.gathered.is_empty())
    }
}

/// When the next round begins.
fn next(begun: Instant, every: Duration, ended: Instant) -> Instant {
    let took = ended.saturating_duration_since(begun);
    (begun + every).max(ended + 9 * took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Change, Error, Expiry, Grant, Metadata, NewKey, Refusal, Store, Timestamp,
        digest::Seals,
        ledger::{Disk, Location, Mode},
        store::{
            testing::scripted,
            tests::{issue, new_key},
        },
    };
    use std::{fs, path::Path, sync::Arc, thread};

    fn made(store: &Store, name: &str) -> (KeyId, String) {
        let issued = store.issue(NewKey {
            name: name.into(),
            grant: Grant::Scopes(store.scopes(["api.read"]).unwrap()),
            active: true,
            expiry: Expiry::Never,
            owner: None,
            metadata: Metadata::new(),
        });
        let issued = issued.unwrap();
        (issued.record.id, issued.secret.reveal(str::to_owned))
    }

    /// A whole round, as the writer thread does it.
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

    /// What lies on the disk of a store that is closed.
    fn on_disk(dir: &Path) -> Vec<KeyId> {
        let at = Location { dir: dir.to_path_buf(), mode: Mode::Open, anchor: None, reserve: None };
        let disk = Disk::open(&at, None, Arc::new(Seals::derive(None))).unwrap();
        let mut ids = Vec::new();
        disk.load_uses(|id, _| ids.push(id)).unwrap();
        ids
    }

    #[test]
    fn what_a_round_wrote_survives_a_crash_and_only_what_came_after_it_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (home, crashed) = (dir.path().join("keys"), dir.path().join("crashed"));
        let store = Store::open(&home).unwrap();
        let keys: Vec<_> = (0..2 * MOST + 5).map(|n| made(&store, &n.to_string())).collect();
        let (unused, late) = keys.first().unwrap();
        for (_, key) in keys.iter().skip(1) {
            store.authenticate_key(key.as_bytes()).unwrap();
        }
        let before = store.writer.ledger.audit(0, 9999, store.catalogue()).unwrap().len();
        round(&store);
        store.authenticate_key(late.as_bytes()).unwrap();
        copy(&home, &crashed);
        let reopened = Store::open(&crashed).unwrap();
        assert_eq!(reopened.last_used(*unused), None);
        for (id, _) in keys.iter().skip(1) {
            assert_eq!(reopened.last_used(*id), store.last_used(*id));
            assert!(reopened.last_used(*id).is_some());
        }
        let after = reopened.writer.ledger.audit(0, 9999, store.catalogue()).unwrap().len();
        assert_eq!(after, before, "a use is no change");
    }

    #[test]
    fn a_deleted_key_leaves_no_use_behind_even_if_it_was_gathered() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("keys");
        let store = Store::open(&home).unwrap();
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
        round.gathered = [one, two, three].map(|id| (id, minute)).into();
        while round.step(0, &store.writer).unwrap() {}
        drop(store);
        let mut expected = vec![two, three];
        expected.sort();
        assert_eq!(on_disk(&home), expected);
    }

    #[test]
    fn the_writer_writes_uses_by_itself_while_changes_go_on() {
        let (store, script) = scripted(Duration::ZERO);
        let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
        let before = store.writer.index.minute();
        store.authenticate_key(key.as_bytes()).unwrap();
        let noted = script.noted();
        let [(used, minute)] = noted[..] else { panic!("{noted:?}") };
        assert_eq!(used, id);
        // The writer may say that it is a later one in between.
        assert!((before..=store.writer.index.minute()).contains(&minute), "{before} {minute}");
        script.verdict(true);
        store.revoke(id).unwrap();
        assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
    }

    #[test]
    fn a_use_that_cannot_be_written_ends_writing_and_validation_goes_on() {
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
    fn a_round_takes_at_most_a_tenth_of_the_time() {
        let begun = Instant::now();
        let due = |took| {
            next(begun, EVERY, begun + Duration::from_secs(took)).duration_since(begun).as_secs()
        };
        assert_eq!([0, 5, 6, 60].map(due), [60, 60, 60, 600]);
    }

    #[test]
    fn the_next_round_writes_only_what_was_used_since() {
        let (store, script) = scripted(EVERY);
        let (one, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
        let (two, other) = issue(&store, &script, new_key(&store, &["api.read"], true));
        let core = &store.writer;
        // The writer may say that it is a later one in between.
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
    fn nothing_is_written_after_a_failure_nor_before_it_is_due() {
        let (store, script) = scripted(EVERY);
        let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
        store.authenticate_key(key.as_bytes()).unwrap();
        // Whoever tries is told.
        script.fail_uses();
        let core = &store.writer;
        Uses::new(EVERY, 0).step(core).unwrap();
        assert!(Uses::new(Duration::ZERO, 0).step(core).is_err());
        script.verdict(false);
        assert!(matches!(store.revoke(id), Err(Error::NotDurable(_))));
        let mut due = Uses::new(Duration::ZERO, 0);
        due.step(core).unwrap();
        due.finish(core).unwrap();
    }
}
