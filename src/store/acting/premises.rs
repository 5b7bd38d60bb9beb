//! What a change rests on: who acts, on which key, whether it was done before; and the note of what
//! was refused.

use super::Acting;
use crate::{
    audit::{Act, Attempt, AuditEntry, Once},
    digest::Digest,
    error::{Error, Forbidden},
    id::KeyId,
    record::{Actor, Change, Record},
    scope::{
        Grant, Scope,
        catalogue::{ADMIN_KEY_DELETE, ADMIN_KEY_UPDATE},
    },
    secret::Secret,
    store::{
        core::Core, idempotency::Outcome, plan::Authority, plans::Plans, refused::Refused,
        requests::Done,
    },
    sync::waiting::MutexGuard,
};
use std::sync::Arc;

/// The longest reason that the trail keeps.
const MAX_REASON: usize = 200;

impl<'s> Acting<'s> {
    /// The same request as one that was done; an error where a further one cannot be remembered.
    /// Callers without the scope are told neither.
    pub(super) fn done(
        &self,
        plans: &mut Plans,
        authority: Option<&Record>,
        scope: &Scope,
        once: Once,
    ) -> Result<Option<Done>, Error> {
        if !plans.knows_requests() {
            return Err(Error::Contended);
        }
        if as_authority(authority).has(scope) {
            let now = self.core().clock.now();
            let done = plans.requests.find(once, now)?;
            if done.is_none() {
                plans.requests.check_room(self.actor, now)?;
            }
            Ok(done)
        } else {
            Ok(None)
        }
    }

    /// What that request made, once it is durable.
    pub(super) fn done_before(
        &self,
        plans: MutexGuard<'_, Plans>,
        done: &Done,
    ) -> Result<Outcome, Error> {
        self.core().wait(plans, done.sequence)?;
        self.store.get(done.id).map(Outcome::Before)
    }

    /// A secret with an id and a digest that no key has or had.
    pub(super) fn fresh_key(&self) -> Result<(KeyId, Secret, Digest), Error> {
        loop {
            let id = KeyId::generate()?;
            let secret = Secret::generate(self.store.prefix, id)?;
            let digest = self.core().seals.digester.digest(secret.as_bytes());
            if !self.core().index.is_taken(id, &digest) {
                return Ok((id, secret, digest));
            }
        }
    }

    /// Starts a plan, with the acting key's record if a key acts; it must be valid after all that
    /// is queued.
    pub(in crate::store) fn begin(
        &self,
        attempt: Attempt,
        target: Option<KeyId>,
    ) -> Result<(MutexGuard<'s, Plans>, Option<Arc<Record>>), Error> {
        let core = self.core();
        let plans = core.plan();
        let Actor::Key(id) = self.actor else { return Ok((plans, None)) };
        let actor = core.planned(&plans, id).map(|(record, _)| record);
        let actor = actor.filter(|record| record.standing().check(|| core.clock.now()).is_ok());
        if actor.is_some() {
            return Ok((plans, actor));
        }
        drop(plans);
        let refused = Forbidden::ActorRefused.into();
        Err(self.refused(attempt, target, Change::default(), refused))
    }

    /// The key that is to be changed, after all that is queued. Whoever may change none does not
    /// learn which there are.
    pub(super) fn target(
        &self,
        plans: MutexGuard<'s, Plans>,
        authority: Option<&Record>,
        attempt: Attempt,
        id: KeyId,
    ) -> Result<(MutexGuard<'s, Plans>, Arc<Record>, Digest), Error> {
        if let Some((record, digest)) = self.core().planned(&plans, id) {
            return Ok((plans, record, digest));
        }
        let scope = if attempt == Attempt::Delete { ADMIN_KEY_DELETE } else { ADMIN_KEY_UPDATE };
        if as_authority(authority).has(&scope) {
            return Err(Error::NoSuchKey(id));
        }
        drop(plans);
        let refused = Forbidden::LacksScope(scope).into();
        Err(self.refused(attempt, Some(id), Change::default(), refused))
    }

    /// A set that another store made has other numbers: its names are looked up in this one.
    pub(super) fn localize(&self, grant: &mut Grant) -> Result<(), Error> {
        if let Grant::Scopes(set) = grant {
            *set = self.core().catalogue().localized(*set)?;
        }
        Ok(())
    }

    pub(in crate::store) fn note(
        &self,
        act: Act,
        key: Option<KeyId>,
        before: Change,
        after: Change,
    ) -> AuditEntry {
        let entry = AuditEntry::new(self.actor, act);
        AuditEntry { source: self.source, key, before, after, ..entry }
    }

    /// Notes the refusal. Whether or not that could be written, the act stays refused.
    pub(in crate::store) fn refused(
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

    /// Writes the refusal to the audit log, or counts it if it repeats one of the last minute.
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
            reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default()
        };
        let core = self.core();
        let act = Refused { actor: self.actor, source: self.source, attempt, key, reason };
        if core.refusal_is_repeated(&act) {
            return Ok(());
        }
        if !core.has_room() {
            // It is written with its repetitions when the disk has room again.
            core.refusal_failed(&act);
            return Ok(());
        }
        let written = core.again(|| self.note_refusal_now(attempt, key, asked.clone(), reason));
        written.map_err(|error| Gap { error, is_new: core.refusal_failed(&act) })
    }

    fn note_refusal_now(
        &self,
        attempt: Attempt,
        key: Option<KeyId>,
        asked: Change,
        reason: &str,
    ) -> Result<(), Error> {
        let core = self.core();
        let mut plans = core.plan();
        plans.check_writable()?;
        let act = Act::Refuse { attempt, reason: reason.to_owned() };
        let mut note = self.note(act, key, Change::default(), asked);
        let mut queued = core.queue(&mut plans, note.clone(), Vec::new(), Vec::new());
        if matches!(queued, Err(Error::Invalid { .. })) {
            // Whoever asks for more notes than an entry has room for is told of all the same.
            note.after.metadata = None;
            queued = core.queue(&mut plans, note, Vec::new(), Vec::new());
        }
        let sequence = queued?;
        core.wait(plans, sequence)
    }

    pub(in crate::store) fn core(&self) -> &'s Core {
        &self.store.writer
    }
}

pub(super) fn as_authority(actor: Option<&Record>) -> Authority<'_> {
    actor.map_or(Authority::Machine, Authority::Key)
}

/// A refused act that the audit log does not have yet. It is counted.
pub(super) struct Gap {
    pub(super) error: Error,
    /// The log has no line about such acts yet.
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "there is no log"))]
    is_new: bool,
}

impl Gap {
    /// The caller learns of the refusal alone. Where there is a log, it has the rest: one line, and
    /// how many more there were when their minute is over.
    #[cfg_attr(
        not(feature = "axum"),
        expect(unused_variables, clippy::unused_self, reason = "there is no log")
    )]
    pub(super) fn log(&self, actor: Actor) {
        #[cfg(feature = "axum")]
        if self.is_new {
            tracing::error!(%actor, error = %self.error, "a refused act is missing from the trail");
        }
    }
}
