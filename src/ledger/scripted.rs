//! A ledger for tests: each commit says that it began, and waits for its verdict.

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

/// The ledger's side.
pub(crate) struct Scripted {
    began: Sender<usize>,
    verdicts: Mutex<Receiver<bool>>,
}

/// The test's side.
pub(crate) struct Script {
    began: Receiver<usize>,
    verdicts: Sender<bool>,
}

impl Scripted {
    pub(crate) fn new() -> (Self, Script) {
        let ((began, seen), (verdicts, asked)) = (channel(), channel());
        (Self { began, verdicts: Mutex::new(asked) }, Script { began: seen, verdicts })
    }

    pub(super) fn commit(&self, batch: &[Commit]) -> Result<(), Error> {
        self.began.send(batch.len()).unwrap();
        let durable = self.verdicts.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        if durable {
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
