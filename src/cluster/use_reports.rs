//! The reports of replicas about their uses, as far as they were read from the last uses.

use super::consensus::MemberId;
use crate::id::KeyId;
use std::collections::BTreeMap;

/// The report of a replica that has left: no more uses come.
pub(super) const LEFT: u32 = u32::MAX;

/// The reports that were read, and what this replica last reported.
#[derive(Default)]
pub(super) struct UseReports {
    pub(super) found: BTreeMap<KeyId, u32>,
    /// The number of bootstraps when this replica last reported.
    pub(super) bootstraps: Option<u64>,
}

/// The id of the report of a member.
pub(super) fn report_of(member: MemberId) -> KeyId {
    let MemberId([.., a, b, c, d]) = member;
    KeyId::from_u64((1 << 32) + u64::from(u32::from_be_bytes([a, b, c, d])))
}
