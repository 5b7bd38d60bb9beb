//! What the doctor says: a finding, what to do about it, and all of them.

use crate::id::KeyId;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Severity {
    /// Something is wrong.
    Fault,
    /// Worth knowing; nothing is wrong.
    Note,
}

/// One thing that was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// A word for its kind, which programs may rely on.
    pub code: &'static str,
    /// How much it weighs.
    pub weight: Severity,
    /// What was found.
    pub text: String,
    /// What to do.
    pub remedy: &'static str,
    /// The key that it is of.
    pub key: Option<KeyId>,
    /// The entry of the trail that it is of.
    pub sequence: Option<u64>,
}

impl Finding {
    pub(super) fn fault(code: &'static str, text: impl Into<String>, remedy: &'static str) -> Self {
        Self { code, weight: Severity::Fault, text: text.into(), remedy, key: None, sequence: None }
    }

    pub(super) fn note(code: &'static str, text: impl Into<String>, remedy: &'static str) -> Self {
        Self { weight: Severity::Note, ..Self::fault(code, text, remedy) }
    }

    pub(super) fn of_key(self, key: impl Into<Option<KeyId>>) -> Self {
        Self { key: key.into(), ..self }
    }

    pub(super) fn of_entry(self, sequence: u64) -> Self {
        Self { sequence: Some(sequence), ..self }
    }
}

/// What was found in a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Everything, what is wrong first.
    pub findings: Vec<Finding>,
    /// Whether the database was looked into: not while a process has it open.
    pub was_read: bool,
    /// Intact records.
    pub records: u64,
    /// Intact entries of the trail.
    pub entries: u64,
}

impl Report {
    /// Whether nothing is wrong, and all of it was looked at.
    pub fn is_healthy(&self) -> bool {
        self.was_read && self.faults().next().is_none()
    }

    /// What is wrong.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.weight == Severity::Fault)
    }

    /// What is wrong with the audit trail.
    pub fn audit_faults(&self) -> impl Iterator<Item = &Finding> {
        self.faults().filter(|finding| TRAIL.contains(&finding.code))
    }
}

/// The codes of what is wrong with the trail, or keeps it from being proved.
const TRAIL: [&str; 11] = [
    "unreadable",
    "missing-file",
    "pepper",
    "meta",
    "anchor",
    "foreign-anchor",
    "rolled-back",
    "fork",
    "end",
    "floor",
    "trail",
];
