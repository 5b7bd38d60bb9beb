//! The trail of a directory that may be damaged, each entry with what holds of it.

use super::{Doing, Inspection, contained};
use crate::{
    audit::AuditEntry,
    codec::{self, Place},
};

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not there.
    Missing,
    /// It does not follow from the one before: either was altered.
    Broken,
    /// The one before is missing, so that nothing shows that it is as it was written.
    Loose,
    /// It is another entry than its place says.
    Misplaced,
}

/// An entry, or the gap in its place.
pub(crate) struct Link {
    pub(crate) sequence: u64,
    pub(crate) entry: Option<AuditEntry>,
    /// The chain head that it carries.
    pub(crate) head: Option<[u8; 32]>,
    pub(crate) fault: Option<Fault>,
}

impl Inspection {
    /// Every entry from the floor to the newest that anything tells of: the last that is there, or
    /// `through`. An entry is proved by its own head and by the next one's, so whoever trusts the
    /// last head trusts all that come after the last fault.
    pub(crate) fn trail(&self, through: u64, mut each: impl FnMut(Link)) {
        let floor = self.floor.as_ref().ok().copied().unwrap_or_default();
        let end = self.last_entry().max(through);
        let mut previous = self.floor.is_ok().then_some(floor.head);
        for sequence in floor.through + 1..=end {
            let link = self.link(sequence, previous);
            previous = link.head;
            each(link);
        }
    }

    /// The frame of an entry, if it is there.
    pub(crate) fn frame(&self, sequence: u64) -> Option<Vec<u8>> {
        self.get(Place::Entry(sequence)).map(|frame| frame.to_vec())
    }

    fn link(&self, sequence: u64, previous: Option<[u8; 32]>) -> Link {
        let Some(frame) = self.get(Place::Entry(sequence)) else {
            return Link { sequence, entry: None, head: None, fault: Some(Fault::Missing) };
        };
        let head = codec::entry_head(&frame, sequence).ok();
        let entry = codec::decode_entry_unchecked(&frame, sequence, self.catalogue);
        let follows = previous.map(|previous| {
            codec::decode_entry(&frame, sequence, &previous, &self.seals.audit, self.catalogue)
                .is_ok()
        });
        let fault = match (follows, &entry) {
            (Some(true), _) => None,
            (_, Some(entry)) if entry.sequence != sequence => Some(Fault::Misplaced),
            (Some(false), _) => Some(Fault::Broken),
            (None, _) => Some(Fault::Loose),
        };
        Link { sequence, entry, head, fault }
    }

    /// The number of the last entry that is there.
    fn last_entry(&self) -> u64 {
        let beyond = [Place::ENTRIES, &[0xff; 9]].concat();
        if let Ok(Some((key, _))) = contained(Doing::Reading, || self.db.get()?.get_lt(beyond))
            && let Some(Place::Entry(sequence)) = Place::from_key(&key)
        {
            sequence
        } else {
            0
        }
    }
}
