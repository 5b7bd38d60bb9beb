//! Retries where replicas share the store: plans that lost the race, and answers that rest on a state
//! that may be old.

use super::{
    core::Core,
    plans::Plans,
    requests::{self, NO_LIMIT},
};
use crate::{
    error::Error,
    ledger::{CommitOutcome, Replicas, Settled},
    record::{Actor, Record},
};
use std::time::{Duration, Instant};

/// How long a change is planned again and again.
const PATIENCE: Duration = Duration::from_secs(10);

impl Core {
    /// Makes a change, again if another replica committed first.
    ///
    /// An error may rest on the state that is applied here, and other replicas may have changed that
    /// before this was called. So the storage is asked for the newest state, and the error counts that
    /// was found on nothing older.
    pub(super) fn again<T>(&self, attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.again_within(PATIENCE, || false, attempt)
    }

    /// Like [`again`](Self::again), and for as long as `persists` says so, however often other
    /// replicas commit first.
    pub(super) fn again_while<T>(
        &self,
        persists: impl Fn() -> bool,
        attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.again_within(PATIENCE, persists, attempt)
    }

    pub(super) fn again_within<T>(
        &self,
        patience: Duration,
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
                Err(Error::Contended) if start.elapsed() < patience || persists() => continue,
                Err(error) if start.elapsed() < patience => error,
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
    pub(super) fn wait_for_replicas(&self) -> Settled {
        self.ledger.replicas().map_or_else(Settled::default, Replicas::wait_for_all)
    }

    /// The record that a change writes which changes nothing; `None` if it need not write.
    ///
    /// Where replicas share the store, a change of another replica whose outcome is unknown may
    /// still be in flight, and be committed after an answer that wrote nothing: it could activate a
    /// key that is revoked already. Our write makes that change conflict; and changes of other
    /// replicas since the record was read make ours conflict.
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
            // A replica that had not read the requests of others links no entry, so that an entry
            // without a link says nothing about the entries before it.
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
fn rests_on_applied_state(error: &Error) -> bool {
    matches!(
        error,
        Error::NoSuchKey(_)
            | Error::StillActive(_)
            | Error::NotCurrent { .. }
            | Error::LastRoot(_)
            | Error::Changed(_)
    )
}
