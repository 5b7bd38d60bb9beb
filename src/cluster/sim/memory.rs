//! A consensus store in memory: linearizable because it is one mutex, with its whole history.
//!
//! Also a reference implementation of the contract. `link` calls it as a client does, with faults.

use crate::cluster::consensus::{
    Committed, ConsensusError, Epoch, ImportProgress, Key, LastUses, Latest, MemberEvent, MemberId,
    MemberList, MemberRow, Proof, RecordPage, Revision, Transaction, TransactionOutcome,
    WatchEvent, Write,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicBool},
};
use tokio::sync::Notify;

/// The number of records in a page: small, so that a few keys need several pages.
const PAGE: usize = 3;
/// Audit entries that one call deletes.
const MAX_DELETED: usize = 1000;
/// etcd's limits.
const MAX_OPERATIONS: usize = 128;
const MAX_REQUEST: usize = 3 << 19;

/// Why no store is created over the values of an import.
const UNFINISHED_IMPORT: &str =
    "an import is unfinished; repeat the import to continue it, or begin another one";

/// The values of keys at one revision, except last uses and audit entries.
type Values = BTreeMap<Key, Vec<u8>>;

/// An audit entry, and between which revisions it existed.
#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    written: Revision,
    deleted: Option<Revision>,
}

/// A member, and the revision at which it joined. Fencing changes the revision of its row only.
#[derive(Clone)]
struct Member {
    row: MemberRow,
    joined: Revision,
    /// The last acknowledgement, even of revision 0.
    acknowledged: Option<Revision>,
}

impl Member {
    /// Whether a replica that joined at this revision may prove and acknowledge.
    fn is_joined_at(&self, revision: Revision) -> bool {
        self.joined == revision && !self.row.is_fenced
    }
}

#[derive(Clone, Default)]
struct State {
    revision: Revision,
    compacted: Revision,
    values: Arc<Values>,
    epoch: Option<Epoch>,
    audit: BTreeMap<u64, Entry>,
    members: BTreeMap<MemberId, Member>,
    last_uses: BTreeMap<u64, (Revision, Vec<u8>)>,
    import: Option<ImportProgress>,
    transactions: Vec<Committed>,
    member_events: Vec<(Revision, MemberEvent)>,
    snapshots: BTreeMap<Revision, Arc<Values>>,
}

