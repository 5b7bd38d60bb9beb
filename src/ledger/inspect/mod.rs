//! Reads a data directory that may be damaged, without changing it.
//!
//! The engine writes as soon as it opens a database. So it opens a private copy. The copy is made under
//! the lock of the directory, since a copy of a database that is being written may be torn. An inspection
//! continues after damage, and reports it; `doctor` decides what the damage means.

mod audit;
mod directory;

pub(crate) use self::{audit::EntryFault, directory::DirectoryState};

use super::{
    anchor::Anchor,
    copy::{DatabaseCopy, Snapshots},
    engine::{self, Database, Doing, contained},
};
use crate::{
    codec::{self, AuditStart, DbKey, Mark, Meta},
    digest::{Digest, Seals},
    error::Error,
    id::KeyId,
    record::Record,
    scope::{Catalogue, MAX_SCOPES, NumberedScope, Scope},
};
use std::{io, ops::Bound, path::Path, sync::Arc};

/// A copy of a database, open for reading.
pub(crate) struct Inspection {
    db: Database,
    /// After the database, so that it is removed when the database is closed.
    _copy: DatabaseCopy,
    seals: Arc<Seals>,
    /// Whether the engine opens the database only without its snapshots.
    pub(crate) without_snapshot: bool,
    pub(crate) meta: Result<Meta, Error>,
    pub(crate) audit_start: Result<AuditStart, Error>,
    /// The scope names by number. A damaged name has a placeholder and its error.
    pub(crate) scopes: Vec<(NumberedScope, Option<Error>)>,
    /// All scope names, including placeholders.
    pub(crate) catalogue: &'static Catalogue,
}

/// A value in the key range of the records.
pub(crate) enum Found {
    /// An intact record.
    Intact(Digest, Box<Record>),
    /// A damaged record, and the API key that it probably belongs to.
    Damaged(Digest, Option<KeyId>),
    /// A value whose database key is not valid.
    Stray,
    /// An unreadable part of the database, which may contain records.
    Unreadable,
}

/// Reads both slots of an anchor; `None` for a damaged slot.
pub(crate) fn anchor_slots(path: &Path, seals: &Seals) -> io::Result<[Option<Mark>; 2]> {
    Anchor::read_slots(path, &seals.anchor)
}

impl Inspection {
    /// Copies the database of the store in `dir` to a new directory in `scratch`, and opens the copy.
    /// Fails with [`Error::Locked`] while a process has the store open.
    pub(crate) fn open(dir: &Path, scratch: &Path, seals: Arc<Seals>) -> Result<Self, Error> {
        let sled_dir = dir.join("ledger").join("sled");
        // Not through a link, which the engine would follow.
        if !sled_dir.join("db").symlink_metadata().is_ok_and(|about| about.is_file()) {
            return Err(Error::damaged("its database file is missing"));
        }
        let lock = directory::lock_shared(dir)?;
        let copy = DatabaseCopy::create(&sled_dir, scratch, Snapshots::Include)?;
        let (copy, opened, without_snapshot) = match engine::open(copy.path(), dir) {
            Ok(db) => (copy, db, false),
            Err(first) => {
                // The engine may have changed the copy.
                drop(copy);
                let bare = DatabaseCopy::create(&sled_dir, scratch, Snapshots::Omit)?;
                let db = engine::open(bare.path(), dir).map_err(|_| first)?;
                (bare, db, true)
            }
        };
        drop(lock);
        let mut inspection = Self {
            db: opened,
            _copy: copy,
            without_snapshot,
            meta: Err(Error::damaged("its meta record is missing")),
            audit_start: Ok(AuditStart::default()),
            scopes: Vec::new(),
            catalogue: Catalogue::new(Vec::new(), None)?,
            seals,
        };
        inspection.read_metadata()?;
        Ok(inspection)
    }

