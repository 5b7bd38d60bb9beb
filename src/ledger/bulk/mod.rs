//! Writes a new ledger in bulk under a temporary name, and renames it when it is complete.
//!
//! Nothing is synced before the end: a kill leaves a staging directory, which the next attempt
//! empties. The meta record and the anchor are written last. The ledger gets its final name after
//! everything is synced. Each batch is a transaction of a thousand values: the engine's own batch type
//! needs gigabytes.

mod writer;

use self::writer::{Batch, BatchWriter};
use super::{
    Tip,
    anchor::Anchor,
    data_dir::{DataDir, Mode, sync_parent},
    engine::{self, Doing, contained},
};
use crate::{
    codec::{self, DbKey, MAX_VALUE, Mark, Meta},
    digest::Seals,
    error::Error,
    random,
    secret::Prefix,
};
use std::{
    fs, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The number of values in a transaction.
const BATCH_LENGTH: usize = 1000;

/// A ledger that is being created.
pub(crate) struct Bulk {
    /// `None` after completion or failure.
    writer: Option<BatchWriter>,
    staging: PathBuf,
    anchor: PathBuf,
    /// Whether this value created the file of the anchor.
    has_anchor: bool,
    meta: Meta,
    batch: Batch,
    seals: Arc<Seals>,
    /// `None` once the ledger has its final name. The last field, so that the lock outlives the database.
    data_dir: Option<DataDir>,
}

impl Bulk {
    /// Begins a ledger in a directory that is absent or empty. The ledger gets this prefix and a random
    /// id.
    pub(crate) fn begin(
        dir: &Path,
        anchor: Option<&Path>,
        prefix: Prefix,
        seals: Arc<Seals>,
    ) -> Result<Self, Error> {
        Self::within(DataDir::open(dir, Mode::Create)?, anchor, prefix, seals)
    }

    /// Begins a ledger in a data directory that is locked already.
    pub(super) fn within(
        data_dir: DataDir,
        anchor: Option<&Path>,
        prefix: Prefix,
        seals: Arc<Seals>,
    ) -> Result<Self, Error> {
        let doing = "creating the store";
        if let Some(anchor) = anchor.filter(|anchor| anchor.symlink_metadata().is_ok()) {
            // A kill between the creation of the anchor and the rename leaves both, without a change.
            let is_interrupted = data_dir.staging().exists()
                && Anchor::open(anchor, &seals.anchor).is_ok_and(|(_, mark)| mark.sequence == 0);
            if is_interrupted {
                // Durably, and before the staging directory is removed: an anchor without either a ledger or
                // a staging directory is refused.
                fs::remove_file(anchor)
                    .and_then(|()| sync_parent(anchor))
                    .map_err(|e| Error::io(doing, e))?;
            } else {
                return Err(Error::damaged(format!(
                    "there is no database, but its anchor {} exists; if the creation of a store was interrupted here, remove that file",
                    anchor.display()
                )));
            }
        }
        let staging = data_dir.empty_staging()?;
        let mark = Mark { store: random::array()?, ..Mark::default() };
        let meta = Meta {
            pepper_check: seals.pepper_check,
            mark,
            newest: 0,
            prefix: prefix.as_str().into(),
        };
        Ok(Self {
            writer: Some(BatchWriter::start(engine::open(&staging.join("sled"), &staging)?)?),
            anchor: anchor.map_or_else(|| staging.join("anchor"), Path::to_path_buf),
            has_anchor: false,
            staging,
            meta,
            batch: Vec::with_capacity(BATCH_LENGTH),
            seals,
            data_dir: Some(data_dir),
        })
    }

    /// The staging directory. Temporary files in it are removed with it.
    pub(crate) fn staging(&self) -> &Path {
        &self.staging
    }

    /// Adds a value: an intact frame under its own key. Each key may be added once.
    pub(crate) fn put(&mut self, key: DbKey, frame: Vec<u8>) -> Result<(), Error> {
        let mark = &mut self.meta.mark;
        match key {
            DbKey::Record(_) => mark.records += 1,
            DbKey::Scope(_) => mark.scopes += 1,
            DbKey::Entry(_) | DbKey::AuditStart | DbKey::Meta | DbKey::Use(_) => {}
        }
        if matches!(key, DbKey::Record(_) | DbKey::Scope(_)) {
            mark.add(codec::frame_hash(&frame, key, &self.seals.frame)?);
        }
        if frame.len() > MAX_VALUE {
            return Err(Error::damaged("a value is longer than any that was written"));
        }
        self.batch.push((key, frame));
        if self.batch.len() < BATCH_LENGTH { Ok(()) } else { self.write() }
    }

    /// Completes the ledger and gives it its final name. `tip` is the end of the audit log that was added.
    pub(crate) fn finish(mut self, tip: Tip) -> Result<(), Error> {
        self.complete(tip).map(drop)
    }

    pub(super) fn complete(&mut self, tip: Tip) -> Result<DataDir, Error> {
        let doing = "creating the store";
        let mark = &mut self.meta.mark;
        (mark.sequence, mark.head, self.meta.newest) =
            (tip.sequence, tip.head, tip.newest.as_millis());
        let meta = codec::encode_meta(&self.meta, &self.seals.meta)?;
        self.batch.push((DbKey::Meta, meta));
        self.write()?;
        let db = self.writer.take().map(BatchWriter::finish).transpose()?;
        contained(Doing::Creating, || db.as_ref().map_or(Ok(0), |db| db.get()?.flush()))?;
        drop(db);
        let completed = || Error::damaged("its creation is complete already");
        self.has_anchor = self.anchor.symlink_metadata().is_err();
        Anchor::create(&self.anchor, &self.meta.mark, &self.seals.anchor)
            .and_then(|()| sync_parent(&self.anchor))
            .map_err(|e| Error::io(doing, e))?;
        self.data_dir.as_ref().ok_or_else(completed)?.publish()?;
        self.data_dir.take().ok_or_else(completed)
    }

    fn write(&mut self) -> Result<(), Error> {
        let batch = mem::replace(&mut self.batch, Vec::with_capacity(BATCH_LENGTH));
        if self.writer.as_ref().is_some_and(|writer| writer.queue(batch)) {
            return Ok(());
        }
        let stopped = || Error::damaged("its creation failed before");
        self.writer.take().ok_or_else(stopped)?.finish().and(Err(stopped()))
    }
}

impl Drop for Bulk {
    /// Removes an incomplete ledger.
    fn drop(&mut self) {
        drop(self.writer.take().map(BatchWriter::finish));
        let is_incomplete = |dir: &DataDir| dir.has_ledger().is_ok_and(|has_ledger| !has_ledger);
        if self.data_dir.as_ref().is_some_and(is_incomplete) {
            // The anchor first: an anchor without a store is refused by the next creation.
            if self.has_anchor {
                let _ = fs::remove_file(&self.anchor);
            }
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}
