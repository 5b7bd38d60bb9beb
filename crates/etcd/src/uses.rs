//! When keys were last used, in etcd: rows of their own, past everything that a replica follows.

use super::{
    journal::{AT_ONCE, CHANGING, EtcdJournal, READING, found},
    nodes::Trouble,
    rows,
    space::Lies,
};
use crate::{
    cluster::journal::{Revision, Uses},
    codec::Place,
    id::KeyId,
};
use etcd_client::{GetOptions, KeyValue, Txn, TxnOp};
use std::ops::Range;

impl EtcdJournal {
    /// Those that were written after a revision, at once if they are few and else in 256 parts. What
    /// is written while the parts are read comes with them or the next time.
    pub(super) async fn uses_after(&self, after: Revision) -> Result<(Revision, Uses), Trouble> {
        let (first, mut uses, more) = self.some_uses(self.0.space.uses(), after, AT_ONCE).await?;
        if more {
            uses.clear();
            for byte in 0..=u8::MAX {
                uses.extend(self.some_uses(self.0.space.uses_from(byte), after, 0).await?.1);
            }
        }
        Ok((first, uses))
    }

    async fn some_uses(
        &self,
        Range { start, end }: Range<Vec<u8>>,
        Revision(after): Revision,
        limit: i64,
    ) -> Result<(Revision, Uses, bool), Trouble> {
        let from = i64::try_from(after).unwrap_or(i64::MAX).saturating_add(1);
        let options =
            GetOptions::new().with_range(end).with_min_mod_revision(from).with_limit(limit);
        let mut page = self.0.nodes.get(READING, &start, &options).await?;
        let at = page.header().map_or(0, etcd_client::ResponseHeader::revision);
        let uses = page.take_kvs().into_iter().filter_map(|row| self.use_of(row)).collect();
        Ok((rows::revision(at), uses, page.more()))
    }

    pub(super) async fn uses_of_keys(&self, keys: &[KeyId]) -> Result<Uses, Trouble> {
        let get = |id: &KeyId| TxnOp::get(self.0.space.key(&Place::Use(*id)), None);
        let look = Txn::new().and_then(keys.iter().map(get).collect::<Vec<_>>());
        let (answer, _) = self.0.nodes.txn(READING, &look).await?;
        let rows = (0..keys.len()).filter_map(|operation| found(&answer, operation));
        Ok(rows.filter_map(|row| self.use_of(row)).collect())
    }

    /// Puts them and nothing else: no epoch, so that no replica waits for what none would apply.
    pub(super) async fn put_uses(&self, uses: Uses) -> Result<(), Trouble> {
        let put = |(id, frame): (KeyId, Vec<u8>)| {
            TxnOp::put(self.0.space.key(&Place::Use(id)), frame, None)
        };
        let change = Txn::new().and_then(uses.into_iter().map(put).collect::<Vec<_>>());
        self.0.nodes.txn(CHANGING, &change).await.map(|_| ())
    }

    fn use_of(&self, row: KeyValue) -> Option<(KeyId, Vec<u8>)> {
        match self.0.space.read(row.key()) {
            Some(Lies::Value(Place::Use(id))) => Some((id, row.into_key_value().1)),
            _ => None,
        }
    }
}
