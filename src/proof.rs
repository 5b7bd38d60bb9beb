//! A part of the trail that proves itself away from its store.
//!
//! It has a start, entries and an end. Start and end are sealed statements of the store: the entry
//! after which the part begins had this head; at this moment the trail had come to that entry, with
//! that head. The entries chain the one to the other. So what lies between can be neither edited,
//! removed, added nor reordered, and a tail that was cut off is missed. Without a pepper all of
//! it is a checksum: it shows accidents, and whoever does not compute it anew.

use crate::{
    audit::AuditEntry,
    codec,
    digest::{Seal, Seals},
    scope::{Catalogue, Scope},
    time::Timestamp,
};

/// Where a part of the trail begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailStart {
    /// The store.
    pub store: [u8; 16],
    /// The entry that the part begins after, 0 for the first of all.
    pub after: u64,
    /// That entry's chain head.
    pub head: [u8; 32],
    /// Recognises the pepper; zero without one.
    pub pepper_check: [u8; 16],
    /// The scope names by number, which the entries speak of.
    pub scopes: Vec<Scope>,
    /// The seal on all of this.
    pub seal: [u8; 16],
}

/// What the trail had come to when the part was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailEnd {
    /// The store.
    pub store: [u8; 16],
    /// The last entry.
    pub sequence: u64,
    /// Its chain head.
    pub head: [u8; 32],
    /// When this was said.
    pub at: Timestamp,
    /// The seal on all of this.
    pub seal: [u8; 16],
}

/// A part of the trail, its frames as they lie on disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrailPart {
    /// Where it begins.
    pub start: TrailStart,
    /// What each entry says, unchecked, and its frame. One that says nothing is damaged.
    pub entries: Vec<(Option<AuditEntry>, Vec<u8>)>,
    /// What the trail had come to, which may be beyond the last of these entries.
    pub end: TrailEnd,
}

/// What is wrong with a part of the trail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// It was made with another pepper.
    #[error("the pepper does not match this part of the trail; give the one of its store")]
    WrongPepper,
    /// The start was altered.
    #[error("the header is not as it was written")]
    Start,
    /// The end was altered.
    #[error("the trailer is not as it was written")]
    End,
    /// An entry was altered, or put in.
    #[error("entry {0} is not as it was written, or does not belong here")]
    Entry(u64),
    /// An entry was taken out.
    #[error("entry {missing} is missing: entry {found} stands in its place")]
    Missing {
        /// The first that is missing.
        missing: u64,
        /// What is there.
        found: u64,
    },
    /// An entry stands elsewhere than it was written, or twice.
    #[error("entry {found} stands where entry {expected} should")]
    OutOfPlace {
        /// What is there.
        found: u64,
        /// What should be there.
        expected: u64,
    },
    /// The tail was cut off.
    #[error("it ends at entry {last}, and its trailer tells of entry {told}: the tail was cut off")]
    CutShort {
        /// The last entry that is there.
        last: u64,
        /// The last entry that there was.
        told: u64,
    },
    /// The last entry is not the one that the end tells of.
    #[error("entry {0} is not the one that the trailer tells of")]
    OtherEnd(u64),
    /// A part follows that is of another store.
    #[error("it is of another store than the part before it")]
    Foreign,
    /// A part follows that begins after a gap, or on another past.
    #[error("it begins after entry {after}, which the part before it does not lead to")]
    Apart {
        /// The entry that the later part begins after.
        after: u64,
    },
}

/// Follows a part of the trail, entry by entry.
pub struct Chain {
    seal: Seal,
    catalogue: &'static Catalogue,
    store: [u8; 16],
    /// The head of each entry so far, and before them of the one that the part begins after.
    heads: Vec<[u8; 32]>,
    first: u64,
    /// The entry that comes next; a later part may go back over what an earlier one had.
    next: u64,
}

impl TrailStart {
    fn sealed(&self, seal: &Seal) -> [u8; 16] {
        let names: Vec<u8> =
            self.scopes.iter().flat_map(|s| [s.as_str().as_bytes(), b"\n"].concat()).collect();
        let after = self.after.to_le_bytes();
        seal.tag(&[b"trail start", &self.store, &after, &self.head, &self.pepper_check, &names])
    }

