//! The doctor: finds faults in the directory of a store without changing it, and repairs a store.
//!
//! The storage engine changes a database when it opens it, so the doctor examines a copy. While a
//! process has the store open, a copy could be torn. Then the doctor examines only the files, and
//! reports that the database was not read.

mod contents;
mod disk;
mod finding;
mod repair;

pub use self::{
    finding::{Finding, Report, Severity},
    repair::{RepairIssue, Repaired},
};

use self::contents::{Consistency, Contents};
use crate::{
    codec::{Mark, Meta},
    digest::Seals,
    error::Error,
    id::KeyId,
    ledger::inspect::{self, DirectoryState, EntryFault, Found, Inspection},
    offline::Offline,
    record::Record,
    scope::{Catalogue, Grant, Scope},
    time::Timestamp,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

const RESTORE: &str =
    "restore a backup, or save what is provably current with: doctor --repair NEW_DIR";
const MODES: &str = "close it to others (chmod 700 for directories, 600 for files), and consider who may have read it";
const UNSAFE: &str = "until then the store is not opened; consider who may have changed it";
/// The tolerated lag of the clock behind the newest change. Synchronized clocks differ by less.
const CLOCK_SLACK_MS: u64 = 5000;

impl Offline {
    /// Examines the store in `dir` without changing it. Creates a private copy of its database in
    /// `scratch` and removes it afterwards. Pass the options that the store is opened with.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let home = dir.path().join("keys");
    /// # use portcullis::*;
    /// drop(Store::open(&home)?);
    /// let report = Offline::new().examine(&home, &std::env::temp_dir())?;
    /// assert!(report.is_healthy());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn examine(&self, dir: impl AsRef<Path>, scratch: &Path) -> Result<Report, Error> {
        let dir = dir.as_ref();
        let seals = self.seals()?;
        let mut report = Report::default();
        let directory = DirectoryState::read(dir, self.anchor.as_deref())?;
        add_directory(&directory, &mut report);
        if directory.holder.is_none() {
            match Inspection::open(dir, scratch, Arc::clone(&seals)) {
                Ok(inspection) => {
                    let slots = self.slots(dir, &seals);
                    self.examine_contents(&inspection, slots, &mut report)?;
                }
                // The missing or unsafe files are reported already.
                Err(Error::Damaged(_)) if !directory.missing.is_empty() => {}
                Err(Error::Damaged(_) | Error::Unsafe { .. })
                    if !directory.unsafe_entries.is_empty() => {}
                Err(Error::Damaged(what)) => {
                    report.findings.push(Finding::fault("unreadable", what, "restore a backup"));
                }
                Err(Error::Locked { holder, .. }) => report.findings.push(held(&holder)),
                Err(other) => return Err(other),
            }
        }
        report.findings.sort_by_key(|finding| finding.severity == Severity::Note);
        Ok(report)
    }

    fn slots(&self, dir: &Path, seals: &Seals) -> [Option<Mark>; 2] {
        let path = self.anchor.clone().unwrap_or_else(|| dir.join("ledger").join("anchor"));
        inspect::anchor_slots(&path, seals).unwrap_or_default()
    }

    fn examine_contents(
        &self,
        inspection: &Inspection,
        slots: [Option<Mark>; 2],
        report: &mut Report,
    ) -> Result<(), Error> {
        report.was_read = true;
        if let Err(Error::WrongPepper) = inspection.meta {
            let text = Error::WrongPepper.to_string();
            report.findings.push(Finding::fault("pepper", text, "give the right --pepper-file"));
            return Ok(());
        }
        let names = inspection.scopes.iter().map(|(scope, _)| scope.clone()).collect();
        let mut keys = Keys::new(Catalogue::new(names, self.scopes.as_deref())?);
        let found = inspection.records(|found| keys.add(found));
        report.records = found.records;
        let contents = Contents::read(inspection, slots, &found);
        report.entries = contents.entries;
        let findings = &mut report.findings;
        add_engine(inspection, findings);
        add_consistency(&contents, slots, inspection, findings);
        add_audit(&contents, findings);
        keys.compare(&contents, findings);
        let is_reported =
            findings.iter().any(|f| ["record", "missing-record", "scope-name"].contains(&f.code));
        if let Ok(Meta { mark, newest, .. }) = &inspection.meta {
            if (mark.records, mark.scopes, mark.sum) != (found.records, found.scopes, found.sum)
                && !is_reported
            {
                let text = format!(
                    "{} records and {} scope names are intact, but there should be {} and {}, or others",
                    found.records, found.scopes, mark.records, mark.scopes
                );
                findings.push(Finding::fault("sum", text, RESTORE));
            }
            let now = Timestamp::now().as_millis();
            if now.saturating_add(CLOCK_SLACK_MS) < *newest {
                let text =
                    format!("the clock is {} s behind the newest change", (newest - now) / 1000);
                let remedy = "set the clock; until then the store's time stays at that change";
                findings.push(Finding::fault("clock", text, remedy));
            }
        }
        Ok(())
    }
}

