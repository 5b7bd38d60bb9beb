//! Repair: copies what is proved intact *and current* into a new store.
//!
//! An intact record proves nothing if it is old: the key may have been revoked since. So a key works
//! in the new store only if the audit log reaches the anchor and has no later change of the key.
//! Any other key is copied inactive or not at all, and is listed. The old directory is not changed,
//! and its audit log stays there. The new log begins above every number of the old store and its
//! anchor.

use super::contents::{Consistency, Contents};
use crate::{
    audit_entry::{Act, AuditEntry},
    codec::{self, AuditStart, DbKey},
    digest::{Digest, Seals},
    error::Error,
    id::KeyId,
    ledger::{
        Bulk, Tip,
        inspect::{Found, Inspection},
    },
    offline::Offline,
    record::{Actor, Record},
    scope::{Catalogue, Grant, NumberedScope, Scope},
    secret::Prefix,
    time::Timestamp,
};
use std::{collections::HashMap, path::Path, sync::Arc};

/// The reason why a key differs from the damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RepairIssue {
    /// Copied inactive: nothing proves that its record is the last one.
    Unproved,
    /// Copied inactive: the audit log has a later change than its record.
    Older,
    /// Copied without the scopes whose names cannot be read.
    Narrowed,
    /// Not copied: the audit log records its deletion.
    Deleted,
    /// Not copied: its record is damaged or missing.
    Lost,
}

impl RepairIssue {
    /// Returns the issue in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unproved => "inactive: nothing proves that it was not revoked or narrowed",
            Self::Older => "inactive: it was changed later, and that change is lost",
            Self::Narrowed => "without the scopes whose names cannot be read",
            Self::Deleted => "not copied: it was deleted",
            Self::Lost => "not copied: its record is damaged or missing",
        }
    }
}

/// The result of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// The entry of the new audit log that records the repair.
    pub sequence: u64,
    /// The number of keys that were copied unchanged.
    pub current: u64,
    /// All other keys. The id is `None` if it cannot be read.
    pub issues: Vec<(Option<KeyId>, RepairIssue)>,
    /// Whether the audit log reaches the anchor. If not, no key is proved to be current.
    pub is_proved: bool,
}

impl Offline {
    /// Copies what is proved of the store in `dir` into a new store in `new_dir`, which is absent or
    /// empty. Changes nothing in `dir`. The anchor of the new store is in its own directory.
    ///
    /// The prefix that was set is used only if the old one cannot be read.
    pub fn repair(
        &self,
        dir: impl AsRef<Path>,
        new_dir: impl AsRef<Path>,
        scratch: &Path,
        actor: Actor,
    ) -> Result<Repaired, Error> {
        let (dir, seals) = (dir.as_ref(), self.seals()?);
        let inspection = Inspection::open(dir, scratch, Arc::clone(&seals))?;
        if let Err(Error::WrongPepper) = inspection.meta {
            return Err(Error::WrongPepper);
        }
        let mut newest = NewestRecords::default();
        let found = inspection.records(|found| newest.add(&found));
        let contents = Contents::read(&inspection, self.slots(dir, &seals), &found);
        let prefix = match &inspection.meta {
            Ok(meta) => {
                Prefix::new(&meta.prefix).map_err(|_| Error::damaged("its prefix is not valid"))?
            }
            Err(_) => self.prefix.unwrap_or_default(),
        };
        let bulk = Bulk::begin(new_dir.as_ref(), None, prefix, Arc::clone(&seals))?;
        let mut repair = Repair::new(&inspection, &contents, &seals, bulk, actor)?;
        repair.scopes()?;
        let mut failure = None;
        inspection.records(|found| {
            if let Found::Intact(digest, record) = found
                && failure.is_none()
                && newest.contains(&record, digest)
            {
                failure = repair.copy(digest, *record).err();
            }
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut uses = Vec::new();
        inspection.uses(|id, minute| uses.extend(id.zip(minute)));
        repair.uses(&newest, &uses)?;
        repair.lost(&newest);
        repair.finish()
    }
}

/// The newest intact record of each key, and the damaged records.
#[derive(Default)]
struct NewestRecords {
    records: HashMap<KeyId, (u64, Digest)>,
    damaged: Vec<Option<KeyId>>,
}

impl NewestRecords {
    fn add(&mut self, found: &Found) {
        match found {
            Found::Intact(digest, record) => {
                let kept = self.records.entry(record.id).or_insert((record.revision, *digest));
                if kept.0 < record.revision {
                    *kept = (record.revision, *digest);
                }
            }
            Found::Damaged(_, key) => self.damaged.push(*key),
            Found::Unreadable => self.damaged.push(None),
            Found::Stray => {}
        }
    }

    fn contains(&self, record: &Record, digest: Digest) -> bool {
        self.records.get(&record.id) == Some(&(record.revision, digest))
    }
}

struct Repair<'i> {
    contents: &'i Contents,
    seals: &'i Seals,
    bulk: Bulk,
    actor: Actor,
    now: Timestamp,
    /// The entry that records the repair.
    sequence: u64,
    /// Without the old numbers whose names cannot be read.
    catalogue: &'static Catalogue,
    names: Vec<NumberedScope>,
    unreadable: Vec<Scope>,
    done: Repaired,
}

impl<'i> Repair<'i> {
    fn new(
        inspection: &Inspection,
        contents: &'i Contents,
        seals: &'i Seals,
        bulk: Bulk,
        actor: Actor,
    ) -> Result<Self, Error> {
        let meta = inspection.meta.as_ref().ok();
        let anchored = contents.anchor.map_or(0, |mark| mark.sequence);
        let seen = meta.map_or(0, |meta| meta.mark.sequence).max(anchored).max(contents.end);
        let newest = Timestamp::from_millis(meta.map_or(0, |meta| meta.newest));
        let (names, unreadable): (Vec<_>, Vec<_>) =
            inspection.scopes.iter().partition(|(_, error)| error.is_none());
        let names: Vec<NumberedScope> = names.into_iter().map(|(scope, _)| scope.clone()).collect();
        let unreadable = unreadable.into_iter().map(|(scope, _)| scope.scope.clone()).collect();
        let is_proved = contents.consistency == Consistency::Intact;
        let sequence = seen + 1;
        Ok(Self {
            contents,
            seals,
            bulk,
            actor,
            now: Timestamp::now().max(newest),
            sequence,
            catalogue: Catalogue::new(names.clone(), None)?,
            names,
            unreadable,
            done: Repaired { sequence, current: 0, issues: Vec::new(), is_proved },
        })
    }

