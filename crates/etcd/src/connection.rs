//! The shared connection to a store in etcd: its nodes, its keys, and paged reads.

use super::{
    config::{ConfigError, Etcd},
    keyspace::{Keyspace, Row},
    nodes::{CHANGING, Nodes, READING, RequestError},
};
use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOpResponse,
    TxnResponse, WatchStream,
};
use portcullis::cluster::{Epoch, Key, Revision};
use std::{ops::Range, sync::Mutex, time::Instant};

/// A store with up to this many records is read at once, a larger one in 256 ranges. For each page, etcd
/// scans every key of the range, so paging through all records would be quadratic.
pub(super) const PAGE: i64 = 4000;

/// The state that the calls and watches of one store share.
pub(super) struct Connection {
    pub(super) nodes: Nodes,
    pub(super) keys: Keyspace,
    pub(super) spare_watch: Mutex<Option<SpareWatch>>,
}

/// A watch stream, and the number of its node.
pub(super) type OpenWatch = (WatchStream, usize);

/// A watch over members that was open before the members were read. The reader of the members takes it.
pub(super) struct SpareWatch {
    pub(super) open: OpenWatch,
    pub(super) since: Revision,
    pub(super) opened: Instant,
}

impl Connection {
    pub(super) fn new(etcd: &Etcd) -> Result<Self, ConfigError> {
        let (nodes, keys) = (Nodes::new(etcd)?, Keyspace::new(&etcd.space));
        Ok(Self { nodes, keys, spare_watch: Mutex::default() })
    }

    pub(super) async fn change(&self, change: &Txn) -> Result<TxnResponse, RequestError> {
        self.nodes.txn(CHANGING, change).await.map(|(answer, _)| answer)
    }

    /// Reads up to `limit` values of a range. Returns them, and whether there are more.
    pub(super) async fn range(
        &self,
        Range { mut start, end }: Range<Vec<u8>>,
        at: Revision,
        limit: i64,
    ) -> Result<(Vec<KeyValue>, bool), RequestError> {
        // etcd would read its newest state.
        if at == Revision(0) {
            return Err(RequestError::Compacted);
        }
        let (mut all, mut left) = (Vec::new(), limit);
        loop {
            let options = GetOptions::new()
                .with_range(end.as_slice())
                .with_limit(left.min(PAGE))
                .with_sort(SortTarget::Key, SortOrder::Ascend)
                .with_revision(number(at));
            let mut page = self.nodes.get(READING, &start, &options).await?;
            let (pairs, more) = (page.take_kvs(), page.more());
            left = left.saturating_sub(i64::try_from(pairs.len()).unwrap_or(i64::MAX));
            all.extend(pairs);
            match all.last() {
                Some(last) if more && left > 0 => start = [last.key(), &[0]].concat(),
                _ => return Ok((all, more)),
            }
        }
    }

    /// Returns the key of a pair.
    pub(super) fn key_of(&self, pair: &KeyValue) -> Option<Key> {
        match self.keys.read(pair.key()) {
            Some(Row::Value(key)) => Some(key),
            _ => None,
        }
    }
}

/// Converts etcd's number into a revision.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

/// Converts a revision into etcd's number.
pub(super) fn number(Revision(revision): Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Compares the revision at which the key was last changed. Revision 0: the key must be absent.
pub(super) fn is_at(key: &[u8], at: Revision) -> Compare {
    Compare::mod_revision(key, CompareOp::Equal, number(at))
}

/// Compares that a member joined at this revision, and was not fenced since: its row was written once.
pub(super) fn is_joined_at(row: &[u8], at: Revision) -> [Compare; 2] {
    [is_at(row, at), Compare::version(row, CompareOp::Equal, 1)]
}

/// Returns the revision of an answer.
pub(super) fn at(answer: &TxnResponse) -> Revision {
    revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
}

/// Returns the value that the operation with this index found.
pub(super) fn found(answer: &TxnResponse, operation: usize) -> Option<KeyValue> {
    match answer.op_responses().into_iter().nth(operation) {
        Some(TxnOpResponse::Get(mut get)) => get.take_kvs().into_iter().next(),
        _ => None,
    }
}

pub(super) fn epoch(pair: &KeyValue) -> Epoch {
    Epoch { revision: revision(pair.mod_revision()), value: pair.value().to_vec() }
}

pub(super) fn value(pair: KeyValue) -> Vec<u8> {
    pair.into_key_value().1
}
