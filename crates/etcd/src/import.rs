//! Fills an etcd that has no store yet, so that an interrupted import can be resumed.
//!
//! The epoch is written last: without it there is no store, so no replica opens an incomplete one. A marker
//! contains the source and the number of written values. Each batch updates the marker in its own
//! transaction, so every batch is written once and the marker is always correct.

use super::{
    connection::{Connection, at, epoch, found, is_at, revision},
    nodes::{CHANGING, READING, RequestError},
};
use etcd_client::{DeleteOptions, GetOptions, Txn, TxnOp};
use portcullis::cluster::{ConsensusError, ImportProgress, Key, Revision};
use std::ops::Range;

/// Why no store is created over the values of an import.
pub(super) const UNFINISHED_IMPORT: &str =
    "an import is unfinished; repeat the import to continue it, or begin another one";

impl Connection {
    /// Starts or resumes the import of this source. Values of an unfinished import of another source are
    /// deleted.
    pub(super) async fn begin_import(
        &self,
        source: &[u8],
    ) -> Result<ImportProgress, ConsensusError> {
        let progress = |done, revision| ImportProgress { source: source.to_vec(), done, revision };
        loop {
            let read = Txn::new().and_then([
                TxnOp::get(self.keys.epoch(), None),
                TxnOp::get(self.keys.import(), None),
            ]);
            let (answer, _) = self.nodes.txn(READING, &read).await?;
            if found(&answer, 0).is_some() {
                return Err(refused(
                    "there is a store already; import into an empty etcd, or with another --etcd-space",
                ));
            }
            let begun = found(&answer, 1);
            let at_marker =
                begun.as_ref().map_or(Revision(0), |pair| revision(pair.mod_revision()));
            match begun.as_ref().and_then(|pair| pair.value().split_last_chunk::<8>()) {
                Some((begun, done)) if begun == source => {
                    return Ok(progress(u64::from_be_bytes(*done), at_marker));
                }
                _ => {
                    // Another process may do the same. The next round reads its marker.
                    if let Some(revision) = self.start_import(source, at_marker).await? {
                        return Ok(progress(0, revision));
                    }
                }
            }
        }
    }

    pub(super) async fn import(
        &self,
        progress: ImportProgress,
        values: Vec<(Key, Vec<u8>)>,
    ) -> Result<ImportProgress, ConsensusError> {
        let ImportProgress { source, done, revision: at_marker } = progress;
        let done = done + values.len() as u64;
        let put = |(key, value): (Key, Vec<u8>)| TxnOp::put(self.keys.key(key), value, None);
        let mut operations: Vec<_> = values.into_iter().map(put).collect();
        let marker = marker(&source, done);
        operations.push(TxnOp::put(self.keys.import(), marker.as_slice(), None));
        let change = self.if_marker_is_at(at_marker, operations);
        let (answer, _) = self.nodes.txn(CHANGING, &change).await?;
        let revision = if answer.succeeded() {
            at(&answer)
        } else {
            // The batch was sent twice because the first answer was lost, or another process continued.
            match found(&answer, 0).filter(|pair| pair.value() == marker) {
                Some(pair) => revision(pair.mod_revision()),
                None => return Err(another_import()),
            }
        };
        Ok(ImportProgress { source, done, revision })
    }

    pub(super) async fn finish_import(
        &self,
        progress: &ImportProgress,
        value: &[u8],
    ) -> Result<(), ConsensusError> {
        let operations = vec![
            TxnOp::put(self.keys.epoch(), value, None),
            TxnOp::delete(self.keys.import(), None),
        ];
        let change = self.if_marker_is_at(progress.revision, operations);
        let (answer, sent) = self.nodes.txn(CHANGING, &change).await?;
        if answer.succeeded() {
            return Ok(());
        }
        let newest = self.nodes.get(READING, &self.keys.epoch(), &GetOptions::new()).await?;
        let is_ours = sent > 1 && newest.kvs().first().map(epoch).is_some_and(|e| e.value == value);
        if is_ours { Ok(()) } else { Err(another_import()) }
    }

    /// Runs these operations if the marker is unchanged and there is no epoch. Otherwise reads the marker.
    fn if_marker_is_at(&self, revision: Revision, operations: Vec<TxnOp>) -> Txn {
        let marker = self.keys.import();
        Txn::new()
            .when([is_at(&marker, revision), is_at(&self.keys.epoch(), Revision(0))])
            .and_then(operations)
            .or_else([TxnOp::get(marker, None)])
    }

    /// Replaces the marker, and deletes the values of an unfinished import. There is a marker at any time from
    /// the first import on, so nobody creates a store meanwhile. `None` if the marker has changed.
    async fn start_import(
        &self,
        source: &[u8],
        at_marker: Revision,
    ) -> Result<Option<Revision>, RequestError> {
        let delete = |Range { start, end }: Range<Vec<u8>>| {
            TxnOp::delete(start, Some(DeleteOptions::new().with_range(end)))
        };
        let operations = vec![
            delete(self.keys.state()),
            delete(self.keys.last_uses()),
            delete(self.keys.audit_entries(0..=u64::MAX)),
            TxnOp::put(self.keys.import(), marker(source, 0), None),
        ];
        let answer = self.change(&self.if_marker_is_at(at_marker, operations)).await?;
        Ok(answer.succeeded().then(|| at(&answer)))
    }
}

fn marker(source: &[u8], done: u64) -> Vec<u8> {
    [source, &done.to_be_bytes()].concat()
}

fn refused(reason: &str) -> ConsensusError {
    ConsensusError::Refused(reason.into())
}

fn another_import() -> ConsensusError {
    refused("another import is running or has finished; wait for its end, then check the store")
}
