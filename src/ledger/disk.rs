//! The ledger in a directory: sled, and what must be built round it.
//!
//! sled's `flush` writes without syncing, so we sync its file ourselves; it opens an emptied or an
//! older database without a word, so meta and anchor say what must be there; it can panic, so each
//! call is contained; and after any failed write nothing more is written until it is reopened,
//! since a later sync may succeed without the pages that an earlier one lost.

mod audit;
mod entries;
mod kept;
mod ledger;
mod scan;
mod snapshot;
mod uses;

use self::{
    kept::Kept,
    scan::{scan, scan_abreast},
};
use super::{
    Commit, Location, Tip,
    anchor::Anchor,
    blobs::Blobs,
    bulk::Bulk,
    engine::{self, Database, Doing, contained, misplaced},
    home::Home,
    rehearsal::rehearse,
    reserve::{self, Reserve},
    room::Gauge,
};
use crate::{
    codec::{self, AuditStart, Mark, Meta, Place, Resident},
    digest::{Digest, Seals},
    error::Error,
    scope::{Catalogue, Scope},
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
    /// sled's own file, for the sync that sled leaves out.
    file: File,
    blobs: Blobs,
    state: Mutex<State>,
    seals: Arc<Seals>,
    gauge: Arc<Gauge>,
    /// Last, so that the lock outlives the database.
    _home: Home,
}

/// The new meta record and, where they are wanted, the values before.
type Transacted = (Meta, Vec<(Place, Option<sled::IVec>)>);

struct State {
    meta: Meta,
    floor: AuditStart,
    anchor: Anchor,
    kept: Kept,
    reserve: Reserve,
    /// A commit began and did not end well: the tree may be ahead of meta.
    unfinished: bool,
}

impl Disk {
    /// Opens the ledger, or makes it, as the mode says. Nothing is loaded yet.
    pub(crate) fn open(
        at: &Location,
        prefix: Option<Prefix>,
        seals: Arc<Seals>,
    ) -> Result<Self, Error> {
        let mut home = Home::enter(&at.dir, at.mode)?;
        if !home.has_ledger()? {
            let (anchor, prefix) = (at.anchor.as_deref(), prefix.unwrap_or_default());
            home =
                Bulk::within(home, anchor, prefix, Arc::clone(&seals))?.complete(Tip::default())?;
        }
        let ledger = home.ledger();
        let anchor_path = at.anchor.clone().unwrap_or_else(|| ledger.join("anchor"));
        let sled_dir = ledger.join("sled");
        if !sled_dir.join("db").is_file() {
            return Err(Error::damaged("its database file is missing"));
        }
        engine::remove_unfinished_snapshots(&sled_dir)
            .and_then(|()| engine::read_through(&sled_dir))
            .map_err(|e| Error::io("opening the store", e))?;
        // What a killed process wrote may still be in the page cache only, and sled would write a
        // snapshot that relies on it, and overwrite what it replaces.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(sled_dir.join("db"))
            .map_err(|e| Error::io("opening the store", e))?;
        file.sync_data().map_err(|e| Error::io("syncing the store", e))?;
        reserve::make_way(&ledger, at.reserve).map_err(|e| Error::io("opening the store", e))?;
        rehearse(&sled_dir, &at.dir, &ledger.join("rehearsal"))?;
        let db = engine::open(&sled_dir, &at.dir)?;
        // The same holds of the files that it made, and of their names.
        home.sync_ledger().map_err(|e| Error::io("syncing the store", e))?;
        let meta = contained(Doing::Opening, || db.get()?.get(Place::Meta.key()))?
            .ok_or_else(|| Error::damaged("its meta record is missing"))?;
        let meta = codec::decode_meta(&meta, &seals.meta, seals.pepper_check)?;
        if prefix.is_some_and(|prefix| prefix.as_str() != meta.prefix) {
            return Err(Error::WrongPrefix(meta.prefix.into()));
        }
        let floor = contained(Doing::Opening, || db.get()?.get(Place::AuditStart.key()))?;
        let floor =
            floor.map(|frame| codec::decode_audit_start(&frame, &seals.meta)).transpose()?;
        let floor = floor.unwrap_or_default();
        let (anchor, anchored) = Anchor::open(&anchor_path, &seals.anchor)?;
        let reserve = file
            .try_clone()
            .and_then(|file| Reserve::take(&ledger, file, at.reserve))
            .map_err(|e| Error::io("taking the disk reserve", e))?;
        let gauge = Arc::clone(reserve.gauge());
        let disk = Self {
            db,
            file,
            gauge,
            blobs: Blobs::open(&sled_dir)?,
            state: Mutex::new(State {
                meta,
                floor,
                anchor,
                kept: Kept::default(),
                reserve,
                unfinished: false,
            }),
            seals,
            _home: home,
        };
        disk.blobs.check()?;
        disk.check_against(&anchored)?;
        Ok(disk)
    }

