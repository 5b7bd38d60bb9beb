//! The calls of the protocol as etcd transactions.
//!
//! Each transaction compares before it changes, so a transaction that is sent again after a lost answer
//! takes effect once. Reads without a revision are linearizable. A read at a revision always returns the
//! same values, so any node may answer it.

use super::{
    config::{ConfigError, Etcd},
    connection::{Connection, PAGE, at, epoch, found, is_at, is_joined_at, revision, value},
    import::UNFINISHED_IMPORT,
    members,
    nodes::{CHANGING, PROVING, READING, RequestError},
    watch::{EtcdMemberWatch, EtcdWatch},
};
use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use portcullis::cluster::{
    ConsensusError, ConsensusStore, Epoch, ImportProgress, Key, LastUses, Latest, MemberId,
    MemberList, MemberRow, Proof, RecordPage, Revision, Transaction, TransactionOutcome, Write,
};
use std::{collections::BTreeMap, ops::Range, sync::Arc};
use tokio::task::JoinSet;

/// The number of ranges that are read at the same time, of 256.
const CONCURRENT_RANGES: usize = 16;

/// Records, by their digests.
type Records = Vec<([u8; 32], Vec<u8>)>;

/// A Portcullis store in etcd, for one replica.
///
/// ```no_run
/// use portcullis::{Store, cluster::Replica};
/// use portcullis_etcd::{Etcd, EtcdStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let etcd = Etcd::at(["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"])?;
/// let store = Store::builder().cluster(EtcdStore::new(&etcd)?, Replica::named("till-4"))?;
/// # Ok(())
/// # }
/// ```
pub struct EtcdStore(Arc<Connection>);

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Checks the configuration. The first call connects.
    pub fn new(etcd: &Etcd) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(Connection::new(etcd)?)))
    }
}

impl ConsensusStore for EtcdStore {
    type Watch = EtcdWatch;
    type MemberWatch = EtcdMemberWatch;

    async fn latest(&self) -> Result<Latest, ConsensusError> {
        let answer = self.0.nodes.get(READING, &self.0.keys.epoch(), &GetOptions::new()).await?;
        let at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(Latest { revision: revision(at), epoch: answer.kvs().first().map(epoch) })
    }

    async fn scope_names(&self, at: Revision) -> Result<Vec<Vec<u8>>, ConsensusError> {
        let pairs = self.0.range(self.0.keys.scope_names(), at, i64::MAX).await?.0;
        Ok(pairs.into_iter().map(value).collect())
    }

    async fn records(
        &self,
        at: Revision,
        after: Option<[u8; 32]>,
    ) -> Result<RecordPage, ConsensusError> {
        if after.is_none() {
            let (pairs, more) = self.0.range(self.0.keys.records(), at, PAGE).await?;
            if !more {
                return Ok(RecordPage { records: records(&self.0, pairs), is_last: true });
            }
        }
        // A page ends with the last record of a range, but a caller may pass any digest.
        let first = after.map_or(0, |[first, ..]| usize::from(first));
        for first in (first..256).step_by(CONCURRENT_RANGES) {
            let records = self.ranges_of_records(first, after, at).await?;
            let is_last = first + CONCURRENT_RANGES >= 256;
            if is_last || !records.is_empty() {
                return Ok(RecordPage { records, is_last });
            }
        }
        Ok(RecordPage { records: Vec::new(), is_last: true })
    }

    async fn audit_start(&self, at: Revision) -> Result<Option<Vec<u8>>, ConsensusError> {
        Ok(self.0.audit_start(at).await?)
    }

