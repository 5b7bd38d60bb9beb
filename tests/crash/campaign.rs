//! The common part of the campaigns `kill` and `starve`: writers that change keys, and a record of the
//! acknowledged changes that a store is compared with.

use portcullis::{Change, Error, Issued, KeyId, Record, Store};
use portcullis_testkit::{Chance, new_key, records, scopes};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The most keys of a writer.
const KEYS: usize = 12;
const NARROW: &[&str] = &["api.read"];
const WIDE: &[&str] = &["api.read", "api.write"];

/// The compared state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    active: bool,
    /// The number in its owner.
    owner: u64,
    /// Whether it has the scope `api.write`.
    wide: bool,
    /// Whether the inactive key that it replaced still exists.
    old: bool,
    /// Whether it differs from the last acknowledged key.
    fresh: bool,
}

impl State {
    fn of(record: &Record) -> Self {
        let owner = record.owner.as_ref().unwrap().trim_start_matches("owner-").parse().unwrap();
        let wide = record.grant.allows(&"api.write".parse().unwrap());
        Self { active: record.active, owner, wide, old: false, fresh: false }
    }

    /// `absent`, or the five values.
    pub(crate) fn to_line(state: Option<Self>) -> String {
        state.map_or("absent".to_owned(), |Self { active, owner, wide, old, fresh }| {
            format!("{active} {owner} {wide} {old} {fresh}")
        })
    }

    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [active, owner, wide, old, fresh] = words[..] else { return None };
        let yes = |word: &str| word.parse().unwrap();
        let owner = owner.parse().unwrap();
        Some(Self { active: yes(active), owner, wide: yes(wide), old: yes(old), fresh: yes(fresh) })
    }
}

/// The counts of a campaign.
#[derive(Clone, Copy, Default)]
pub(crate) struct Findings {
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) revived: usize,
    pub(crate) unopenable: usize,
}

// ── acknowledged changes

/// The keys of one name: a rotation replaces one by the next.
#[derive(Default)]
struct KeyHistory {
    acknowledged: Option<State>,
    /// States that were attempted since and may be on disk.
    possible: Vec<Option<State>>,
    /// States that were attempted since, even if they are certainly not on disk. The process must not
    /// accept more than each of them permits.
    tried: Vec<Option<State>>,
    /// The acknowledged keys; the last one is current. A key that was only found in a store has no known
    /// secret.
    keys: Vec<(String, Option<Vec<u8>>)>,
}

impl KeyHistory {
    fn allows(&self, state: Option<State>) -> bool {
        self.acknowledged == state || self.possible.contains(&state)
    }

    fn any_possible(&self, what: impl Fn(&State) -> bool) -> bool {
        self.acknowledged.iter().chain(self.possible.iter().flatten()).any(what)
    }
}

/// All acknowledged changes.
#[derive(Default)]
pub(crate) struct Acknowledged {
    names: BTreeMap<String, KeyHistory>,
    /// The last audit entry that was checked.
    audit_end: u64,
    /// The changes that were acknowledged since.
    done: usize,
}

impl Acknowledged {
    pub(crate) fn tries(&mut self, name: &str, next: Option<State>) {
        let known = self.names.entry(name.to_owned()).or_default();
        known.possible.push(next);
        known.tried.push(next);
    }

    pub(crate) fn done(&mut self, name: &str, key: Option<(&str, &str)>) {
        let known = self.names.get_mut(name).unwrap();
        let next = known.possible.pop().unwrap();
        known.acknowledged = next.map(|state| State { fresh: false, ..state });
        known.keys.extend(key.map(|(id, key)| (id.to_owned(), Some(key.as_bytes().to_vec()))));
        known.possible.clear();
        known.tried.clear();
        self.done += 1;
    }

    /// Records that the last attempt was certainly not written.
    pub(crate) fn refused(&mut self, name: &str) {
        self.names.get_mut(name).unwrap().possible.pop();
    }

    /// The number of changes that were acknowledged since the last comparison.
    pub(crate) fn unchecked(&self) -> usize {
        self.done
    }

    /// Compares with a store that was opened since. Then counts its state as acknowledged: what an open
    /// store has shown must stay.
    pub(crate) fn compare(&mut self, store: &Store, findings: &mut Findings) {
        self.compare_keys(store, findings);
        let new_entries = store.audit(self.audit_end, usize::MAX).unwrap();
        if new_entries.len() < self.done {
            println!(
                "{} changes were acknowledged, the audit log has {}",
                self.done,
                new_entries.len()
            );
            findings.lost += 1;
        }
        self.audit_end = new_entries.last().map_or(self.audit_end, |entry| entry.sequence);
        findings.acknowledged += self.done;
        self.done = 0;
    }

