//! The ledger in a directory: sled, and what must be built round it.
//!
//! sled's `flush` writes without syncing, so we sync its file ourselves; it opens an emptied or an
//! older database without a word, so meta and anchor say what must be there; it can panic, so each
//! call is contained; and after any failed write nothing more is written until it is reopened,
//! since a later sync may succeed without the pages that an earlier one lost.

mod trail;
mod uses;

use super::{
    Commit, Location, Tip,
    anchor::Anchor,
    engine::{self, Doing, contained},
    home::{Home, sync_parent, sync_tree},
};
use crate::{
    codec::{self, Mark, Meta, Place},
    digest::{Digest, Seals},
    error::Error,
    planted::Bug,
    random,
    record::Record,
    scope::{Catalogue, Scope},
    secret::Prefix,
    time::Timestamp,
};
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// An open disk ledger.
pub(crate) struct Disk {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    /// sled's own file, for the sync that sled leaves out.
    file: File,
    blobs: PathBuf,
    state: Mutex<State>,
    seals: Arc<Seals>,
    /// Last, so that the lock outlives the database.
    _home: Home,
}

struct State {
    meta: Meta,
    anchor: Anchor,
}

impl Disk {
    /// Opens the ledger, or makes it, as the mode says. Nothing is loaded yet.
    pub(crate) fn open(
        at: &Location,
        prefix: Option<Prefix>,
        seals: Arc<Seals>,
    ) -> Result<Self, Error> {
        let home = Home::enter(&at.dir, at.mode)?;
        let ledger = home.ledger();
        let anchor_path = at.anchor.clone().unwrap_or_else(|| ledger.join("anchor"));
        if !home.has_ledger() {
            create(&home, at.anchor.as_deref(), prefix.unwrap_or_default(), &seals)?;
        }
        let sled_dir = ledger.join("sled");
        if !sled_dir.join("db").is_file() {
            return Err(Error::damaged("its database file is missing"));
        }
        engine::remove_unfinished_snapshots(&sled_dir)
            .map_err(|e| Error::io("opening the store", e))?;
        let db = engine::open(&sled_dir, &at.dir)?;
        // What sled has just read may still be in the page cache only.
        sync_tree(&ledger)
            .and_then(|()| sync_parent(&ledger))
            .map_err(|e| Error::io("syncing the store", e))?;
        let file =
            File::open(sled_dir.join("db")).map_err(|e| Error::io("opening the store", e))?;
        let meta = contained(Doing::Opening, || db.get(Place::Meta.key()))?
            .ok_or_else(|| Error::damaged("its meta record is missing"))?;
        let meta = codec::decode_meta(&meta, &seals.meta, seals.pepper_check)?;
        if prefix.is_some_and(|prefix| prefix.as_str() != meta.prefix) {
            return Err(Error::WrongPrefix(meta.prefix.into()));
        }
        let (anchor, anchored) = Anchor::open(&anchor_path, &seals.anchor)?;
        let disk = Self {
            db: Some(db),
            file,
            blobs: sled_dir.join("blobs"),
            state: Mutex::new(State { meta, anchor }),
            seals,
            _home: home,
        };
        disk.check_blobs()?;
        disk.check_against(&anchored)?;
        Ok(disk)
    }

