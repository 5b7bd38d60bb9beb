//! The index of a store that replicas share: operations of a replica besides changes.

use super::{
    Index,
    directory::Directory,
    segment::stamp,
    slots::{Slots, Table},
    word::Word,
};
use crate::{digest::Digest, id::KeyId, record::Standing};
use std::{collections::HashSet, mem, sync::Arc};

impl Index {
    /// Returns the key with this digest and its current standing.
    pub(crate) fn find(&self, digest: &Digest) -> Option<(KeyId, Standing)> {
        let table = self.slots.stripe()?.read();
        let (segment, id, word, _) = Slots::look_up(&table, digest)?;
        Some((id, self.slots.standing(segment, word)?))
    }

    /// Returns the committed keys that are not among these.
    pub(crate) fn keys_except(&self, ids: &HashSet<KeyId>) -> Vec<(KeyId, Digest)> {
        let directory = self.directory.read();
        let rows = directory.shards.iter().flat_map(|shard| &shard.rows);
        let others = rows.filter(|row| row.word != Word::GONE && !ids.contains(&row.id));
        others.map(|row| (row.id, row.digest)).collect()
    }

    /// Removes every key, tombstones included, and ends all watches, because another history follows. The
    /// gate must be shut.
    pub(crate) fn clear(&self) {
        let mut directory = self.directory.write();
        // The numbers of grants stay: readers of the old table still use them.
        let numbers = mem::take(&mut directory.numbers);
        *directory = Directory::with_room_for(0);
        directory.numbers = numbers;
        let empty = Arc::new(Table::with_room_for(0));
        self.slots.replace(&empty);
        drop(directory);
        self.end_watches();
    }

    /// Ends all watches: this replica cannot observe a revocation of their keys.
    pub(crate) fn end_watches(&self) {
        self.watches.end_all();
    }

    /// Records that a key was used in this minute on another replica. Takes the stripe's lock as a
    /// validation does, so a table that is being replaced keeps the use.
    pub(crate) fn record_use(&self, id: KeyId, minute: u32) {
        let digest = self.directory.read().digest_of(id);
        if let (Some(digest), Some(stripe)) = (digest, self.slots.stripe())
            && let Some((segment, _, word, at)) = Slots::look_up(&stripe.read(), &digest)
            && word != Word::GONE
        {
            segment.record_use(at, stamp(minute));
        }
    }
}
