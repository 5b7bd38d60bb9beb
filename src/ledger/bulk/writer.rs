//! The thread that writes the batches of a new ledger while the caller prepares the next one.

use crate::{
    codec::DbKey,
    error::Error,
    ledger::engine::{Database, Doing, contained},
};
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

/// Values of one transaction.
pub(super) type Batch = Vec<(DbKey, Vec<u8>)>;

/// The most batches that wait for the thread. When the queue is full, the caller waits.
const QUEUE_LENGTH: usize = 2;

/// A handle of the thread. The thread owns the database until [`finish`](Self::finish).
pub(super) struct BatchWriter {
    queue: SyncSender<Batch>,
    thread: JoinHandle<Result<Database, Error>>,
}

impl BatchWriter {
    pub(super) fn start(db: Database) -> Result<Self, Error> {
        let (queue, batches) = sync_channel::<Batch>(QUEUE_LENGTH);
        let work = move || batches.iter().try_for_each(|batch| write(&db, &batch)).map(|()| db);
        let thread = thread::Builder::new().name("portcullis-bulk".into()).spawn(work);
        let thread = thread.map_err(|e| Error::io("starting the writer thread", e))?;
        Ok(Self { queue, thread })
    }

    /// Queues a batch. Returns false if the thread has failed; [`finish`](Self::finish) returns its error.
    pub(super) fn queue(&self, batch: Batch) -> bool {
        self.queue.send(batch).is_ok()
    }

    /// Waits until all batches are written, and returns the database.
    pub(super) fn finish(self) -> Result<Database, Error> {
        let Self { queue, thread } = self;
        drop(queue);
        let panicked =
            |_| Error::io("creating the store", io::Error::other("the writer thread panicked"));
        thread.join().map_err(panicked)?
    }
}

fn write(db: &Database, batch: &[(DbKey, Vec<u8>)]) -> Result<(), Error> {
    let written = contained(Doing::Creating, || {
        let outcome = db.get()?.transaction(|tree| {
            for (key, frame) in batch {
                if tree.insert(key.to_bytes(), frame.as_slice())?.is_some() {
                    return Err(ConflictableTransactionError::Abort(()));
                }
            }
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(TransactionError::Abort(())) => Ok(false),
            Err(TransactionError::Storage(e)) => Err(e),
        }
    })?;
    if written { Ok(()) } else { Err(Error::damaged("a value occurs twice")) }
}