    pub(crate) fn new(
        seals: &Seals,
        store: [u8; 16],
        (after, head): (u64, [u8; 32]),
        catalogue: &Catalogue,
    ) -> Self {
        let scopes = catalogue.entries().iter().map(|entry| entry.scope.clone()).collect();
        let pepper_check = seals.pepper_check;
        let mut start = Self { store, after, head, pepper_check, scopes, seal: [0; 16] };
        start.seal = start.sealed(&seals.trail);
        start
    }
}

impl TrailEnd {
    fn sealed(&self, seal: &Seal) -> [u8; 16] {
        let numbers = [self.sequence, self.at.as_millis()].map(u64::to_le_bytes);
        seal.tag(&[b"trail end", &self.store, numbers.as_flattened(), &self.head])
    }

    pub(crate) fn new(
        seals: &Seals,
        store: [u8; 16],
        (sequence, head): (u64, [u8; 32]),
        at: Timestamp,
    ) -> Self {
        let mut end = Self { store, sequence, head, at, seal: [0; 16] };
        end.seal = end.sealed(&seals.trail);
        end
    }

    /// Whether the store that these are the seals of said so.
    pub(crate) fn is_sealed(&self, seals: &Seals) -> bool {
        self.sealed(&seals.trail) == self.seal
    }
}

impl Chain {
    /// Begins where the part does.
    pub(crate) fn begin(start: &TrailStart, seals: &Seals) -> Result<Self, Broken> {
        if start.pepper_check != seals.pepper_check {
            return Err(Broken::WrongPepper);
        }
        if start.sealed(&seals.trail) != start.seal {
            return Err(Broken::Start);
        }
        let catalogue = Catalogue::new(start.scopes.clone(), None).map_err(|_| Broken::Start)?;
        let (first, next) = (start.after, start.after.saturating_add(1));
        let (seal, store) = (seals.trail.clone(), start.store);
        Ok(Self { seal, catalogue, store, heads: vec![start.head], first, next })
    }

    /// Goes on with the part that follows, which may repeat some of what came before.
    pub fn join(&mut self, start: &TrailStart) -> Result<(), Broken> {
        if start.sealed(&self.seal) != start.seal {
            return Err(Broken::Start);
        }
        if start.store != self.store {
            return Err(Broken::Foreign);
        }
        if self.head(start.after) != Some(start.head) {
            return Err(Broken::Apart { after: start.after });
        }
        let names = start.scopes.clone();
        self.catalogue = Catalogue::new(names, None).map_err(|_| Broken::Start)?;
        self.next = start.after.saturating_add(1);
        Ok(())
    }

    /// The next entry, if this frame is it.
    pub fn follow(&mut self, frame: &[u8]) -> Result<AuditEntry, Broken> {
        let expected = self.next;
        let broken = Broken::Entry(expected);
        let previous = self.head(expected.wrapping_sub(1)).ok_or(broken.clone())?;
        let found = codec::decode_entry_unchecked(frame, expected, self.catalogue);
        match found.map(|entry| entry.sequence) {
            Some(found) if found > expected => {
                return Err(Broken::Missing { missing: expected, found });
            }
            Some(found) if found < expected => return Err(Broken::OutOfPlace { found, expected }),
            _ => {}
        }
        let (entry, head) =
            codec::decode_entry(frame, expected, &previous, &self.seal, self.catalogue)
                .map_err(|_| broken.clone())?;
        match self.head(expected) {
            Some(known) if known != head => return Err(broken),
            Some(_) => {}
            None => self.heads.push(head),
        }
        self.next = expected.saturating_add(1);
        Ok(entry)
    }

    /// Whether an earlier part had the entry that comes next.
    pub fn knows_next(&self) -> bool {
        self.head(self.next).is_some()
    }

    /// Whether that was all.
    pub fn end(&self, end: &TrailEnd) -> Result<(), Broken> {
        if end.sealed(&self.seal) != end.seal {
            return Err(Broken::End);
        }
        if end.store != self.store {
            return Err(Broken::Foreign);
        }
        let last = self.last();
        if last != end.sequence {
            return Err(Broken::CutShort { last, told: end.sequence });
        }
        if self.head(last) == Some(end.head) { Ok(()) } else { Err(Broken::OtherEnd(last)) }
    }

    /// The last entry that was followed.
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    fn head(&self, sequence: u64) -> Option<[u8; 32]> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.heads.get(at).copied()
    }
}
