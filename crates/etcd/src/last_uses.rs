//! When keys were last used, in etcd: rows apart from everything that replicas follow.

use super::{
    connection::{Connection, PAGE, found, number, revision, value},
    nodes::{CHANGING, READING, RequestError},
};
use etcd_client::{GetOptions, KeyValue, Txn, TxnOp};
use portcullis::cluster::{Key, LastUses, Revision};
use std::ops::Range;

/// The id of an API key, and the value of its last use.
type LastUse = (u64, Vec<u8>);

impl Connection {
    /// Reads few uses at once, and many uses in 256 ranges. Uses that are written meanwhile are returned by
    /// this call or by the next one.
    pub(super) async fn last_uses(&self, after: Revision) -> Result<LastUses, RequestError> {
        let (revision, mut uses, more) =
            self.last_uses_in(self.keys.last_uses(), after, PAGE).await?;
        if more {
            uses.clear();
            for byte in 0..=u8::MAX {
                let range = self.keys.last_uses_from(byte);
                uses.extend(self.last_uses_in(range, after, 0).await?.1);
            }
        }
        Ok(LastUses { revision, uses })
    }

    async fn last_uses_in(
        &self,
        Range { start, end }: Range<Vec<u8>>,
        after: Revision,
        limit: i64,
    ) -> Result<(Revision, Vec<LastUse>, bool), RequestError> {
        let from = number(after).saturating_add(1);
        let options =
            GetOptions::new().with_range(end).with_min_mod_revision(from).with_limit(limit);
        let mut page = self.nodes.get(READING, &start, &options).await?;
        let at = page.header().map_or(0, etcd_client::ResponseHeader::revision);
        let uses = page.take_kvs().into_iter().filter_map(|pair| self.last_use(pair)).collect();
        Ok((revision(at), uses, page.more()))
    }

    pub(super) async fn last_uses_of(&self, ids: &[u64]) -> Result<Vec<LastUse>, RequestError> {
        let get = |id: &u64| TxnOp::get(self.keys.key(Key::LastUse(*id)), None);
        let read = Txn::new().and_then(ids.iter().map(get).collect::<Vec<_>>());
        let (answer, _) = self.nodes.txn(READING, &read).await?;
        let pairs = (0..ids.len()).filter_map(|operation| found(&answer, operation));
        Ok(pairs.filter_map(|pair| self.last_use(pair)).collect())
    }

    /// Writes no epoch, because replicas do not apply last uses.
    pub(super) async fn put_last_uses(&self, uses: Vec<LastUse>) -> Result<(), RequestError> {
        let put = |(id, use_): LastUse| TxnOp::put(self.keys.key(Key::LastUse(id)), use_, None);
        let change = Txn::new().and_then(uses.into_iter().map(put).collect::<Vec<_>>());
        self.nodes.txn(CHANGING, &change).await.map(|_| ())
    }

    fn last_use(&self, pair: KeyValue) -> Option<LastUse> {
        match self.key_of(&pair) {
            Some(Key::LastUse(id)) => Some((id, value(pair))),
            _ => None,
        }
    }
}
