//! Over which time all uses of keys are known. It is recorded only while the policy needs it.
//!
//! A process that has the store alone records that it runs before the first validation, and the end of the time
//! when it closes the store. So a crash, which may lose uses, begins a new time. Replicas report instead: see
//! `cluster::known_uses`.

use super::core::Core;
use crate::{
    error::Error,
    ledger::known_uses::{KnownUses, SINCE, StoredKnownUses, UNTIL},
};
use std::sync::atomic::Ordering::Relaxed;

impl Core {
    /// Continues the time of the last process, or begins a new one. Called before the first validation.
    pub(super) fn begin_known_uses(&self, stored: StoredKnownUses) -> Result<(), Error> {
        let now = self.clock.now().as_minutes();
        let since = stored.since_at(now);
        self.uses_known_since.store(since, Relaxed);
        if !self.needs_known_uses() {
            return Ok(());
        }
        if self.ledger.replicas().is_some() {
            self.report_uses(now);
            return Ok(());
        }
        self.ledger.write_uses(&[(SINCE, since), (UNTIL, 0)])?;
        self.ledger.sync_uses()
    }

    /// Reports that all uses of this replica before this minute are written. If that fails, the next round
    /// reports.
    pub(super) fn report_uses(&self, minute: u32) {
        if let Some(replicas) = self.ledger.replicas()
            && self.needs_known_uses()
            && !self.has_clock_error()
        {
            drop(replicas.report_uses(minute, false));
        }
    }

    /// Records that all uses are written, and that no more come. Not while a clock is wrong: the next process
    /// would not see the jump, and would count the time that did not pass.
    pub(super) fn end_known_uses(&self) -> Result<(), Error> {
        if !self.needs_known_uses() || self.has_clock_error() {
            return Ok(());
        }
        let now = self.clock.now().as_minutes();
        if let Some(replicas) = self.ledger.replicas() {
            // Without its last report, the time starts again.
            drop(replicas.report_uses(now, true));
            return Ok(());
        }
        let since = self.uses_known_since.load(Relaxed);
        self.ledger.write_uses(&[(SINCE, since), (UNTIL, now)])
    }

    /// The time over which all uses are known.
    pub(super) fn known_uses(&self) -> Result<KnownUses, Error> {
        let now = self.clock.now().as_minutes();
        if let Some(replicas) = self.ledger.replicas() {
            return replicas.known_uses(now);
        }
        let since = self.uses_known_since.load(Relaxed);
        Ok(KnownUses { since, until: now, ..KnownUses::default() })
    }

    pub(super) fn has_clock_error(&self) -> bool {
        self.clock.jump().is_some() || self.clock.ahead().is_some()
    }

    fn needs_known_uses(&self) -> bool {
        self.names().policy().is_ok_and(|policy| policy.unused.is_some())
    }
}
