//! Evidence of the changes after a backup: the audit log of the old store, or an export of it.
//!
//! A restore must know every key that was revoked after the backup. So evidence states how far the
//! audit log had come, and it counts only if its entries reach that far without a gap.

use crate::{
    audit_entry::AuditEntry,
    codec::{self, Mark},
    digest::Seals,
    error::Error,
    ledger::inspect::{self, Inspection},
    proof::AuditRangeEnd,
    scope::{Grant, Scope},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The source of the changes that were made after a backup was taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LaterEvidence {
    /// The directory of the old store. The store may be damaged if its audit log is intact from the
    /// backup to the anchor. The directory is not changed, and no process may have it open.
    Directory {
        /// The old data directory.
        data: PathBuf,
        /// Its anchor, if that is elsewhere.
        anchor: Option<PathBuf>,
    },
    /// An exported audit log that begins at the backup or earlier. Changes after the export are not
    /// known.
    Export {
        /// The entries, oldest first.
        entries: Vec<AuditEntry>,
        /// The end of the audit log when it was exported.
        end: AuditRangeEnd,
    },
    /// No evidence: keys that were revoked after the backup **work again**.
    Unknown,
}

/// The entries after a backup, and how far the audit log had come.
pub(super) struct Evidence<'a> {
    /// Returns the frame of the entry with this number that follows this chain head.
    pub(super) frame: Box<FrameOf<'a>>,
    /// Entries that the audit log had reached, with their chain heads.
    pub(super) reached: Vec<(u64, [u8; 32])>,
    /// The known scope names by number.
    pub(super) names: BTreeMap<usize, Scope>,
}

type FrameOf<'a> = dyn Fn(u64, &[u8; 32]) -> Result<Option<Vec<u8>>, Error> + 'a;

impl<'a> Evidence<'a> {
    /// Uses the entries of an export. Their chain is recomputed, so it proves only what the
    /// entries contain.
    pub(super) fn of_export(
        entries: &'a [AuditEntry],
        end: &AuditRangeEnd,
        seals: &'a Seals,
    ) -> Result<Self, Error> {
        if !end.is_sealed(seals) {
            return Err(unknown("the end of the exported audit log is not as it was written"));
        }
        let grants = entries.iter().flat_map(|entry| [entry.before.grant, entry.after.grant]);
        let mut names = BTreeMap::new();
        for grant in grants.flatten() {
            if let Grant::Scopes(set) = grant {
                names.extend(set.numbers().zip(set.iter().cloned()));
            }
        }
        let first = entries.first().map_or(0, |entry| entry.sequence);
        let frame = move |sequence: u64, head: &[u8; 32]| {
            let at = sequence.checked_sub(first).and_then(|at| usize::try_from(at).ok());
            let entry = at.and_then(|at| entries.get(at));
            let encoded = entry.map(|entry| codec::encode_entry(entry, head, &seals.audit));
            Ok(encoded.transpose()?.map(|(frame, _)| frame))
        };
        Ok(Self { frame: Box::new(frame), reached: vec![(end.sequence, end.head)], names })
    }
}

/// A copy of the directory of an old store, and the newest mark of its anchor.
pub(super) struct OldStore {
    inspection: Inspection,
    anchored: Mark,
}

impl OldStore {
    /// Copies the directory to `scratch`. Without a readable anchor the end of the audit log is not
    /// known.
    pub(super) fn open(
        data: &Path,
        anchor: Option<&Path>,
        scratch: &Path,
        seals: &Arc<Seals>,
    ) -> Result<Self, Error> {
        let default = data.join("ledger").join("anchor");
        let path = anchor.unwrap_or(&default);
        let slots = inspect::anchor_slots(path, seals)
            .map_err(|_| unknown("the anchor of the old store cannot be read"))?;
        let anchored = slots.into_iter().flatten().max_by_key(|mark| mark.sequence);
        let anchored = anchored
            .ok_or_else(|| unknown("the anchor of the old store is not as it was written"))?;
        let inspection = Inspection::open(data, scratch, Arc::clone(seals))?;
        Ok(Self { inspection, anchored })
    }

    /// The audit log must reach the mark of the anchor, and that of an intact meta record: the anchor
    /// may be some changes behind.
    pub(super) fn evidence(&self) -> Result<Evidence<'_>, Error> {
        let mut reached = vec![(self.anchored.sequence, self.anchored.head)];
        match &self.inspection.meta {
            Ok(meta) => reached.push((meta.mark.sequence, meta.mark.head)),
            Err(Error::WrongPepper) => return Err(Error::WrongPepper),
            Err(_) => {}
        }
        let known = self.inspection.scopes.iter().map(|(scope, _)| scope.scope.clone());
        let names = known.enumerate().collect();
        let frame = |sequence: u64, _: &[u8; 32]| Ok(self.inspection.frame(sequence));
        Ok(Evidence { frame: Box::new(frame), reached, names })
    }
}

pub(super) fn unknown(why: &str) -> Error {
    Error::UnknownRevocations(why.into())
}
