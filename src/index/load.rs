//! Loads the index while the store is opened: all keys at once, without readers.
//!
//! The number of keys is known, so no table grows. The keys come in the order of their digests, and are
//! sorted by age once, at the end.

use super::Index;
use crate::{codec::Resident, digest::Digest, error::Error, id::KeyId};

/// An index without readers.
pub(crate) struct Loading {
    index: Index,
    /// The newest minute of a use; 0 if no use was loaded.
    newest_use: u32,
}

impl Loading {
    pub(crate) fn with_room_for(keys: usize) -> Self {
        Self { index: Index::with_room_for(keys), newest_use: 0 }
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
            let word = directory.load(digest, record, &self.index.grants)?;
            self.index.insert(digest.fingerprint(), id, word);
        }
        Ok(())
    }

    /// Sets the last use of a key. Does nothing for an unknown key.
    pub(crate) fn last_use(&mut self, id: KeyId, minute: u32) {
        self.newest_use = self.newest_use.max(minute);
        let digest = self.index.directory.read().digest_of(id);
        if let (Some(digest), Some(table)) = (digest, self.index.table()) {
            let fingerprint = digest.fingerprint();
            if let Some(segment) = table.segment(fingerprint)
                && let Some((_, _, at)) = segment.find(fingerprint)
            {
                segment.record_use(at, minute);
            }
        }
    }

    /// Returns the index for readers.
    pub(crate) fn finish(self) -> Index {
        let Self { index, newest_use } = self;
        let table = index.table();
        let last_use = |digest: &Digest| {
            let fingerprint = digest.fingerprint();
            let segment = table.as_ref().filter(|_| newest_use > 0)?.segment(fingerprint)?;
            let (_, _, at) = segment.find(fingerprint)?;
            Some(segment.last_use(at))
        };
        index.directory.write().sort(|digest| last_use(digest).unwrap_or(0));
        index.uses_are_noted(newest_use);
        index
    }
}
