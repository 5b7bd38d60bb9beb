//! The transactions of the protocol, as etcd does them.
//!
//! Each compares before it changes, so that one which is sent again after silence takes effect once.
//! Reads are linearizable unless they name a revision: then what they find does not depend on when
//! they ask, and any node may answer.

use super::{
    access::Etcd,
    nodes::{Nodes, Patience, Trouble},
    rows,
    space::{Lies, Space},
    tail::{EtcdRoll, EtcdTail, Spare},
};
use crate::{
    cluster::{
        journal::{
            Epoch, Fault, Incarnation, Journal, Member, Muster, Newest, Outcome, Page, Proof,
            Revision, Transaction, Uses,
        },
        member::Card,
    },
    codec::Place,
    digest::Digest,
    error::Error,
    id::KeyId,
};
use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinSet;

/// For what a gate depends on. Two silent nodes and an answer fit into the time that it stays open.
const PROVING: Patience =
    Patience { attempt: Duration::from_millis(500), all: Duration::from_millis(2500) };
/// For reads, small or in pages.
pub(super) const READING: Patience =
    Patience { attempt: Duration::from_secs(5), all: Duration::from_secs(15) };
/// For changes. A new leader takes 1–2 s.
pub(super) const CHANGING: Patience =
    Patience { attempt: Duration::from_secs(2), all: Duration::from_secs(10) };
/// A store with up to so many records is read at once, a larger one in 256 parts: etcd looks at
/// every key of a range for each page of it, so that paging through all of them would be quadratic.
pub(super) const AT_ONCE: i64 = 4000;
/// So many of the 256 parts are asked for at a time.
const ABREAST: usize = 16;

/// A store in etcd.
#[derive(Clone)]
pub(crate) struct EtcdJournal(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) nodes: Nodes,
    pub(super) space: Space,
    pub(super) spare: Mutex<Option<Spare>>,
}

impl EtcdJournal {
    /// Connects when it is first asked something. To be called and used within a tokio runtime.
    pub(crate) fn new(etcd: &Etcd) -> Result<Self, Error> {
        let (nodes, space) = (Nodes::new(etcd)?, Space::new(&etcd.space));
        Ok(Self(Arc::new(Shared { nodes, space, spare: Mutex::default() })))
    }
}

impl Journal for EtcdJournal {
    type Tail = EtcdTail;
    type Roll = EtcdRoll;

    async fn newest(&self) -> Result<Newest, Fault> {
        let key = self.0.space.key(&Place::Meta);
        let answer = self.0.nodes.get(READING, &key, &GetOptions::new()).await?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let epoch = answer.kvs().first().map(epoch_of);
        Ok(Newest { revision: rows::revision(revision), epoch })
    }

    async fn names(&self, at: Revision) -> Result<Vec<Vec<u8>>, Fault> {
        let pairs = self.0.range(self.0.space.names(), Some(at), i64::MAX).await?.0;
        Ok(pairs.into_iter().map(|pair| pair.into_key_value().1).collect())
    }

    async fn records(&self, at: Revision, after: Option<Digest>) -> Result<Page, Fault> {
        if after.is_none() {
            let (pairs, more) = self.0.range(self.0.space.records(), Some(at), AT_ONCE).await?;
            if !more {
                return Ok(Page { records: self.0.records(pairs), is_last: true });
            }
        }
        // A page always ends with the last record of its part.
        let first = after.map_or(0, |digest| {
            usize::from(digest.as_bytes().first().copied().unwrap_or(u8::MAX)) + 1
        });
        for first in (first..256).step_by(ABREAST) {
            let records = self.parts(first, at).await?;
            let is_last = first + ABREAST >= 256;
            if is_last || !records.is_empty() {
                return Ok(Page { records, is_last });
            }
        }
        Ok(Page { records: Vec::new(), is_last: true })
    }

