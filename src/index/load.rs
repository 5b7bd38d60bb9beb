//! The index while its store is opened: no reader yet, and all keys at once.
//!
//! The room that is needed is known, so nothing grows; and the keys come by digest, so they are put
//! in the order of their age once, at the end.

use super::Index;
use crate::{codec::Resident, digest::Digest, error::Error, id::KeyId};

/// An index that is being loaded.
pub(crate) struct Loading(Index);

impl Loading {
    pub(crate) fn with_room_for(keys: usize) -> Self {
        Self(Index::with_room_for(keys))
    }

    /// Takes committed records in, from any thread.
    pub(crate) fn records(&self, records: Vec<(Digest, Resident)>) -> Result<(), Error> {
        let mut directory = self.0.directory.write();
        for (digest, record) in records {
            let id = record.id;
            let known = directory.digest_of(id);
            if known.is_some() {
                return Err(Error::damaged(format!("{id} is there twice")));
            }
            self.0.check_identity(id, digest, known)?;
            let word = directory.load(digest, record, &self.0.grants)?;
            self.0.insert(digest.fingerprint(), id, word);
        }
        Ok(())
    }

    /// Takes in when a key was last used. Of a key that is not there nothing is noted.
    pub(crate) fn last_use(&mut self, id: KeyId, minute: u32) {
        let digest = self.0.directory.read().digest_of(id);
        if let (Some(digest), Some(table)) = (digest, self.0.table()) {
            let fingerprint = digest.fingerprint();
            if let Some(segment) = table.segment(fingerprint)
                && let Some((_, _, at)) = segment.find(fingerprint)
            {
                segment.note_use(at, minute);
            }
        }
    }

    /// The index, ready for readers.
    pub(crate) fn finish(self) -> Index {
        self.0.directory.write().sort();
        self.0
    }
}