    fn scopes(&mut self) -> Result<(), Error> {
        for (number, scope) in (0..=u8::MAX).zip(&self.names) {
            let frame = codec::encode_scope(scope, number, &self.seals.frame)?;
            self.bulk.put(DbKey::Scope(number), frame)?;
        }
        Ok(())
    }

    fn copy(&mut self, digest: Digest, mut record: Record) -> Result<(), Error> {
        let (id, revision) = (record.id, record.revision);
        let last = self.contents.last.get(&id);
        let issue = if last.is_some_and(|last| last.is_deleted) {
            self.done.issues.push((Some(id), RepairIssue::Deleted));
            return Ok(());
        } else if self.contents.is_current(id, revision) {
            None
        } else if last.is_some_and(|last| last.sequence > revision) {
            Some(RepairIssue::Older)
        } else {
            Some(RepairIssue::Unproved)
        };
        let is_narrowed = self.renumber(&mut record)?;
        if issue.is_some() && record.active {
            (record.active, record.inactive_since) = (false, Some(self.now));
        }
        if issue.is_some() || is_narrowed {
            (record.updated_at, record.updated_by) = (self.now, self.actor);
            record.revision = self.sequence;
        }
        match issue.or(is_narrowed.then_some(RepairIssue::Narrowed)) {
            Some(issue) => self.done.issues.push((Some(id), issue)),
            None => self.done.current += 1,
        }
        let frame = codec::encode_record(&record, digest, &self.seals.frame)?;
        self.bulk.put(DbKey::Record(digest), frame)
    }

    /// Converts the scopes to the numbers of the new store. Returns whether some have no name.
    fn renumber(&self, record: &mut Record) -> Result<bool, Error> {
        let Grant::Scopes(set) = record.grant else { return Ok(false) };
        let kept = set.iter().filter(|scope| !self.unreadable.contains(scope));
        let new = self.catalogue.set_of(kept)?;
        record.grant = Grant::Scopes(new);
        Ok(new.len() < set.len())
    }

    /// Copies the last use of the copied keys.
    fn uses(&mut self, newest: &NewestRecords, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        for (id, minute) in uses {
            let is_deleted = self.contents.last.get(id).is_some_and(|last| last.is_deleted);
            if newest.records.contains_key(id) && !is_deleted {
                let frame = codec::encode_use(*minute, *id, &self.seals.frame)?;
                self.bulk.put(DbKey::Use(*id), frame)?;
            }
        }
        Ok(())
    }

    /// Lists the keys that were not copied: those of the audit log, and other damaged records.
    fn lost(&mut self, newest: &NewestRecords) {
        let mut lost: Vec<_> = self
            .contents
            .undeleted()
            .map(|(id, _)| id)
            .filter(|id| !newest.records.contains_key(id))
            .collect();
        let ids = newest.damaged.iter().flatten();
        let others: Vec<_> = ids
            .filter(|id| !self.contents.last.contains_key(*id) && !newest.records.contains_key(*id))
            .copied()
            .collect();
        lost.extend(others);
        lost.sort_by_key(|id| id.as_u64());
        lost.dedup();
        self.done.issues.extend(lost.into_iter().map(|id| (Some(id), RepairIssue::Lost)));
        let unknown = newest.damaged.iter().filter(|id| id.is_none());
        self.done.issues.extend(unknown.map(|_| (None, RepairIssue::Lost)));
    }

    fn finish(mut self) -> Result<Repaired, Error> {
        let (sequence, head) = (self.sequence, self.contents.head);
        let through = sequence - 1;
        let start = AuditStart { through, head, pruned_by: sequence };
        self.bulk.put(DbKey::AuditStart, codec::encode_audit_start(&start, &self.seals.meta)?)?;
        let unproved = self.done.issues.len() as u64;
        let act = Act::Repair { head, current: self.done.current, unproved };
        let entry = AuditEntry { sequence, at: self.now, ..AuditEntry::new(self.actor, act) };
        let (frame, head) = codec::encode_entry(&entry, &start.head, &self.seals.audit)?;
        self.bulk.put(DbKey::Entry(sequence), frame)?;
        self.bulk.finish(Tip { sequence, head, newest: self.now })?;
        Ok(self.done)
    }
}
