//! What is applied here may be old: an answer that rests on it asks the engine first.

use crate::{
    error::Error,
    ledger::shared::{Shared, Verdict},
    record::{Actor, Record},
    store::writer::{Core, Plans},
};
use std::time::{Duration, Instant};

/// How long a change is planned again and again.
const PATIENCE: Duration = Duration::from_secs(10);

impl Core {
    /// Does a change, again where others came first.
    ///
    /// What a plan finds wrong it finds by what is applied here, and others may have changed that
    /// before this was called. So the engine is asked; and a plan counts that was made on nothing
    /// older than what the engine then had.
    pub(in crate::store) fn again<T>(
        &self,
        attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.again_within(PATIENCE, || false, attempt)
    }

    /// Like [`again`](Self::again), and for as long as `persists` says so, however often others
    /// come first.
    pub(in crate::store) fn again_while<T>(
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
        let Some(shared) = self.ledger.shared() else { return attempt() };
        let start = Instant::now();
        let mut newest = None;
        loop {
            self.number_names()?;
            let before = self.applied();
            let error = match attempt() {
                Err(Error::Contended) if start.elapsed() < patience || persists() => continue,
                Err(error) if start.elapsed() < patience => error,
                outcome => return outcome,
            };
            if !rests_on_what_is_applied(&error) || newest.is_some_and(|newest| before >= newest) {
                return Err(error);
            }
            match shared.witness() {
                Verdict::Overtaken => {}
                Verdict::Durable if self.applied() > before => newest = Some(self.applied()),
                _ => return Err(error),
            }
        }
    }

    /// The number of the newest change that is applied here and came from the engine.
    fn applied(&self) -> u64 {
        self.plan().common.base.map_or(0, |base| base.sequence)
    }

    /// Whether what is applied here is the newest that there is.
    pub(super) fn witness(&self) -> Result<(), Error> {
        match self.ledger.shared().map_or(Verdict::Durable, Shared::witness) {
            Verdict::Durable => Ok(()),
            Verdict::Overtaken => Err(Error::Contended),
            Verdict::Refused(why) => Err(Error::ConsensusRefused(why)),
            Verdict::Unknown(why) => Err(Error::Consensus(why)),
        }
    }

    /// What a change that changes nothing writes. Where others write too, a change of theirs whose
    /// outcome is unknown may still be on its way, and come after an answer that wrote nothing: a
    /// key that is revoked already could be activated by it. What we write keeps it out; and what
    /// others did since the record was looked at keeps ours out.
    pub(in crate::store) fn repeated(
        &self,
        record: &Record,
        by: Actor,
        plans: &Plans,
    ) -> Option<Record> {
        self.ledger.shared()?;
        Some(record.rewritten(self.clock.now(), by, plans.next_sequence()))
    }
}

/// Whether others may have made it so, or no longer so.
fn rests_on_what_is_applied(error: &Error) -> bool {
    matches!(
        error,
        Error::NoSuchKey(_)
            | Error::StillActive(_)
            | Error::NotCurrent { .. }
            | Error::LastRoot(_)
            | Error::Changed(_)
    )
}
