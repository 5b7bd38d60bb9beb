//! Finds the idempotent requests of the last 24 hours in the audit log.

use super::has_expired;
use crate::{audit_entry::AuditEntry, error::Error, time::Timestamp};
use std::ops::Range;

/// The maximum number of entries without a link that are read when a store is opened. An older version
/// wrote no links.
pub(in crate::store) const UNLINKED_LIMIT: u64 = 20_000;
/// No bound on the entries without a link.
pub(in crate::store) const NO_LIMIT: u64 = u64::MAX;
/// The maximum number of entries in one read.
const MAX_BATCH: u64 = 1000;

/// Returns the entries of a range with a request of the last 24 hours, oldest first. `after.start` is
/// the entry before the range, `after.end` its last entry; `audit` reads entries after a number.
///
/// Follows the links from the end. Where an entry has no link, reads the entry before it, at most
/// `unlinked_limit` times.
pub(in crate::store) fn read(
    audit: impl Fn(u64, usize) -> Result<Vec<AuditEntry>, Error>,
    after: Range<u64>,
    now: Timestamp,
    unlinked_limit: u64,
) -> Result<Vec<AuditEntry>, Error> {
    let mut newest_first = Vec::new();
    let (mut end, mut unlinked, mut size) = (after.end, 0, 1);
    'batches: while end > after.start {
        let start = end.saturating_sub(size).max(after.start);
        let batch = audit(start, usize::try_from(end - start).unwrap_or(usize::MAX))?;
        if batch.is_empty() {
            break;
        }
        size = (size * 2).min(MAX_BATCH);
        end = start;
        for entry in batch.into_iter().rev() {
            let (sequence, link) = (entry.sequence, entry.last_once);
            if has_expired(entry.at, now) {
                break 'batches;
            }
            if entry.once.is_some() {
                newest_first.push(entry);
            }
            match link {
                None if unlinked + 1 >= unlinked_limit => break 'batches,
                None => unlinked += 1,
                Some(link) if link < sequence => {
                    (end, size) = (link, 1);
                    continue 'batches;
                }
                Some(_) => {
                    return Err(Error::damaged(
                        "a link in its audit log points to no earlier entry",
                    ));
                }
            }
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}
