//! The records by id and by age, and what is pending for them. Not on the hot path.

use super::grants::Numbers;
use crate::{
    digest::Digest,
    id::KeyId,
    record::{Record, Standing},
    time::Timestamp,
};
use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

struct Entry {
    digest: Digest,
    /// `None` once it is deleted: a tombstone, so that an older change revives nothing.
    record: Option<Arc<Record>>,
    /// The last change that was applied.
    applied: u64,
    /// What later changes already deny, each with its number.
    pending: Vec<(u64, Standing)>,
}

impl Entry {
    /// What readers may see.
    fn visible(&self) -> Option<Standing> {
        let committed = self.record.as_ref()?.standing();
        Some(self.pending.iter().fold(committed, |seen, (_, denied)| seen.meet(*denied)))
    }
}

/// What became of a committed change.
pub(super) enum Folded {
    /// It is not newer than what is here, or its key was deleted.
    Stale,
    /// Readers may see this from now on.
    Visible(Option<Standing>),
}

#[derive(Default)]
pub(super) struct Directory {
    entries: HashMap<KeyId, Entry>,
    by_age: BTreeSet<(Timestamp, KeyId)>,
    lasting_roots: usize,
    active: usize,
    pub(super) numbers: Numbers,
}

impl Directory {
    /// Notes a denial; gives the digest of the key and what readers may see from now on.
    pub(super) fn deny(
        &mut self,
        sequence: u64,
        id: KeyId,
        standing: Standing,
    ) -> Option<(Digest, Option<Standing>)> {
        let entry = self.entries.get_mut(&id)?;
        if sequence > entry.applied {
            entry.pending.push((sequence, standing));
        }
        Some((entry.digest, entry.visible()))
    }

    /// Folds a committed change in.
    pub(super) fn apply(
        &mut self,
        sequence: u64,
        id: KeyId,
        digest: Digest,
        record: Option<Arc<Record>>,
    ) -> Folded {
        let fresh = Entry { digest, record: None, applied: 0, pending: Vec::new() };
        let entry = self.entries.entry(id).or_insert(fresh);
        let deleted = entry.applied > 0 && entry.record.is_none();
        if sequence <= entry.applied || deleted {
            return Folded::Stale;
        }
        if let Some(old) = &entry.record {
            self.by_age.remove(&(old.created_at, id));
            self.lasting_roots -= usize::from(old.is_lasting_root());
            self.active -= usize::from(old.active);
        }
        if let Some(new) = &record {
            self.by_age.insert((new.created_at, id));
            self.lasting_roots += usize::from(new.is_lasting_root());
            self.active += usize::from(new.active);
        }
        entry.record = record;
        entry.applied = sequence;
        entry.pending.retain(|(pending, _)| *pending > sequence);
        Folded::Visible(entry.visible())
    }

    pub(super) fn digest_of(&self, id: KeyId) -> Option<Digest> {
        self.entries.get(&id).map(|entry| entry.digest)
    }

    /// What readers may see of a key.
    pub(super) fn visible(&self, id: KeyId) -> Option<Standing> {
        self.entries.get(&id).and_then(Entry::visible)
    }

    pub(super) fn get(&self, id: KeyId) -> Option<(Arc<Record>, Digest)> {
        let entry = self.entries.get(&id)?;
        entry.record.as_ref().map(|record| (Arc::clone(record), entry.digest))
    }

    pub(super) fn older_than(
        &self,
        place: Option<(Timestamp, KeyId)>,
        limit: usize,
    ) -> Vec<Arc<Record>> {
        let end = place.map_or(Bound::Unbounded, Bound::Excluded);
        let older = self.by_age.range((Bound::Unbounded, end)).rev();
        older.filter_map(|(_, id)| self.get(*id).map(|(record, _)| record)).take(limit).collect()
    }

    /// How many keys there are, and how many of them are active.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.by_age.len(), self.active)
    }

    pub(super) fn lasting_roots(&self) -> usize {
        self.lasting_roots
    }
}
