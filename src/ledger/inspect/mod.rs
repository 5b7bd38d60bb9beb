//! Inspects a data directory without changing it: what is intact in it, and what is not.
//!
//! The engine writes as soon as it opens, so what it opens is a private copy, made under the
//! directory's own lock: a copy of a database that is being written may be torn. Nothing here stops
//! at the first damage, and nothing here decides what damage means; that is the doctor's.

mod outside;
mod trail;

pub(crate) use self::{outside::Outside, trail::Fault};

use super::{
    anchor::Anchor,
    copy::Copy,
    engine::{self, Database, Doing, contained},
};
use crate::{
    codec::{self, AuditStart, Mark, Meta, Place},
    digest::{Digest, Seals},
    error::Error,
    id::KeyId,
    record::Record,
    scope::{Catalogue, MAX_SCOPES, Scope},
};
use std::{io, ops::Bound, path::Path, sync::Arc};

/// A directory's copy, open for reading.
pub(crate) struct Inspection {
    db: Database,
    /// Last but the seals: it goes when the database is closed.
    _copy: Copy,
    seals: Arc<Seals>,
    /// Whether the engine's own snapshot had to be left out for it to open.
    pub(crate) without_snapshot: bool,
    pub(crate) meta: Result<Meta, Error>,
    pub(crate) floor: Result<AuditStart, Error>,
    /// The scope names by number; a damaged one has a stand-in, and its error.
    pub(crate) scopes: Vec<(Scope, Option<Error>)>,
    /// All names, the stand-ins included.
    pub(crate) catalogue: &'static Catalogue,
}

/// What lies under the key of a record.
pub(crate) enum Found {
    /// A record that is as it was written.
    Intact(Digest, Box<Record>),
    /// One that is not, and the key that it seems to be of.
    Damaged(Digest, Option<KeyId>),
    /// A value under a key that is none.
    Stray,
    /// A part of the database that cannot be read; there may be records in it.
    Unreadable,
}

/// What both slots of an anchor hold; an error where there is no file to read.
pub(crate) fn anchor(path: &Path, seals: &Seals) -> io::Result<[Option<Mark>; 2]> {
    Anchor::look(path, &seals.anchor)
}

impl Inspection {
    /// Copies the database of the store in `dir` to a place of its own in `scratch`, and opens
    /// that. [`Error::Locked`] while a process has the store open.
    pub(crate) fn open(dir: &Path, scratch: &Path, seals: Arc<Seals>) -> Result<Self, Error> {
        let sled_dir = dir.join("ledger").join("sled");
        // The engine would follow a link.
        if !sled_dir.join("db").symlink_metadata().is_ok_and(|about| about.is_file()) {
            return Err(Error::damaged("its database file is missing"));
        }
        let held = outside::hold(dir)?;
        let copy = Copy::make(&sled_dir, scratch, true)?;
        let (copy, opened, without_snapshot) = match engine::open(copy.path(), dir) {
            Ok(db) => (copy, db, false),
            Err(first) => {
                // What the engine left of the copy is of no use.
                drop(copy);
                let bare = Copy::make(&sled_dir, scratch, false)?;
                let db = engine::open(bare.path(), dir).map_err(|_| first)?;
                (bare, db, true)
            }
        };
        drop(held);
        let mut inspection = Self {
            db: opened,
            _copy: copy,
            without_snapshot,
            meta: Err(Error::damaged("its meta record is missing")),
            floor: Ok(AuditStart::default()),
            scopes: Vec::new(),
            catalogue: Catalogue::new(Vec::new(), None)?,
            seals,
        };
        inspection.read_heads()?;
        Ok(inspection)
    }

    fn read_heads(&mut self) -> Result<(), Error> {
        let seals = Arc::clone(&self.seals);
        if let Some(frame) = self.get(Place::Meta) {
            self.meta = codec::decode_meta(&frame, &seals.meta, seals.pepper_check);
        }
        if let Some(frame) = self.get(Place::AuditStart) {
            self.floor = codec::decode_audit_start(&frame, &seals.meta);
        }
        let mut numbered: Vec<(u8, Result<Scope, Error>)> = Vec::new();
        self.scan(Place::SCOPES, |key, frame| {
            let Some((key, frame)) = key.zip(frame) else { return };
            if let Some(Place::Scope(number)) = Place::from_key(key) {
                let name = codec::decode_scope(frame, number, &seals.frame);
                let scope = name.and_then(|name| {
                    name.parse().map_err(|_| Error::damaged("a scope name is not one"))
                });
                numbered.push((number, scope));
            }
        });
        let known = self.meta.as_ref().map_or(0, |meta| meta.mark.scopes);
        let most = usize::try_from(known).unwrap_or(MAX_SCOPES).min(MAX_SCOPES);
        let most = numbered.last().map_or(most, |(last, _)| most.max(usize::from(*last) + 1));
        let mut numbered = numbered.into_iter().peekable();
        for number in 0..most {
            let found = numbered.next_if(|(found, _)| usize::from(*found) == number);
            let scope = found.map_or_else(
                || Err(Error::damaged(format!("scope name {number} is missing"))),
                |(_, scope)| scope,
            );
            self.scopes.push(match scope {
                Ok(scope) => (scope, None),
                Err(error) => (stand_in(number)?, Some(error)),
            });
        }
        let names = self.scopes.iter().map(|(scope, _)| scope.clone()).collect();
        self.catalogue = Catalogue::new(names, None)?;
        Ok(())
    }

