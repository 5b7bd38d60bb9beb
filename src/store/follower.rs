//! The store as its replica uses it: applies the committed changes of all replicas.

use super::{
    core::{Core, Parts},
    plans::Plans,
    requests::Requests,
    scope_names::ScopeNames,
};
use crate::{
    clock::Clock,
    cluster::follower::{Follower, KeyState},
    codec::{AuditStart, Meta},
    digest::Seals,
    error::Error,
    gate::{Gate, SteadyClock},
    index::Index,
    ledger::{Ledger, Tip},
    scope::{Catalogue, NumberedScope, Scope},
    time::Timestamp,
};
use std::sync::Arc;

impl Core {
    /// Creates a store that is empty until its replica applies the shared state.
    pub(super) fn following(
        ledger: Box<dyn Ledger>,
        clock: SteadyClock,
        seals: Arc<Seals>,
        host: Option<Vec<(Scope, String)>>,
    ) -> Result<Self, Error> {
        let parts = Parts {
            gate: Gate::shut_at_first(clock),
            index: Index::new(),
            ledger,
            clock: Clock::new(Timestamp::default()),
            seals,
            names: ScopeNames::new(Vec::new(), host)?,
        };
        Ok(Self::new(parts, Plans::new(None, Requests::default())))
    }
}

impl Follower for Core {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn index(&self) -> &Index {
        &self.index
    }

    fn seals(&self) -> &Seals {
        &self.seals
    }

    fn catalogue(&self) -> &'static Catalogue {
        Self::catalogue(self)
    }

    fn scope(&self, number: u8) -> Option<NumberedScope> {
        self.names().numbered().get(usize::from(number)).cloned()
    }

    fn set_scopes(&self, scopes: &[NumberedScope]) -> Result<(), Error> {
        let _plans = self.plan();
        self.names_mut().set_numbered(scopes)
    }

    fn set_audit_start(&self, audit_start: &AuditStart) {
        let mut plans = self.plan();
        plans.base_pruned_through = audit_start.through;
        plans.pruned_through = plans.pruned_through.max(audit_start.through);
    }

    fn apply(&self, meta: &Meta, states: Vec<KeyState>) -> Result<(), Error> {
        let mut plans = self.plan();
        for KeyState { sequence, id, digest, record } in states {
            self.index.apply(sequence, id, digest, record.as_deref())?;
        }
        let newest = Timestamp::from_millis(meta.newest);
        self.clock.advance(newest);
        plans.base = Some(Tip { sequence: meta.mark.sequence, head: meta.mark.head, newest });
        if plans.queue.is_empty() && plans.in_flight.is_none() {
            plans.restart_from_base(&self.index);
        }
        plans.decide_doubts(&self.index);
        drop(plans);
        self.audit_signal.announce(meta.mark.sequence);
        Ok(())
    }

    fn clear(&self) {
        let mut plans = self.plan();
        self.index.clear();
        plans.in_doubt.clear();
        plans.pending.clear();
        (plans.base, plans.requests_read_through) = (None, 0);
        (plans.base_pruned_through, plans.pruned_through) = (0, 0);
        plans.requests.forget_after(0);
        drop(plans);
        self.audit_signal.announce(0);
    }

    fn end_watches(&self) {
        self.index.end_watches();
    }
}

#[cfg(test)]
mod tests;
