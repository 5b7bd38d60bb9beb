//! The caller of a change, and the audit entries about its acts and refusals.

use super::{core::Core, refusal_counters::RefusedAct};
use crate::{
    audit_entry::{Act, Attempt, AuditEntry},
    error::Error,
    id::KeyId,
    record::{Actor, Change},
    secret::Secret,
};
use std::net::IpAddr;

/// The longest reason that the audit log keeps, in bytes.
const MAX_REASON_BYTES: usize = 200;

/// The actor of a change, and its source address.
#[derive(Clone, Copy)]
pub(super) struct Caller<'s> {
    pub(super) core: &'s Core,
    pub(super) actor: Actor,
    pub(super) source: Option<IpAddr>,
}

/// A refused act that could not be written to the audit log. It is counted, and written later.
pub(super) struct UnwrittenRefusal {
    pub(super) error: Error,
    /// The log has no line about such acts yet.
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "there is no log"))]
    is_new: bool,
}

impl Caller<'_> {
    /// An entry about an act of this caller, and about a key with its owner at this time.
    pub(super) fn entry(
        &self,
        act: Act,
        key: Option<(KeyId, Option<Option<String>>)>,
        before: Change,
        after: Change,
    ) -> AuditEntry {
        let entry = AuditEntry::new(self.actor, act);
        let (key, owner) = key.map_or((None, None), |(id, owner)| (Some(id), owner));
        AuditEntry { source: self.source, key, owner, before, after, ..entry }
    }

    /// Records a refusal and returns its error. The act stays refused even if this cannot be written.
    pub(super) fn refused(
        &self,
        attempt: Attempt,
        key: Option<KeyId>,
        asked: Change,
        refused: Error,
    ) -> Error {
        if let Err(unwritten) = self.note_refusal(attempt, key, asked, &refused.to_string()) {
            unwritten.log(self.actor);
        }
        refused
    }

    /// Writes a refusal to the audit log, or counts it if it repeats one of the last minute.
    #[expect(clippy::needless_pass_by_value, reason = "a repeated plan clones it")]
    pub(super) fn note_refusal(
        &self,
        attempt: Attempt,
        key: Option<KeyId>,
        asked: Change,
        reason: &str,
    ) -> Result<(), UnwrittenRefusal> {
        let reason = if Secret::occurs_in(reason) {
            "(a reason that held what looks like an API key)"
        } else {
            reason.get(..reason.floor_char_boundary(MAX_REASON_BYTES)).unwrap_or_default()
        };
        let core = self.core;
        let act = RefusedAct { actor: self.actor, source: self.source, attempt, key, reason };
        if core.refusal_is_repeated(&act) {
            return Ok(());
        }
        if !core.has_space() {
            // It is written with its repetitions when the disk has space again.
            core.refusal_failed(&act);
            return Ok(());
        }
        let written = core.retry(|| self.write_refusal(&act, asked.clone()));
        written.map_err(|error| UnwrittenRefusal { error, is_new: core.refusal_failed(&act) })
    }

    fn write_refusal(&self, refused: &RefusedAct<'_>, asked: Change) -> Result<(), Error> {
        let core = self.core;
        let mut plans = core.plan();
        plans.check_writable()?;
        let act = Act::Refuse { attempt: refused.attempt, reason: refused.reason.to_owned() };
        let owner = |id| core.planned(&plans, id).map(|(record, _)| record.owner.clone());
        let key = refused.key.map(|id| (id, owner(id)));
        let mut entry = self.entry(act, key, Change::default(), asked);
        let mut queued = core.queue(&mut plans, entry.clone(), Vec::new(), Vec::new());
        if matches!(queued, Err(Error::Invalid { .. })) {
            // The requested metadata does not fit into the entry.
            entry.after.metadata = None;
            queued = core.queue(&mut plans, entry, Vec::new(), Vec::new());
        }
        let sequence = queued?;
        core.wait(plans, sequence)
    }
}

impl UnwrittenRefusal {
    /// Logs the failure; the caller only gets the refusal. The log gets one line now. A second line has the
    /// number of further acts of the same minute.
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
