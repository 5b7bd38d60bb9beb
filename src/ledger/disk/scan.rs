//! All values of one kind, in order.

use super::{Disk, Doing, contained, misplaced};
use crate::{codec::Place, error::Error};
use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

/// Values that go from thread to thread at once, and how many such stretches may wait.
const STRETCH: usize = 256;
const WAITING: usize = 8;

type Stretch = Vec<(sled::IVec, sled::IVec)>;

impl Disk {
    /// Gives each value under a prefix to `each`.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(Place, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut values = contained(Doing::Opening, || Ok(self.db()?.scan_prefix(prefix)))?;
        while let Some((key, frame)) = contained(Doing::Opening, || values.next().transpose())? {
            each(Place::from_key(&key).ok_or_else(misplaced)?, &frame)?;
        }
        Ok(())
    }

    /// The same for many values: another thread reads ahead, since the engine takes about as long to
    /// find a record as we take to check and index it.
    pub(super) fn scan_ahead(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(Place, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (to, from) = sync_channel(WAITING);
        thread::scope(|scope| {
            let reader = thread::Builder::new()
                .name("portcullis-reader".into())
                .spawn_scoped(scope, move || self.read_ahead(prefix, &to))
                .map_err(|e| Error::io("starting a thread to read the store", e))?;
            let looked = from.iter().flatten().try_for_each(|(key, frame)| {
                each(Place::from_key(&key).ok_or_else(misplaced)?, &frame)
            });
            // The reader stops when nobody listens.
            drop(from);
            let read = reader.join();
            looked.and(read.unwrap_or_else(|_| Err(Error::damaged("the database cannot be read"))))
        })
    }

    fn read_ahead(&self, prefix: &[u8], to: &SyncSender<Stretch>) -> Result<(), Error> {
        let mut values = contained(Doing::Opening, || Ok(self.db()?.scan_prefix(prefix)))?;
        loop {
            let stretch: Stretch = contained(Doing::Opening, || {
                values.by_ref().take(STRETCH).collect::<sled::Result<_>>()
            })?;
            if stretch.is_empty() || to.send(stretch).is_err() {
                return Ok(());
            }
        }
    }
}
