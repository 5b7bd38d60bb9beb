//! What the campaigns kill and starve have in common: hands that change keys, and a book of what
//! was acknowledged, to be compared with what a store shows.

use portcullis::{Change, Error, Issued, KeyId, Record, Store};
use portcullis_testkit::{Chance, new_key, records, scopes};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How many keys a hand keeps at most.
const KEYS: usize = 12;
const NARROW: &[&str] = &["api.read"];
const WIDE: &[&str] = &["api.read", "api.write"];

/// What is asked of a key that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    active: bool,
    /// How it is called upstream.
    owner: u64,
    /// Whether it may write.
    wide: bool,
    /// Whether the key that it replaced is still there, inactive.
    old: bool,
    /// Whether it is another key than the last one that was acknowledged.
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

/// What a campaign has found.
#[derive(Clone, Copy, Default)]
pub(crate) struct Findings {
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) revived: usize,
    pub(crate) unopenable: usize,
}

// ── the book

/// One name, under which one key follows another when it is rotated.
#[derive(Default)]
struct Known {
    acknowledged: Option<State>,
    /// What was tried since, and may or may not be on disk.
    possible: Vec<Option<State>>,
    /// What was tried since, even if it is certain that it is not on disk: this process must not
    /// allow more than any of it does.
    tried: Vec<Option<State>>,
    /// The keys that were acknowledged, the last one current. Who is only found in a store has
    /// no secret.
    keys: Vec<(String, Option<Vec<u8>>)>,
}

impl Known {
    fn allows(&self, state: Option<State>) -> bool {
        self.acknowledged == state || self.possible.contains(&state)
    }

    fn may(&self, what: impl Fn(&State) -> bool) -> bool {
        self.acknowledged.iter().chain(self.possible.iter().flatten()).any(what)
    }
}

/// Everything that was acknowledged.
#[derive(Default)]
pub(crate) struct Book {
    names: BTreeMap<String, Known>,
    /// The end of the trail that was checked.
    trail: u64,
    /// Changes that were acknowledged since.
    done: usize,
}

impl Book {
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

    /// It is certain that the last thing tried was not written.
    pub(crate) fn refused(&mut self, name: &str) {
        self.names.get_mut(name).unwrap().possible.pop();
    }

    /// How many changes were acknowledged since the last comparison.
    pub(crate) fn news(&self) -> usize {
        self.done
    }

    /// Compares with a store that was opened since, and takes what it shows for acknowledged: it
    /// must not change its mind.
    pub(crate) fn compare(&mut self, store: &Store, findings: &mut Findings) {
        self.compare_keys(store, findings);
        let news = store.audit(self.trail, usize::MAX).unwrap();
        if news.len() < self.done {
            println!("{} changes were acknowledged, the trail tells of {}", self.done, news.len());
            findings.lost += 1;
        }
        self.trail = news.last().map_or(self.trail, |entry| entry.sequence);
        findings.acknowledged += self.done;
        self.done = 0;
    }

    /// The same without the trail, which may not be readable.
    pub(crate) fn compare_keys(&mut self, store: &Store, findings: &mut Findings) {
        let mut found: BTreeMap<String, (Option<Arc<Record>>, bool)> = BTreeMap::new();
        for record in records(store) {
            assert!(self.names.contains_key(&record.name), "{} was never tried", record.name);
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
                    state.active && !known.may(|s| s.active) || state.wide && !known.may(|s| s.wide)
                });
                *(if is_looser { &mut findings.revived } else { &mut findings.lost }) += 1;
                println!(
                    "{name}: acknowledged {:?}, possible {:?}, found {state:?}",
                    known.acknowledged, known.possible
                );
            }
            known.answers(name, store, findings, |last| {
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

    /// Compares with what the store in which the changes were tried lets pass now: what was
    /// acknowledged, met with all that was tried since.
    pub(crate) fn compare_now(&self, store: &Store, findings: &mut Findings) {
        for (name, known) in &self.names {
            known.answers(name, store, findings, |last| {
                let state = known.acknowledged.filter(|_| last)?;
                let mut denied = known.tried.iter();
                let passes = state.active
                    && denied.all(|tried| tried.is_some_and(|tried| tried.active && !tried.fresh));
                let wide = state.wide && known.tried.iter().flatten().all(|tried| tried.wide);
                passes.then_some(wide)
            });
        }
    }
}

impl Known {
    /// Presents each key; `expected` says of the last one and of those before whether it passes,
    /// and whether it may write.
    fn answers(
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
                println!("{name}, {id}: passes {answer:?}, should {expected:?}");
                // `None` is less than `Some(false)`.
                *(if answer > expected { &mut findings.revived } else { &mut findings.lost }) += 1;
            }
        }
    }
}

// ── the hands

/// Who is told of each change, before and after it.
pub(crate) trait Witness {
    fn tries(&self, name: &str, next: Option<State>);
    /// With the id and the secret where there is a new one.
    fn done(&self, name: &str, key: Option<(&str, &str)>);
    fn failed(&self, name: &str, error: &Error);
}

