//! Findings of the doctor, each with its remedy, and the report of all of them.

use crate::id::KeyId;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Severity {
    /// A problem.
    Fault,
    /// Information; nothing is wrong.
    Note,
}

/// A finding and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The stable code of this kind of finding.
    pub code: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The finding in words.
    pub text: String,
    /// The remedy, as an imperative.
    pub remedy: &'static str,
    /// The key that the finding concerns.
    pub key: Option<KeyId>,
    /// The entry of the audit log that the finding concerns.
    pub sequence: Option<u64>,
}

impl Finding {
    pub(super) fn fault(code: &'static str, text: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            code,
            severity: Severity::Fault,
            text: text.into(),
            remedy,
            key: None,
            sequence: None,
        }
    }

    pub(super) fn note(code: &'static str, text: impl Into<String>, remedy: &'static str) -> Self {
        Self { severity: Severity::Note, ..Self::fault(code, text, remedy) }
    }

    pub(super) fn of_key(self, key: impl Into<Option<KeyId>>) -> Self {
        Self { key: key.into(), ..self }
    }

    pub(super) fn of_entry(self, sequence: u64) -> Self {
        Self { sequence: Some(sequence), ..self }
    }
}

/// The result of examining a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// All findings, faults first.
    pub findings: Vec<Finding>,
    /// Whether the database was read. It is not read while a process has it open.
    pub was_read: bool,
    /// The number of intact records.
    pub records: u64,
    /// The number of intact entries of the audit log.
    pub entries: u64,
}

impl Report {
    /// Whether the database was read and has no fault.
    pub fn is_healthy(&self) -> bool {
        self.was_read && self.faults().next().is_none()
    }

    /// Returns the findings that are faults.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Fault)
    }

    /// Returns the faults of the audit log.
    pub fn audit_faults(&self) -> impl Iterator<Item = &Finding> {
        self.faults().filter(|finding| AUDIT_CODES.contains(&finding.code))
    }
}

/// The codes of faults that damage the audit log or prevent its verification.
const AUDIT_CODES: [&str; 11] = [
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
