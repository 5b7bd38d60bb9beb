//! The caller of a change, and the audit entries about what it does or was refused.

use super::{core::Core, refused::Refused};
use crate::{
    audit::{Act, Attempt, AuditEntry},
    error::Error,
    id::KeyId,
    record::{Actor, Change},
    secret::Secret,
};
use std::net::IpAddr;

/// The longest reason that the audit log keeps, in bytes.
const LONGEST_REASON: usize = 200;

/// Who asks for a change, and from where.
#[derive(Clone, Copy)]
pub(super) struct Caller<'s> {
    pub(super) core: &'s Core,
    pub(super) actor: Actor,
    pub(super) source: Option<IpAddr>,
}

/// A refused act that the audit log does not have yet. It is counted.
pub(super) struct Gap {
    pub(super) error: Error,
    /// The log has no line about such acts yet.
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "there is no log"))]
    is_new: bool,
}

impl Caller<'_> {
    /// An entry about an act of this caller.
    pub(super) fn entry(
        &self,
        act: Act,
        key: Option<KeyId>,
        before: Change,
        after: Change,
    ) -> AuditEntry {
        let entry = AuditEntry::new(self.actor, act);
        AuditEntry { source: self.source, key, before, after, ..entry }
    }

    /// Notes a refusal, and gives its error. If it cannot be written, the act stays refused.
    pub(super) fn refused(
        &self,
        attempt: Attempt,
        key: Option<KeyId>,
        asked: Change,
        refused: Error,
    ) -> Error {
        if let Err(gap) = self.note_refusal(attempt, key, asked, &refused.to_string()) {
            gap.log(self.actor);
        }
        refused
    }

    /// Writes a refusal to the audit log, or counts it if it repeats one of the last minute.
    #[expect(clippy::needless_pass_by_value, reason = "a plan that is made anew clones it")]
    pub(super) fn note_refusal(
        &self,
        attempt: Attempt,
        key: Option<KeyId>,
        asked: Change,
        reason: &str,
    ) -> Result<(), Gap> {
        let reason = if Secret::is_pasted_in(reason) {
            "(a reason that held what looks like an API key)"
        } else {
            reason.get(..reason.floor_char_boundary(LONGEST_REASON)).unwrap_or_default()
        };
        let core = self.core;
        let act = Refused { actor: self.actor, source: self.source, attempt, key, reason };
        if core.refusal_is_repeated(&act) {
            return Ok(());
        }
        if !core.has_room() {
            // It is written with its repetitions when the disk has room again.
            core.refusal_failed(&act);
            return Ok(());
        }
        let written = core.again(|| self.write_refusal(&act, asked.clone()));
        written.map_err(|error| Gap { error, is_new: core.refusal_failed(&act) })
    }

    fn write_refusal(&self, refused: &Refused<'_>, asked: Change) -> Result<(), Error> {
        let core = self.core;
        let mut plans = core.plan();
        plans.check_writable()?;
        let act = Act::Refuse { attempt: refused.attempt, reason: refused.reason.to_owned() };
        let mut entry = self.entry(act, refused.key, Change::default(), asked);
        let mut queued = core.queue(&mut plans, entry.clone(), Vec::new(), Vec::new());
        if matches!(queued, Err(Error::Invalid { .. })) {
            // The entry has no room for the metadata that was asked for.
            entry.after.metadata = None;
            queued = core.queue(&mut plans, entry, Vec::new(), Vec::new());
        }
        let sequence = queued?;
        core.wait(plans, sequence)
    }
}

impl Gap {
    /// The caller learns of the refusal alone. Where there is a log, it gets one line now, and another
    /// with the number of further acts when their minute is over.
    #[cfg_attr(
        not(feature = "axum"),
        expect(unused_variables, clippy::unused_self, reason = "there is no log")
    )]
    pub(super) fn log(&self, actor: Actor) {
        #[cfg(feature = "axum")]
        if self.is_new {
            tracing::error!(%actor, error = %self.error, "a refused act is missing from the audit log");
        }
    }
}
