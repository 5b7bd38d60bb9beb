//! The parts of a store, and how planned changes are queued.

use super::{
    audit_follow::AuditSignal,
    deleted_keys::DeletedKeys,
    plans::{Pending, PlannedKey, Plans, Queued},
    refusal_counters::RefusalCounters,
    scope_names::ScopeNames,
};
use crate::{
    audit_entry::AuditEntry,
    clock::Clock,
    codec::{self, DbKey},
    digest::{Digest, Seals},
    error::Error,
    gate::Gate,
    id::KeyId,
    index::Index,
    ledger::{Commit, Ledger, Put, Tip},
    record::Record,
    scope::Catalogue,
    sync::waiting::{Condvar, Mutex, MutexGuard},
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicU32};

/// The parts of a store.
pub(super) struct Core {
    pub(super) gate: Gate,
    pub(super) index: Index,
    pub(super) ledger: Box<dyn Ledger>,
    pub(super) clock: Clock,
    pub(super) seals: Arc<Seals>,
    pub(super) names: RwLock<ScopeNames>,
    /// Held while a scope is added or hidden.
    pub(super) scope_changes: Mutex<()>,
    /// Held while keys are imported.
    pub(super) deleted: Mutex<DeletedKeys>,
    /// The minute since which all uses are known, if only this process has the store.
    pub(super) uses_known_since: AtomicU32,
    pub(super) plans: Mutex<Plans>,
    /// The counters of repeated refusals. Do not lock `plans` while holding this lock.
    pub(super) refusals: Mutex<RefusalCounters>,
    /// Wakes the writer thread: work is queued, or the store is closing.
    pub(super) wake: Condvar,
    /// Wakes the callers of a batch when it is done. Batches alternate between the two, so callers with a
    /// queued change are not woken.
    pub(super) done: [Condvar; 2],
    /// Wakes the callers that wait until all pruned entries are removed.
    pub(super) removed: Condvar,
    /// Wakes the readers that follow the audit log.
    pub(super) audit_signal: Arc<AuditSignal>,
}

/// The parts that differ from store to store.
pub(super) struct Parts {
    pub(super) gate: Gate,
    pub(super) index: Index,
    pub(super) ledger: Box<dyn Ledger>,
    pub(super) clock: Clock,
    pub(super) seals: Arc<Seals>,
    pub(super) names: ScopeNames,
}

impl Core {
    pub(super) fn new(parts: Parts, plans: Plans) -> Self {
        let Parts { gate, index, ledger, clock, seals, names } = parts;
        Self {
            uses_known_since: AtomicU32::new(clock.now().as_minutes()),
            gate,
            index,
            ledger,
            clock,
            seals,
            names: RwLock::new(names),
            scope_changes: Mutex::default(),
            deleted: Mutex::default(),
            audit_signal: AuditSignal::new(plans.applied()),
            plans: Mutex::new(plans),
            refusals: Mutex::default(),
            wake: Condvar::new(),
            done: [Condvar::new(), Condvar::new()],
            removed: Condvar::new(),
        }
    }

    /// Takes the writers' mutex.
    pub(super) fn plan(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why nothing is written any more; `None` while the store can write.
    pub(super) fn poisoned(&self) -> Option<Box<str>> {
        self.plan().poisoned.clone()
    }

    pub(super) fn names(&self) -> RwLockReadGuard<'_, ScopeNames> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn names_mut(&self) -> RwLockWriteGuard<'_, ScopeNames> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the scope names, including those that other replicas added.
    pub(super) fn catalogue(&self) -> &'static Catalogue {
        self.names().catalogue()
    }

    /// Returns the state of a key after everything that is queued.
    pub(super) fn planned(&self, plans: &Plans, id: KeyId) -> Option<(Arc<Record>, Digest)> {
        match plans.pending.get(&id) {
            Some(Pending { record, digest, .. }) => record.clone().map(|record| (record, *digest)),
            None => self.index.get(id),
        }
    }

    /// Queues the new states of keys with their audit entry as one change, and denies its stricter parts
    /// at once. Returns the sequence of the change.
    pub(super) fn queue_changes(
        &self,
        plans: &mut Plans,
        entry: AuditEntry,
        changes: Vec<PlannedKey>,
    ) -> Result<u64, Error> {
        let mut puts = Vec::with_capacity(changes.len());
        let (mut gained, mut lost) = (0, 0);
        for PlannedKey { id, digest, after } in &changes {
            let frame = after
                .as_ref()
                .map(|record| codec::encode_record(record, *digest, &self.seals.frame))
                .transpose()?;
            if frame.is_none() {
                puts.push(Put { key: DbKey::Use(*id), frame: None });
            }
            puts.push(Put { key: DbKey::Record(*digest), frame });
            let before = self.planned(plans, *id);
            lost += usize::from(before.is_some_and(|(record, _)| record.is_lasting_root()));
            gained += usize::from(after.as_ref().is_some_and(|record| record.is_lasting_root()));
        }
        let sequence = plans.next_sequence();
        let planned: Vec<_> = changes
            .iter()
            .map(|PlannedKey { id, digest, after }| {
                (*id, Pending { sequence, record: after.clone(), digest: *digest })
            })
            .collect();
        self.queue(plans, entry, puts, changes)?;
        plans.lasting_roots = plans.lasting_roots + gained - lost;
        for (id, pending) in planned {
            // Deny first: if the disk fails, this process must still refuse the key.
            if let Some(record) = &pending.record {
                let standing = record.standing();
                self.index.deny(sequence, id, standing.clone());
                plans.end_unwritten(&self.index, id, &standing);
            }
            plans.pending.insert(id, pending);
        }
        Ok(sequence)
    }

    /// Queues an audit entry with the values that belong to it. Returns the sequence of the change.
    pub(super) fn queue(
        &self,
        plans: &mut Plans,
        entry: AuditEntry,
        puts: Vec<Put>,
        changes: Vec<PlannedKey>,
    ) -> Result<u64, Error> {
        // A record and its entry have the same time, and times never fall along the audit log.
        let records = changes.iter().filter_map(|change| change.after.as_ref());
        let at = records.map(|record| record.updated_at).max();
        let at = at.unwrap_or_else(|| self.clock.now()).max(plans.tip.newest);
        let last_once = plans.knows_requests().then(|| plans.requests.newest(at));
        let entry = AuditEntry {
            sequence: plans.next_sequence(),
            at,
            last_once: last_once.filter(|last| *last > 0 || entry.once.is_some()),
            ..entry
        };
        let sequence = entry.sequence;
        let (frame, head) = codec::encode_entry(&entry, &plans.tip.head, &self.seals.audit)?;
        let commit = Commit { sequence, at, entry: frame, head, puts };
        plans.requests.note(&entry);
        plans.tip = Tip { sequence, head, newest: at };
        plans.queue.push(Queued { commit, changes });
        if plans.wakes_at.is_some_and(|length| plans.queue.len() >= length) {
            self.wake.notify_one();
        }
        Ok(sequence)
    }
}