    /// Like `compare`, without the audit log, which may be unreadable.
    pub(crate) fn compare_keys(&mut self, store: &Store, findings: &mut Findings) {
        let mut found: BTreeMap<String, (Option<Arc<Record>>, bool)> = BTreeMap::new();
        for record in records(store) {
            assert!(self.names.contains_key(&record.name), "{} was never created", record.name);
            let (current, old) = found.entry(record.name.clone()).or_default();
            if record.replaced_by.is_some() {
                assert!(!record.active && !*old, "{} has two predecessors", record.name);
                *old = true;
            } else {
                assert!(current.is_none(), "{} is there twice", record.name);
                *current = Some(record);
            }
        }
        for (name, known) in &mut self.names {
            let (current, old) = found.remove(name).unwrap_or_default();
            let state = current.as_ref().map(|record| {
                let is_last = known.keys.last().is_some_and(|(id, _)| *id == record.id.to_string());
                State { old, fresh: !is_last, ..State::of(record) }
            });
            assert!(current.is_some() || !old, "{name} has only a predecessor");
            if !known.allows(state) {
                let is_looser = state.is_some_and(|state| {
                    state.active && !known.any_possible(|s| s.active)
                        || state.wide && !known.any_possible(|s| s.wide)
                });
                *(if is_looser { &mut findings.revived } else { &mut findings.lost }) += 1;
                println!(
                    "{name}: acknowledged {:?}, possible {:?}, found {state:?}",
                    known.acknowledged, known.possible
                );
            }
            known.check_authentication(name, store, findings, |last| {
                let state = state.filter(|state| last && !state.fresh)?;
                state.active.then_some(state.wide)
            });
            if let Some(record) = current.filter(|_| state.is_some_and(|state| state.fresh)) {
                known.keys.push((record.id.to_string(), None));
            }
            known.acknowledged = state.map(|state| State { fresh: false, ..state });
            known.possible.clear();
            known.tried.clear();
        }
    }

    /// Compares with the open store in which the changes were attempted. A key must be accepted exactly if
    /// its acknowledged state and every attempt since permit it.
    pub(crate) fn compare_now(&self, store: &Store, findings: &mut Findings) {
        for (name, known) in &self.names {
            known.check_authentication(name, store, findings, |last| {
                let state = known.acknowledged.filter(|_| last)?;
                let mut attempts = known.tried.iter();
                let passes = state.active
                    && attempts
                        .all(|tried| tried.is_some_and(|tried| tried.active && !tried.fresh));
                let wide = state.wide && known.tried.iter().flatten().all(|tried| tried.wide);
                passes.then_some(wide)
            });
        }
    }
}

impl KeyHistory {
    /// Authenticates each key. `expected` states for the last one and for its predecessors whether it is
    /// accepted, and whether it may write.
    fn check_authentication(
        &self,
        name: &str,
        store: &Store,
        findings: &mut Findings,
        expected: impl Fn(bool) -> Option<bool>,
    ) {
        let write = "api.write".parse().unwrap();
        for (n, (id, key)) in self.keys.iter().enumerate() {
            let Some(key) = key else { continue };
            let answer = store.authenticate_key(key).ok().map(|p| p.require(&write).is_ok());
            let expected = expected(n + 1 == self.keys.len());
            if answer != expected {
                println!("{name}, {id}: got {answer:?}, expected {expected:?}");
                // `None` is less than `Some(false)`.
                *(if answer > expected { &mut findings.revived } else { &mut findings.lost }) += 1;
            }
        }
    }
}

// ── writers

/// Is called before and after each change.
pub(crate) trait Observer {
    fn tries(&self, name: &str, next: Option<State>);
    /// With the id and the secret of a new key.
    fn done(&self, name: &str, key: Option<(&str, &str)>);
    fn failed(&self, name: &str, error: &Error);
}

struct OwnKey {
    name: String,
    id: KeyId,
    state: State,
    predecessor: Option<KeyId>,
}

/// The keys of one thread. No other thread changes them.
pub(crate) struct Writer<'s, W> {
    store: &'s Store,
    observer: &'s W,
    prefix: String,
    seed: usize,
    turn: u64,
    chance: Chance,
    keys: Vec<OwnKey>,
}

