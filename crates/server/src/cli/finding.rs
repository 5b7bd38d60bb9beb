//! The findings of an examination: as JSON, and their exit code.

use portcullis::doctor::{Finding, Severity};
use serde_json::{Value, json};

/// The exit code of a report with a fault.
pub(crate) const FAULT: u8 = 4;

/// Formats a finding as JSON.
pub(crate) fn finding(found: &Finding) -> Value {
    json!({
        "code": found.code,
        "is_fault": found.severity == Severity::Fault,
        "text": found.text,
        "remedy": found.remedy,
        "key": found.key.map(|id| id.to_string()),
        "sequence": found.sequence,
    })
}