    /// Reads every scope name and record and checks that they are all there and nothing else is.
    /// `numbered` is told the names and gives the catalogue; `each` gets every record.
    pub(crate) fn load(
        &self,
        numbered: impl FnOnce(Vec<Scope>) -> Result<&'static Catalogue, Error>,
        mut each: impl FnMut(Digest, Record) -> Result<(), Error>,
    ) -> Result<&'static Catalogue, Error> {
        let expected = self.state().meta.mark;
        let seal = &self.seals.frame;
        let mut found = Mark { records: 0, scopes: 0, sum: [0; 32], ..expected };
        let mut names = Vec::new();
        self.scan(Place::SCOPES, |place, frame| {
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
        let catalogue = numbered(names)?;
        self.scan(Place::RECORDS, |place, frame| {
            let Place::Record(digest) = place else { return Err(misplaced()) };
            found.add(codec::frame_hash(frame, place, seal)?);
            found.records += 1;
            each(digest, codec::decode_record(frame, digest, seal, catalogue)?)
        })?;
        if found == expected || Bug::NoMac.is_planted() {
            Ok(catalogue)
        } else {
            Err(Error::damaged(format!(
                "it should hold {} records and {} scope names and holds {} and {}, or others than those",
                expected.records, expected.scopes, found.records, found.scopes
            )))
        }
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
    pub(super) fn commit(&self, batch: &[Commit]) -> Result<(), Error> {
        let mut state = self.state();
        let doing = Doing::Writing;
        let meta = contained(doing, || {
            if Bug::TwoTransactions.is_planted() {
                return self.transact_twice(batch, &state.meta);
            }
            self.transact(batch, &state.meta)
        })?;
        if Bug::AnchorFirst.is_planted() {
            state.anchor.write(&meta.mark).map_err(|e| Error::io("writing the anchor", e))?;
        }
        contained(doing, || self.db()?.flush())?;
        if !Bug::NoFsync.is_planted() {
            self.file.sync_data().map_err(|e| Error::io(doing.as_str(), e))?;
        }
        self.check_blobs()?;
        if !Bug::NoAnchor.is_planted() && !Bug::AnchorFirst.is_planted() {
            state.anchor.write(&meta.mark).map_err(|e| Error::io("writing the anchor", e))?;
        }
        state.meta = meta;
        Ok(())
    }

    pub(super) fn sync_anchor(&self) -> Result<(), Error> {
        self.state().anchor.sync().map_err(|e| Error::io("syncing the anchor", e))
    }

    fn transact(&self, batch: &[Commit], before: &Meta) -> sled::Result<Meta> {
        let outcome = self.db()?.transaction(|tree| {
            let mut meta = before.clone();
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
                }
                tree.insert(Place::Entry(commit.sequence).key(), commit.entry.as_slice())?;
                meta.mark.sequence = commit.sequence;
                meta.mark.head = commit.head;
                meta.newest = meta.newest.max(commit.at.as_millis());
            }
            let frame = codec::encode_meta(&meta, &self.seals.meta)
                .map_err(ConflictableTransactionError::Abort)?;
            tree.insert(Place::Meta.key(), frame)?;
            Ok(meta)
        });
        outcome.map_err(storage)
    }

    /// What [`Bug::TwoTransactions`] does: all is well unless it ends in between.
    fn transact_twice(&self, batch: &[Commit], before: &Meta) -> sled::Result<Meta> {
        let mut meta = before.clone();
        for put in batch.iter().flat_map(|commit| &commit.puts) {
            let old = match &put.frame {
                Some(frame) => self.db()?.insert(put.place.key(), frame.as_slice())?,
                None => self.db()?.remove(put.place.key())?,
            };
            self.account(&mut meta.mark, put.place, old.as_deref(), put.frame.as_deref())
                .map_err(|e| sled::Error::Io(io::Error::other(e)))?;
        }
        self.db()?.flush()?;
        let rest: Vec<_> = batch
            .iter()
            .map(|commit| Commit { puts: Vec::new(), entry: commit.entry.clone(), ..*commit })
            .collect();
        self.transact(&rest, &meta)
    }

