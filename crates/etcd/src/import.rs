//! Filling an etcd that has no store yet, so that it can be interrupted and go on.
//!
//! The epoch comes last: until it is there, there is no store, and no replica opens a part of one. A
//! marker says what is being imported and how far it has come; each part moves it on in its own
//! transaction, so that a part is written once and what is written is known.

use super::{
    journal::{CHANGING, EtcdJournal, READING, at, found, is_at},
    nodes::Trouble,
    rows,
};
use crate::{
    cluster::journal::{Fault, Revision},
    codec::{Mark, Place},
    error::{Error, Field},
    ledger::shared::{AROUND, MOST_BYTES, MOST_VALUES},
};
use etcd_client::{DeleteOptions, Txn, TxnOp};
use std::ops::Range;

/// An import that was begun.
pub(crate) struct Importing {
    /// So many values are there.
    pub(crate) done: u64,
    source: Vec<u8>,
    /// Of the marker.
    revision: Revision,
}

/// Values that are written together.
#[derive(Default)]
pub(crate) struct Part {
    values: Vec<(Place, Vec<u8>)>,
    bytes: usize,
}

impl Part {
    pub(crate) fn add(&mut self, place: Place, frame: Vec<u8>) {
        self.bytes += frame.len() + AROUND;
        self.values.push((place, frame));
    }

    /// Whether a value more might be too much.
    pub(crate) fn is_full(&self) -> bool {
        self.values.len() >= MOST_VALUES || self.bytes + (8 << 10) > MOST_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl EtcdJournal {
    /// Begins to import a store with this mark, or goes on with it. What was imported of another
    /// one, or of the same before it changed, is removed.
    pub(crate) async fn begin_import(&self, source: &Mark) -> Result<Importing, Fault> {
        let source = [&source.store[..], &source.sequence.to_be_bytes(), &source.head].concat();
        loop {
            let space = &self.0.space;
            let (epoch, marker) = (space.key(&Place::Meta), space.import());
            let look =
                Txn::new().and_then([TxnOp::get(epoch, None), TxnOp::get(marker.as_slice(), None)]);
            let (answer, _) = self.0.nodes.txn(READING, &look).await?;
            if found(&answer, 0).is_some() {
                return Err(Fault::Refused(Error::invalid(
                    Field::Etcd,
                    "there is a store already; import into an empty etcd, or with another --etcd-space",
                )));
            }
            let Some(row) = found(&answer, 1) else {
                if let Some(revision) = self.mark(Revision(0), &source, 0).await? {
                    return Ok(Importing { done: 0, source, revision });
                }
                continue;
            };
            let revision = rows::revision(row.mod_revision());
            match row.value().split_last_chunk::<8>() {
                Some((begun, done)) if begun == source => {
                    return Ok(Importing { done: u64::from_be_bytes(*done), source, revision });
                }
                // Another writer may be at it; the next round sees what it has made of it.
                _ => self.start_over(revision).await?,
            }
        }
    }

    /// Writes a part.
    pub(crate) async fn import(&self, importing: &mut Importing, part: &Part) -> Result<(), Fault> {
        let space = &self.0.space;
        let done = importing.done + part.values.len() as u64;
        let put = |(place, frame): &(Place, Vec<u8>)| {
            TxnOp::put(space.key(place), frame.as_slice(), None)
        };
        let mut operations: Vec<_> = part.values.iter().map(put).collect();
        let marker = [importing.source.as_slice(), &done.to_be_bytes()].concat();
        operations.push(TxnOp::put(space.import(), marker.as_slice(), None));
        let change = self.while_importing(importing.revision, operations);
        let (answer, _) = self.0.nodes.txn(CHANGING, &change).await?;
        importing.revision = if answer.succeeded() {
            at(&answer)
        } else {
            // Sent twice, because the first answer was lost, or it was moved on by another.
            match found(&answer, 0).filter(|row| row.value() == marker) {
                Some(row) => rows::revision(row.mod_revision()),
                None => return Err(meanwhile()),
            }
        };
        importing.done = done;
        Ok(())
    }

    /// Puts the epoch: from now on there is a store.
    pub(crate) async fn finish_import(
        &self,
        importing: &Importing,
        epoch: &[u8],
    ) -> Result<(), Fault> {
        let space = &self.0.space;
        let operations = vec![
            TxnOp::put(space.key(&Place::Meta), epoch, None),
            TxnOp::delete(space.import(), None),
        ];
        let change = self.while_importing(importing.revision, operations);
        let (answer, sent) = self.0.nodes.txn(CHANGING, &change).await?;
        if answer.succeeded() {
            return Ok(());
        }
        let newest = crate::cluster::journal::Journal::newest(self).await?;
        let is_ours = sent > 1 && newest.epoch.is_some_and(|found| found.frame == epoch);
        if is_ours { Ok(()) } else { Err(meanwhile()) }
    }

    /// These operations if the marker was not moved; else what it is.
    fn while_importing(&self, revision: Revision, operations: Vec<TxnOp>) -> Txn {
        let marker = self.0.space.import();
        Txn::new()
            .when([is_at(&marker, revision), is_at(&self.0.space.key(&Place::Meta), Revision(0))])
            .and_then(operations)
            .or_else([TxnOp::get(marker, None)])
    }

    async fn mark(
        &self,
        expected: Revision,
        source: &[u8],
        done: u64,
    ) -> Result<Option<Revision>, Trouble> {
        let marker = [source, &done.to_be_bytes()].concat();
        let put = vec![TxnOp::put(self.0.space.import(), marker, None)];
        let (answer, _) = self.0.nodes.txn(CHANGING, &self.while_importing(expected, put)).await?;
        Ok(answer.succeeded().then(|| at(&answer)))
    }

    /// Removes what another import left, marker and all.
    async fn start_over(&self, revision: Revision) -> Result<(), Trouble> {
        let delete = |Range { start, end }: Range<Vec<u8>>| {
            TxnOp::delete(start, Some(DeleteOptions::new().with_range(end)))
        };
        let space = &self.0.space;
        let operations = vec![
            delete(space.state()),
            delete(space.uses()),
            delete(space.entries(0..=u64::MAX)),
            TxnOp::delete(space.import(), None),
        ];
        let (_, _) =
            self.0.nodes.txn(CHANGING, &self.while_importing(revision, operations)).await?;
        Ok(())
    }
}

fn meanwhile() -> Fault {
    Fault::Refused(Error::invalid(
        Field::Etcd,
        "another import is at work, or has finished; let it end, and look",
    ))
}
