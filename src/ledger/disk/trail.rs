//! The audit trail, read back from disk.

use super::Disk;
use crate::{audit::AuditEntry, codec, error::Error, scope::Catalogue};

impl Disk {
    pub(in crate::ledger) fn trail(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        let last = self.state().meta.mark.sequence;
        let mut head = match after {
            0 => [0; 32],
            _ if after > last => return Ok(Vec::new()),
            _ => self.head_of(after)?,
        };
        let mut entries = Vec::new();
        for sequence in (after + 1..=last).take(limit) {
            let frame = self.entry(sequence)?;
            let (entry, next) =
                codec::decode_entry(&frame, sequence, &head, &self.seals.trail, catalogue)?;
            entries.push(entry);
            head = next;
        }
        Ok(entries)
    }
}
