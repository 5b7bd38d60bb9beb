//! A new store from a backup, in which nothing works that was taken away since.
//!
//! The new trail is the backup's, then the entries that came later, as far as they are known, then a
//! note of the restore: one chain, so that the next restore can be joined to it, and a sequence above
//! all that is known. Nothing has its name before the backup was read to its end and found right.

use super::{
    Progress, Summary, TOLD_EACH,
    later::{Decisions, LaterChange},
    read::{Item, Reader},
};
use crate::{
    audit::{Act, AuditEntry},
    clock::Clock,
    codec::{self, Place},
    digest::Seals,
    error::Error,
    ledger::{Bulk, Tip},
    proof::AuditRangeEnd,
    record::{Actor, Change},
    scope::{Catalogue, Grant, MAX_SCOPES, Scope},
    secret::Prefix,
    time::Timestamp,
};
use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where it is written what was taken away after the backup was taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LaterEvidence {
    /// In the directory of the old store, which may be damaged as long as its trail reaches from
    /// the backup to its anchor. It is not changed, and no process may have it open.
    Directory {
        /// The old data directory.
        data: PathBuf,
        /// Its anchor, where that is kept elsewhere.
        anchor: Option<PathBuf>,
    },
    /// In an exported trail, from the backup on or earlier. What was taken away after it was exported
    /// is not known.
    Export {
        /// Its entries, oldest first.
        entries: Vec<AuditEntry>,
        /// What it says of its end.
        end: AuditRangeEnd,
    },
    /// Nowhere: keys that were taken away since the backup was taken **work again**.
    Unknown,
}

/// What a restore made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The backup.
    pub backup: Summary,
    /// The number of the entry that tells of the restore, the last of the new store.
    pub sequence: u64,
    /// How many keys the new store has.
    pub records: u64,
    /// What was done after the backup was taken, oldest first, as far as it is known.
    pub changes: Vec<LaterChange>,
    /// From when to when nothing is known of what was taken away; `None` where all of it is.
    pub unknown: Option<(Timestamp, Timestamp)>,
}

/// The entries that follow a backup, and how far they must come.
pub(super) struct Since<'a> {
    /// The frame of the entry with this number, if it follows the one with this chain head.
    pub(super) frame: Box<Frames<'a>>,
    /// The trail had come this far, with these chain heads.
    pub(super) passed: Vec<(u64, [u8; 32])>,
    /// The scope names by number, as far as they are known.
    pub(super) names: BTreeMap<usize, Scope>,
}

type Frames<'a> = dyn Fn(u64, &[u8; 32]) -> Result<Option<Vec<u8>>, Error> + 'a;

/// Where the new store lies, and who makes it.
pub(crate) struct Into<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) anchor: Option<&'a Path>,
    pub(crate) by: Actor,
}

/// Makes a store in `into` from the backup.
pub(crate) fn restore(
    from: impl Read,
    into: &Into<'_>,
    later: &LaterEvidence,
    seals: &Arc<Seals>,
    mut progress: impl FnMut(Progress),
) -> Result<Restored, Error> {
    let mut reader = Reader::open(from, seals)?;
    let prefix = Prefix::new(&reader.meta().prefix)
        .map_err(|_| Error::bad_backup("its prefix is not one"))?;
    let mut bulk = Bulk::begin(into.dir, into.anchor, prefix, Arc::clone(seals))?;
    let mut told = Progress { done: 0, all: reader.values() };
    let start = Tip {
        sequence: reader.meta().mark.sequence,
        head: reader.meta().mark.head,
        newest: Timestamp::from_millis(reader.meta().newest),
    };
    if let Some(frame) = reader.floor_frame() {
        bulk.put(Place::AuditStart, frame.to_vec())?;
    }
    let mut names = reader.names().to_vec();
    let (mut tip, decisions) = match later {
        LaterEvidence::Unknown => (start, Decisions::default()),
        LaterEvidence::Export { entries, end } => {
            follow(&exported(entries, end, seals)?, start, &mut names, seals, &mut bulk)?
        }
        LaterEvidence::Directory { data, anchor } => {
            let old = super::old::Old::open(data, anchor.as_deref(), bulk.nursery(), seals)?;
            follow(&old.since()?, start, &mut names, seals, &mut bulk)?
        }
    };
    for (number, name) in (0..=u8::MAX).zip(&names) {
        let frame = codec::encode_scope(name.as_str(), number, &seals.frame)?;
        bulk.put(Place::Scope(number), frame)?;
    }
    let mut records = 0;
    let backup = loop {
        match reader.next()? {
            Item::Entry(entry, frame) => bulk.put(Place::Entry(entry.sequence), frame)?,
            Item::Record(digest, record, minute, frame) => {
                if let Some((met, differs)) = decisions.meet(*record) {
                    let frame = if differs {
                        codec::encode_record(&met, digest, &seals.frame)?
                    } else {
                        frame
                    };
                    bulk.put(Place::Record(digest), frame)?;
                    if minute > 0 {
                        let frame = codec::encode_use(minute, met.id, &seals.frame)?;
                        bulk.put(Place::Use(met.id), frame)?;
                    }
                    records += 1;
                }
            }
            Item::End(summary) => break summary,
        }
        told.done += 1;
        if told.done.is_multiple_of(TOLD_EACH) {
            progress(told);
        }
    };
    let now = Clock::new(tip.newest).now();
    tip = note(into.by, &backup, later, tip, now, seals, &mut bulk)?;
    bulk.finish(tip)?;
    let unknown = match later {
        LaterEvidence::Directory { .. } => None,
        LaterEvidence::Export { end, .. } => Some((end.at, now)),
        LaterEvidence::Unknown => Some((backup.taken, now)),
    };
    Ok(Restored { backup, sequence: tip.sequence, records, changes: decisions.changes, unknown })
}

