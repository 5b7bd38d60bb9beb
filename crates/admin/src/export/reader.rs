//! Reading and verifying an exported audit log.

use super::format::{FORMAT, Header, ReadLine, Trailer};
use crate::audit::Entry;
use data_encoding::HEXLOWER;
use portcullis::{
    Offline,
    audit::{AuditEntry, AuditRangeEnd, AuditVerifier, AuditVerifyError},
};

/// Why an exported audit log is not valid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A line does not belong to an export.
    #[error("it is not a header, an entry or a trailer of an exported audit log")]
    Foreign,
    /// A newer version exported it.
    #[error("it has format {0}, and this version reads format 1; use a newer version")]
    Newer(u32),
    /// The hash chain does not verify.
    #[error(transparent)]
    Invalid(#[from] AuditVerifyError),
    /// The JSON of an entry differs from its frame.
    #[error("entry {0} does not match its frame: its text was altered")]
    Text(u64),
    /// The trailer is missing.
    #[error("it ends after entry {0} without a trailer: it was truncated")]
    NoTrailer(u64),
    /// It has no lines.
    #[error("it is empty")]
    Empty,
}

/// Reads and verifies an exported audit log, line by line. Several exports may follow one another;
/// each must continue or overlap the one before.
#[derive(Debug)]
pub struct ExportReader<'b> {
    offline: &'b Offline,
    verifier: Option<AuditVerifier>,
    /// The trailer of the last export, once it was read.
    end: Option<AuditRangeEnd>,
    /// The trailer with the highest sequence.
    furthest: Option<AuditRangeEnd>,
    entries: u64,
}

impl<'b> ExportReader<'b> {
    /// Creates a reader. `offline` must have the pepper of the store that exported, if it has one.
    pub fn new(offline: &'b Offline) -> Self {
        Self { offline, verifier: None, end: None, furthest: None, entries: 0 }
    }

    /// Reads the next line. Returns its entry unless an earlier export contained it.
    pub fn line(&mut self, text: &str) -> Result<Option<AuditEntry>, ExportError> {
        if self.end.is_some() || self.verifier.is_none() {
            self.header(text)?;
            return Ok(None);
        }
        let Some(verifier) = &mut self.verifier else { return Err(ExportError::Foreign) };
        if let Ok(line) = serde_json::from_str::<ReadLine>(text) {
            let frame = HEXLOWER
                .decode(line.frame.as_bytes())
                .map_err(|_| AuditVerifyError::Entry(verifier.last() + 1))?;
            let is_known = verifier.is_next_repeated();
            let entry = verifier.verify(&frame)?;
            if serde_json::to_value(Entry::new(&entry)).ok() != Some(line.entry) {
                return Err(ExportError::Text(entry.sequence));
            }
            if is_known {
                return Ok(None);
            }
            self.entries += 1;
            return Ok(Some(entry));
        }
        let end = serde_json::from_str::<Trailer>(text).ok().and_then(Trailer::read);
        let end = end.ok_or(ExportError::Foreign)?;
        verifier.verify_end(&end)?;
        if self.furthest.as_ref().is_none_or(|furthest| furthest.sequence <= end.sequence) {
            self.furthest = Some(end.clone());
        }
        self.end = Some(end);
        Ok(None)
    }

    fn header(&mut self, text: &str) -> Result<(), ExportError> {
        let header: Header = serde_json::from_str(text).map_err(|_| ExportError::Foreign)?;
        if header.portcullis_trail != FORMAT {
            return Err(ExportError::Newer(header.portcullis_trail));
        }
        let start = header.read().ok_or(AuditVerifyError::Start)?;
        match &mut self.verifier {
            Some(verifier) => verifier.continue_with(&start)?,
            None => self.verifier = Some(self.offline.audit_verifier(&start)?),
        }
        self.end = None;
        Ok(())
    }

    /// Returns the error if the input ends after the lines read so far.
    pub fn truncation(&self) -> Option<ExportError> {
        match (&self.verifier, &self.end) {
            (_, Some(_)) => None,
            (Some(verifier), None) => Some(ExportError::NoTrailer(verifier.last())),
            (None, None) => Some(ExportError::Empty),
        }
    }

    /// Returns the number of distinct entries, and the trailer with the highest sequence.
    pub fn finish(self) -> Result<(u64, AuditRangeEnd), ExportError> {
        match (self.truncation(), self.furthest) {
            (None, Some(end)) => Ok((self.entries, end)),
            (wrong, _) => Err(wrong.unwrap_or(ExportError::Empty)),
        }
    }
}
