//! The trail in etcd: read at a revision, and what lies below its beginning swept away.

use super::{
    journal::{CHANGING, EtcdJournal, READING},
    nodes::Trouble,
    space::Lies,
};
use crate::{cluster::journal::Revision, codec::Place};
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp,
};
use std::ops::Range;

/// Entries that one transaction removes: a change that waits behind it waits for milliseconds.
const AT_ONCE: u64 = 1000;

impl EtcdJournal {
    pub(super) async fn floor_at(&self, at: Revision) -> Result<Option<Vec<u8>>, Trouble> {
        let floor = self.0.space.key(&Place::AuditStart);
        let mut end = floor.clone();
        end.push(0);
        let (pairs, _) = self.0.range(floor..end, Some(at), 1).await?;
        Ok(pairs.into_iter().next().map(|pair| pair.into_key_value().1))
    }

    /// Numbers have no gaps, so that the range can end where the answer does: etcd looks at every
    /// key of a range, however few it gives.
    pub(super) async fn entries(
        &self,
        at: Revision,
        after: u64,
        limit: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, Trouble> {
        let range = self.0.space.entries(after..=after.saturating_add(limit));
        let (pairs, _) = self.0.range(range, Some(at), i64::MAX).await?;
        let entry = |pair: KeyValue| Some((self.number(&pair)?, pair.into_key_value().1));
        Ok(pairs.into_iter().filter_map(entry).collect())
    }

    pub(super) async fn sweep_through(&self, through: u64, frame: &[u8]) -> Result<bool, Trouble> {
        let Range { start, end } = self.0.space.entries(0..=through);
        let first = GetOptions::new()
            .with_range(end.as_slice())
            .with_limit(1)
            .with_sort(SortTarget::Key, SortOrder::Ascend)
            .with_keys_only();
        let first = self.0.nodes.get(READING, &start, &first).await?;
        let Some(first) = first.kvs().first().and_then(|pair| self.number(pair)) else {
            return Ok(false);
        };
        let last = through.min(first.saturating_add(AT_ONCE - 1));
        let Range { start, end } = self.0.space.entries(first.saturating_sub(1)..=last);
        let floor = self.0.space.key(&Place::AuditStart);
        // In an etcd that was put back to before the cut, the entries are the trail.
        let sweep = Txn::new()
            .when([Compare::value(floor, CompareOp::Equal, frame)])
            .and_then([TxnOp::delete(start, Some(DeleteOptions::new().with_range(end)))]);
        let (answer, _) = self.0.nodes.txn(CHANGING, &sweep).await?;
        // Whoever has cut further sweeps further.
        Ok(answer.succeeded() && last < through)
    }

    fn number(&self, pair: &KeyValue) -> Option<u64> {
        match self.0.space.read(pair.key()) {
            Some(Lies::Value(Place::Entry(sequence))) => Some(sequence),
            _ => None,
        }
    }
}