/// The data and its history.
pub(crate) struct Memory {
    state: Mutex<State>,
    /// Refuses every transaction, for this reason.
    pub(crate) refuses: Mutex<Option<&'static str>>,
    /// Whether the store answers no call, because an older state is being restored.
    pub(crate) is_away: AtomicBool,
    /// Wakes watches, in the order in which they wait.
    pub(crate) changed: Notify,
}

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { revision: Revision(1), ..State::default() };
        Arc::new(Self {
            state: Mutex::new(state),
            refuses: Mutex::default(),
            is_away: false.into(),
            changed: Notify::new(),
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.state.lock().unwrap().revision.0
    }

    /// Returns the kept history, without random bytes and real time.
    pub(crate) fn trace(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let number = |id: MemberId| u64::from_be_bytes(*id.0.first_chunk().unwrap());
        let transaction = |committed: &Committed| format!("{committed:?}");
        let event = |(at, event): &(Revision, MemberEvent)| match event {
            MemberEvent::Changed(member) => {
                format!("{} {} fenced {}", at.0, number(member.id), member.is_fenced)
            }
            MemberEvent::Applied(id, applied) => {
                format!("{} {} applied {}", at.0, number(*id), applied.0)
            }
            MemberEvent::Removed(id) => format!("{} {} removed", at.0, number(*id)),
        };
        let transactions = state.transactions.iter().map(transaction);
        transactions.chain(state.member_events.iter().map(event)).collect()
    }

    /// Copies the state, to be restored later.
    pub(crate) fn backup(&self) -> impl Fn(&Self) + use<> {
        let kept = self.state.lock().unwrap().clone();
        move |memory: &Self| {
            *memory.state.lock().unwrap() = kept.clone();
            memory.changed.notify_waiters();
        }
    }

    /// Discards the history before the newest revision.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock().unwrap();
        let revision = state.revision;
        state.compacted = revision;
        state.transactions.retain(|committed| committed.revision > revision);
        state.audit.retain(|_, entry| entry.deleted.is_none());
        drop(state);
        self.changed.notify_waiters();
    }

    pub(crate) fn records(&self) -> BTreeMap<[u8; 32], Vec<u8>> {
        let values = Arc::clone(&self.state.lock().unwrap().values);
        records(&values).map(|(digest, value)| (digest, value.clone())).collect()
    }

    pub(crate) fn latest(&self) -> Latest {
        let state = self.state.lock().unwrap();
        Latest { revision: state.revision, epoch: state.epoch.clone() }
    }

    fn values_at(&self, at: Revision) -> Result<Arc<Values>, ConsensusError> {
        let state = self.state.lock().unwrap();
        state.check_readable(at)?;
        let found = state.snapshots.range(..=at).next_back();
        Ok(found.map(|(_, values)| Arc::clone(values)).unwrap_or_default())
    }

    pub(crate) fn scope_names(&self, at: Revision) -> Result<Vec<Vec<u8>>, ConsensusError> {
        let values = self.values_at(at)?;
        let names = values.iter().filter(|(key, _)| matches!(key, Key::ScopeName(_)));
        Ok(names.map(|(_, value)| value.clone()).collect())
    }

    pub(crate) fn page(
        &self,
        at: Revision,
        after: Option<[u8; 32]>,
    ) -> Result<RecordPage, ConsensusError> {
        let values = self.values_at(at)?;
        let rest = records(&values).filter(|(digest, _)| after.is_none_or(|after| *digest > after));
        let mut records: Vec<_> =
            rest.map(|(digest, value)| (digest, value.clone())).take(PAGE + 1).collect();
        let is_last = records.len() <= PAGE;
        records.truncate(PAGE);
        Ok(RecordPage { records, is_last })
    }

    pub(crate) fn audit_start(&self, at: Revision) -> Result<Option<Vec<u8>>, ConsensusError> {
        Ok(self.values_at(at)?.get(&Key::AuditStart).cloned())
    }

    pub(crate) fn audit_entries(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ConsensusError> {
        let state = self.state.lock().unwrap();
        state.check_readable(at)?;
        let last = after.saturating_add(u64::try_from(limit).unwrap());
        let exists =
            |entry: &Entry| entry.written <= at && entry.deleted.is_none_or(|deleted| deleted > at);
        let entries = state.audit.range(after + 1..=last).filter(|(_, entry)| exists(entry));
        Ok(entries.map(|(sequence, entry)| (*sequence, entry.value.clone())).collect())
    }

    pub(crate) fn prune_audit(&self, through: u64, audit_start: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.values.get(&Key::AuditStart).is_none_or(|value| value != audit_start) {
            return false;
        }
        let at = Revision(state.revision.0 + 1);
        let entries = state.audit.range_mut(..=through).map(|(_, entry)| entry);
        let mut pruned = entries.filter(|entry| entry.deleted.is_none());
        let mut count = 0;
        for entry in pruned.by_ref().take(MAX_DELETED) {
            (entry.deleted, count) = (Some(at), count + 1);
        }
        let is_left = pruned.next().is_some();
        if count > 0 {
            state.revision = at;
        }
        is_left
    }

    /// The transactions after a revision; `None` if there is none yet.
    pub(crate) fn transactions_after(&self, after: Revision) -> Option<WatchEvent> {
        let state = self.state.lock().unwrap();
        if after < state.compacted {
            return Some(WatchEvent::Compacted);
        }
        let transactions = state.transactions.iter();
        let new: Vec<_> = transactions.filter(|c| c.revision > after).cloned().collect();
        (!new.is_empty()).then_some(WatchEvent::Committed(new))
    }

    /// The member events after the first `seen` ones, and how many there are.
    pub(crate) fn member_events_after(&self, seen: usize) -> (usize, Vec<MemberEvent>) {
        let state = self.state.lock().unwrap();
        let new = state.member_events.iter().skip(seen).map(|(_, event)| event.clone()).collect();
        (state.member_events.len(), new)
    }

    /// How many member events there were up to a revision.
    pub(crate) fn member_events_until(&self, at: Revision) -> usize {
        let state = self.state.lock().unwrap();
        state.member_events.iter().filter(|(revision, _)| *revision <= at).count()
    }

    pub(crate) fn last_uses(&self, after: Revision) -> LastUses {
        let state = self.state.lock().unwrap();
        let new = state.last_uses.iter().filter(|(_, (at, _))| *at > after);
        let uses = new.map(|(id, (_, value))| (*id, value.clone())).collect();
        LastUses { revision: state.revision, uses }
    }

    pub(crate) fn put_last_uses(&self, uses: Vec<(u64, Vec<u8>)>) {
        let mut state = self.state.lock().unwrap();
        state.revision.0 += 1;
        let at = state.revision;
        state.last_uses.extend(uses.into_iter().map(|(id, value)| (id, (at, value))));
    }

    pub(crate) fn commit(&self, transaction: &Transaction) -> TransactionOutcome {
        let Transaction { expected, writes, epoch } = transaction;
        let mut state = self.state.lock().unwrap();
        if state.epoch != *expected {
            return TransactionOutcome::Conflict;
        }
        let unfinished = state.import.as_ref().map(|_| UNFINISHED_IMPORT);
        let refused = unfinished.or(*self.refuses.lock().unwrap());
        if let Some(reason) = refused.or_else(|| too_large(transaction)) {
            return TransactionOutcome::Refused(reason.into());
        }
        // An empty epoch represents a faulty writer that omits the epoch.
        let epoch = Some(epoch).filter(|epoch| !epoch.is_empty()).cloned();
        let revision = state.write(writes.clone(), epoch);
        let members = state.all_members();
        drop(state);
        self.changed.notify_waiters();
        TransactionOutcome::Committed { revision, members }
    }

    pub(crate) fn join(&self, id: MemberId, info: &[u8]) -> Revision {
        self.change_member(|state, revision| {
            if let Some(member) = state.members.get(&id) {
                return (member.joined, None);
            }
            let (info, applied) = (info.to_vec(), Revision(0));
            let row = MemberRow { id, info, revision, is_fenced: false, applied };
            let member = Member { row: row.clone(), joined: revision, acknowledged: None };
            state.members.insert(id, member);
            (revision, Some(MemberEvent::Changed(row)))
        })
    }

    pub(crate) fn prove(&self, id: MemberId, joined: Revision) -> Option<Proof> {
        let state = self.state.lock().unwrap();
        let member = state.members.get(&id).filter(|member| member.is_joined_at(joined))?;
        let (epoch, applied) = (state.epoch.clone()?, member.acknowledged);
        Some(Proof { revision: state.revision, epoch, applied })
    }

    pub(crate) fn acknowledge(&self, id: MemberId, joined: Revision, applied: Revision) -> bool {
        self.change_member(|state, _| {
            let member = state.members.get_mut(&id);
            let Some(member) = member.filter(|member| member.is_joined_at(joined)) else {
                return (false, None);
            };
            member.acknowledged = Some(applied);
            (true, Some(MemberEvent::Applied(id, applied)))
        })
    }

    pub(crate) fn members(&self) -> MemberList {
        let state = self.state.lock().unwrap();
        let epoch = state.epoch.as_ref().map(|epoch| epoch.revision);
        MemberList { revision: state.revision, epoch, members: state.all_members() }
    }

    pub(crate) fn fence(&self, member: &MemberRow) -> Option<Revision> {
        self.change_member(|state, revision| {
            let found = state.members.get_mut(&member.id).map(|found| &mut found.row);
            let is_at = |row: &&mut MemberRow| row.revision == member.revision && !row.is_fenced;
            let Some(row) = found.filter(is_at) else {
                return (None, None);
            };
            (row.revision, row.is_fenced) = (revision, true);
            (Some(revision), Some(MemberEvent::Changed(row.clone())))
        })
    }

    pub(crate) fn remove_member(&self, id: MemberId, revision: Revision) -> bool {
        self.change_member(|state, _| {
            let found = state.members.get(&id).is_some_and(|found| found.row.revision == revision);
            if found {
                state.members.remove(&id);
            }
            (found, found.then_some(MemberEvent::Removed(id)))
        })
    }

    fn change_member<T>(
        &self,
        change: impl FnOnce(&mut State, Revision) -> (T, Option<MemberEvent>),
    ) -> T {
        let mut state = self.state.lock().unwrap();
        let revision = Revision(state.revision.0 + 1);
        let (answer, event) = change(&mut state, revision);
        if let Some(event) = event {
            state.revision = revision;
            state.member_events.push((revision, event));
        }
        drop(state);
        self.changed.notify_waiters();
        answer
    }

    pub(crate) fn begin_import(&self, source: &[u8]) -> Result<ImportProgress, ConsensusError> {
        let mut state = self.state.lock().unwrap();
        if state.epoch.is_some() {
            return Err(ConsensusError::Refused("there is a store already".into()));
        }
        if let Some(begun) = state.import.as_ref().filter(|begun| begun.source == source) {
            return Ok(begun.clone());
        }
        state.audit.clear();
        state.last_uses.clear();
        let deletions = state.values.keys().map(|key| Write { key: *key, value: None }).collect();
        let revision = state.write(deletions, None);
        let progress = ImportProgress { source: source.to_vec(), done: 0, revision };
        state.import = Some(progress.clone());
        drop(state);
        self.changed.notify_waiters();
        Ok(progress)
    }

    pub(crate) fn import(
        &self,
        progress: ImportProgress,
        values: Vec<(Key, Vec<u8>)>,
    ) -> Result<ImportProgress, ConsensusError> {
        let mut state = self.state.lock().unwrap();
        state.check_import(&progress)?;
        let done = progress.done + values.len() as u64;
        let write = |(key, value)| Write { key, value: Some(value) };
        let revision = state.write(values.into_iter().map(write).collect(), None);
        let progress = ImportProgress { done, revision, ..progress };
        state.import = Some(progress.clone());
        drop(state);
        self.changed.notify_waiters();
        Ok(progress)
    }

    pub(crate) fn finish_import(
        &self,
        progress: &ImportProgress,
        epoch: &[u8],
    ) -> Result<(), ConsensusError> {
        let mut state = self.state.lock().unwrap();
        state.check_import(progress)?;
        state.import = None;
        state.write(Vec::new(), Some(epoch.to_vec()));
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }
}

