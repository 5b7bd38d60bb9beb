//! A ledger for tests, which does as it is told: as a rule each commit says that it began, and
//! waits for its verdict.

use super::Commit;
use crate::error::Error;
use std::{
    io,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

/// A test that forgets a verdict fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// The ledger's side: says whether a commit is durable.
pub(crate) struct Scripted(Box<dyn Fn(&[Commit]) -> bool + Send + Sync>);

/// The test's side.
pub(crate) struct Script {
    began: Receiver<usize>,
    verdicts: Sender<bool>,
}

impl Scripted {
    pub(crate) fn new() -> (Self, Script) {
        let ((began, seen), (verdicts, asked)) = (channel(), channel());
        let asked = Mutex::new(asked);
        let waits = Self::by(move |batch| {
            began.send(batch.len()).unwrap();
            asked.lock().unwrap().recv_timeout(PATIENCE).unwrap()
        });
        (waits, Script { began: seen, verdicts })
    }

    pub(crate) fn by(verdict: impl Fn(&[Commit]) -> bool + Send + Sync + 'static) -> Self {
        Self(Box::new(verdict))
    }

    pub(super) fn commit(&self, batch: &[Commit]) -> Result<(), Error> {
        if (self.0)(batch) {
            Ok(())
        } else {
            Err(Error::io("writing a change", io::Error::other("scripted")))
        }
    }
}

impl Script {
    /// Waits until a commit has begun; gives the number of its changes.
    pub(crate) fn begun(&self) -> usize {
        self.began.recv_timeout(PATIENCE).unwrap()
    }

    /// Lets the next commit succeed or fail.
    pub(crate) fn verdict(&self, durable: bool) {
        self.verdicts.send(durable).unwrap();
    }
}
