//! The state of the store in the consensus store at one revision.

use super::{
    bootstrap,
    consensus::{ConsensusError, ConsensusStore, Latest, Revision},
};
use crate::{
    codec::{self, AuditStart, Mark, Meta},
    digest::Seals,
    error::Error,
};
use std::path::Path;

/// Audit entries that are read at once.
pub(super) const ENTRIES_AT_ONCE: usize = 1000;

/// A revision, and the content of its epoch.
pub(crate) struct StoreVersion {
    pub(super) at: Revision,
    pub(super) meta: Meta,
    pub(super) audit_start: (AuditStart, Option<Vec<u8>>),
}

/// Reads the newest state, and the frame of the audit start at it.
pub(super) async fn newest<C: ConsensusStore>(
    consensus: &C,
) -> Result<(Latest, Option<Vec<u8>>), ConsensusError> {
    let newest = consensus.latest().await?;
    let frame = consensus.audit_start(newest.revision).await?;
    Ok((newest, frame))
}

impl StoreVersion {
    /// Checks and decodes a state that was read.
    pub(super) fn of(
        (newest, frame): (Latest, Option<Vec<u8>>),
        seals: &Seals,
    ) -> Result<Self, Error> {
        let Latest { revision: at, epoch } = newest;
        let epoch =
            epoch.ok_or_else(|| Error::NotFound(Path::new("the consensus store").into()))?;
        let (meta, _) = codec::decode_epoch(&epoch.value, &seals.meta, seals.pepper_check)?;
        Ok(Self { at, meta, audit_start: bootstrap::decode_audit_start(frame, seals)? })
    }

    /// Returns the mark of this state before its values are read.
    pub(super) fn nothing(&self) -> Mark {
        self.meta.mark.before(&self.audit_start.0)
    }
}

pub(super) fn missing(sequence: u64) -> Error {
    Error::damaged(format!("entry {sequence} of the audit log is missing"))
}
