//! What a store holds, and what can be proved of it.

use crate::{
    audit::{Act, AuditEntry},
    codec::Mark,
    id::KeyId,
    ledger::inspect::{Fault, Inspection},
};
use std::collections::HashMap;

/// What the trail tells of a key last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) sequence: u64,
    pub(super) is_deleted: bool,
}

/// How trail, meta record and anchor fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The trail ends where meta and anchor say, or the database is ahead of the anchor on the past
    /// that it saw.
    Whole,
    /// No slot of the anchor is intact, or there is none.
    NoAnchor,
    /// The anchor is of another store.
    Foreign,
    /// The anchor has seen more than is here.
    RolledBack { found: u64, anchored: u64 },
    /// The trail has another past than the anchor saw.
    Fork { anchored: u64 },
    /// The trail does not end where meta says.
    OtherEnd { found: u64, told: u64 },
}

/// The trail, and what it proves.
pub(super) struct Contents {
    /// Every fault, each with the entry that it is of.
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) entries: u64,
    pub(super) last: HashMap<KeyId, Last>,
    pub(super) anchor: Option<Mark>,
    pub(super) reach: Reach,
    /// The last entry that is there, and its head.
    pub(super) end: u64,
    pub(super) head: [u8; 32],
    /// No entry is wrong from this one on.
    known_from: u64,
    /// The last entry that was cut away.
    pub(super) floor: u64,
    /// The trail tells nothing of the records as they were here: it was cut, or what it told was
    /// overtaken by a restore or a repair.
    base: u64,
    pub(super) floor_is_told: bool,
    /// Whether the records are the very ones that meta vouches for, and anchor does not gainsay.
    pub(super) is_sum_right: bool,
}

impl Contents {
    /// Reads the trail. `found` is what the intact records add up to.
    pub(super) fn read(inspection: &Inspection, slots: [Option<Mark>; 2], found: &Mark) -> Self {
        let anchor = slots.into_iter().flatten().max_by_key(|mark| mark.sequence);
        let meta = inspection.meta.as_ref().ok().map(|meta| meta.mark);
        let told = [meta, anchor].into_iter().flatten().map(|mark| mark.sequence).max();
        let floor = inspection.floor.as_ref().ok().copied().unwrap_or_default();
        let mut contents = Self {
            faults: Vec::new(),
            entries: 0,
            last: HashMap::new(),
            anchor,
            reach: Reach::Whole,
            end: floor.through,
            head: floor.head,
            known_from: floor.through + 1,
            floor: floor.through,
            base: floor.through,
            floor_is_told: floor.through == 0,
            is_sum_right: false,
        };
        let anchored = anchor.map_or(0, |mark| mark.sequence);
        let mut head_at_anchor = (anchored == floor.through).then_some(floor.head);
        inspection.trail(told.unwrap_or(0), |link| {
            if let Some(fault) = link.fault {
                contents.faults.push((link.sequence, fault));
                contents.known_from = link.sequence + 1;
            } else {
                contents.entries += 1;
            }
            if let Some(entry) = &link.entry {
                contents.fold(link.sequence, entry, link.fault.is_none());
                contents.floor_is_told |= link.sequence == floor.cut
                    && match &entry.act {
                        Act::Prune { through, head } => {
                            (*through, *head) == (floor.through, floor.head)
                        }
                        // Such a trail begins with its first entry.
                        _ => floor.cut == floor.through + 1,
                    };
            }
            if let Some(head) = link.head {
                (contents.end, contents.head) = (link.sequence, head);
                if link.sequence == anchored {
                    head_at_anchor = Some(head);
                }
            }
        });
        contents.reach = contents.reach(meta, head_at_anchor);
        contents.is_sum_right = contents.reach == Reach::Whole
            && meta.is_some_and(|meta| {
                (meta.records, meta.scopes, meta.sum) == (found.records, found.scopes, found.sum)
            });
        contents
    }

    fn reach(&self, meta: Option<Mark>, head_at_anchor: Option<[u8; 32]>) -> Reach {
        let Some(anchor) = self.anchor else { return Reach::NoAnchor };
        let anchored = anchor.sequence;
        if meta.is_some_and(|meta| meta.store != anchor.store) {
            return Reach::Foreign;
        }
        let found = meta.map_or(self.end, |meta| meta.sequence);
        if found < anchored {
            return Reach::RolledBack { found, anchored };
        }
        if head_at_anchor != Some(anchor.head)
            || meta.is_some_and(|m| m.sequence == anchored && m != anchor)
        {
            return Reach::Fork { anchored };
        }
        // Without meta only the anchor tells where the trail ends.
        let (told, head) = meta.map_or((anchored, anchor.head), |meta| (meta.sequence, meta.head));
        if (self.end, self.head) == (told, head) {
            Reach::Whole
        } else {
            Reach::OtherEnd { found: self.end, told }
        }
    }

    /// An entry that is not proved counts as well: it can only make a key less certain.
    fn fold(&mut self, sequence: u64, entry: &AuditEntry, is_intact: bool) {
        let is_deleted = entry.act == Act::Delete;
        let new = match &entry.act {
            Act::Create | Act::Update | Act::Delete => None,
            Act::Rotate { into } => Some(*into),
            Act::Restore { .. } | Act::Repair { .. } if is_intact => {
                self.last.clear();
                self.base = sequence;
                return;
            }
            _ => return,
        };
        for key in entry.key.into_iter().chain(new) {
            self.last.insert(key, Last { sequence, is_deleted });
        }
    }

    /// Whether this is the key's last revision. The trail must reach the anchor, and tell of no
    /// later change; and no entry that it should have after that revision may be wrong or missing.
    /// What lies before a cut, a restore or a repair tells of nothing: there the sum over all
    /// records stands in for it.
    pub(super) fn is_current(&self, key: KeyId, revision: u64) -> bool {
        if self.reach != Reach::Whole || !self.floor_is_told {
            return false;
        }
        match self.last.get(&key) {
            Some(last) => {
                !last.is_deleted && last.sequence == revision && revision >= self.known_from
            }
            None => revision <= self.base && self.known_from <= self.base + 1 && self.is_sum_right,
        }
    }

    /// The keys that the trail tells of and that were not deleted.
    pub(super) fn live(&self) -> impl Iterator<Item = (KeyId, Last)> {
        self.last.iter().filter(|(_, last)| !last.is_deleted).map(|(key, last)| (*key, *last))
    }
}
