//! Retries if replicas share the store: of plans that conflict, and of errors that may rest on an old
//! state.

use super::{
    core::Core,
    plans::Plans,
    requests::{self, NO_LIMIT},
};
use crate::{
    error::Error,
    ledger::{CommitOutcome, ReplicaWait, Replicas},
    record::{Actor, Record},
};
use std::time::{Duration, Instant};

/// How long a change is retried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

impl Core {
    /// Makes a change, and retries it if another replica committed first.
    ///
    /// An error may rest on the applied state, which may be older than the newest commit of another
    /// replica. So this reads the newest state from the storage, and returns only an error that was found
    /// on a state at least as new.
    pub(super) fn retry<T>(&self, attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.retry_within(RETRY_TIMEOUT, || false, attempt)
    }

    /// Like [`retry`](Self::retry), but retries a conflict without a timeout while `persists` returns
    /// `true`.
    pub(super) fn retry_while<T>(
        &self,
        persists: impl Fn() -> bool,
        attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.retry_within(RETRY_TIMEOUT, persists, attempt)
    }

    pub(super) fn retry_within<T>(
        &self,
        timeout: Duration,
        persists: impl Fn() -> bool,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(replicas) = self.ledger.replicas() else { return attempt() };
        let start = Instant::now();
        let mut newest = None;
        loop {
            self.number_names()?;
            let before = self.plan().applied();
            let error = match attempt() {
                Err(Error::Contended) if start.elapsed() < timeout || persists() => continue,
                Err(error) if start.elapsed() < timeout => error,
                outcome => return outcome,
            };
            if !rests_on_applied_state(&error) || newest.is_some_and(|newest| before >= newest) {
                return Err(error);
            }
            match replicas.confirm_newest() {
                CommitOutcome::Conflict => {}
                CommitOutcome::Durable if self.plan().applied() > before => {
                    newest = Some(self.plan().applied());
                }
                _ => return Err(error),
            }
        }
    }

    /// Waits for the other replicas, if there are any.
    pub(super) fn wait_for_replicas(&self) -> ReplicaWait {
        self.ledger.replicas().map_or_else(ReplicaWait::default, Replicas::wait_for_all)
    }

    /// Returns the record that a repeated change writes; `None` if it need not write.
    ///
    /// If replicas share the store, a change with an unknown outcome may still be in flight. After an
    /// answer that wrote nothing, it could be committed and reactivate a key that is revoked already. This
    /// write makes it conflict. Changes of other replicas since the record was read make this write
    /// conflict.
    pub(super) fn rewritten(&self, record: &Record, by: Actor, plans: &Plans) -> Option<Record> {
        self.ledger.replicas()?;
        Some(record.rewritten(self.clock.now(), by, plans.next_sequence()))
    }

    /// Reads the requests that other replicas committed since those that are remembered.
    pub(super) fn read_requests(&self) -> Result<(), Error> {
        loop {
            let plans = self.plan();
            let (from, upto) = (plans.requests_read_through, plans.applied());
            drop(plans);
            if from >= upto {
                return Ok(());
            }
            let audit = |after, limit| self.ledger.audit(after, limit, self.catalogue());
            let new = from.max(self.ledger.audit_start().through)..upto;
            // A replica that had not read the requests of others writes no links. So an entry without a
            // link does not mean that no request precedes it.
            let found = requests::read(audit, new, self.clock.now(), NO_LIMIT)?;
            let mut plans = self.plan();
            if plans.requests_read_through == from {
                for entry in &found {
                    plans.requests.note(entry);
                }
                plans.requests_read_through = upto;
            }
        }
    }
}

/// Whether another replica may have caused this error, or may have removed its cause.
pub(super) fn rests_on_applied_state(error: &Error) -> bool {
    matches!(
        error,
        Error::NoSuchKey(_)
            | Error::StillActive(_)
            | Error::NotCurrent { .. }
            | Error::LastRoot(_)
            | Error::Changed(_)
    )
}