    /// Keeps count and sum in step with one write.
    fn account(
        &self,
        mark: &mut Mark,
        place: Place,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<(), Error> {
        let count =
            if matches!(place, Place::Scope(_)) { &mut mark.scopes } else { &mut mark.records };
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
        let mark = self.state().meta.mark;
        if Bug::NoAnchor.is_planted() {
            return Ok(());
        }
        if mark.store != anchored.store {
            return Err(Error::damaged("its anchor belongs to another store"));
        }
        if mark.sequence < anchored.sequence {
            return Err(Error::RolledBack { found: mark.sequence, anchored: anchored.sequence });
        }
        let same_past = if mark.sequence == anchored.sequence {
            mark == *anchored
        } else {
            anchored.sequence == 0 || self.head_of(anchored.sequence)? == anchored.head
        };
        if !same_past {
            return Err(Error::damaged("its past is not the one that its anchor saw"));
        }
        if mark.sequence > 0 && self.head_of(mark.sequence)? != mark.head {
            return Err(Error::damaged("its audit trail does not end where its meta record says"));
        }
        Ok(())
    }

    /// Values are short enough never to go there; sled does not sync what does.
    fn check_blobs(&self) -> Result<(), Error> {
        match fs::read_dir(&self.blobs).and_then(|mut files| files.next().transpose()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Error::damaged("a value lies outside the database file")),
            Err(e) => Err(Error::io("looking for stray values", e)),
        }
    }

    fn scan(
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

    fn entry(&self, sequence: u64) -> Result<sled::IVec, Error> {
        contained(Doing::Reading, || self.db()?.get(Place::Entry(sequence).key()))?.ok_or_else(
            || Error::damaged(format!("entry {sequence} of the audit trail is missing")),
        )
    }

    fn head_of(&self, sequence: u64) -> Result<[u8; 32], Error> {
        codec::entry_head(&self.entry(sequence)?, sequence)
    }

    fn db(&self) -> sled::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| sled::Error::Io(io::Error::other("the store is closed")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // sled panics here where syncs keep failing; what was acknowledged is safe already.
        let db = self.db.take();
        if Bug::Uncontained.is_planted() {
            return drop(db);
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// Makes a whole, empty ledger beside the name that it will have.
fn create(home: &Home, anchor: Option<&Path>, prefix: Prefix, seals: &Seals) -> Result<(), Error> {
    let doing = "making the store";
    if let Some(anchor) = anchor.filter(|anchor| anchor.exists()) {
        // A kill between the anchor and the name of the ledger leaves both, and no change in them.
        let unborn = home.nursery().exists()
            && Anchor::open(anchor, &seals.anchor).is_ok_and(|(_, mark)| mark.sequence == 0);
        if unborn {
            // For good, before the nursery goes: without one beside it, the anchor would be missed.
            fs::remove_file(anchor)
                .and_then(|()| sync_parent(anchor))
                .map_err(|e| Error::io(doing, e))?;
        } else {
            return Err(Error::damaged(format!(
                "there is no database, but its anchor {} exists; if a store was never finished here, remove that file",
                anchor.display()
            )));
        }
    }
    let nursery = home.empty_nursery()?;
    let mark = Mark {
        store: random::array()?,
        sequence: 0,
        records: 0,
        scopes: 0,
        sum: [0; 32],
        head: [0; 32],
    };
    let meta =
        Meta { pepper_check: seals.pepper_check, mark, newest: 0, prefix: prefix.as_str().into() };
    let frame = codec::encode_meta(&meta, &seals.meta)?;
    let sled_dir = nursery.join("sled");
    let db = engine::open(&sled_dir, &nursery)?;
    contained(Doing::Creating, || {
        db.insert(Place::Meta.key(), frame)?;
        db.flush()?;
        drop(db);
        Ok(())
    })?;
    let path = anchor.map_or_else(|| nursery.join("anchor"), Path::to_path_buf);
    Anchor::create(&path, &mark, &seals.anchor)
        .and_then(|()| sync_parent(&path))
        .map_err(|e| Error::io(doing, e))?;
    home.adopt(&nursery)
}

fn storage(error: TransactionError<Error>) -> sled::Error {
    match error {
        TransactionError::Storage(e) => e,
        TransactionError::Abort(e) => sled::Error::Io(io::Error::other(e)),
    }
}

fn misplaced() -> Error {
    Error::damaged("a value lies under a key that is not one")
}
