//! The ledger in a directory: sled, with the durability and the checks that sled lacks.
//!
//! - sled's `flush` writes without syncing. So the ledger syncs sled's file.
//! - sled opens an emptied or older database without an error. So the meta record and the anchor state
//!   the expected content.
//! - sled can panic. So each call catches panics.
//! - After a failed sync, a later sync may succeed without the lost pages. So nothing is written after
//!   a failed write until the store is reopened.

mod audit;
mod before_images;
mod entries;
mod ledger;
mod scan;
mod snapshot;
mod uses;

use self::{
    before_images::BeforeImages,
    scan::{parallel_scan, scan},
};
use super::{
    Commit, Location, Tip,
    anchor::Anchor,
    blobs::Blobs,
    bulk::Bulk,
    data_dir::DataDir,
    engine::{self, Database, Doing, contained, misplaced},
    rehearsal::rehearse,
    reserve::{self, Reserve},
    room::Gauge,
};
use crate::{
    codec::{self, AuditStart, DbKey, Mark, Meta, Resident},
    digest::{Digest, Seals},
    error::Error,
    scope::{Catalogue, NumberedScope},
    secret::Prefix,
    time::Timestamp,
};
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::{
    fs::{File, OpenOptions},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// An open disk ledger.
pub(crate) struct Disk {
    db: Database,
    /// sled's own file, which sled does not sync.
    file: File,
    blobs: Blobs,
    state: Mutex<State>,
    seals: Arc<Seals>,
    gauge: Arc<Gauge>,
    /// The last field, so that the lock outlives the database.
    _data_dir: DataDir,
}

/// The new meta record and, if a snapshot is being read, the values before the change.
type Transacted = (Meta, Vec<(DbKey, Option<sled::IVec>)>);

struct State {
    meta: Meta,
    audit_start: AuditStart,
    anchor: Anchor,
    before_images: BeforeImages,
    reserve: Reserve,
    /// Whether a commit has failed. The tree may then be ahead of `meta`.
    has_failed: bool,
}

impl Disk {
    /// Opens or creates the ledger, depending on the mode. Loads no records.
    pub(crate) fn open(
        at: &Location,
        prefix: Option<Prefix>,
        seals: Arc<Seals>,
    ) -> Result<Self, Error> {
        let mut data_dir = DataDir::open(&at.dir, at.mode)?;
        if !data_dir.has_ledger()? {
            let (anchor, prefix) = (at.anchor.as_deref(), prefix.unwrap_or_default());
            data_dir = Bulk::within(data_dir, anchor, prefix, Arc::clone(&seals))?
                .complete(Tip::default())?;
        }
        let ledger = data_dir.ledger();
        let anchor_path = at.anchor.clone().unwrap_or_else(|| ledger.join("anchor"));
        let sled_dir = ledger.join("sled");
        if !sled_dir.join("db").is_file() {
            return Err(Error::damaged("its database file is missing"));
        }
        engine::remove_unfinished_snapshots(&sled_dir)
            .and_then(|()| engine::fill_page_cache(&sled_dir))
            .map_err(|e| Error::io("opening the store", e))?;
        // The last writes of a killed process may be in the page cache only. sled would write a snapshot
        // that relies on them, and overwrite the log that the snapshot replaces.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(sled_dir.join("db"))
            .map_err(|e| Error::io("opening the store", e))?;
        file.sync_data().map_err(|e| Error::io("syncing the store", e))?;
        reserve::release_for_opening(&ledger, at.reserve)
            .map_err(|e| Error::io("opening the store", e))?;
        rehearse(&sled_dir, &at.dir, &ledger.join("rehearsal"))?;
        let db = engine::open(&sled_dir, &at.dir)?;
        // The same applies to the files that sled created, and to their names.
        data_dir.sync_ledger().map_err(|e| Error::io("syncing the store", e))?;
        let meta = contained(Doing::Opening, || db.get()?.get(DbKey::Meta.to_bytes()))?
            .ok_or_else(|| Error::damaged("its meta record is missing"))?;
        let meta = codec::decode_meta(&meta, &seals.meta, seals.pepper_check)?;
        if prefix.is_some_and(|prefix| prefix.as_str() != meta.prefix) {
            return Err(Error::WrongPrefix(meta.prefix.into()));
        }
        let audit_start =
            contained(Doing::Opening, || db.get()?.get(DbKey::AuditStart.to_bytes()))?;
        let audit_start = audit_start
            .map(|frame| codec::decode_audit_start(&frame, &seals.meta))
            .transpose()?
            .unwrap_or_default();
        let (anchor, anchored) = Anchor::open(&anchor_path, &seals.anchor)?;
        let reserve = file
            .try_clone()
            .and_then(|file| Reserve::open(&ledger, file, at.reserve))
            .map_err(|e| Error::io("allocating the disk reserve", e))?;
        let gauge = Arc::clone(reserve.gauge());
        let disk = Self {
            db,
            file,
            gauge,
            blobs: Blobs::open(&sled_dir)?,
            state: Mutex::new(State {
                meta,
                audit_start,
                anchor,
                before_images: BeforeImages::default(),
                reserve,
                has_failed: false,
            }),
            seals,
            _data_dir: data_dir,
        };
        disk.blobs.check()?;
        disk.check_against(&anchored)?;
        Ok(disk)
    }

    /// Reads the numbered scope names. Returns them and their share of the mark.
    pub(crate) fn load_names(&self) -> Result<(Vec<NumberedScope>, Mark), Error> {
        let seal = &self.seals.frame;
        let (mut found, mut names) = (self.empty_mark(), Vec::new());
        scan(&self.db, DbKey::SCOPES, |key, frame| {
            let DbKey::Scope(number) = key else { return Err(misplaced()) };
            found.add(codec::frame_hash(frame, key, seal)?);
            found.scopes += 1;
            let scope = codec::decode_scope(frame, number, seal)?;
            if usize::from(number) != names.len() {
                return Err(Error::damaged("a scope name is missing"));
            }
            names.push(scope);
            Ok(())
        })?;
        Ok((names, found))
    }

    /// Reads every record. Verifies that the records and the `found` scope names are exactly the values
    /// that the meta record covers. `each` receives the records in batches, from several threads.
    pub(crate) fn load_records(
        &self,
        mut found: Mark,
        catalogue: &'static Catalogue,
        each: impl Fn(Vec<(Digest, Resident)>) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let expected = self.state().meta.mark;
        let seal = &self.seals.frame;
        let partial_marks = parallel_scan(
            &self.db,
            DbKey::RECORDS,
            || self.empty_mark(),
            |found, batch| {
                let mut records = Vec::with_capacity(batch.len());
                for (key, frame) in batch {
                    let Some(DbKey::Record(digest)) = DbKey::from_bytes(key) else {
                        return Err(misplaced());
                    };
                    let (record, hash) = codec::load_record(frame, digest, seal, catalogue)?;
                    found.add(hash);
                    found.records += 1;
                    records.push((digest, record));
                }
                each(records)
            },
        )?;
        for partial in partial_marks {
            // The sum is order-free, so partial sums can be added like single hashes.
            found.add(partial.sum);
            found.records += partial.records;
        }
        if found == expected {
            Ok(())
        } else {
            Err(Error::damaged(format!(
                "it should hold {} records and {} scope names, but it holds {} and {}, or different ones",
                expected.records, expected.scopes, found.records, found.scopes
            )))
        }
    }

    /// The mark of this store without any value.
    fn empty_mark(&self) -> Mark {
        self.state().meta.mark.emptied()
    }

    /// The number of records according to the meta record.
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.state().meta.mark.records).unwrap_or(0)
    }

    /// The state that the next change builds on.
    pub(crate) fn tip(&self) -> Tip {
        let Meta { mark, newest, .. } = &self.state().meta;
        Tip { sequence: mark.sequence, head: mark.head, newest: Timestamp::from_millis(*newest) }
    }

    /// The prefix of every key of this store.
    pub(crate) fn prefix(&self) -> Result<Prefix, Error> {
        Prefix::new(&self.state().meta.prefix)
            .map_err(|_| Error::damaged("its prefix is not valid"))
    }

    /// Writes the batch in one transaction, syncs it, and then writes the anchor.
    fn write(&self, batch: &[Commit]) -> Result<(), Error> {
        let mut state = self.state();
        let doing = Doing::Writing;
        state.has_failed = true;
        state.reserve.before_write();
        let wants_before = state.before_images.has_readers();
        let (meta, before) = contained(doing, || self.transact(batch, &state.meta, wants_before))?;
        for (key, old) in before {
            state.before_images.record(key, old.as_deref());
        }
        contained(doing, || self.db()?.flush())?;
        self.file.sync_data().map_err(|e| Error::io(doing.as_str(), e))?;
        self.blobs.check()?;
        state.anchor.write(&meta.mark).map_err(|e| Error::io("writing the anchor", e))?;
        state.meta = meta;
        if let Some(start) = self.audit_start_in(batch)? {
            state.audit_start = start;
        }
        state.reserve.after_write();
        state.has_failed = false;
        Ok(())
    }

    /// Writes the batch in one transaction. `wants_before` asks for the values before the change.
    fn transact(
        &self,
        batch: &[Commit],
        before: &Meta,
        wants_before: bool,
    ) -> sled::Result<Transacted> {
        let outcome = self.db()?.transaction(|tree| {
            let (mut meta, mut olds) = (before.clone(), Vec::new());
            for commit in batch {
                for put in &commit.puts {
                    let key = put.key.to_bytes();
                    let old = match &put.frame {
                        Some(frame) => tree.insert(key, frame.as_slice())?,
                        None => tree.remove(key)?,
                    };
                    if !matches!(put.key, DbKey::Use(_)) {
                        let (old, new) = (old.as_deref(), put.frame.as_deref());
                        self.update_mark(&mut meta.mark, put.key, old, new)
                            .map_err(ConflictableTransactionError::Abort)?;
                    }
                    if wants_before {
                        olds.push((put.key, old));
                    }
                }
                tree.insert(DbKey::Entry(commit.sequence).to_bytes(), commit.entry.as_slice())?;
                meta.mark.sequence = commit.sequence;
                meta.mark.head = commit.head;
                meta.newest = meta.newest.max(commit.at.as_millis());
            }
            let frame = codec::encode_meta(&meta, &self.seals.meta)
                .map_err(ConflictableTransactionError::Abort)?;
            tree.insert(DbKey::Meta.to_bytes(), frame)?;
            Ok((meta, olds))
        });
        outcome.map_err(storage)
    }

    /// Updates the counts and the sum of the mark for one write.
    fn update_mark(
        &self,
        mark: &mut Mark,
        key: DbKey,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<(), Error> {
        if !matches!(key, DbKey::Record(_) | DbKey::Scope(_)) {
            return Ok(());
        }
        let hash = |frame: &[u8]| codec::frame_hash(frame, key, &self.seals.frame);
        mark.replace(key, old.map(hash).transpose()?, new.map(hash).transpose()?);
        Ok(())
    }

    /// Verifies that the anchor is not ahead of the database, and that the history of the database
    /// contains the state that the anchor records.
    fn check_against(&self, anchored: &Mark) -> Result<(), Error> {
        let (mark, start) = {
            let state = self.state();
            (state.meta.mark, state.audit_start)
        };
        if mark.store != anchored.store {
            return Err(Error::damaged("its anchor belongs to another store"));
        }
        if mark.sequence < anchored.sequence {
            return Err(Error::RolledBack { found: mark.sequence, anchored: anchored.sequence });
        }
        let is_same_history = if mark.sequence == anchored.sequence {
            mark == *anchored
        } else {
            entries::head(&self.db, &start, anchored.sequence)? == anchored.head
        };
        if !is_same_history {
            return Err(Error::damaged("its history differs from its anchor"));
        }
        if entries::head(&self.db, &start, mark.sequence)? != mark.head {
            return Err(Error::damaged("its audit log does not end where its meta record says"));
        }
        Ok(())
    }

    /// The audit start that these changes set.
    fn audit_start_in(&self, batch: &[Commit]) -> Result<Option<AuditStart>, Error> {
        let puts = batch.iter().flat_map(|commit| &commit.puts);
        let mut frame =
            puts.filter(|put| put.key == DbKey::AuditStart).filter_map(|put| put.frame.as_ref());
        frame
            .next_back()
            .map(|frame| codec::decode_audit_start(frame, &self.seals.meta))
            .transpose()
    }

    fn db(&self) -> sled::Result<&sled::Db> {
        self.db.get()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn storage(error: TransactionError<Error>) -> sled::Error {
    match error {
        TransactionError::Storage(e) => e,
        TransactionError::Abort(e) => sled::Error::Io(io::Error::other(e)),
    }
}
