//! A client that writes changes as a replica does, each on the newest epoch that it knows.

use super::fixture::{Violation, answer, soon, violation};
use crate::cluster::{
    ConsensusStore, Epoch, Key, Revision, Transaction, TransactionOutcome, Write,
};

/// A client and the state that it has written.
pub(super) struct Writer<S> {
    pub(super) store: S,
    pub(super) epoch: Option<Epoch>,
    /// The sequence number of the newest change.
    pub(super) sequence: u64,
}

pub(super) fn put(key: Key, value: impl Into<Vec<u8>>) -> Write {
    Write { key, value: Some(value.into()) }
}

pub(super) fn delete(key: Key) -> Write {
    Write { key, value: None }
}

/// A record key. The digests are spread over all first bytes, with the lowest and the highest.
pub(super) fn record(number: u64) -> Key {
    let mut digest = [0; 32];
    match number {
        0 => {}
        1 => digest = [0xff; 32],
        _ => {
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            digest.iter_mut().zip(spread).for_each(|(byte, spread)| *byte = spread);
        }
    }
    Key::Record(digest)
}

impl<S: ConsensusStore> Writer<S> {
    /// Creates a store in an empty consensus store.
    pub(super) async fn create(store: S) -> Result<Self, Violation> {
        let mut writer = Self { store, epoch: None, sequence: 0 };
        writer.commit(Vec::new(), b"epoch 0".to_vec()).await?;
        Ok(writer)
    }

    /// Writes a change: an audit entry, these writes, and an epoch of its own.
    pub(super) async fn write(&mut self, writes: Vec<Write>) -> Result<Revision, Violation> {
        let transaction = self.change(writes);
        self.sequence += 1;
        self.commit(transaction.writes, transaction.epoch).await
    }

    /// The transaction of the next change.
    pub(super) fn change(&self, mut writes: Vec<Write>) -> Transaction {
        let sequence = self.sequence + 1;
        writes.push(put(Key::AuditEntry(sequence), format!("entry {sequence}")));
        let epoch = format!("epoch {sequence}").into_bytes();
        Transaction { expected: self.epoch.clone(), writes, epoch }
    }

    /// Commits until the outcome is known. Nobody else writes meanwhile.
    pub(super) async fn commit(
        &mut self,
        writes: Vec<Write>,
        epoch: Vec<u8>,
    ) -> Result<Revision, Violation> {
        let transaction = Transaction { expected: self.epoch.clone(), writes, epoch };
        loop {
            let commit = self.store.commit(transaction.clone());
            let outcome = soon("17 timeouts", "the outcome of a transaction", commit).await?;
            let revision = match outcome {
                TransactionOutcome::Committed { revision, .. } => revision,
                TransactionOutcome::Unknown(_) | TransactionOutcome::Conflict => {
                    let latest = answer(|| self.store.latest()).await?;
                    match latest.epoch {
                        Some(epoch) if epoch.value == transaction.epoch => epoch.revision,
                        epoch if epoch == self.epoch => {
                            if matches!(outcome, TransactionOutcome::Conflict) {
                                return violation(
                                    "6 compare and set",
                                    "a transaction on the current epoch is a conflict",
                                );
                            }
                            continue;
                        }
                        other => {
                            let found = format!("nobody wrote the epoch {other:?}");
                            return violation("9 unknown outcomes", found);
                        }
                    }
                }
                TransactionOutcome::Refused(reason) => {
                    return violation(
                        "8 size",
                        format!("a valid transaction was refused: {reason}"),
                    );
                }
            };
            self.epoch = Some(Epoch { revision, value: transaction.epoch });
            return Ok(revision);
        }
    }
}
