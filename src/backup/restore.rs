//! Restores a backup into a new store. No key works there that was revoked after the backup.
//!
//! The new audit log has the entries of the backup, then the known later entries, and then an entry
//! of the restore. It is one chain, so the next restore can continue it, and its
//! numbers are above all known ones. The new store gets its name only after the whole backup was
//! read and verified.

use super::{
    evidence::{Evidence, LaterEvidence, OldStore, unknown},
    later::{Decisions, LaterChange},
    read::{Item, Reader},
    summary::{Progress, Summary},
};
use crate::{
    audit_entry::{Act, AuditEntry},
    clock::Clock,
    codec::{self, DbKey},
    digest::Seals,
    error::Error,
    ledger::{Bulk, Tip},
    record::Actor,
    scope::{Catalogue, MAX_SCOPES, NumberedScope, Scope},
    secret::Prefix,
    time::Timestamp,
};
use std::{collections::BTreeMap, io::Read, path::Path, sync::Arc};

/// The result of a restore.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The backup.
    pub backup: Summary,
    /// The entry of the restore, which is the last one of the new store.
    pub sequence: u64,
    /// The number of keys in the new store.
    pub records: u64,
    /// The known changes after the backup, oldest first.
    pub changes: Vec<LaterChange>,
    /// The time span in which revocations are not known; `None` if all are known.
    pub unknown: Option<(Timestamp, Timestamp)>,
}

/// The directory and the actor of a restore.
pub(crate) struct Target<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) anchor: Option<&'a Path>,
    pub(crate) by: Actor,
}

/// Creates a store from the backup.
pub(crate) fn restore(
    from: impl Read,
    target: &Target<'_>,
    later: &LaterEvidence,
    seals: &Arc<Seals>,
    mut report: impl FnMut(Progress),
) -> Result<Restored, Error> {
    let mut reader = Reader::open(from, seals)?;
    let prefix = Prefix::new(&reader.meta().prefix)
        .map_err(|_| Error::bad_backup("its prefix is not valid"))?;
    let mut bulk = Bulk::begin(target.dir, target.anchor, prefix, Arc::clone(seals))?;
    let mut progress = Progress::of(reader.values());
    let start = Tip {
        sequence: reader.meta().mark.sequence,
        head: reader.meta().mark.head,
        newest: Timestamp::from_millis(reader.meta().newest),
    };
    if let Some(frame) = reader.audit_start_frame() {
        bulk.put(DbKey::AuditStart, frame.to_vec())?;
    }
    let mut names = reader.names().to_vec();
    let (mut tip, decisions) = match later {
        LaterEvidence::Unknown => (start, Decisions::default()),
        LaterEvidence::Export { entries, end } => {
            let evidence = Evidence::of_export(entries, end, seals)?;
            follow(&evidence, start, &mut names, seals, &mut bulk)?
        }
        LaterEvidence::Directory { data, anchor } => {
            let old = OldStore::open(data, anchor.as_deref(), bulk.staging(), seals)?;
            follow(&old.evidence()?, start, &mut names, seals, &mut bulk)?
        }
    };
    for (number, scope) in (0..=u8::MAX).zip(&names) {
        let frame = codec::encode_scope(scope, number, &seals.frame)?;
        bulk.put(DbKey::Scope(number), frame)?;
    }
    let mut records = 0;
    let backup = loop {
        match reader.next()? {
            Item::Entry(entry, frame) => bulk.put(DbKey::Entry(entry.sequence), frame)?,
            Item::Record(digest, record, minute, frame) => {
                if let Some((restricted, differs)) = decisions.restrict(*record) {
                    let frame = if differs {
                        codec::encode_record(&restricted, digest, &seals.frame)?
                    } else {
                        frame
                    };
                    bulk.put(DbKey::Record(digest), frame)?;
                    if minute > 0 {
                        let frame = codec::encode_use(minute, restricted.id, &seals.frame)?;
                        bulk.put(DbKey::Use(restricted.id), frame)?;
                    }
                    records += 1;
                }
            }
            Item::End(summary) => break summary,
        }
        progress.count(&mut report);
    };
    let now = Clock::new(tip.newest).now();
    let act = Act::Restore {
        backup: backup.sequence,
        later_known: !matches!(later, LaterEvidence::Unknown),
    };
    let sequence = tip.sequence + 1;
    let entry = AuditEntry { sequence, at: now, ..AuditEntry::new(target.by, act) };
    let (frame, head) = codec::encode_entry(&entry, &tip.head, &seals.audit)?;
    bulk.put(DbKey::Entry(entry.sequence), frame)?;
    tip = Tip { sequence: entry.sequence, head, newest: now };
    bulk.finish(tip)?;
    let unknown = match later {
        LaterEvidence::Directory { .. } => None,
        LaterEvidence::Export { end, .. } => Some((end.at, now)),
        LaterEvidence::Unknown => Some((backup.taken, now)),
    };
    Ok(Restored { backup, sequence: tip.sequence, records, changes: decisions.changes, unknown })
}

/// Appends every later entry to the new audit log, and gathers what the entries decided.
fn follow(
    evidence: &Evidence<'_>,
    start: Tip,
    names: &mut Vec<NumberedScope>,
    seals: &Seals,
    bulk: &mut Bulk,
) -> Result<(Tip, Decisions), Error> {
    let catalogue = numbered(names, &evidence.names)?;
    let (mut tip, mut decisions) = (start, Decisions::default());
    let reached = &evidence.reached;
    let furthest = reached.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
    if furthest < start.sequence {
        return Err(unknown("the old store is older than the backup"));
    }
    let is_same_history = |tip: Tip| {
        reached.iter().all(|(sequence, head)| *sequence != tip.sequence || *head == tip.head)
    };
    while is_same_history(tip) {
        let sequence = tip.sequence + 1;
        let Some(frame) = (evidence.frame)(sequence, &tip.head)? else { break };
        let decoded = codec::decode_entry(&frame, sequence, &tip.head, &seals.audit, catalogue);
        let Ok((entry, head)) = decoded else { break };
        tip = Tip { sequence, head, newest: tip.newest.max(entry.at) };
        bulk.put(DbKey::Entry(sequence), frame)?;
        decisions.add(entry);
    }
    if !is_same_history(tip) {
        return Err(unknown("the old store has another history than the backup"));
    }
    if tip.sequence < furthest {
        return Err(unknown(&format!(
            "entry {} of its audit log is missing or does not follow, and the log reached {furthest}",
            tip.sequence + 1
        )));
    }
    // A number that an entry contains is never given to another name.
    let entries = catalogue.entries().iter().map(|entry| entry.scope.clone().into());
    names.extend(entries.take(decisions.scopes.length).skip(names.len()));
    decisions.scopes.apply(names);
    Ok((tip, decisions))
}

/// A catalogue with a name for every number: the backup's names, the later names, and placeholders.
fn numbered(
    names: &[NumberedScope],
    later: &BTreeMap<usize, Scope>,
) -> Result<&'static Catalogue, Error> {
    let mut all = names.to_vec();
    let missing = Catalogue::new(all.clone(), None)?.entries().len() - all.len();
    for number in all.len()..MAX_SCOPES - missing {
        let placeholder = || format!("lost.scope-{number}").parse();
        let name = later.get(&number).cloned().map_or_else(placeholder, Ok);
        all.push(name.map_err(|_| Error::bad_backup("a scope name is not valid"))?.into());
    }
    Ok(Catalogue::new(all, None)?)
}
