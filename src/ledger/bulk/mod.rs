//! Writes a new ledger in bulk under a temporary name, and renames it when it is complete.
//!
//! Nothing is synced on the way: a kill leaves a nursery that the next attempt empties. All that
//! vouches for the values, meta and anchor, is written last, and the name comes after everything
//! is synced. Batches are transactions of a thousand values: the engine's own batch takes gigabytes.

mod hand;

use self::hand::{Batch, Hand};
use super::{
    Tip,
    anchor::Anchor,
    engine::{self, Doing, contained},
    home::{Home, Mode, sync_parent},
};
use crate::{
    codec::{self, MAX_VALUE, Mark, Meta, Place},
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

const BATCH: usize = 1000;

/// A ledger that is being created.
pub(crate) struct Bulk {
    /// `None` once it is done, or has failed.
    hand: Option<Hand>,
    nursery: PathBuf,
    anchor: PathBuf,
    /// The anchor's file was created here.
    has_anchor: bool,
    meta: Meta,
    batch: Batch,
    seals: Arc<Seals>,
    /// `None` once the ledger has its name. Last, so that the lock outlives the database.
    home: Option<Home>,
}

impl Bulk {
    /// Begins a ledger in a directory that is absent or empty. It has the prefix and a number of
    /// its own that tells it from any other.
    pub(crate) fn begin(
        dir: &Path,
        anchor: Option<&Path>,
        prefix: Prefix,
        seals: Arc<Seals>,
    ) -> Result<Self, Error> {
        Self::within(Home::enter(dir, Mode::Create)?, anchor, prefix, seals)
    }

    /// Begins a ledger in a directory that is ours already.
    pub(super) fn within(
        home: Home,
        anchor: Option<&Path>,
        prefix: Prefix,
        seals: Arc<Seals>,
    ) -> Result<Self, Error> {
        let doing = "making the store";
        if let Some(anchor) = anchor.filter(|anchor| anchor.symlink_metadata().is_ok()) {
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
        let mark = Mark { store: random::array()?, ..Mark::default() };
        let meta = Meta {
            pepper_check: seals.pepper_check,
            mark,
            newest: 0,
            prefix: prefix.as_str().into(),
        };
        Ok(Self {
            hand: Some(Hand::start(engine::open(&nursery.join("sled"), &nursery)?)?),
            anchor: anchor.map_or_else(|| nursery.join("anchor"), Path::to_path_buf),
            has_anchor: false,
            nursery,
            meta,
            batch: Vec::with_capacity(BATCH),
            seals,
            home: Some(home),
        })
    }

    /// A place that is emptied before the next attempt, for what is needed on the way.
    pub(crate) fn nursery(&self) -> &Path {
        &self.nursery
    }

    /// Adds a value: an intact frame under its own place, each place once.
    pub(crate) fn put(&mut self, place: Place, frame: Vec<u8>) -> Result<(), Error> {
        let mark = &mut self.meta.mark;
        match place {
            Place::Record(_) => mark.records += 1,
            Place::Scope(_) => mark.scopes += 1,
            Place::Entry(_) | Place::AuditStart | Place::Meta | Place::Use(_) => {}
        }
        if matches!(place, Place::Record(_) | Place::Scope(_)) {
            mark.add(codec::frame_hash(&frame, place, &self.seals.frame)?);
        }
        if frame.len() > MAX_VALUE {
            return Err(Error::damaged("a value is longer than any that was written"));
        }
        self.batch.push((place, frame));
        if self.batch.len() < BATCH { Ok(()) } else { self.write() }
    }

    /// Gives the ledger its name. `tip` is the end of the audit log that was added.
    pub(crate) fn finish(mut self, tip: Tip) -> Result<(), Error> {
        self.complete(tip).map(drop)
    }

    pub(super) fn complete(&mut self, tip: Tip) -> Result<Home, Error> {
        let doing = "making the store";
        let mark = &mut self.meta.mark;
        (mark.sequence, mark.head, self.meta.newest) =
            (tip.sequence, tip.head, tip.newest.as_millis());
        let meta = codec::encode_meta(&self.meta, &self.seals.meta)?;
        self.batch.push((Place::Meta, meta));
        self.write()?;
        let db = self.hand.take().map(Hand::end).transpose()?;
        contained(Doing::Creating, || db.as_ref().map_or(Ok(0), |db| db.get()?.flush()))?;
        drop(db);
        let finished = || Error::damaged("it is finished already");
        self.has_anchor = self.anchor.symlink_metadata().is_err();
        Anchor::create(&self.anchor, &self.meta.mark, &self.seals.anchor)
            .and_then(|()| sync_parent(&self.anchor))
            .map_err(|e| Error::io(doing, e))?;
        self.home.as_ref().ok_or_else(finished)?.adopt()?;
        self.home.take().ok_or_else(finished)
    }

    fn write(&mut self) -> Result<(), Error> {
        let batch = mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        if self.hand.as_ref().is_some_and(|hand| hand.take(batch)) {
            return Ok(());
        }
        let stopped = || Error::damaged("it was given up before");
        self.hand.take().ok_or_else(stopped)?.end().and(Err(stopped()))
    }
}

impl Drop for Bulk {
    /// What was not finished leaves nothing behind.
    fn drop(&mut self) {
        drop(self.hand.take().map(Hand::end));
        let unfinished = |home: &Home| home.has_ledger().is_ok_and(|has_ledger| !has_ledger);
        if self.home.as_ref().is_some_and(unfinished) {
            // The anchor goes first: without a store beside it, it would be missed.
            if self.has_anchor {
                let _ = fs::remove_file(&self.anchor);
            }
            let _ = fs::remove_dir_all(&self.nursery);
        }
    }
}
