//! The contents of a damaged or intact store, and what the audit log proves about its keys.

use crate::{
    audit_entry::{Act, AuditEntry},
    codec::Mark,
    id::KeyId,
    ledger::inspect::{EntryFault, Inspection},
};
use std::collections::HashMap;

/// The last change of a key in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastChange {
    pub(super) sequence: u64,
    pub(super) is_deleted: bool,
}

/// Whether audit log, meta record and anchor agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consistency {
    /// The audit log ends where the meta record says, and its history contains the anchor's mark.
    Intact,
    /// No slot of the anchor is intact, or there is none.
    NoAnchor,
    /// The anchor belongs to another store.
    Foreign,
    /// The anchor records a newer change than the database has.
    RolledBack { found: u64, anchored: u64 },
    /// The history of the audit log differs from the anchor's mark.
    Fork { anchored: u64 },
    /// The audit log does not end where the meta record says.
    OtherEnd { found: u64, recorded: u64 },
}

/// The audit log, and what it proves.
pub(super) struct Contents {
    /// Every fault, with its entry.
    pub(super) faults: Vec<(u64, EntryFault)>,
    pub(super) entries: u64,
    pub(super) last: HashMap<KeyId, LastChange>,
    pub(super) anchor: Option<Mark>,
    pub(super) consistency: Consistency,
    /// The last entry and its chain head.
    pub(super) end: u64,
    pub(super) head: [u8; 32],
    /// From this entry on, no entry has a fault.
    known_from: u64,
    /// The last pruned entry.
    pub(super) pruned_through: u64,
    /// The audit log does not describe the records up to this change: it was pruned, or a restore or a
    /// repair wrote them.
    base: u64,
    /// Whether an entry records the prune that the audit start states.
    pub(super) is_prune_recorded: bool,
    /// Whether the sum of the records matches the meta record, which agrees with the anchor.
    pub(super) is_sum_right: bool,
}

impl Contents {
    /// Reads the audit log. `found` is the mark of the intact records.
    pub(super) fn read(inspection: &Inspection, slots: [Option<Mark>; 2], found: &Mark) -> Self {
        let anchor = slots.into_iter().flatten().max_by_key(|mark| mark.sequence);
        let meta = inspection.meta.as_ref().ok().map(|meta| meta.mark);
        let recorded = [meta, anchor].into_iter().flatten().map(|mark| mark.sequence).max();
        let start = inspection.audit_start.as_ref().ok().copied().unwrap_or_default();
        let mut contents = Self {
            faults: Vec::new(),
            entries: 0,
            last: HashMap::new(),
            anchor,
            consistency: Consistency::Intact,
            end: start.through,
            head: start.head,
            known_from: start.through + 1,
            pruned_through: start.through,
            base: start.through,
            is_prune_recorded: start.through == 0,
            is_sum_right: false,
        };
        let anchored = anchor.map_or(0, |mark| mark.sequence);
        let mut head_at_anchor = (anchored == start.through).then_some(start.head);
        inspection.audit_entries(recorded.unwrap_or(0), |inspected| {
            if let Some(fault) = inspected.fault {
                contents.faults.push((inspected.sequence, fault));
                contents.known_from = inspected.sequence + 1;
            } else {
                contents.entries += 1;
            }
            if let Some(entry) = &inspected.entry {
                contents.fold(inspected.sequence, entry, inspected.fault.is_none());
                contents.is_prune_recorded |= inspected.sequence == start.pruned_by
                    && match &entry.act {
                        Act::Prune { through, head } => {
                            (*through, *head) == (start.through, start.head)
                        }
                        // A repaired store begins with the entry of the repair.
                        _ => start.pruned_by == start.through + 1,
                    };
            }
            if let Some(head) = inspected.head {
                (contents.end, contents.head) = (inspected.sequence, head);
                if inspected.sequence == anchored {
                    head_at_anchor = Some(head);
                }
            }
        });
        contents.consistency = contents.consistency(meta, head_at_anchor);
        contents.is_sum_right = contents.consistency == Consistency::Intact
            && meta.is_some_and(|meta| {
                (meta.records, meta.scopes, meta.sum) == (found.records, found.scopes, found.sum)
            });
        contents
    }

    fn consistency(&self, meta: Option<Mark>, head_at_anchor: Option<[u8; 32]>) -> Consistency {
        let Some(anchor) = self.anchor else { return Consistency::NoAnchor };
        let anchored = anchor.sequence;
        if meta.is_some_and(|meta| meta.store != anchor.store) {
            return Consistency::Foreign;
        }
        let found = meta.map_or(self.end, |meta| meta.sequence);
        if found < anchored {
            return Consistency::RolledBack { found, anchored };
        }
        if head_at_anchor != Some(anchor.head)
            || meta.is_some_and(|m| m.sequence == anchored && m != anchor)
        {
            return Consistency::Fork { anchored };
        }
        // Without a meta record only the anchor states the end of the audit log.
        let (recorded, head) =
            meta.map_or((anchored, anchor.head), |meta| (meta.sequence, meta.head));
        if (self.end, self.head) == (recorded, head) {
            Consistency::Intact
        } else {
            Consistency::OtherEnd { found: self.end, recorded }
        }
    }

    /// An unproved entry counts as well: it can only make the state of a key less certain.
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
            self.last.insert(key, LastChange { sequence, is_deleted });
        }
    }

    /// Whether this is proved to be the key's last revision. The audit log must reach the anchor, and
    /// must have no later change of the key. All entries after that revision must be intact.
    /// For a change before a prune, a restore or a repair, the sum over all records is the proof.
    pub(super) fn is_current(&self, key: KeyId, revision: u64) -> bool {
        if self.consistency != Consistency::Intact || !self.is_prune_recorded {
            return false;
        }
        match self.last.get(&key) {
            Some(last) => {
                !last.is_deleted && last.sequence == revision && revision >= self.known_from
            }
            None => revision <= self.base && self.known_from <= self.base + 1 && self.is_sum_right,
        }
    }

    /// The keys in the audit log that were not deleted.
    pub(super) fn undeleted(&self) -> impl Iterator<Item = (KeyId, LastChange)> {
        self.last.iter().filter(|(_, last)| !last.is_deleted).map(|(key, last)| (*key, *last))
    }
}