    async fn audit_entries(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ConsensusError> {
        Ok(self.0.audit_entries(at, after, limit.try_into().unwrap_or(u64::MAX)).await?)
    }

    async fn prune_audit(&self, through: u64, audit_start: &[u8]) -> Result<bool, ConsensusError> {
        Ok(self.0.prune_audit(through, audit_start).await?)
    }

    async fn last_uses(&self, after: Revision) -> Result<LastUses, ConsensusError> {
        Ok(self.0.last_uses(after).await?)
    }

    async fn last_uses_of(&self, ids: &[u64]) -> Result<Vec<(u64, Vec<u8>)>, ConsensusError> {
        Ok(self.0.last_uses_of(ids).await?)
    }

    async fn put_last_uses(&self, uses: Vec<(u64, Vec<u8>)>) -> Result<(), ConsensusError> {
        Ok(self.0.put_last_uses(uses).await?)
    }

    fn watch(&self, after: Revision) -> EtcdWatch {
        EtcdWatch::after(&self.0, after)
    }

    async fn commit(&self, transaction: Transaction) -> TransactionOutcome {
        let Connection { nodes, keys, .. } = &*self.0;
        let epoch = keys.epoch();
        let operation = |Write { key, value }: &Write| match value {
            Some(value) => TxnOp::put(keys.key(*key), value.as_slice(), None),
            None => TxnOp::delete(keys.key(*key), None),
        };
        let mut operations: Vec<_> = transaction.writes.iter().map(operation).collect();
        operations.push(TxnOp::put(epoch.as_slice(), transaction.epoch.as_slice(), None));
        operations.push(self.get_members());
        // An etcd that was restored to an earlier state assigns revisions a second time.
        let compares = match &transaction.expected {
            Some(Epoch { revision, value }) => vec![
                is_at(&epoch, *revision),
                Compare::value(epoch.as_slice(), CompareOp::Equal, value.as_slice()),
            ],
            None => vec![is_at(&epoch, Revision(0)), is_at(&keys.import(), Revision(0))],
        };
        let change = Txn::new()
            .when(compares)
            .and_then(operations)
            .or_else([TxnOp::get(epoch, None), TxnOp::get(keys.import(), None)]);
        let is_importing = |answer| found(answer, 0).is_none() && found(answer, 1).is_some();
        match nodes.txn(CHANGING, &change).await {
            Ok((answer, _)) if answer.succeeded() => TransactionOutcome::Committed {
                revision: at(&answer),
                members: self.members_of(&answer),
            },
            // No attempt succeeds later: an import keeps its marker until it writes the epoch.
            Ok((answer, _)) if transaction.expected.is_none() && is_importing(&answer) => {
                TransactionOutcome::Refused(UNFINISHED_IMPORT.into())
            }
            Ok((_, 1)) => TransactionOutcome::Conflict,
            Ok(_) => self.find_own(&transaction).await,
            Err(RequestError::Refused(reason)) => TransactionOutcome::Refused(reason.into()),
            Err(RequestError::Full(reason)) => match self.find_own(&transaction).await {
                TransactionOutcome::Conflict => TransactionOutcome::Refused(reason.into()),
                committed_or_unknown => committed_or_unknown,
            },
            Err(error) => TransactionOutcome::Unknown(error.to_string().into()),
        }
    }

    async fn join(&self, id: MemberId, info: &[u8]) -> Result<Revision, ConsensusError> {
        let key = self.0.keys.member(id);
        let join = Txn::new()
            .when([is_at(&key, Revision(0))])
            .and_then([TxnOp::put(key.as_slice(), members::joined(info), None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.0.change(&join).await?;
        if answer.succeeded() {
            return Ok(at(&answer));
        }
        // An id is used once, so the row was created by an earlier attempt of this call. If it was fenced since,
        // the caller must not take it for a row of its own: the revision of the fence proves nothing.
        let joined = found(&answer, 0).map(|pair| revision(pair.create_revision()));
        joined.ok_or_else(|| ConsensusError::Unavailable("the new member was removed".into()))
    }

    async fn prove(&self, id: MemberId, joined: Revision) -> Result<Option<Proof>, ConsensusError> {
        let Connection { nodes, keys, .. } = &*self.0;
        let proof = Txn::new()
            .when(is_joined_at(&keys.member(id), joined))
            .and_then([TxnOp::get(keys.epoch(), None), TxnOp::get(keys.acknowledgement(id), None)]);
        let (answer, _) = nodes.txn(PROVING, &proof).await?;
        // Without an epoch there is no store.
        let epoch = found(&answer, 0).as_ref().map(epoch);
        Ok(epoch.filter(|_| answer.succeeded()).map(|epoch| Proof {
            revision: at(&answer),
            epoch,
            applied: found(&answer, 1).and_then(|pair| members::applied(pair.value())),
        }))
    }

    async fn acknowledge(
        &self,
        id: MemberId,
        joined: Revision,
        applied: Revision,
    ) -> Result<bool, ConsensusError> {
        let Connection { nodes, keys, .. } = &*self.0;
        let put = TxnOp::put(keys.acknowledgement(id), members::acknowledgement(applied), None);
        let change = Txn::new().when(is_joined_at(&keys.member(id), joined)).and_then([put]);
        Ok(nodes.txn(PROVING, &change).await?.0.succeeded())
    }

    async fn members(&self) -> Result<MemberList, ConsensusError> {
        let read = Txn::new().and_then([TxnOp::get(self.0.keys.epoch(), None), self.get_members()]);
        let answer = self.0.change(&read).await?;
        let epoch = found(&answer, 0).map(|pair| revision(pair.mod_revision()));
        Ok(MemberList { revision: at(&answer), epoch, members: self.members_of(&answer) })
    }

    fn watch_members(&self, after: Revision) -> EtcdMemberWatch {
        EtcdMemberWatch::after(&self.0, after)
    }

    async fn fence(&self, member: &MemberRow) -> Result<Option<Revision>, ConsensusError> {
        let key = self.0.keys.member(member.id);
        // The row keeps its information, so it must be known. As a rule the caller has read it.
        let mut row = members::joined(&member.info);
        loop {
            let is_row = Compare::value(key.as_slice(), CompareOp::Equal, row.as_slice());
            let fence = Txn::new()
                .when([is_at(&key, member.revision), is_row])
                .and_then([TxnOp::put(key.as_slice(), members::fenced(&row), None)])
                .or_else([TxnOp::get(key.as_slice(), None)]);
            let answer = self.0.change(&fence).await?;
            if answer.succeeded() {
                return Ok(Some(at(&answer)));
            }
            let is_other = |pair: &KeyValue| {
                revision(pair.mod_revision()) == member.revision
                    && !members::is_fenced(pair.value())
                    && pair.value() != row
            };
            match found(&answer, 0).filter(is_other) {
                Some(pair) => row = value(pair),
                None => return Ok(None),
            }
        }
    }

    async fn remove_member(
        &self,
        id: MemberId,
        revision: Revision,
    ) -> Result<bool, ConsensusError> {
        let (member, row) = (self.0.keys.member(id), self.0.keys.acknowledgement(id));
        let exists = Compare::version(member.as_slice(), CompareOp::Greater, 0);
        let delete = Txn::new()
            .when([is_at(&member, revision), exists])
            .and_then([TxnOp::delete(member, None), TxnOp::delete(row, None)]);
        Ok(self.0.change(&delete).await?.succeeded())
    }

    async fn begin_import(&self, source: &[u8]) -> Result<ImportProgress, ConsensusError> {
        self.0.begin_import(source).await
    }

    async fn import(
        &self,
        progress: ImportProgress,
        values: Vec<(Key, Vec<u8>)>,
    ) -> Result<ImportProgress, ConsensusError> {
        self.0.import(progress, values).await
    }

    async fn finish_import(
        &self,
        progress: ImportProgress,
        epoch: &[u8],
    ) -> Result<(), ConsensusError> {
        self.0.finish_import(&progress, epoch).await
    }
}

impl EtcdStore {
    /// Finds the outcome of a transaction that conflicts although it was sent before, or that used the last
    /// of etcd's space. Its audit entry exists if it was committed, and otherwise never will.
    ///
    /// The members may be those of a later revision. A member that was removed since then had been fenced for
    /// a hold, or left with its gate shut. A member that joined since then began with the change.
    async fn find_own(&self, transaction: &Transaction) -> TransactionOutcome {
        let entries = transaction.writes.iter().rev().filter_map(|Write { key, value }| {
            let is_entry = matches!(key, Key::AuditEntry(_));
            is_entry.then(|| value.as_ref().map(|value| (self.0.keys.key(*key), value))).flatten()
        });
        let own = entries.into_iter().next();
        let (key, bytes) = own.unwrap_or_else(|| (self.0.keys.epoch(), &transaction.epoch));
        let before = transaction.expected.as_ref().map_or(Revision(0), |epoch| epoch.revision);
        let is_own =
            |pair: &KeyValue| pair.value() == bytes && revision(pair.mod_revision()) > before;
        let read = Txn::new().and_then([TxnOp::get(key, None), self.get_members()]);
        match self.0.change(&read).await {
            Ok(answer) => match found(&answer, 0).filter(is_own) {
                Some(pair) => TransactionOutcome::Committed {
                    revision: revision(pair.mod_revision()),
                    members: self.members_of(&answer),
                },
                None => TransactionOutcome::Conflict,
            },
            Err(error) => TransactionOutcome::Unknown(error.to_string().into()),
        }
    }

    /// Reads some of the 256 ranges at the same time, without the records up to the digest `after`.
    async fn ranges_of_records(
        &self,
        first: usize,
        after: Option<[u8; 32]>,
        at: Revision,
    ) -> Result<Records, RequestError> {
        let after = after.map(|digest| [self.0.keys.key(Key::Record(digest)), vec![0]].concat());
        let mut reads = JoinSet::new();
        for byte in (first..256).take(CONCURRENT_RANGES).filter_map(|byte| u8::try_from(byte).ok())
        {
            let connection = Arc::clone(&self.0);
            let mut range = connection.keys.records_from(byte);
            if let Some(after) = &after {
                range.start = range.start.max(after.clone());
            }
            reads.spawn(async move {
                connection.range(range, at, i64::MAX).await.map(|(pairs, _)| (byte, pairs))
            });
        }
        let mut ranges = BTreeMap::new();
        while let Some(range) = reads.join_next().await {
            let broken = |_| RequestError::Unanswered("a range was not read to its end".into());
            let (byte, pairs) = range.map_err(broken)??;
            ranges.insert(byte, records(&self.0, pairs));
        }
        Ok(ranges.into_values().flatten().collect())
    }

    fn get_members(&self) -> TxnOp {
        let Range { start, end } = self.0.keys.members();
        TxnOp::get(start, Some(GetOptions::new().with_range(end)))
    }

    /// Returns the members in the answer to the last operation.
    fn members_of(&self, answer: &TxnResponse) -> Vec<MemberRow> {
        match answer.op_responses().pop() {
            Some(TxnOpResponse::Get(pairs)) => members::members(pairs.kvs(), &self.0.keys),
            _ => Vec::new(),
        }
    }
}

fn records(connection: &Connection, pairs: Vec<KeyValue>) -> Records {
    let record = |pair: KeyValue| match connection.key_of(&pair) {
        Some(Key::Record(digest)) => Some((digest, value(pair))),
        _ => None,
    };
    pairs.into_iter().filter_map(record).collect()
}
