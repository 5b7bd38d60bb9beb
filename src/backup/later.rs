//! What was decided after a backup was taken, from the trail: each record is met with it.
//!
//! A restored key passes only where both the backup and every later change let it pass. So a later
//! denial holds, and a later allowance does not come back by itself: whoever could slip a forged
//! trail in could then take away, and give nothing. What a key is called and whom it speaks for
//! follows the trail.

use crate::{
    audit::{Act, AuditEntry},
    id::KeyId,
    record::{Actor, Expiry, Metadata, Record},
    scope::Grant,
    time::Timestamp,
};
use std::collections::{HashMap, HashSet};

/// Something that was done after the backup was taken, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaterChange {
    /// The entry of the trail that tells of it.
    pub sequence: u64,
    /// The key.
    pub key: KeyId,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub by: Actor,
    /// What became of it.
    pub fate: LaterEffect,
}

/// What became of a later change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaterEffect {
    /// It denied something, or changed a name, an owner or metadata: the new store has it.
    Applied,
    /// The key was deleted, and is not in the new store.
    Deleted,
    /// It allowed something, which the key does not have now: grant it again if it is meant.
    NotGranted,
    /// The key was made after the backup, which has no digest of it: issue another one.
    Lost,
}

/// All that was decided later, key by key.
#[derive(Default)]
pub(super) struct Decisions {
    keys: HashMap<KeyId, Decided>,
    made: HashSet<KeyId>,
    pub(super) changes: Vec<LaterChange>,
    /// The highest scope number that anything later speaks of, and one more.
    pub(super) scopes: usize,
}

#[derive(Default)]
struct Decided {
    deleted: bool,
    inactive_since: Option<Timestamp>,
    grant: Option<Grant>,
    expiry: Option<Expiry>,
    replaced_by: Option<KeyId>,
    name: Option<String>,
    owner: Option<Option<String>>,
    metadata: Option<Metadata>,
    last: Option<(u64, Timestamp, Actor)>,
}

impl Decisions {
    /// Adds what the next entry tells of.
    pub(super) fn add(&mut self, entry: AuditEntry) {
        for grant in [entry.before.grant, entry.after.grant].into_iter().flatten() {
            if let Grant::Scopes(set) = grant {
                self.scopes = self.scopes.max(set.numbers().last().map_or(0, |last| last + 1));
            }
        }
        let Some(key) = entry.key else { return };
        let fate = match entry.act {
            Act::Create => {
                self.made.insert(key);
                LaterEffect::Lost
            }
            Act::Rotate { into } => {
                self.made.insert(into);
                self.note(&entry, into, LaterEffect::Lost);
                LaterEffect::Applied
            }
            Act::Delete => LaterEffect::Deleted,
            Act::Update if allows(&entry) => LaterEffect::NotGranted,
            Act::Update => LaterEffect::Applied,
            _ => return,
        };
        // What was done to a key that is lost is lost with it.
        if fate == LaterEffect::Lost || !self.made.contains(&key) {
            self.note(&entry, key, fate);
        }
        self.keys.entry(key).or_default().add(entry);
    }

    fn note(&mut self, entry: &AuditEntry, key: KeyId, fate: LaterEffect) {
        let AuditEntry { sequence, at, actor: by, .. } = *entry;
        self.changes.push(LaterChange { sequence, key, at, by, fate });
    }

    /// The record met with all that was decided later; `None` where it was deleted. Also whether
    /// it differs.
    pub(super) fn meet(&self, record: Record) -> Option<(Record, bool)> {
        match self.keys.get(&record.id) {
            None => Some((record, false)),
            Some(decided) if decided.deleted => None,
            Some(decided) => Some((decided.meet(record), true)),
        }
    }
}

impl Decided {
    fn add(&mut self, entry: AuditEntry) {
        let after = entry.after;
        self.deleted |= entry.act == Act::Delete;
        if let Act::Rotate { into } = entry.act {
            self.replaced_by = Some(into);
        }
        if after.active == Some(false) {
            self.inactive_since.get_or_insert(entry.at);
        }
        if let Some(grant) = after.grant {
            self.grant = Some(self.grant.map_or(grant, |earlier| earlier.meet(grant)));
        }
        if let Some(expiry) = after.expiry {
            self.expiry = Some(self.expiry.map_or(expiry, |earlier| earlier.min(expiry)));
        }
        self.name = after.name.or(self.name.take());
        self.owner = after.owner.or(self.owner.take());
        self.metadata = after.metadata.or(self.metadata.take());
        self.last = Some((entry.sequence, entry.at, entry.actor));
    }

    fn meet(&self, mut record: Record) -> Record {
        if let (Some(since), true) = (self.inactive_since, record.active) {
            (record.active, record.inactive_since) = (false, Some(since));
        }
        // The record's own set comes first: it is of the new store's catalogue.
        record.grant = self.grant.map_or(record.grant, |later| record.grant.meet(later));
        record.expiry = self.expiry.map_or(record.expiry, |later| record.expiry.min(later));
        record.replaced_by = self.replaced_by.or(record.replaced_by);
        record.name = self.name.clone().unwrap_or(record.name);
        record.owner = self.owner.clone().unwrap_or(record.owner);
        record.metadata = self.metadata.clone().unwrap_or(record.metadata);
        if let Some((sequence, at, by)) = self.last {
            (record.revision, record.updated_at, record.updated_by) = (sequence, at, by);
        }
        record
    }
}

/// Whether a change let a key do anything that it could not do before.
fn allows(entry: &AuditEntry) -> bool {
    let (before, after) = (&entry.before, &entry.after);
    after.active == Some(true)
        || after.expiry.zip(before.expiry).is_some_and(|(after, before)| after > before)
        || after.grant.zip(before.grant).is_some_and(|(after, before)| !after.is_within(&before))
}
