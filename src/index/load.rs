//! Loads the index while the store is opened: all keys at once, without readers.
//!
//! The number of keys is known, so no table grows. The keys come in the order of their digests, and are
//! sorted by age once, at the end.

use super::Index;
use crate::{codec::Resident, digest::Digest, error::Error, id::KeyId};

/// An index without readers.
pub(crate) struct Loading(Index);

impl Loading {
    pub(crate) fn with_room_for(keys: usize) -> Self {
        Self(Index::with_room_for(keys))
    }

    /// Adds committed records, from any thread.
    pub(crate) fn records(&self, records: Vec<(Digest, Resident)>) -> Result<(), Error> {
        let mut directory = self.0.directory.write();
        for (digest, record) in records {
            let id = record.id;
            let known = directory.digest_of(id);
            if known.is_some() {
                return Err(Error::damaged(format!("it has two records of {id}")));
            }
            self.0.check_identity(id, digest, known)?;
            let standing = directory.load(digest, record, &self.0.slots.grants)?;
            let slots = &self.0.slots;
            slots.insert(digest.fingerprint(), id, &standing, &mut directory.numbers);
        }
        Ok(())
    }

    /// Sets the last use of a key. Does nothing for an unknown key.
    pub(crate) fn last_use(&mut self, id: KeyId, minute: u32) {
        let digest = self.0.directory.read().digest_of(id);
        if let (Some(digest), Some(table)) = (digest, self.0.slots.table()) {
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
        self.0.directory.write().sort();
        self.0
    }
}
