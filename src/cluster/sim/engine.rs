//! The engine: one history, in memory.

use crate::{
    cluster::{
        journal::{
            Batch, Epoch, Event, Fault, Incarnation, Member, Muster, Newest, Outcome, Page, Proof,
            Revision, Turn,
        },
        member::Card,
    },
    codec::Place,
    digest::Digest,
    ledger::Commit,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::AtomicBool},
};
use tokio::sync::Notify;

/// Records by digest and scope names by number.
type Values = (BTreeMap<[u8; 32], Vec<u8>>, BTreeMap<u8, Vec<u8>>);

#[derive(Clone, Default)]
struct State {
    revision: u64,
    compacted: u64,
    values: Arc<Values>,
    epoch: Option<Epoch>,
    trail: BTreeMap<u64, Vec<u8>>,
    members: BTreeMap<Incarnation, Member>,
    /// Whether the member has an acknowledgement row.
    said: BTreeMap<Incarnation, Revision>,
    batches: Vec<Batch>,
    turns: Vec<(Revision, Turn)>,
    snapshots: BTreeMap<u64, Arc<Values>>,
}

/// A linearizable engine.
pub(crate) struct Engine {
    state: Mutex<State>,
    /// It turns down every change, for this reason.
    pub(crate) refuses: Mutex<Option<&'static str>>,
    /// It stands still, since it is being put back.
    pub(crate) is_away: AtomicBool,
    /// Something did, for whoever waits: they are woken in their order.
    pub(crate) happened: Notify,
}

impl Engine {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { revision: 1, ..State::default() };
        Arc::new(Self {
            state: Mutex::new(state),
            refuses: Mutex::default(),
            is_away: false.into(),
            happened: Notify::new(),
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.state.lock().unwrap().revision
    }

    /// Everything that is there now, to be put back later.
    pub(crate) fn backup(&self) -> impl Fn(&Self) + use<> {
        let kept = self.state.lock().unwrap().clone();
        move |engine: &Self| {
            *engine.state.lock().unwrap() = kept.clone();
            engine.happened.notify_waiters();
        }
    }

    /// Forgets the history up to a few revisions ago.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock().unwrap();
        let upto = state.revision;
        state.compacted = upto;
        state.batches.retain(|batch| batch.revision.0 > upto);
        drop(state);
        self.happened.notify_waiters();
    }

    pub(crate) fn records(&self) -> BTreeMap<[u8; 32], Vec<u8>> {
        self.state.lock().unwrap().values.0.clone()
    }

    pub(crate) fn newest(&self) -> Newest {
        let state = self.state.lock().unwrap();
        Newest { revision: Revision(state.revision), epoch: state.epoch.clone() }
    }

    fn values_at(&self, at: Revision) -> Result<Arc<Values>, Fault> {
        let state = self.state.lock().unwrap();
        if at.0 < state.compacted {
            return Err(Fault::Compacted);
        }
        let found = state.snapshots.range(..=at.0).next_back();
        Ok(found.map(|(_, values)| Arc::clone(values)).unwrap_or_default())
    }

    pub(crate) fn names_at(&self, at: Revision) -> Result<Vec<Vec<u8>>, Fault> {
        Ok(self.values_at(at)?.1.values().cloned().collect())
    }

    pub(crate) fn page(&self, at: Revision, after: Option<Digest>) -> Result<Page, Fault> {
        let values = self.values_at(at)?;
        let rest = values.0.iter().filter(|(key, _)| after.is_none_or(|a| **key > *a.as_bytes()));
        let mut records: Vec<_> =
            rest.map(|(key, frame)| (Digest::from_bytes(*key), frame.clone())).take(4).collect();
        let is_last = records.len() < 4;
        records.truncate(3);
        Ok(Page { records, is_last })
    }

    pub(crate) fn trail(&self, after: u64, limit: usize) -> Vec<(u64, Vec<u8>)> {
        let state = self.state.lock().unwrap();
        let entries = state.trail.range(after + 1..);
        entries.take(limit).map(|(n, frame)| (*n, frame.clone())).collect()
    }

    /// What was committed after a revision; `None` where there is nothing yet.
    pub(crate) fn after(&self, after: Revision) -> Option<Event> {
        let state = self.state.lock().unwrap();
        if after.0 < state.compacted {
            return Some(Event::Compacted);
        }
        let new: Vec<_> = state.batches.iter().filter(|b| b.revision > after).cloned().collect();
        (!new.is_empty()).then_some(Event::Batches(new))
    }

    pub(crate) fn turns_after(&self, after: usize) -> (usize, Vec<Turn>) {
        let state = self.state.lock().unwrap();
        let new = state.turns.iter().skip(after).map(|(_, turn)| turn.clone()).collect();
        (state.turns.len(), new)
    }

    /// How many turns there were up to a revision.
    pub(crate) fn turns_upto(&self, at: Revision) -> usize {
        self.state.lock().unwrap().turns.iter().filter(|(revision, _)| *revision <= at).count()
    }