fn held(holder: &str) -> Finding {
    let text =
        format!("it is open in {holder}, so its contents were not examined: a copy could be torn");
    let remedy = "stop that process to examine everything; audit --verify and backup work on a running server";
    Finding::fault("in-use", text, remedy)
}

fn add_directory(directory: &DirectoryState, report: &mut Report) {
    for fault in &directory.unsafe_entries {
        report.findings.push(Finding::fault("unsafe", fault.to_string(), UNSAFE));
    }
    let mut add = |code, path: &PathBuf, text: &str, remedy| {
        let text = format!("{}{text}", path.display());
        report.findings.push(Finding::fault(code, text, remedy));
    };
    for (path, mode) in &directory.accessible {
        add("permissions", path, &format!(" is open to others (mode {mode:03o})"), MODES);
    }
    for (path, owner) in &directory.foreign {
        let remedy = "correct its owner (chown), or run as that user if all of it is theirs";
        add("owner", path, &format!(" belongs to user {owner}"), remedy);
    }
    for path in &directory.leftovers {
        let text = " was left when the store was killed during creation or opening";
        add("leftover", path, text, "nothing is lost; opening or creating the store removes it");
    }
    for path in &directory.missing {
        add("missing-file", path, " is missing", "put that file back, or restore a backup");
    }
    for path in &directory.blobs {
        add("blob", path, " is outside of the database file, where it is not durable", RESTORE);
    }
    for (path, why) in &directory.unreadable {
        add(
            "hidden",
            path,
            &format!(" cannot be examined: {why}"),
            "run as the user whose store it is",
        );
    }
    disk::examine(directory, &mut report.findings);
    if let Some(holder) = &directory.holder {
        report.findings.push(held(holder));
    }
}

fn add_engine(inspection: &Inspection, findings: &mut Vec<Finding>) {
    if inspection.without_snapshot {
        let text = "the engine's snapshot (ledger/sled/snap.*) is damaged, but the database is readable without it";
        findings.push(Finding::fault(
            "snapshot",
            text,
            "move that file away, and run doctor again",
        ));
    }
    if let Err(error) = &inspection.meta {
        findings.push(Finding::fault("meta", inner(error), RESTORE));
    }
    if let Err(error) = &inspection.audit_start {
        findings.push(Finding::fault("floor", inner(error), RESTORE));
    }
    inspection.uses(|key, minute| {
        if minute.is_none() {
            let whose = key.map_or_else(|| "a key".to_owned(), |key| key.to_string());
            let text = format!("the last use of {whose} is not as it was written");
            findings.push(Finding::fault("use", text, RESTORE).of_key(key));
        }
    });
    for (_, error) in &inspection.scopes {
        let error = error.as_ref().map(inner);
        findings.extend(error.map(|text| Finding::fault("scope-name", text, RESTORE)));
    }
}

/// The damage, without the remedy that opening adds.
fn inner(error: &Error) -> String {
    match error {
        Error::Damaged(what) => what.to_string(),
        other => other.to_string(),
    }
}

fn add_consistency(
    contents: &Contents,
    slots: [Option<Mark>; 2],
    inspection: &Inspection,
    findings: &mut Vec<Finding>,
) {
    if slots.iter().flatten().count() == 1 {
        let text = "one of the two slots of the anchor is not intact; a power failure can cause that, and one slot suffices";
        findings.push(Finding::note("anchor-slot", text, "nothing; the next change writes it"));
    }
    let finding = match contents.consistency {
        Consistency::Intact => return,
        Consistency::NoAnchor if findings.iter().any(|f| f.code == "missing-file") => return,
        Consistency::NoAnchor => Finding::fault("anchor", "the anchor is not as it was written", RESTORE),
        Consistency::Foreign => Finding::fault(
            "foreign-anchor",
            "the anchor belongs to another store",
            "give the anchor of this store (--anchor), or restore the right file",
        ),
        Consistency::RolledBack { found, anchored } => Finding::fault(
            "rolled-back",
            format!(
                "the store was rolled back: it is at change {found}, and its anchor records change {anchored}; keys \
                 that were revoked since would work again"
            ),
            "put the newer files back or restore a backup",
        )
        .of_entry(anchored),
        Consistency::Fork { anchored } => Finding::fault(
            "fork",
            format!("at change {anchored} its history differs from its anchor"),
            "put the files back that belong to this anchor, or restore a backup",
        )
        .of_entry(anchored),
        // The damaged meta record is reported already.
        Consistency::OtherEnd { .. } if inspection.meta.is_err() => return,
        Consistency::OtherEnd { found, recorded } => Finding::fault(
            "end",
            format!("the audit log ends at entry {found}, not at entry {recorded} as its meta record says"),
            RESTORE,
        )
        .of_entry(found),
    };
    findings.push(finding);
}

