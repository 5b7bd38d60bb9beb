//! A store in etcd: opened as one of its replicas, filled from another store, and read out again.

use super::{Builder, Store};
use crate::{
    backup::{Item, Progress, Reader, Summary},
    cluster::{
        Etcd, EtcdJournal, Replica, runtime,
        seat::Wanted,
        transfer::{self, Source},
    },
    codec::{self, Place},
    error::Error,
    ledger::{Bulk, Tip},
    secret::Prefix,
    time::Timestamp,
};
use std::{io::Read, path::Path, sync::Arc, time::SystemTime};

impl Builder {
    /// Opens the store that replicas share in etcd, or makes one where there is none. Of the builder
    /// pepper, prefix and scopes count. A service whose store must already be there says so with
    /// [`open_cluster`](Self::open_cluster).
    ///
    /// ```no_run
    /// use portcullis::{Store, cluster::{Etcd, Replica}};
    /// let etcd = Etcd::at(["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"])?;
    /// let store = Store::builder().cluster(&etcd, Replica::named("till-4"))?;
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn cluster(self, etcd: &Etcd, replica: Replica) -> Result<Store, Error> {
        let etcd = etcd.clone();
        self.shared(async move { EtcdJournal::new(&etcd) }, replica, Wanted::ThereOrNew)
    }

    /// Opens the store that replicas share in etcd; [`Error::NotFound`] where there is none.
    pub fn open_cluster(self, etcd: &Etcd, replica: Replica) -> Result<Store, Error> {
        let etcd = etcd.clone();
        self.shared(async move { EtcdJournal::new(&etcd) }, replica, Wanted::There)
    }

    /// Makes a store in etcd and opens it; [`Error::AlreadyExists`] where there is one.
    pub fn create_cluster(self, etcd: &Etcd, replica: Replica) -> Result<Store, Error> {
        let etcd = etcd.clone();
        self.shared(async move { EtcdJournal::new(&etcd) }, replica, Wanted::New)
    }

    /// Makes a store in an etcd that has none, from a [backup](crate::Store::backup). Until all of it
    /// is there and was found right, no replica sees any of it. An import that was interrupted goes on
    /// where it was when it is begun again with the same backup, or with another of the same state.
    ///
    /// What was decided on keys after the backup was taken is not in it: whoever moves a store that is
    /// in use stops it first. Of the builder only the pepper counts. Not to be called within an
    /// asynchronous runtime.
    pub fn import_to(
        &self,
        etcd: &Etcd,
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
        runtime()?.block_on(transfer::import(etcd, &seals, source, next, told))?;
        summary.ok_or_else(|| Error::bad_backup("it has no end"))
    }

    /// Makes a store in `dir`, which is absent or empty, from the one in etcd, as it was at one moment
    /// after this was called. Of the builder pepper and anchor count. Not to be called within an
    /// asynchronous runtime.
    pub fn export_from(
        &self,
        etcd: &Etcd,
        dir: impl AsRef<Path>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Summary, Error> {
        let seals = self.seals()?;
        let runtime = runtime()?;
        let found = runtime.block_on(transfer::Found::look(etcd, &seals))?;
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