    async fn floor(&self, at: Revision) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.floor_at(at).await?)
    }

    async fn trail(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
        Ok(self.entries(at, after, limit.try_into().unwrap_or(u64::MAX)).await?)
    }

    async fn sweep(&self, through: u64, floor: &[u8]) -> Result<bool, Fault> {
        Ok(self.sweep_through(through, floor).await?)
    }

    async fn uses(&self, after: Revision) -> Result<(Revision, Uses), Fault> {
        Ok(self.uses_after(after).await?)
    }

    async fn uses_of(&self, keys: &[KeyId]) -> Result<Uses, Fault> {
        Ok(self.uses_of_keys(keys).await?)
    }

    async fn note_uses(&self, uses: Uses) -> Result<(), Fault> {
        Ok(self.put_uses(uses).await?)
    }

    fn tail(&self, after: Revision) -> EtcdTail {
        EtcdTail::after(&self.0, after)
    }

    async fn commit(&self, transaction: Transaction<'_>) -> Outcome {
        let Shared { nodes, space, .. } = &*self.0;
        // One value a key: etcd takes no key twice in a transaction, and the last one counts.
        let mut values = BTreeMap::new();
        for commit in transaction.commits {
            values.insert(space.key(&Place::Entry(commit.sequence)), Some(commit.entry.as_slice()));
            for put in &commit.puts {
                values.insert(space.key(&put.place), put.frame.as_deref());
            }
        }
        let epoch = space.key(&Place::Meta);
        values.insert(epoch.clone(), Some(&transaction.epoch));
        let mut operations: Vec<_> = values
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => TxnOp::put(key, value, None),
                None => TxnOp::delete(key, None),
            })
            .collect();
        operations.push(self.get_members());
        // An engine that was put back to an earlier state gives out its numbers a second time.
        let compares = match transaction.expected {
            Some(Epoch { revision, frame }) => vec![
                is_at(&epoch, *revision),
                Compare::value(epoch, CompareOp::Equal, frame.as_slice()),
            ],
            None => vec![is_at(&epoch, Revision(0))],
        };
        let change = Txn::new().when(compares).and_then(operations);
        match nodes.txn(CHANGING, &change).await {
            Ok((answer, _)) if answer.succeeded() => {
                Outcome::Committed { revision: at(&answer), members: self.members_of(&answer) }
            }
            Ok((_, 1)) => Outcome::Conflict,
            Ok(_) => self.whose(&transaction).await,
            Err(Trouble::Refused(why)) => Outcome::Refused(why.into()),
            Err(Trouble::Full(why)) => match self.whose(&transaction).await {
                Outcome::Conflict => Outcome::Refused(why.into()),
                done_or_unknown => done_or_unknown,
            },
            Err(trouble) => Outcome::Unknown(trouble.to_string().into()),
        }
    }

    async fn join(&self, who: Incarnation, card: &Card) -> Result<Revision, Fault> {
        let key = self.0.space.member(who);
        let join = Txn::new()
            .when([is_at(&key, Revision(0))])
            .and_then([TxnOp::put(key.as_slice(), rows::joined(card), None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.change(&join).await?;
        if answer.succeeded() {
            return Ok(at(&answer));
        }
        // An incarnation is fresh, so the one that is there was made by an attempt of this call.
        let joined = found(&answer, 0).map(|pair| rows::revision(pair.mod_revision()));
        joined.ok_or_else(|| Trouble::Silence("the member came and went".into()).into())
    }

    async fn prove(&self, who: Incarnation, joined: Revision) -> Result<Option<Proof>, Fault> {
        let Shared { nodes, space, .. } = &*self.0;
        let proof = Txn::new().when([is_at(&space.member(who), joined)]).and_then([
            TxnOp::get(space.key(&Place::Meta), None),
            TxnOp::get(space.acknowledged(who), None),
        ]);
        let (answer, _) = nodes.txn(PROVING, &proof).await?;
        // A store that is gone from etcd has no epoch, and nobody proves anything with it.
        let epoch = found(&answer, 0).as_ref().map(epoch_of);
        Ok(epoch.filter(|_| answer.succeeded()).map(|epoch| Proof {
            revision: at(&answer),
            epoch,
            applied: found(&answer, 1).and_then(|row| rows::applied(row.value())),
        }))
    }

    async fn acknowledge(
        &self,
        who: Incarnation,
        joined: Revision,
        applied: Revision,
    ) -> Result<bool, Fault> {
        let Shared { nodes, space, .. } = &*self.0;
        let row = TxnOp::put(space.acknowledged(who), rows::acknowledgement(applied), None);
        let change = Txn::new().when([is_at(&space.member(who), joined)]).and_then([row]);
        Ok(nodes.txn(PROVING, &change).await?.0.succeeded())
    }

    async fn members(&self) -> Result<Muster, Fault> {
        let key = self.0.space.key(&Place::Meta);
        let look = Txn::new().and_then([TxnOp::get(key, None), self.get_members()]);
        let answer = self.change(&look).await?;
        let epoch = found(&answer, 0).map(|pair| rows::revision(pair.mod_revision()));
        Ok(Muster { revision: at(&answer), epoch, members: self.members_of(&answer) })
    }

    fn roll(&self, after: Revision) -> EtcdRoll {
        EtcdRoll::after(&self.0, after)
    }

    async fn fence(&self, member: &Member) -> Result<Option<Revision>, Fault> {
        let key = self.0.space.member(member.incarnation);
        let mark = TxnOp::put(key.as_slice(), rows::fenced(member), None);
        let change = Txn::new().when([is_at(&key, member.revision)]).and_then([mark]);
        let answer = self.change(&change).await?;
        Ok(answer.succeeded().then(|| at(&answer)))
    }

    async fn remove(&self, who: Incarnation, revision: Revision) -> Result<bool, Fault> {
        let (member, row) = (self.0.space.member(who), self.0.space.acknowledged(who));
        let end = Txn::new()
            .when([is_at(&member, revision)])
            .and_then([TxnOp::delete(member, None), TxnOp::delete(row, None)]);
        Ok(self.change(&end).await?.succeeded())
    }
}

impl EtcdJournal {
    /// What became of a change that conflicts after having been sent before, or that took the last of
    /// etcd's room: it was made or never will be, and its entry of the trail tells which. The
    /// members may be those of a later revision: whoever is gone since then was fenced for long
    /// enough or left with its gate shut, and whoever joined since then began with the change.
    async fn whose(&self, transaction: &Transaction<'_>) -> Outcome {
        let (place, bytes) = match transaction.commits.last() {
            Some(commit) => (Place::Entry(commit.sequence), &commit.entry),
            None => (Place::Meta, &transaction.epoch),
        };
        let before = transaction.expected.map_or(Revision(0), |epoch| epoch.revision);
        let is_ours =
            |pair: &KeyValue| pair.value() == bytes && rows::revision(pair.mod_revision()) > before;
        let key = self.0.space.key(&place);
        let look = Txn::new().and_then([TxnOp::get(key, None), self.get_members()]);
        match self.change(&look).await {
            Ok(answer) => match found(&answer, 0).filter(is_ours) {
                Some(pair) => Outcome::Committed {
                    revision: rows::revision(pair.mod_revision()),
                    members: self.members_of(&answer),
                },
                None => Outcome::Conflict,
            },
            Err(trouble) => Outcome::Unknown(trouble.to_string().into()),
        }
    }

    async fn change(&self, change: &Txn) -> Result<TxnResponse, Trouble> {
        self.0.nodes.txn(CHANGING, change).await.map(|(answer, _)| answer)
    }

    /// Some of the 256 parts, all at once.
    async fn parts(&self, first: usize, at: Revision) -> Result<Vec<(Digest, Vec<u8>)>, Trouble> {
        let mut asked = JoinSet::new();
        for byte in (first..256).take(ABREAST).filter_map(|byte| u8::try_from(byte).ok()) {
            let shared = Arc::clone(&self.0);
            asked.spawn(async move {
                let range = shared.space.records_from(byte);
                shared.range(range, Some(at), i64::MAX).await.map(|(pairs, _)| (byte, pairs))
            });
        }
        let mut parts = BTreeMap::new();
        while let Some(part) = asked.join_next().await {
            let broken = |_| Trouble::Silence("a part was not read to its end".into());
            let (byte, pairs) = part.map_err(broken)??;
            parts.insert(byte, self.0.records(pairs));
        }
        Ok(parts.into_values().flatten().collect())
    }

    fn get_members(&self) -> TxnOp {
        let Range { start, end } = self.0.space.members();
        TxnOp::get(start, Some(GetOptions::new().with_range(end)))
    }

    /// The members, from the answer to the last operation.
    fn members_of(&self, answer: &TxnResponse) -> Vec<Member> {
        match answer.op_responses().pop() {
            Some(TxnOpResponse::Get(rows)) => rows::members(rows.kvs(), &self.0.space),
            _ => Vec::new(),
        }
    }
}

impl Shared {
    /// Up to `limit` values of a range, and whether there are more.
    pub(super) async fn range(
        &self,
        Range { mut start, end }: Range<Vec<u8>>,
        at: Option<Revision>,
        limit: i64,
    ) -> Result<(Vec<KeyValue>, bool), Trouble> {
        let at = at.map_or(0, |Revision(at)| i64::try_from(at).unwrap_or(i64::MAX));
        let (mut all, mut left) = (Vec::new(), limit);
        loop {
            let options = GetOptions::new()
                .with_range(end.as_slice())
                .with_limit(left.min(AT_ONCE))
                .with_sort(SortTarget::Key, SortOrder::Ascend)
                .with_revision(at);
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

    fn records(&self, pairs: Vec<KeyValue>) -> Vec<(Digest, Vec<u8>)> {
        let record = |pair: KeyValue| match self.space.read(pair.key()) {
            Some(Lies::Value(Place::Record(digest))) => Some((digest, pair.into_key_value().1)),
            _ => None,
        };
        pairs.into_iter().filter_map(record).collect()
    }
}

/// That a key was last changed at this revision; 0: that it is not there.
pub(super) fn is_at(key: &[u8], Revision(revision): Revision) -> Compare {
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    Compare::mod_revision(key, CompareOp::Equal, revision)
}

pub(super) fn at(answer: &TxnResponse) -> Revision {
    rows::revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
}

fn epoch_of(pair: &KeyValue) -> Epoch {
    Epoch { revision: rows::revision(pair.mod_revision()), frame: pair.value().to_vec() }
}

/// The value that one operation found.
pub(super) fn found(answer: &TxnResponse, operation: usize) -> Option<KeyValue> {
    match answer.op_responses().into_iter().nth(operation) {
        Some(TxnOpResponse::Get(mut get)) => get.take_kvs().into_iter().next(),
        _ => None,
    }
}