impl State {
    /// Revision 0 is before every transaction, and never kept.
    fn check_readable(&self, at: Revision) -> Result<(), ConsensusError> {
        if at < self.compacted || at == Revision(0) {
            return Err(ConsensusError::Compacted);
        }
        Ok(())
    }

    /// Writes values and the epoch as one transaction, which watches deliver if replicas follow a part of it.
    fn write(&mut self, writes: Vec<Write>, epoch: Option<Vec<u8>>) -> Revision {
        let revision = Revision(self.revision.0 + 1);
        self.revision = revision;
        let mut values = (*self.values).clone();
        for Write { key, value } in writes.iter().cloned() {
            match (key, value) {
                (Key::AuditEntry(sequence), Some(value)) => {
                    let entry = Entry { value, written: revision, deleted: None };
                    self.audit.insert(sequence, entry);
                }
                (Key::AuditEntry(_), None) => unreachable!("a transaction deletes no entry"),
                (Key::LastUse(id), Some(value)) => {
                    self.last_uses.insert(id, (revision, value));
                }
                (Key::LastUse(id), None) => drop(self.last_uses.remove(&id)),
                (key, Some(value)) => drop(values.insert(key, value)),
                (key, None) => drop(values.remove(&key)),
            }
        }
        self.values = Arc::new(values);
        self.snapshots.insert(revision, Arc::clone(&self.values));
        if let Some(value) = epoch.clone() {
            self.epoch = Some(Epoch { revision, value });
        }
        let is_followed =
            |write: &Write| !matches!(write.key, Key::AuditEntry(_) | Key::LastUse(_));
        let writes: Vec<_> = writes.into_iter().filter(is_followed).collect();
        if epoch.is_some() || !writes.is_empty() {
            self.transactions.push(Committed { revision, epoch, writes });
        }
        revision
    }