struct Held {
    name: String,
    id: KeyId,
    state: State,
    predecessor: Option<KeyId>,
}

/// One thread's keys, and how it changes them. No other changes these.
pub(crate) struct Hand<'s, W> {
    store: &'s Store,
    witness: &'s W,
    prefix: String,
    seed: usize,
    turn: u64,
    chance: Chance,
    keys: Vec<Held>,
}

impl<'s, W: Witness> Hand<'s, W> {
    pub(crate) fn new(store: &'s Store, witness: &'s W, number: usize, seed: usize) -> Self {
        let prefix = format!("w{number}-");
        let mine: Vec<_> =
            records(store).into_iter().filter(|r| r.name.starts_with(&prefix)).collect();
        let keys = mine
            .iter()
            .filter(|record| record.replaced_by.is_none())
            .map(|record| {
                let old = mine.iter().find(|r| r.name == record.name && r.id != record.id);
                Held {
                    name: record.name.clone(),
                    id: record.id,
                    state: State { old: old.is_some(), ..State::of(record) },
                    predecessor: old.map(|record| record.id),
                }
            })
            .collect();
        let chance = Chance(((seed + 1) * 8 + number) as u64);
        Self { store, witness, prefix, seed, turn: 0, chance, keys }
    }

    /// Makes one change.
    pub(crate) fn change(&mut self) -> Result<(), Error> {
        let at = self.chance.below(KEYS);
        self.turn += 1;
        let Some(held) = self.keys.get(at) else { return self.issue() };
        let State { active, owner, wide, old, .. } = held.state;
        match self.chance.below(12) {
            0 if !active && !old => self.delete(at),
            1 => {
                let new = format!("owner-{}", owner + 1);
                let change = Change { owner: Some(Some(new)), ..Change::default() };
                self.update(at, State { owner: owner + 1, ..held.state }, change)
            }
            2 | 3 => {
                let grant = scopes(self.store, if wide { NARROW } else { WIDE });
                let change = Change { grant: Some(grant), ..Change::default() };
                self.update(at, State { wide: !wide, ..held.state }, change)
            }
            4 | 5 if active && !old => self.rotate(at),
            6 | 7 if old => self.prune(at),
            _ if active => self.revoke(at),
            _ => self.update(at, State { active: true, ..held.state }, Change::activate()),
        }
    }

    /// Takes every key away that is still held.
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
        let Issued { record, secret } = self.told(&name, Some(state), || self.store.issue(new))?;
        secret.reveal(|key| self.witness.done(&name, Some((&record.id.to_string(), key))));
        let state = State { fresh: false, ..state };
        self.keys.push(Held { name, id: record.id, state, predecessor: None });
        Ok(())
    }

    fn update(&mut self, at: usize, next: State, change: Change) -> Result<(), Error> {
        let held = &self.keys[at];
        self.told(&held.name, Some(next), || self.store.update(held.id, change))?;
        self.witness.done(&held.name, None);
        self.keys[at].state = next;
        Ok(())
    }

    fn revoke(&mut self, at: usize) -> Result<(), Error> {
        let held = &self.keys[at];
        let next = State { active: false, ..held.state };
        self.told(&held.name, Some(next), || self.store.revoke(held.id))?;
        self.witness.done(&held.name, None);
        self.keys[at].state = next;
        Ok(())
    }

    fn rotate(&mut self, at: usize) -> Result<(), Error> {
        let held = &self.keys[at];
        let next = State { old: true, fresh: true, ..held.state };
        let Issued { record, secret } =
            self.told(&held.name, Some(next), || self.store.rotate(held.id, Duration::ZERO))?;
        secret.reveal(|key| self.witness.done(&held.name, Some((&record.id.to_string(), key))));
        let held = &mut self.keys[at];
        held.predecessor = Some(std::mem::replace(&mut held.id, record.id));
        held.state = State { fresh: false, ..next };
        Ok(())
    }

    /// Deletes the key that was rotated away.
    fn prune(&mut self, at: usize) -> Result<(), Error> {
        let held = &self.keys[at];
        let next = State { old: false, ..held.state };
        let predecessor = held.predecessor.unwrap();
        self.told(&held.name, Some(next), || self.store.delete(predecessor))?;
        self.witness.done(&held.name, None);
        let held = &mut self.keys[at];
        (held.state, held.predecessor) = (next, None);
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<(), Error> {
        let held = &self.keys[at];
        self.told(&held.name, None, || self.store.delete(held.id))?;
        self.witness.done(&held.name, None);
        self.keys.swap_remove(at);
        Ok(())
    }

    fn told<T>(
        &self,
        name: &str,
        next: Option<State>,
        change: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.witness.tries(name, next);
        change().inspect_err(|error| self.witness.failed(name, error))
    }
}
