//! When keys were last used, on its way to the disk.
//!
//! Uses are noted in the index; the writer thread writes those of a round, a thousand at a time and
//! changes in between, and syncs once at the end. A round begins a minute after the last one began,
//! or later: it takes at most a tenth of the time, however many keys are in use. A use is no
//! change: it has no number, no entry in the trail, and the mark does not vouch for it, since it
//! decides nothing.
//!
//! A failed round ends writing as a failed commit does. Uses alone could be done without, but they
//! share their pages with records, and of those nobody knows any more what is on disk.

use crate::{error::Error, id::KeyId, index::Index, ledger::Ledger, time::Timestamp};
use std::time::{Duration, Instant};

/// How often uses are written, so how many a crash loses.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// The most that a change waits behind.
const MOST: usize = 1000;

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
}

impl Uses {
    pub(super) fn new(every: Duration, now: Timestamp) -> Self {
        Self { every, since: now.as_minutes(), due: Instant::now() + every, round: None }
    }

    /// Whether there is more to do at once.
    pub(super) fn are_under_way(&self) -> bool {
        self.round.is_some() || Instant::now() >= self.due
    }

    /// Does a part of a round, if one is due.
    pub(super) fn step(
        &mut self,
        index: &Index,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), Error> {
        if !self.are_under_way() {
            return Ok(());
        }
        let round = self.round.get_or_insert_with(|| Round::new(now));
        if round.step(self.since, index, ledger)? {
            return Ok(());
        }
        if round.has_written {
            ledger.sync_uses()?;
        }
        // Of this minute more may come: the next round writes those again.
        self.since = round.minute;
        self.due = next(round.begun, self.every, Instant::now());
        self.round = None;
        Ok(())
    }

    /// Does all that is left of a round, or a whole one.
    pub(super) fn finish(
        &mut self,
        index: &Index,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut last = Round::new(now);
        while last.step(self.since, index, ledger)? {}
        if last.has_written || self.round.is_some() { ledger.sync_uses() } else { Ok(()) }
    }
}

impl Round {
    fn new(now: Timestamp) -> Self {
        Self {
            begun: Instant::now(),
            minute: now.as_minutes(),
            next_segment: 0,
            gathered: Vec::new(),
            has_written: false,
        }
    }

    /// Writes up to a thousand uses; `false` when none are left.
    fn step(&mut self, since: u32, index: &Index, ledger: &Ledger) -> Result<bool, Error> {
        let mut are_left = true;
        while are_left && self.gathered.len() < MOST {
            match index.used_since(since, self.next_segment) {
                Some(more) => self.gathered.extend(more),
                None => are_left = false,
            }
            self.next_segment += 1;
        }
        let mut uses = self.gathered.split_off(self.gathered.len().saturating_sub(MOST));
        // A key that was deleted since it was gathered leaves nothing behind.
        uses.retain(|(id, _)| index.last_use(*id).is_some());
        if !uses.is_empty() {
            ledger.note_uses(&uses)?;
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
