//! A store whose ledger nobody else writes to: nothing overtakes a plan, and there is nobody to wait for.

use super::writer::{Core, Plans};
use crate::{
    error::Error,
    record::{Actor, Record},
};

/// How the wait for the other replicas ended: there are none.
#[derive(Default)]
pub(super) struct Settled {}

#[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a shared ledger does more")]
impl Core {
    pub(super) fn again<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        attempt()
    }

    pub(super) fn again_while<T>(
        &self,
        _: impl Fn() -> bool,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        attempt()
    }

    pub(super) fn settle_everywhere(&self) -> Settled {
        Settled {}
    }

    pub(super) fn repeated(&self, _: &Record, _: Actor, _: &Plans) -> Option<Record> {
        None
    }

    pub(super) fn learn_requests(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(super) fn knows_requests(&self, _: &Plans) -> bool {
        true
    }

    pub(super) fn trouble(&self) -> Option<Box<str>> {
        None
    }
}