    /// An empty epoch is one that was left out, by a writer that keeps no rules.
    pub(crate) fn commit(
        &self,
        expected: Option<&Epoch>,
        commits: &[Commit],
        epoch: &[u8],
    ) -> Outcome {
        let why = *self.refuses.lock().unwrap();
        if let Some(why) = why.or_else(|| too_much(commits, epoch)) {
            return Outcome::Refused(why.into());
        }
        let mut state = self.state.lock().unwrap();
        if !epoch.is_empty() && state.epoch.as_ref() != expected {
            return Outcome::Conflict;
        }
        state.revision += 1;
        let revision = Revision(state.revision);
        let mut values = Values::clone(&state.values);
        let mut changes = BTreeMap::new();
        for commit in commits {
            state.trail.insert(commit.sequence, commit.entry.clone());
            for put in &commit.puts {
                match (put.place, &put.frame) {
                    (Place::Record(digest), Some(frame)) => {
                        values.0.insert(*digest.as_bytes(), frame.clone());
                    }
                    (Place::Record(digest), None) => {
                        values.0.remove(digest.as_bytes());
                    }
                    (Place::Scope(number), Some(frame)) => {
                        values.1.insert(number, frame.clone());
                    }
                    // Each replica keeps its own; a deletion of one is nothing to the others.
                    (Place::Use(_), None) => continue,
                    _ => unreachable!("nothing else is put"),
                }
                changes.insert(put.place.key(), (put.place, put.frame.clone()));
            }
        }
        if !epoch.is_empty() {
            state.epoch = Some(Epoch { revision, frame: epoch.to_vec() });
        }
        state.values = Arc::new(values);
        let values = Arc::clone(&state.values);
        state.snapshots.insert(revision.0, values);
        let epoch = (!epoch.is_empty()).then(|| epoch.to_vec());
        state.batches.push(Batch { revision, epoch, changes: changes.into_values().collect() });
        let members = state.all_members();
        drop(state);
        self.happened.notify_waiters();
        Outcome::Committed { revision, members }
    }

    pub(crate) fn join(&self, who: Incarnation, card: &Card) -> Revision {
        self.write(|state, revision| {
            let card = Some(card.clone());
            let member =
                Member { incarnation: who, card, revision, is_fenced: false, applied: Revision(0) };
            state.members.insert(who, member.clone());
            (revision, Some(Turn::Changed(member)))
        })
    }

    pub(crate) fn prove(&self, who: Incarnation, joined: Revision) -> Option<Proof> {
        let state = self.state.lock().unwrap();
        state.members.get(&who).filter(|member| member.revision == joined)?;
        let epoch = state.epoch.clone()?;
        let applied = state.said.get(&who).copied();
        Some(Proof { revision: Revision(state.revision), epoch, applied })
    }

    pub(crate) fn acknowledge(
        &self,
        who: Incarnation,
        joined: Revision,
        applied: Revision,
    ) -> bool {
        self.write(|state, _| {
            let known = state.members.get(&who).is_some_and(|member| member.revision == joined);
            if known {
                state.said.insert(who, applied);
            }
            (known, known.then_some(Turn::Applied(who, applied)))
        })
    }

    pub(crate) fn members(&self) -> Muster {
        let state = self.state.lock().unwrap();
        let epoch = state.epoch.as_ref().map(|epoch| epoch.revision);
        Muster { revision: Revision(state.revision), epoch, members: state.all_members() }
    }

    pub(crate) fn fence(&self, member: &Member) -> Option<Revision> {
        self.write(|state, revision| {
            let found = state.members.get_mut(&member.incarnation);
            let Some(found) = found.filter(|found| found.revision == member.revision) else {
                return (None, None);
            };
            (found.revision, found.is_fenced) = (revision, true);
            (Some(revision), Some(Turn::Changed(found.clone())))
        })
    }

    pub(crate) fn remove(&self, who: Incarnation, revision: Revision) -> bool {
        self.write(|state, _| {
            let known = state.members.get(&who).is_some_and(|member| member.revision == revision);
            if known {
                state.members.remove(&who);
                state.said.remove(&who);
            }
            (known, known.then_some(Turn::Gone(who)))
        })
    }

    fn write<T>(&self, step: impl FnOnce(&mut State, Revision) -> (T, Option<Turn>)) -> T {
        let mut state = self.state.lock().unwrap();
        let revision = Revision(state.revision + 1);
        let (answer, turn) = step(&mut state, revision);
        if let Some(turn) = turn {
            state.revision = revision.0;
            state.turns.push((revision, turn));
        }
        drop(state);
        self.happened.notify_waiters();
        answer
    }
}

/// Why etcd would not take it: it counts the epoch, and that the members are read.
fn too_much(commits: &[Commit], epoch: &[u8]) -> Option<&'static str> {
    let mut keys = BTreeSet::new();
    let mut bytes = epoch.len();
    for commit in commits {
        bytes += commit.entry.len();
        for put in &commit.puts {
            bytes += put.frame.as_ref().map_or(0, Vec::len);
            keys.insert(put.place.key());
        }
    }
    let operations = commits.len() + keys.len() + 2;
    if operations > 128 {
        return Some("too many operations in txn request");
    }
    (bytes > 3 << 19).then_some("request is too large")
}

impl State {
    fn all_members(&self) -> Vec<Member> {
        let applied = |who| self.said.get(who).copied().unwrap_or_default();
        self.members.iter().map(|(who, m)| Member { applied: applied(who), ..m.clone() }).collect()
    }
}