    /// Reads the scope names that have a number; gives them and their part of the mark.
    pub(crate) fn load_names(&self) -> Result<(Vec<Scope>, Mark), Error> {
        let seal = &self.seals.frame;
        let (mut found, mut names) = (self.empty_mark(), Vec::new());
        scan(&self.db, Place::SCOPES, |place, frame| {
            let Place::Scope(number) = place else { return Err(misplaced()) };
            found.add(codec::frame_hash(frame, place, seal)?);
            found.scopes += 1;
            let name = codec::decode_scope(frame, number, seal)?;
            if usize::from(number) != names.len() {
                return Err(Error::damaged("a scope name is missing"));
            }
            names.push(name.parse().map_err(|_| Error::damaged("a scope name is not one"))?);
            Ok(())
        })?;
        Ok((names, found))
    }

    /// Reads every record, and checks that with the scope names that were `found` all values are
    /// there and no others. `each` gets the records, many at a time and from several threads.
    pub(crate) fn load_records(
        &self,
        mut found: Mark,
        catalogue: &'static Catalogue,
        each: impl Fn(Vec<(Digest, Resident)>) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let expected = self.state().meta.mark;
        let seal = &self.seals.frame;
        let parts = scan_abreast(
            &self.db,
            Place::RECORDS,
            || self.empty_mark(),
            |found, batch| {
                let mut records = Vec::with_capacity(batch.len());
                for (key, frame) in batch {
                    let Some(Place::Record(digest)) = Place::from_key(key) else {
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
        for part in parts {
            // The sum of a part is added as each of its hashes was.
            found.add(part.sum);
            found.records += part.records;
        }
        if found == expected {
            Ok(())
        } else {
            Err(Error::damaged(format!(
                "it should hold {} records and {} scope names and holds {} and {}, or others than those",
                expected.records, expected.scopes, found.records, found.scopes
            )))
        }
    }

    /// The mark of this store before any value of it was read.
    fn empty_mark(&self) -> Mark {
        self.state().meta.mark.emptied()
    }

    /// How many records there should be.
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.state().meta.mark.records).unwrap_or(0)
    }

    /// What the next change builds on.
    pub(crate) fn tip(&self) -> Tip {
        let Meta { mark, newest, .. } = &self.state().meta;
        Tip { sequence: mark.sequence, head: mark.head, newest: Timestamp::from_millis(*newest) }
    }

    /// What the keys of this store begin with.
    pub(crate) fn prefix(&self) -> Result<Prefix, Error> {
        Prefix::new(&self.state().meta.prefix).map_err(|_| Error::damaged("its prefix is not one"))
    }

    /// One transaction for the whole batch, then the sync that makes it durable, then the anchor.
    fn write(&self, batch: &[Commit]) -> Result<(), Error> {
        let mut state = self.state();
        let doing = Doing::Writing;
        state.unfinished = true;
        state.reserve.before_write();
        let wanted = state.kept.is_wanted();
        let (meta, before) = contained(doing, || self.transact(batch, &state.meta, wanted))?;
        for (place, old) in before {
            state.kept.keep(place, old.as_deref());
        }
        contained(doing, || self.db()?.flush())?;
        self.file.sync_data().map_err(|e| Error::io(doing.as_str(), e))?;
        self.blobs.check()?;
        state.anchor.write(&meta.mark).map_err(|e| Error::io("writing the anchor", e))?;
        state.meta = meta;
        if let Some(floor) = self.floor_in(batch)? {
            state.floor = floor;
        }
        state.reserve.after_write();
        state.unfinished = false;
        Ok(())
    }

    /// Gives the new meta record and, where they are wanted, the values before.
    fn transact(&self, batch: &[Commit], before: &Meta, wanted: bool) -> sled::Result<Transacted> {
        let outcome = self.db()?.transaction(|tree| {
            let (mut meta, mut olds) = (before.clone(), Vec::new());
            for commit in batch {
                for put in &commit.puts {
                    let key = put.place.key();
                    let old = match &put.frame {
                        Some(frame) => tree.insert(key, frame.as_slice())?,
                        None => tree.remove(key)?,
                    };
                    if !matches!(put.place, Place::Use(_)) {
                        let (old, new) = (old.as_deref(), put.frame.as_deref());
                        self.account(&mut meta.mark, put.place, old, new)
                            .map_err(ConflictableTransactionError::Abort)?;
                    }
                    if wanted {
                        olds.push((put.place, old));
                    }
                }
                tree.insert(Place::Entry(commit.sequence).key(), commit.entry.as_slice())?;
                meta.mark.sequence = commit.sequence;
                meta.mark.head = commit.head;
                meta.newest = meta.newest.max(commit.at.as_millis());
            }
            let frame = codec::encode_meta(&meta, &self.seals.meta)
                .map_err(ConflictableTransactionError::Abort)?;
            tree.insert(Place::Meta.key(), frame)?;
            Ok((meta, olds))
        });
        outcome.map_err(storage)
    }

    /// Keeps count and sum in step with one write.
    fn account(
        &self,
        mark: &mut Mark,
        place: Place,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<(), Error> {
        let count = match place {
            Place::Scope(_) => &mut mark.scopes,
            Place::Record(_) => &mut mark.records,
            _ => return Ok(()),
        };
        match (old.is_some(), new.is_some()) {
            (false, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            _ => {}
        }
        if let Some(frame) = old {
            mark.subtract(codec::frame_hash(frame, place, &self.seals.frame)?);
        }
        if let Some(frame) = new {
            mark.add(codec::frame_hash(frame, place, &self.seals.frame)?);
        }
        Ok(())
    }

    /// The anchor must not be ahead of the database, and the database must have passed through the
    /// very state that the anchor saw.
    fn check_against(&self, anchored: &Mark) -> Result<(), Error> {
        let (mark, floor) = {
            let state = self.state();
            (state.meta.mark, state.floor)
        };
        if mark.store != anchored.store {
            return Err(Error::damaged("its anchor belongs to another store"));
        }
        if mark.sequence < anchored.sequence {
            return Err(Error::RolledBack { found: mark.sequence, anchored: anchored.sequence });
        }
        let same_past = if mark.sequence == anchored.sequence {
            mark == *anchored
        } else {
            entries::head(&self.db, &floor, anchored.sequence)? == anchored.head
        };
        if !same_past {
            return Err(Error::damaged("its past is not the one that its anchor saw"));
        }
        if entries::head(&self.db, &floor, mark.sequence)? != mark.head {
            return Err(Error::damaged("its audit trail does not end where its meta record says"));
        }
        Ok(())
    }

    /// The audit start that these changes set.
    fn floor_in(&self, batch: &[Commit]) -> Result<Option<AuditStart>, Error> {
        let puts = batch.iter().flat_map(|commit| &commit.puts);
        let mut frame =
            puts.filter(|put| put.place == Place::AuditStart).filter_map(|put| put.frame.as_ref());
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
