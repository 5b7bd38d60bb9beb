//! A store that replicas share: opened as one of them, imported from a backup, and exported.

use super::{Builder, Store, core::Core, uses, writer::Writer};
use crate::{
    backup::{Item, Progress, Reader, Summary},
    cluster::{
        ConsensusStore, Replica, runtime,
        timing::Timing,
        transfer::{self, Export, Source},
        worker::{self, StartOptions},
    },
    codec::{self, Place},
    error::Error,
    gate::Steady,
    ledger::{Bulk, Mode, Tip},
    secret::Prefix,
    time::Timestamp,
};
use std::{io::Read, path::Path, sync::Arc, time::SystemTime};

impl Builder {
    /// Opens the store that replicas share in a consensus store, or creates it.
    ///
    /// Only the pepper, prefix and scopes of the builder count. A service whose store must exist calls
    /// [`open_cluster`](Self::open_cluster). The crate `portcullis-etcd` has a consensus store for etcd.
    ///
    /// ```
    /// use portcullis::{Error, Store, cluster::{ConsensusStore, Replica}};
    ///
    /// fn open(consensus: impl ConsensusStore) -> Result<Store, Error> {
    ///     Store::builder().cluster(consensus, Replica::named("till-4"))
    /// }
    /// ```
    pub fn cluster<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
    ) -> Result<Store, Error> {
        self.shared(consensus, replica, Mode::OpenOrCreate)
    }

    /// Opens the store that replicas share in a consensus store; [`Error::NotFound`] if there is none.
    pub fn open_cluster<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
    ) -> Result<Store, Error> {
        self.shared(consensus, replica, Mode::Open)
    }

    /// Creates a store in a consensus store and opens it; [`Error::AlreadyExists`] if there is one.
    pub fn create_cluster<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
    ) -> Result<Store, Error> {
        self.shared(consensus, replica, Mode::Create)
    }

    /// Opens the store that replicas share in a consensus store.
    pub(super) fn shared<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
        mode: Mode,
    ) -> Result<Store, Error> {
        let (seals, info) = (self.seals()?, replica.info()?);
        let timing = Timing::new(info.freshness, Steady::Machine);
        let (handle, worker) = worker::new(Arc::clone(&seals));
        let ledger = Box::new(handle);
        let core = Arc::new(Core::following(ledger, Steady::Machine, seals, self.scopes)?);
        let options = StartOptions { timing, info, mode, prefix: self.prefix };
        let prefix = worker.start(consensus, Arc::clone(&core), options)?;
        let writer = Writer::begin(core, uses::EVERY_SHARED)?;
        writer.number_names()?;
        Ok(Store { writer: Arc::new(writer), prefix })
    }

    /// Creates a store in an empty consensus store from a [backup](crate::Store::backup).
    ///
    /// No replica sees any of it until everything is written and checked. An interrupted import is
    /// resumed by a call with the same backup, or with another backup of the same state.
    ///
    /// The backup does not contain changes that were made after it was taken, so stop a store that is
    /// in use before you move it. Only the pepper of the builder counts. Must not be called within an
    /// asynchronous runtime.
    pub fn import_to<C: ConsensusStore>(
        &self,
        consensus: &C,
        from: impl Read,
        mut progress: impl FnMut(Progress),
    ) -> Result<Summary, Error> {
        let seals = self.seals()?;
        let mut reader = Reader::open(from, &seals)?;
        let floor = reader.floor_frame().map(<[u8]>::to_vec);
        let source = Source::new(reader.meta().clone(), reader.names(), floor, &seals)?;
        let all = reader.values().saturating_add(source.len() as u64);
        let (mut summary, mut uses) = (None, Vec::new());
        // Last uses come last: another backup of the same state may have others, and an import that
        // goes on counts what is there already.
        let next = || {
            if summary.is_none() {
                match reader.next()? {
                    Item::Entry(entry, frame) => {
                        return Ok(Some((Place::Entry(entry.sequence), frame)));
                    }
                    Item::Record(digest, record, minute, frame) => {
                        if minute > 0 {
                            uses.push((record.id, minute));
                        }
                        return Ok(Some((Place::Record(digest), frame)));
                    }
                    Item::End(found) => summary = Some(found),
                }
            }
            let Some((id, minute)) = uses.pop() else { return Ok(None) };
            Ok(Some((Place::Use(id), codec::encode_use(minute, id, &seals.frame)?)))
        };
        let told = |done| progress(Progress { done, all: all.max(done) });
        runtime()?.block_on(transfer::import(consensus, &seals, source, next, told))?;
        summary.ok_or_else(|| Error::bad_backup("it has no end"))
    }

    /// Creates a store in `dir`, which is absent or empty, from the store in a consensus store.
    ///
    /// It is a copy of one moment during the call. Only the pepper and the anchor of the builder count.
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
            .map_err(|_| Error::damaged("its prefix is not one"))?;
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
        let taken = Timestamp::from(SystemTime::now());
        Ok(Summary { taken, sequence: mark.sequence, records: mark.records, bytes })
    }
}
