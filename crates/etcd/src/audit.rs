//! The audit log in etcd: reading it at a revision, and deleting pruned entries.

use super::{
    connection::{Connection, value},
    nodes::{CHANGING, READING, RequestError},
};
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp,
};
use portcullis::cluster::{Key, Revision};
use std::ops::Range;

/// The maximum number of entries that one transaction deletes. A change waits for it for milliseconds.
const MAX_DELETED: u64 = 1000;

impl Connection {
    pub(super) async fn audit_start(&self, at: Revision) -> Result<Option<Vec<u8>>, RequestError> {
        let start = self.keys.key(Key::AuditStart);
        let mut end = start.clone();
        end.push(0);
        let (pairs, _) = self.range(start..end, at, 1).await?;
        Ok(pairs.into_iter().next().map(value))
    }

    /// Sequence numbers have no gaps, so the range ends with the last requested entry. etcd scans every key
    /// of a range, however few it returns.
    pub(super) async fn audit_entries(
        &self,
        at: Revision,
        after: u64,
        limit: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, RequestError> {
        let range = self.keys.audit_entries(after..=after.saturating_add(limit));
        let (pairs, _) = self.range(range, at, i64::MAX).await?;
        let entry = |pair: KeyValue| Some((self.sequence(&pair)?, value(pair)));
        Ok(pairs.into_iter().filter_map(entry).collect())
    }

    pub(super) async fn prune_audit(
        &self,
        through: u64,
        audit_start: &[u8],
    ) -> Result<bool, RequestError> {
        let Range { start, end } = self.keys.audit_entries(0..=through);
        let first = GetOptions::new()
            .with_range(end.as_slice())
            .with_limit(1)
            .with_sort(SortTarget::Key, SortOrder::Ascend)
            .with_keys_only();
        let first = self.nodes.get(READING, &start, &first).await?;
        let Some(first) = first.kvs().first().and_then(|pair| self.sequence(pair)) else {
            return Ok(false);
        };
        let last = through.min(first.saturating_add(MAX_DELETED - 1));
        let Range { start, end } = self.keys.audit_entries(first.saturating_sub(1)..=last);
        let key = self.keys.key(Key::AuditStart);
        // If etcd was restored to a state before the prune, the entries are still needed.
        let delete = Txn::new()
            .when([Compare::value(key, CompareOp::Equal, audit_start)])
            .and_then([TxnOp::delete(start, Some(DeleteOptions::new().with_range(end)))]);
        let (answer, _) = self.nodes.txn(CHANGING, &delete).await?;
        // If the audit start has changed, the replica that changed it deletes the entries.
        Ok(answer.succeeded() && last < through)
    }

    fn sequence(&self, pair: &KeyValue) -> Option<u64> {
        match self.key_of(pair) {
            Some(Key::AuditEntry(sequence)) => Some(sequence),
            _ => None,
        }
    }
}
