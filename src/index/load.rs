//! Loads the index while the store is opened: all keys at once, without readers.
//!
//! The number of keys is known, so no table grows. The keys come in the order of their digests, and are
//! sorted by age once, at the end.

use super::{Index, segment::stamp};
use crate::{codec::Resident, digest::Digest, error::Error, id::KeyId};
use std::sync::atomic::Ordering::Release;

/// An index without readers.
pub(crate) struct Loading {
    index: Index,
    has_uses: bool,
}

impl Loading {
    pub(crate) fn with_room_for(keys: usize) -> Self {
        Self { index: Index::with_room_for(keys), has_uses: false }
    }

    /// Adds committed records, from any thread.
    pub(crate) fn records(&self, records: Vec<(Digest, Resident)>) -> Result<(), Error> {
        let mut directory = self.index.directory.write();
        for (digest, record) in records {
            let id = record.id;
            let known = directory.digest_of(id);
            if known.is_some() {
                return Err(Error::damaged(format!("it has two records of {id}")));
            }
            self.index.check_identity(id, digest, known)?;
            let standing = directory.load(digest, record, &self.index.slots.grants)?;
            let slots = &self.index.slots;
            slots.insert(digest.fingerprint(), id, &standing, &mut directory.numbers);
        }
        Ok(())
    }

    /// Sets the last use of a key. Does nothing for an unknown key.
    pub(crate) fn last_use(&mut self, id: KeyId, minute: u32) {
        self.has_uses = true;
        let digest = self.index.directory.read().digest_of(id);
        if let (Some(digest), Some(table)) = (digest, self.index.slots.table()) {
            let fingerprint = digest.fingerprint();
            if let Some(segment) = table.segment(fingerprint)
                && let Some((_, _, at)) = segment.find(fingerprint)
            {
                segment.record_use(at, stamp(minute));
            }
        }
    }

    /// Returns the index for readers.
    pub(crate) fn finish(self) -> Index {
        let Self { index, has_uses } = self;
        let table = index.slots.table();
        let last_use = |digest: &Digest| {
            let fingerprint = digest.fingerprint();
            let segment = table.as_ref().filter(|_| has_uses)?.segment(fingerprint)?;
            let (_, _, at) = segment.find(fingerprint)?;
            let minute = segment.last_use(at);
            segment.mark_in_columns(at, minute);
            Some(minute)
        };
        let mut directory = index.directory.write();
        index.imported_kinds.store(directory.imported_kinds(), Release);
        directory.sort(|digest| last_use(digest).unwrap_or(0));
        drop(directory);
        index
    }
}
