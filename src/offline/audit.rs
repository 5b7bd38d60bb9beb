//! Verification of audit exports.

use super::Offline;
use crate::proof::{AuditRangeStart, AuditVerifier, AuditVerifyError};

impl Offline {
    /// Begins to verify a range of the audit log of a store with this pepper.
    pub fn audit_verifier(
        &self,
        start: &AuditRangeStart,
    ) -> Result<AuditVerifier, AuditVerifyError> {
        // A pepper that is too short for any store does not match this one either.
        let seals = self.seals().map_err(|_| AuditVerifyError::WrongPepper)?;
        AuditVerifier::new(start, &seals)
    }
}