    fn check_import(&self, progress: &ImportProgress) -> Result<(), ConsensusError> {
        match &self.import {
            Some(begun) if begun == progress && self.epoch.is_none() => Ok(()),
            _ => Err(ConsensusError::Refused("another import is running".into())),
        }
    }

    fn all_members(&self) -> Vec<MemberRow> {
        let row = |member: &Member| {
            let applied = member.acknowledged.unwrap_or_default();
            MemberRow { applied, ..member.row.clone() }
        };
        self.members.values().map(row).collect()
    }
}

fn records(values: &Values) -> impl Iterator<Item = ([u8; 32], &Vec<u8>)> {
    values.iter().filter_map(|(key, value)| match key {
        Key::Record(digest) => Some((*digest, value)),
        _ => None,
    })
}

/// Why etcd would refuse the transaction. The epoch and the read of the members count as well.
fn too_large(Transaction { writes, epoch, .. }: &Transaction) -> Option<&'static str> {
    let values = writes.iter().filter_map(|write| write.value.as_ref());
    if writes.len() + 2 > MAX_OPERATIONS {
        return Some("too many operations in txn request");
    }
    let bytes = epoch.len() + values.map(Vec::len).sum::<usize>();
    (bytes > MAX_REQUEST).then_some("request is too large")
}