/// Puts every entry that follows into the new trail, and learns what was decided.
fn follow(
    since: &Since<'_>,
    start: Tip,
    names: &mut Vec<Scope>,
    seals: &Seals,
    bulk: &mut Bulk,
) -> Result<(Tip, Decisions), Error> {
    let catalogue = numbered(names, &since.names)?;
    let (mut tip, mut decisions) = (start, Decisions::default());
    let furthest = since.passed.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
    if furthest < start.sequence {
        return Err(unknown("the old store is older than the backup"));
    }
    let passed = |tip: Tip| {
        since.passed.iter().all(|(sequence, head)| *sequence != tip.sequence || *head == tip.head)
    };
    while passed(tip) {
        let sequence = tip.sequence + 1;
        let Some(frame) = (since.frame)(sequence, &tip.head)? else { break };
        let decoded = codec::decode_entry(&frame, sequence, &tip.head, &seals.trail, catalogue);
        let Ok((entry, head)) = decoded else { break };
        tip = Tip { sequence, head, newest: tip.newest.max(entry.at) };
        bulk.put(Place::Entry(sequence), frame)?;
        decisions.add(entry);
    }
    if !passed(tip) {
        return Err(unknown("the old store has another past than the backup"));
    }
    if tip.sequence < furthest {
        return Err(unknown(&format!(
            "entry {} of its trail is missing or does not follow, and it had come to {furthest}",
            tip.sequence + 1
        )));
    }
    // A number that the trail speaks of is never given to another name.
    let entries = catalogue.entries().iter().map(|entry| entry.scope.clone());
    names.extend(entries.take(decisions.scopes).skip(names.len()));
    Ok((tip, decisions))
}

/// An exported trail as a witness. The chain is made anew from its entries, so that it says
/// nothing that they do not say.
fn exported<'a>(
    entries: &'a [AuditEntry],
    end: &AuditRangeEnd,
    seals: &'a Seals,
) -> Result<Since<'a>, Error> {
    if !end.is_sealed(seals) {
        return Err(unknown("the end of the exported trail is not as it was written"));
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
        let encoded = entry.map(|entry| codec::encode_entry(entry, head, &seals.trail));
        Ok(encoded.transpose()?.map(|(frame, _)| frame))
    };
    let passed = vec![(end.sequence, end.head)];
    Ok(Since { frame: Box::new(frame), passed, names })
}

/// A catalogue with a name for every number: the backup's, those that came later, and stand-ins.
fn numbered(names: &[Scope], later: &BTreeMap<usize, Scope>) -> Result<&'static Catalogue, Error> {
    let mut all = names.to_vec();
    let missing = Catalogue::new(all.clone(), None)?.entries().len() - all.len();
    for number in all.len()..MAX_SCOPES - missing {
        let stand_in = || format!("lost.scope-{number}").parse();
        let name = later.get(&number).cloned().map_or_else(stand_in, Ok);
        all.push(name.map_err(|_| Error::bad_backup("a scope name is not one"))?);
    }
    Ok(Catalogue::new(all, None)?)
}

/// The restore is in the trail, as everything is.
fn note(
    by: Actor,
    backup: &Summary,
    later: &LaterEvidence,
    tip: Tip,
    now: Timestamp,
    seals: &Seals,
    bulk: &mut Bulk,
) -> Result<Tip, Error> {
    let sequence = tip.sequence + 1;
    let entry = AuditEntry {
        sequence,
        at: now,
        actor: by,
        source: None,
        act: Act::Restore {
            backup: backup.sequence,
            later_known: !matches!(later, LaterEvidence::Unknown),
        },
        key: None,
        before: Change::default(),
        after: Change::default(),
        once: None,
        last_once: None,
    };
    let (frame, head) = codec::encode_entry(&entry, &tip.head, &seals.trail)?;
    bulk.put(Place::Entry(sequence), frame)?;
    Ok(Tip { sequence, head, newest: now })
}

pub(super) fn unknown(why: &str) -> Error {
    Error::UnknownRevocations(why.into())
}