    /// Every value that lies where a record does, and the mark that the intact ones and the scope
    /// names add up to: where that is the meta record's, none is missing and none is older.
    pub(crate) fn records(&self, mut each: impl FnMut(Found)) -> Mark {
        let seal = &self.seals.frame;
        let mut mark = self.meta.as_ref().map_or(Mark::default(), |meta| meta.mark.emptied());
        self.scan(Place::SCOPES, |key, frame| {
            let place = key.and_then(Place::from_key);
            let hash = place
                .zip(frame)
                .and_then(|(place, frame)| codec::frame_hash(frame, place, seal).ok());
            if let Some(hash) = hash {
                mark.scopes += 1;
                mark.add(hash);
            }
        });
        self.scan(Place::RECORDS, |key, frame| {
            let Some((key, frame)) = key.zip(frame) else { return each(Found::Unreadable) };
            let Some(Place::Record(digest)) = Place::from_key(key) else {
                return each(Found::Stray);
            };
            each(match codec::decode_record(frame, digest, seal, self.catalogue) {
                Ok((record, hash)) => {
                    mark.records += 1;
                    mark.add(hash);
                    Found::Intact(digest, Box::new(record))
                }
                Err(_) => Found::Damaged(digest, codec::probable_id(frame)),
            });
        });
        mark
    }

    /// When keys were last used: the minute, or nothing where that is damaged.
    pub(crate) fn uses(&self, mut each: impl FnMut(Option<KeyId>, Option<u32>)) {
        self.scan(Place::USES, |key, frame| {
            let Some(Place::Use(id)) = key.and_then(Place::from_key) else {
                return each(None, None);
            };
            let minute = frame.and_then(|f| codec::decode_use(f, id, &self.seals.frame).ok());
            each(Some(id), minute);
        });
    }

    /// One value; an unreadable part of the database is as good as none.
    fn get(&self, place: Place) -> Option<sled::IVec> {
        contained(Doing::Reading, || self.db.get()?.get(place.key())).unwrap_or_default()
    }

    /// All values under this prefix, in order. What cannot be read is told once, without a key,
    /// and gone past in small steps of the key's next two bytes.
    fn scan(&self, prefix: &[u8], mut each: impl FnMut(Option<&[u8]>, Option<&[u8]>)) {
        let Ok(db) = self.db.get() else { return };
        let mut from = Bound::Included(prefix.to_vec());
        let mut damaged = false;
        loop {
            let start = from.clone();
            let mut values = db.range((start, Bound::Unbounded));
            loop {
                match contained(Doing::Reading, || values.next().transpose()) {
                    Ok(Some((key, frame))) if key.starts_with(prefix) => {
                        damaged = false;
                        each(Some(&key), Some(&frame));
                        from = Bound::Excluded(key.to_vec());
                    }
                    Ok(_) => return,
                    Err(_) => break,
                }
            }
            if !damaged {
                each(None, None);
            }
            damaged = true;
            let (Bound::Included(last) | Bound::Excluded(last)) = &from else { return };
            match step_past(prefix, last) {
                Some(key) => from = Bound::Included(key),
                None => return,
            }
        }
    }
}

/// The first key under `prefix` whose next two bytes come after those of `key`.
fn step_past(prefix: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let rest = key.strip_prefix(prefix)?;
    let byte = |at: usize| rest.get(at).copied().unwrap_or(0);
    let next = u16::from_be_bytes([byte(0), byte(1)]).checked_add(1)?;
    Some([prefix, &next.to_be_bytes()].concat())
}

/// What a scope is called whose own name cannot be read.
fn stand_in(number: usize) -> Result<Scope, Error> {
    format!("unreadable.scope-{number}")
        .parse()
        .map_err(|_| Error::damaged("a scope name is not one"))
}