fn add_audit(contents: &Contents, findings: &mut Vec<Finding>) {
    if !contents.is_prune_recorded {
        let text = format!(
            "no entry records the prune of the audit log through entry {}",
            contents.pruned_through
        );
        findings.push(Finding::fault("floor", text, RESTORE).of_entry(contents.pruned_through));
    }
    let mut faults = contents.faults.iter().peekable();
    while let Some(&(first, fault)) = faults.next() {
        let mut last = first;
        while fault == EntryFault::Missing
            && let Some((next, _)) = faults.next_if(|f| **f == (last + 1, EntryFault::Missing))
        {
            last = *next;
        }
        let text = match fault {
            EntryFault::Missing if last > first => {
                format!("entries {first} to {last} of the audit log are missing")
            }
            EntryFault::Missing => format!("entry {first} of the audit log is missing"),
            EntryFault::ChainMismatch => format!(
                "entry {first} of the audit log is not as it was written, or the one before it was altered"
            ),
            EntryFault::Unverifiable => {
                format!("entry {first} of the audit log follows a gap, so it is not proved")
            }
            EntryFault::Misplaced => {
                format!("another entry is in the place of entry {first} of the audit log")
            }
        };
        findings.push(Finding::fault("trail", text, RESTORE).of_entry(first));
    }
}

/// The records found so far.
struct Keys {
    /// With the names that the host offers: a scope that it no longer offers is reported.
    catalogue: &'static Catalogue,
    revisions: HashMap<KeyId, u64>,
    found: Vec<Finding>,
    expired: u64,
}

impl Keys {
    fn new(catalogue: &'static Catalogue) -> Self {
        Self { catalogue, revisions: HashMap::new(), found: Vec::new(), expired: 0 }
    }

    fn add(&mut self, found: Found) {
        let finding = match found {
            Found::Intact(_, record) => return self.add_intact(&record),
            Found::Damaged(digest, key) => {
                let whose = key
                    .map_or_else(String::new, |key| format!(", which seems to belong to {key},"));
                let text = format!("the record under {digest:?}{whose} is not as it was written");
                Finding::fault("record", text, RESTORE).of_key(key)
            }
            Found::Stray => {
                Finding::fault("stray", "a value in the place of a record is not a record", RESTORE)
            }
            Found::Unreadable => Finding::fault(
                "record",
                "a part of the database cannot be read, and there may be records in it",
                RESTORE,
            ),
        };
        self.found.push(finding);
    }

    fn add_intact(&mut self, record: &Record) {
        let id = record.id;
        let now = Timestamp::now();
        self.expired += u64::from(record.expiry.has_come(now));
        if self.revisions.insert(id, record.revision).is_some() {
            self.found
                .push(Finding::fault("twice", format!("{id} has two records"), RESTORE).of_key(id));
        }
        let Grant::Scopes(set) = record.grant else { return };
        let entries = self.catalogue.entries();
        let gone = |scope: &&Scope| !entries.iter().any(|e| e.offered && e.scope == **scope);
        let names: Vec<&str> = set.iter().filter(gone).map(Scope::as_str).collect();
        if !names.is_empty() {
            let text =
                format!("{id} has scopes that are no longer in the catalogue: {}", names.join(" "));
            let remedy = "nothing, or narrow the key: a check for that name still passes";
            self.found.push(Finding::note("scope", text, remedy).of_key(id));
        }
    }

    /// Compares them with the audit log.
    fn compare(self, contents: &Contents, findings: &mut Vec<Finding>) {
        findings.extend(self.found);
        let mut recorded: Vec<_> = contents.last.iter().collect();
        recorded.sort_by_key(|(_, last)| last.sequence);
        for (&id, last) in recorded {
            let sequence = last.sequence;
            let text = match self.revisions.get(&id) {
                None if last.is_deleted => continue,
                Some(revision) if !last.is_deleted && *revision == sequence => continue,
                None => format!("the record of {id} is missing; its last change is {sequence}"),
                Some(_) if last.is_deleted => {
                    format!("{id} was deleted by change {sequence}, but its record exists")
                }
                Some(revision) => {
                    format!(
                        "the record of {id} is of change {revision}, but its last change is {sequence}"
                    )
                }
            };
            let code = if self.revisions.contains_key(&id) { "record" } else { "missing-record" };
            findings.push(Finding::fault(code, text, RESTORE).of_key(id).of_entry(sequence));
        }
        if self.expired > 0 {
            let text = format!("{} keys have expired", self.expired);
            findings.push(Finding::note("expired", text, "delete those that are not needed"));
        }
    }
}
