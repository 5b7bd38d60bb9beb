//! Earlier values, kept for snapshots that are being read while changes go on.

use crate::codec::Place;
use std::{collections::BTreeMap, mem};

/// The most that is kept for one reader. A reader that falls further behind fails.
const MOST_BYTES: usize = 64 << 20;

/// The values that the snapshots being read still need.
#[derive(Default)]
pub(super) struct Kept {
    next: u64,
    readers: BTreeMap<u64, Reader>,
}

/// A snapshot that is being read.
pub(super) struct Reader {
    /// Everything up to this key was read.
    pub(super) cursor: Vec<u8>,
    /// The value of a key before its first change since the snapshot; `None`: there was none.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Kept {
    pub(super) fn is_wanted(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Adds a reader that begins after this key; gives its number.
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

    /// Keeps the value that a place had before a change.
    pub(super) fn keep(&mut self, place: Place, old: Option<&[u8]>) {
        // All others are read at once, when a snapshot begins.
        if !matches!(place, Place::Entry(_) | Place::Record(_)) {
            return;
        }
        let key = place.key();
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
    /// Whether more changed than is kept.
    pub(super) fn has_failed(&self) -> bool {
        self.bytes > MOST_BYTES
    }

    /// Moves to this key; gives the kept values up to it, which nobody needs any more.
    pub(super) fn move_to(&mut self, cursor: Vec<u8>) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let later = self.before.split_off(&cursor);
        let mut before = mem::replace(&mut self.before, later);
        before.extend(self.before.remove_entry(&cursor));
        self.bytes -= before.iter().map(|(key, old)| weight(key, old.as_deref())).sum::<usize>();
        self.cursor = cursor;
        before
    }
}

/// The approximate memory that a kept value takes.
fn weight(key: &[u8], old: Option<&[u8]>) -> usize {
    64 + key.len() + old.map_or(0, <[u8]>::len)
}
