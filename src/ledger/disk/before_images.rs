//! Before-images: the values before a change, kept for the snapshots that are being read meanwhile.

use crate::codec::DbKey;
use std::{collections::BTreeMap, mem};

/// The most memory for one reader. A reader that needs more fails.
const MOST_BYTES: usize = 64 << 20;

/// The before-images that the active readers still need.
#[derive(Default)]
pub(super) struct BeforeImages {
    next: u64,
    readers: BTreeMap<u64, Reader>,
}

/// The reader of one snapshot.
pub(super) struct Reader {
    /// The last key that was read.
    pub(super) cursor: Vec<u8>,
    /// The value of a key before its first change since the snapshot; `None` if it had none.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl BeforeImages {
    pub(super) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Adds a reader that begins after this key. Returns its number.
    pub(super) fn add(&mut self, cursor: Vec<u8>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.readers.insert(number, Reader { cursor, before: BTreeMap::new(), bytes: 0 });
        number
    }

    pub(super) fn reader(&mut self, number: u64) -> Option<&mut Reader> {
        self.readers.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.readers.remove(&number);
    }

    /// Records the value that a key had before a change.
    pub(super) fn record(&mut self, key: DbKey, old: Option<&[u8]>) {
        // A snapshot reads all other values when it begins.
        if !matches!(key, DbKey::Entry(_) | DbKey::Record(_)) {
            return;
        }
        let key = key.to_bytes();
        for reader in self.readers.values_mut() {
            if key <= reader.cursor || reader.has_failed() || reader.before.contains_key(&key) {
                continue;
            }
            reader.bytes += weight(&key, old);
            reader.before.insert(key.clone(), old.map(<[u8]>::to_vec));
            if reader.has_failed() {
                reader.before.clear();
            }
        }
    }
}

impl Reader {
    /// Whether the changes exceeded the memory limit.
    pub(super) fn has_failed(&self) -> bool {
        self.bytes > MOST_BYTES
    }

    /// Moves the cursor to this key. Removes and returns the before-images up to it.
    pub(super) fn move_to(&mut self, cursor: Vec<u8>) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let later = self.before.split_off(&cursor);
        let mut before = mem::replace(&mut self.before, later);
        before.extend(self.before.remove_entry(&cursor));
        self.bytes -= before.iter().map(|(key, old)| weight(key, old.as_deref())).sum::<usize>();
        self.cursor = cursor;
        before
    }
}

/// The approximate memory of a before-image.
fn weight(key: &[u8], old: Option<&[u8]>) -> usize {
    64 + key.len() + old.map_or(0, <[u8]>::len)
}
