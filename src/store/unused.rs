//! Finds the keys that are unused by the policy, and deactivates them.
//!
//! No validation depends on last uses, so they are written late and a crash loses some. A deactivation does
//! depend on them. So a key counts as unused only if all uses are known over the whole time without one.

use super::{
    batch::commit_all,
    core::Core,
    handle::Store,
    list,
    planning::{Planning, Unplanned, Update},
};
use crate::{
    audit_entry::Attempt,
    error::Error,
    id::KeyId,
    ledger::known_uses::KnownUses,
    policy::PolicyState,
    record::{Actor, Change, MetadataPatch, Record},
    scope::Grant,
    store::{BulkReport, ListQuery},
    time::Timestamp,
};
use std::{cell::Cell, fmt};

/// One of this many active keys is deactivated at once.
const SHARE: usize = 100;

/// The keys that are unused by the policy. See [`Store::unused_keys`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusedKeys {
    /// The keys, the longest unused first.
    pub ids: Vec<KeyId>,
    /// How many of them are deactivated at once: 1 % of the active keys, but at least one.
    pub at_once: usize,
    /// Why none is deactivated now; `None` if [`Store::deactivate_unused`] would do it.
    pub blocked: Option<UnusedBlocked>,
}

impl UnusedKeys {
    /// Returns the keys that the next deactivation revokes.
    pub fn next(&self) -> &[KeyId] {
        self.ids.get(..self.at_once).unwrap_or(&self.ids)
    }
}

/// Why no unused key is deactivated now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnusedBlocked {
    /// The policy does not deactivate unused keys.
    NotInPolicy,
    /// A clock is wrong: see [`Health::clock_jump`](crate::Health::clock_jump) and
    /// [`Health::clock_ahead`](crate::Health::clock_ahead). No key counts as unused.
    ClockError,
    /// This replica has not reported its uses lately. No key counts as unused.
    ReplicaNotReported(Box<str>),
    /// Keys were deactivated at this time, less than a day ago.
    RanAt(Timestamp),
}

impl fmt::Display for UnusedBlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInPolicy => f.write_str("the policy does not deactivate unused keys"),
            Self::ClockError => f.write_str("a clock is wrong"),
            Self::ReplicaNotReported(name) => {
                write!(f, "the replica {name} has not reported its uses lately")
            }
            Self::RanAt(_) => f.write_str("keys were deactivated less than a day ago"),
        }
    }
}

/// The moment at which keys are found.
struct Moment {
    now: Timestamp,
    has_clock_error: bool,
    known: KnownUses,
}

impl Moment {
    fn of(core: &Core) -> Result<Self, Error> {
        let (now, has_clock_error) = (core.clock.now(), core.has_clock_error());
        Ok(Self { now, has_clock_error, known: core.known_uses()? })
    }

    /// The minute before which a key must have been used last; `None` if that is not known yet.
    fn horizon(&self, state: &PolicyState) -> Option<u32> {
        let minutes = state.policy.unused?.after.as_secs().div_ceil(60);
        let horizon = self.known.until.saturating_sub(u32::try_from(minutes).unwrap_or(u32::MAX));
        let starts = [self.known.since, state.unused_set_at.as_minutes()];
        starts.into_iter().all(|start| start < horizon).then_some(horizon)
    }

    fn blocked(&self, state: &PolicyState) -> Option<UnusedBlocked> {
        match state.policy.unused {
            Some(unused) if unused.deactivate => {
                let ran = UnusedBlocked::RanAt(state.deactivated_at);
                (!state.may_deactivate(self.now)).then_some(ran)
            }
            _ => Some(UnusedBlocked::NotInPolicy),
        }
    }
}

impl Store {
    /// Returns the active keys that are unused by the [`policy`](crate::UnusedPolicy), and which of them the next
    /// [`deactivate_unused`](Self::deactivate_unused) deactivates: so this is its dry run.
    ///
    /// A key is unused if its creation, its last change and its last use are all longer ago than the policy says,
    /// and if all uses since then are known. They are not known from before the policy was set, before a crash
    /// or a restore, or before the store was closed for more than a day. Root keys never count as unused.
    pub fn unused_keys(&self) -> Result<UnusedKeys, Error> {
        let state = self.writer.names().policy_state()?;
        if state.policy.unused.is_none() {
            return Ok(UnusedKeys {
                blocked: Some(UnusedBlocked::NotInPolicy),
                ..UnusedKeys::default()
            });
        }
        self.unused_at(&state, &Moment::of(&self.writer)?)
    }