impl<'s, W: Observer> Writer<'s, W> {
    pub(crate) fn new(store: &'s Store, observer: &'s W, number: usize, seed: usize) -> Self {
        let prefix = format!("w{number}-");
        let own_records: Vec<_> =
            records(store).into_iter().filter(|r| r.name.starts_with(&prefix)).collect();
        let keys = own_records
            .iter()
            .filter(|record| record.replaced_by.is_none())
            .map(|record| {
                let old = own_records.iter().find(|r| r.name == record.name && r.id != record.id);
                OwnKey {
                    name: record.name.clone(),
                    id: record.id,
                    state: State { old: old.is_some(), ..State::of(record) },
                    predecessor: old.map(|record| record.id),
                }
            })
            .collect();
        let chance = Chance(((seed + 1) * 8 + number) as u64);
        Self { store, observer, prefix, seed, turn: 0, chance, keys }
    }

    /// Makes one random change.
    pub(crate) fn change(&mut self) -> Result<(), Error> {
        let at = self.chance.below(KEYS);
        self.turn += 1;
        let Some(own) = self.keys.get(at) else { return self.issue() };
        let State { active, owner, wide, old, .. } = own.state;
        match self.chance.below(12) {
            0 if !active && !old => self.delete(at),
            1 => {
                let new = format!("owner-{}", owner + 1);
                let change = Change::default().with_owner(new);
                self.update(at, State { owner: owner + 1, ..own.state }, change)
            }
            2 | 3 => {
                let grant = scopes(self.store, if wide { NARROW } else { WIDE });
                let change = Change::default().with_grant(grant);
                self.update(at, State { wide: !wide, ..own.state }, change)
            }
            4 | 5 if active && !old => self.rotate(at),
            6 | 7 if old => self.delete_predecessor(at),
            _ if active => self.revoke(at),
            _ => self.update(at, State { active: true, ..own.state }, Change::activate()),
        }
    }

    /// Revokes every active key of this writer.
    pub(crate) fn revoke_all(&mut self) -> Vec<Result<(), Error>> {
        let active: Vec<usize> =
            (0..self.keys.len()).filter(|&n| self.keys[n].state.active).collect();
        active.into_iter().map(|at| self.revoke(at)).collect()
    }

    fn issue(&mut self) -> Result<(), Error> {
        let name = format!("{}{}-{}", self.prefix, self.seed, self.turn);
        let state = State { active: true, owner: 0, wide: true, old: false, fresh: true };
        let mut new = new_key(self.store, &name, WIDE);
        new.owner = Some("owner-0".into());
        let Issued { record, secret } =
            self.observed(&name, Some(state), || self.store.issue(new))?;
        secret.reveal(|key| self.observer.done(&name, Some((&record.id.to_string(), key))));
        let state = State { fresh: false, ..state };
        self.keys.push(OwnKey { name, id: record.id, state, predecessor: None });
        Ok(())
    }

    fn update(&mut self, at: usize, next: State, change: Change) -> Result<(), Error> {
        let own = &self.keys[at];
        self.observed(&own.name, Some(next), || self.store.update(own.id, change))?;
        self.observer.done(&own.name, None);
        self.keys[at].state = next;
        Ok(())
    }

    fn revoke(&mut self, at: usize) -> Result<(), Error> {
        let own = &self.keys[at];
        let next = State { active: false, ..own.state };
        self.observed(&own.name, Some(next), || self.store.revoke(own.id))?;
        self.observer.done(&own.name, None);
        self.keys[at].state = next;
        Ok(())
    }

    fn rotate(&mut self, at: usize) -> Result<(), Error> {
        let own = &self.keys[at];
        let next = State { old: true, fresh: true, ..own.state };
        let Issued { record, secret } =
            self.observed(&own.name, Some(next), || self.store.rotate(own.id, Duration::ZERO))?;
        secret.reveal(|key| self.observer.done(&own.name, Some((&record.id.to_string(), key))));
        let own = &mut self.keys[at];
        own.predecessor = Some(std::mem::replace(&mut own.id, record.id));
        own.state = State { fresh: false, ..next };
        Ok(())
    }

    /// Deletes the key that was replaced.
    fn delete_predecessor(&mut self, at: usize) -> Result<(), Error> {
        let own = &self.keys[at];
        let next = State { old: false, ..own.state };
        let predecessor = own.predecessor.unwrap();
        self.observed(&own.name, Some(next), || self.store.delete(predecessor))?;
        self.observer.done(&own.name, None);
        let own = &mut self.keys[at];
        (own.state, own.predecessor) = (next, None);
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<(), Error> {
        let own = &self.keys[at];
        self.observed(&own.name, None, || self.store.delete(own.id))?;
        self.observer.done(&own.name, None);
        self.keys.swap_remove(at);
        Ok(())
    }

    fn observed<T>(
        &self,
        name: &str,
        next: Option<State>,
        change: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.observer.tries(name, next);
        change().inspect_err(|error| self.observer.failed(name, error))
    }
}
