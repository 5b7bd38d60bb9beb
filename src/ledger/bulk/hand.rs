//! The thread that writes what a fresh ledger is given, while the next values are made ready.

use crate::{
    codec::Place,
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
pub(super) type Batch = Vec<(Place, Vec<u8>)>;

/// Batches that wait for the thread; then whoever makes them waits.
const WAITING: usize = 2;

/// The thread; it has the database, and gives it back at the end.
pub(super) struct Hand {
    to: SyncSender<Batch>,
    thread: JoinHandle<Result<Database, Error>>,
}

impl Hand {
    pub(super) fn start(db: Database) -> Result<Self, Error> {
        let (to, from) = sync_channel::<Batch>(WAITING);
        let work = move || from.iter().try_for_each(|batch| write(&db, &batch)).map(|()| db);
        let thread = thread::Builder::new().name("portcullis-bulk".into()).spawn(work);
        let thread = thread.map_err(|e| Error::io("starting the thread that writes", e))?;
        Ok(Self { to, thread })
    }

    /// Hands a batch over; false if the thread has failed, which [`end`](Self::end) tells of.
    pub(super) fn take(&self, batch: Batch) -> bool {
        self.to.send(batch).is_ok()
    }

    /// Waits until all is written.
    pub(super) fn end(self) -> Result<Database, Error> {
        let Self { to, thread } = self;
        drop(to);
        let died = |_| Error::io("making the store", io::Error::other("the writing thread died"));
        thread.join().map_err(died)?
    }
}

fn write(db: &Database, batch: &[(Place, Vec<u8>)]) -> Result<(), Error> {
    let written = contained(Doing::Creating, || {
        let outcome = db.get()?.transaction(|tree| {
            for (place, frame) in batch {
                if tree.insert(place.key(), frame.as_slice())?.is_some() {
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
    if written { Ok(()) } else { Err(Error::damaged("a value is there twice")) }
}