    /// Deactivates unused keys if the policy says so: at most 1 % of the active keys, but at least one, and at most
    /// once in 24 hours over all replicas. Nothing happens while [`UnusedKeys::blocked`] has a reason.
    ///
    /// The server `portcullis` calls this each hour. A host calls it as often as it likes. Blocks like
    /// [`bulk`](crate::Acting::bulk).
    ///
    /// ```
    /// # use portcullis::*;
    /// # use std::time::Duration;
    /// let store = Store::in_memory()?;
    /// let unused = UnusedPolicy { after: Duration::from_hours(90 * 24), deactivate: true };
    /// store.set_policy(Policy { unused: Some(unused), ..Policy::default() })?;
    /// // Nothing is known about the time before.
    /// assert!(store.deactivate_unused()?.done.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn deactivate_unused(&self) -> Result<BulkReport, Error> {
        let state = self.writer.names().policy_state()?;
        if !state.policy.unused.is_some_and(|unused| unused.deactivate) {
            return Ok(BulkReport::default());
        }
        self.deactivate_unused_at(&state, &Moment::of(&self.writer)?)
    }

    fn unused_at(&self, state: &PolicyState, moment: &Moment) -> Result<UnusedKeys, Error> {
        let core = &**self.writer;
        let at_once = (self.count().active / SHARE).max(1);
        let none = |blocked| Ok(UnusedKeys { ids: Vec::new(), at_once, blocked: Some(blocked) });
        if moment.has_clock_error {
            return none(UnusedBlocked::ClockError);
        }
        if let Some(name) = &moment.known.missing {
            return none(UnusedBlocked::ReplicaNotReported(name.clone()));
        }
        let blocked = moment.blocked(state);
        let Some(horizon) = moment.horizon(state) else {
            return Ok(UnusedKeys { ids: Vec::new(), at_once, blocked });
        };
        let since = Some(Timestamp::from_minutes(horizon));
        let query = ListQuery { active: Some(true), unused_since: since, ..ListQuery::default() };
        let mut found: Vec<(u32, KeyId)> = Vec::new();
        for id in list::all(core, self.prefix, &query)? {
            if let Some((record, _)) = core.index.get(id) {
                found.extend(core.unused_since(&record, horizon).map(|since| (since, id)));
            }
        }
        found.sort_unstable();
        Ok(UnusedKeys { ids: found.into_iter().map(|(_, id)| id).collect(), at_once, blocked })
    }

    fn deactivate_unused_at(
        &self,
        state: &PolicyState,
        moment: &Moment,
    ) -> Result<BulkReport, Error> {
        let mut report = BulkReport::default();
        let (found, horizon) = (self.unused_at(state, moment)?, moment.horizon(state));
        let keys = found.next();
        let (None, Some(horizon), false) = (&found.blocked, horizon, keys.is_empty()) else {
            return Ok(report);
        };
        let acting = self.acting_as(Actor::Policy);
        let caller = acting.caller();
        // Only one of several replicas begins.
        if !caller.begin_deactivation(keys.len(), moment.now, &moment.known.obsolete)? {
            return Ok(report);
        }
        let denies = Cell::new(false);
        let plan = |planning: &mut Planning<'_>, &id: &KeyId| {
            let record = planning.record(id, Attempt::Update)?;
            if caller.core.unused_since(&record, horizon).is_none() {
                return Err(Unplanned::from(Error::Changed(id)));
            }
            let (revision, metadata) = (Some(record.revision), MetadataPatch::new());
            let update = Update { id, revision, change: Change::deactivate(), metadata };
            Ok(((), planning.plan_update(&update, &denies)?.sequence))
        };
        let outcomes = commit_all(caller, Attempt::Update, keys, &denies, |id| Some(*id), plan);
        for (id, outcome) in keys.iter().zip(outcomes) {
            match outcome {
                Ok(()) => report.done.push(*id),
                Err(error) => report.not_done.push((*id, error)),
            }
        }
        report.wait = caller.core.wait_for_replicas();
        Ok(report)
    }
}

impl Core {
    /// The minute since which a key is unused, if that is before the horizon.
    fn unused_since(&self, record: &Record, horizon: u32) -> Option<u32> {
        let may_be_deactivated = record.active && record.grant != Grant::All;
        let used = self.index.last_use(record.id).unwrap_or_default();
        let changed = record.created_at.max(record.updated_at).as_minutes();
        Some(used.max(changed)).filter(|since| may_be_deactivated && *since < horizon)
    }
}

#[cfg(test)]
mod tests;
