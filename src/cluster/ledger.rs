//! The ledger of a store that replicas share: sends the store's requests to its replica.

use super::{
    handle::{ClusterLedger, Request, stopped},
    limits::fitting,
    snapshot::SharedSnapshot,
    version::{StoreVersion, missing},
};
use crate::{
    audit_entry::AuditEntry,
    codec::{self, AuditStart},
    error::Error,
    id::KeyId,
    ledger::{
        Commit, CommitOutcome, Following, Ledger, Member, PrunePoint, ReplicaWait, Replicas,
        Snapshot, StoredRange, known_uses::KnownUses, replicas::WaitObserver,
    },
    scope::Catalogue,
    time::Timestamp,
};
use std::{
    sync::{PoisonError, atomic::Ordering::Relaxed},
    thread,
    time::Instant,
};

#[cfg(test)]
thread_local! {
    /// Runs in a test just before this thread next confirms the newest state.
    pub(crate) static BEFORE_CONFIRMING: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}

impl Ledger for ClusterLedger {
    fn commit(&self, batch: Vec<Commit>) -> CommitOutcome {
        self.send(|to| Request::Commit(batch, to)).unwrap_or_else(unknown)
    }

    fn batch_size(&self, queued: &mut dyn Iterator<Item = &Commit>) -> usize {
        fitting(queued)
    }

    fn replicas(&self) -> Option<&dyn Replicas> {
        Some(self)
    }

    fn audit(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        let newest = self.newest()?;
        if after > newest.meta.mark.sequence {
            return Ok(Vec::new());
        }
        let StoredRange { after, mut previous, frames, .. } =
            self.audit_range_at(newest, after, limit)?;
        let mut entries = Vec::new();
        for ((sequence, frame), expected) in frames.into_iter().zip(after + 1..) {
            if sequence != expected {
                return Err(missing(expected));
            }
            let seal = &self.seals.audit;
            let entry = codec::decode_entry(&frame, sequence, &previous, seal, catalogue)?;
            entries.push(entry.0);
            previous = entry.1;
        }
        Ok(entries)
    }

    fn audit_start(&self) -> AuditStart {
        self.applied_audit_start().0
    }

    fn audit_range(&self, after: u64, limit: usize) -> Result<Option<StoredRange>, Error> {
        self.audit_range_at(self.newest()?, after, limit).map(Some)
    }

    fn snapshot(&self) -> Result<Option<Box<dyn Snapshot + '_>>, Error> {
        Ok(Some(Box::new(SharedSnapshot::begin(self)?)))
    }

    fn prune_point(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<PrunePoint>, Error> {
        let newest = self.newest()?;
        let (start, end) = (newest.audit_start.0.through, newest.meta.mark.sequence);
        let frame = |number: u64| {
            let found = self.read_audit(newest.at, number - 1, 1)?.into_iter();
            let mut found = found.filter(|(sequence, _)| *sequence == number);
            found.next().map(|(_, frame)| frame).ok_or_else(|| missing(number))
        };
        let through = codec::last_entry_before(start, end, before, catalogue, frame)?;
        if through == start {
            return Ok(None);
        }
        let head = codec::entry_head(&frame(through)?, through)?;
        Ok(Some(PrunePoint { through, head }))
    }

    /// A failure is not reported: the next maintenance retries it.
    fn remove_pruned(&self) -> Result<bool, Error> {
        let (AuditStart { through, .. }, Some(frame)) = self.applied_audit_start() else {
            return Ok(false);
        };
        if through <= self.state.removed.load(Relaxed) {
            return Ok(false);
        }
        match self.try_send(|to| Request::RemovePruned(through, frame, to)) {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.state.removed.store(through, Relaxed);
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    fn write_uses(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        self.try_send(|to| Request::WriteUses(uses.to_vec(), to))
    }
}

impl Replicas for ClusterLedger {
    fn wait_for_all(&self) -> ReplicaWait {
        let start = Instant::now();
        let wait = self.send(Request::WaitForAll).unwrap_or_default();
        if let Some(observer) = self.state.observer.get() {
            observer(start.elapsed(), wait);
        }
        wait
    }

    fn confirm_newest(&self) -> CommitOutcome {
        #[cfg(test)]
        if let Some(first) = BEFORE_CONFIRMING.take() {
            first();
        }
        self.send(Request::ConfirmNewest).unwrap_or_else(unknown)
    }

    fn members(&self) -> Result<Vec<Member>, Error> {
        self.try_send(Request::Members)
    }

    fn following(&self) -> Following {
        self.state.position.get().map(|position| position.following()).unwrap_or_default()
    }

    fn observe_waits(&self, observer: WaitObserver) {
        let _ = self.state.observer.set(observer);
    }

    fn report_uses(&self, minute: u32, is_leaving: bool) -> Result<(), Error> {
        self.try_send(|to| Request::ReportUses { minute, is_leaving, to })
    }

    fn known_uses(&self, now: u32) -> Result<KnownUses, Error> {
        self.try_send(|to| Request::KnownUses(now, to))
    }

    fn replication_error(&self) -> Option<Box<str>> {
        let replication_error =
            self.state.replication_error.lock().unwrap_or_else(PoisonError::into_inner);
        replication_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leave(&self) {
        self.leave.send_replace(true);
        let thread = self.state.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

impl ClusterLedger {
    /// A range of the audit log at one state.
    fn audit_range_at(
        &self,
        StoreVersion { at, meta, audit_start: (audit_start, _) }: StoreVersion,
        after: u64,
        limit: usize,
    ) -> Result<StoredRange, Error> {
        let mark = meta.mark;
        let after = after.max(audit_start.through).min(mark.sequence);
        // The entry before is read as well for its head, unless it was pruned.
        let before = usize::from(after > audit_start.through);
        let most = limit.saturating_add(before);
        let frames = self.read_audit(at, after - before as u64, most)?;
        let mut frames = frames.into_iter();
        let previous = match (before, frames.as_slice()) {
            (0, _) => audit_start.head,
            (_, [(sequence, frame), ..]) if *sequence == after => {
                let head = codec::entry_head(frame, *sequence)?;
                frames.next();
                head
            }
            _ => return Err(missing(after)),
        };
        let frames = frames.filter(|(sequence, _)| *sequence <= mark.sequence).collect();
        Ok(StoredRange { after, previous, frames, mark })
    }
}

/// The replica stopped before it answered.
fn unknown() -> CommitOutcome {
    CommitOutcome::Unknown(stopped().to_string().into())
}
