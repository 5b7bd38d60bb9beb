//! Import of a backup into a consensus store, and export of a store from it.

use super::Offline;
use crate::{
    backup::{Item, Progress, Reader, Summary},
    cluster::{
        ConsensusStore, runtime,
        transfer::{self, Export, Source},
    },
    codec::{self, DbKey},
    error::Error,
    ledger::{Bulk, Tip},
    secret::Prefix,
    time::Timestamp,
};
use std::{io::Read, path::Path, sync::Arc};

impl Offline {
    /// Creates a store in an empty consensus store from a [backup](crate::Store::backup).
    ///
    /// No replica sees any of it until everything is written and checked. An interrupted import is
    /// resumed by a call with the same backup, or with another backup of the same state.
    ///
    /// The backup does not contain changes that were made after it was taken, so stop a store that is
    /// in use before you move it. Of the options, only the pepper is used. Must not be called within an
    /// asynchronous runtime.
    pub fn import_to<C: ConsensusStore>(
        &self,
        consensus: &C,
        from: impl Read,
        mut progress: impl FnMut(Progress),
    ) -> Result<Summary, Error> {
        let seals = self.seals()?;
        let mut reader = Reader::open(from, &seals)?;
        let floor = reader.audit_start_frame().map(<[u8]>::to_vec);
        let source = Source::new(reader.meta().clone(), reader.names(), floor, &seals)?;
        let all = reader.values().saturating_add(source.len() as u64);
        let (mut summary, mut uses) = (None, Vec::new());
        // Last uses come last: another backup of the same state may have others, and an import that
        // is resumed counts what is there already.
        let next = || {
            if summary.is_none() {
                match reader.next()? {
                    Item::Entry(entry, frame) => {
                        return Ok(Some((DbKey::Entry(entry.sequence), frame)));
                    }
                    Item::Record(digest, record, minute, frame) => {
                        if minute > 0 {
                            uses.push((record.id, minute));
                        }
                        return Ok(Some((DbKey::Record(digest), frame)));
                    }
                    Item::End(found) => summary = Some(found),
                }
            }
            let Some((id, minute)) = uses.pop() else { return Ok(None) };
            Ok(Some((DbKey::Use(id), codec::encode_use(minute, id, &seals.frame)?)))
        };
        let told = |done| progress(Progress { done, all: all.max(done) });
        runtime()?.block_on(transfer::import(consensus, &seals, source, next, told))?;
        summary.ok_or_else(|| Error::bad_backup("it has no end"))
    }

    /// Creates a store in `dir`, which is absent or empty, from the store in a consensus store.
    ///
    /// It is a copy of one moment during the call. Of the options, the pepper and the anchor are used.
    /// Must not be called within an asynchronous runtime.
    pub fn export_from<C: ConsensusStore>(
        &self,
        consensus: &C,
        dir: impl AsRef<Path>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Summary, Error> {
        let seals = self.seals()?;
        let runtime = runtime()?;
        let found = runtime.block_on(Export::begin(consensus, &seals))?;
        let prefix = Prefix::new(&found.meta().prefix)
            .map_err(|_| Error::damaged("its prefix is not valid"))?;
        let mut bulk =
            Bulk::begin(dir.as_ref(), self.anchor.as_deref(), prefix, Arc::clone(&seals))?;
        let mark = found.meta().mark;
        let newest = Timestamp::from_millis(found.meta().newest);
        let all = found.values();
        let mut bytes = 0;
        let put = |place, frame: Vec<u8>| {
            bytes += frame.len() as u64;
            bulk.put(place, frame)
        };
        let told = |done| progress(Progress { done, all });
        runtime.block_on(found.read(&seals, put, told))?;
        bulk.finish(Tip { sequence: mark.sequence, head: mark.head, newest })?;
        let taken = Timestamp::now();
        Ok(Summary { taken, sequence: mark.sequence, records: mark.records, bytes })
    }
}