    fn read_metadata(&mut self) -> Result<(), Error> {
        let seals = Arc::clone(&self.seals);
        if let Some(frame) = self.get(DbKey::Meta) {
            self.meta = codec::decode_meta(&frame, &seals.meta, seals.pepper_check);
        }
        if let Some(frame) = self.get(DbKey::AuditStart) {
            self.audit_start = codec::decode_audit_start(&frame, &seals.meta);
        }
        let mut numbered: Vec<(u8, Result<NumberedScope, Error>)> = Vec::new();
        self.scan(DbKey::SCOPES, |key, frame| {
            let Some((key, frame)) = key.zip(frame) else { return };
            if let Some(DbKey::Scope(number)) = DbKey::from_bytes(key) {
                numbered.push((number, codec::decode_scope(frame, number, &seals.frame)));
            }
        });
        let recorded = self.meta.as_ref().map_or(0, |meta| meta.mark.scopes);
        let count = usize::try_from(recorded).unwrap_or(MAX_SCOPES).min(MAX_SCOPES);
        let count = numbered.last().map_or(count, |(last, _)| count.max(usize::from(*last) + 1));
        let mut numbered = numbered.into_iter().peekable();
        for number in 0..count {
            let found = numbered.next_if(|(found, _)| usize::from(*found) == number);
            let scope = found.map_or_else(
                || Err(Error::damaged(format!("scope name {number} is missing"))),
                |(_, scope)| scope,
            );
            self.scopes.push(match scope {
                Ok(scope) => (scope, None),
                Err(error) => (placeholder(number)?.into(), Some(error)),
            });
        }
        let names = self.scopes.iter().map(|(scope, _)| scope.clone()).collect();
        self.catalogue = Catalogue::new(names, None)?;
        Ok(())
    }

    /// Passes every value in the key range of the records to `each`. Returns the mark of the intact records
    /// and scope names. If it equals the mark of the meta record, no value is missing or older.
    pub(crate) fn records(&self, mut each: impl FnMut(Found)) -> Mark {
        let seal = &self.seals.frame;
        let mut mark = self.meta.as_ref().map_or(Mark::default(), |meta| meta.mark.emptied());
        self.scan(DbKey::SCOPES, |key, frame| {
            let key = key.and_then(DbKey::from_bytes);
            let hash =
                key.zip(frame).and_then(|(key, frame)| codec::frame_hash(frame, key, seal).ok());
            if let Some(hash) = hash {
                mark.scopes += 1;
                mark.add(hash);
            }
        });
        self.scan(DbKey::RECORDS, |key, frame| {
            let Some((key, frame)) = key.zip(frame) else { return each(Found::Unreadable) };
            let Some(DbKey::Record(digest)) = DbKey::from_bytes(key) else {
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

    /// Passes the last use of each key to `each`: the minute, or `None` if it is damaged.
    pub(crate) fn uses(&self, mut each: impl FnMut(Option<KeyId>, Option<u32>)) {
        self.scan(DbKey::USES, |key, frame| {
            let Some(DbKey::Use(id)) = key.and_then(DbKey::from_bytes) else {
                return each(None, None);
            };
            let minute = frame.and_then(|f| codec::decode_use(f, id, &self.seals.frame).ok());
            each(Some(id), minute);
        });
    }

    /// Reads one value; `None` also if it cannot be read.
    fn get(&self, key: DbKey) -> Option<sled::IVec> {
        contained(Doing::Reading, || self.db.get()?.get(key.to_bytes())).unwrap_or_default()
    }

    /// Passes all values under this prefix to `each`, in order. An unreadable part is reported once, without
    /// a key. The scan skips it by incrementing the two bytes after the prefix.
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
            match skip_from(prefix, last) {
                Some(key) => from = Bound::Included(key),
                None => return,
            }
        }
    }
}

/// The first key under `prefix` whose next two bytes come after those of `key`.
fn skip_from(prefix: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let rest = key.strip_prefix(prefix)?;
    let byte = |at: usize| rest.get(at).copied().unwrap_or(0);
    let next = u16::from_be_bytes([byte(0), byte(1)]).checked_add(1)?;
    Some([prefix, &next.to_be_bytes()].concat())
}

/// The placeholder for an unreadable scope name.
fn placeholder(number: usize) -> Result<Scope, Error> {
    format!("unreadable.scope-{number}")
        .parse()
        .map_err(|_| Error::damaged("a scope name is not valid"))
}
