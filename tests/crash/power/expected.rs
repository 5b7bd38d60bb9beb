//! The expected content of a store, from the marks of the child, and its comparison with a store.

use super::{
    Counts,
    marks::{Facts, Intent, Mark},
};
use portcullis::{Refusal, Store};
use portcullis_testkit::records;
use std::collections::{BTreeMap, BTreeSet};

/// The expected content of a store at one point of the journal.
#[derive(Clone, Default)]
pub(crate) struct Expected {
    keys: BTreeMap<String, Facts>,
    deleted: BTreeSet<String>,
    secrets: BTreeMap<String, String>,
    in_flight: BTreeMap<usize, Intent>,
    /// The sequence of the last acknowledged change.
    last: u64,
    /// Whether a prune of the audit log was acknowledged.
    pub(crate) is_pruned: bool,
    /// The acknowledged changes so far.
    pub(crate) acknowledged: usize,
    pub(crate) opening: bool,
}

impl Expected {
    pub(crate) fn apply(&mut self, mark: &Mark, counts: &mut Counts) {
        match mark {
            Mark::Opening => self.opening = true,
            Mark::Opened(shown) => {
                self.opening = false;
                self.compare(shown, counts);
                // What an open store has shown must stay.
                self.deleted.extend(self.keys.keys().cloned());
                self.keys = shown.iter().map(|facts| (facts.id.clone(), facts.clone())).collect();
                self.deleted.retain(|id| !self.keys.contains_key(id));
                self.in_flight.clear();
            }
            Mark::Try { thread, intent } => {
                self.in_flight.insert(*thread, intent.clone());
            }
            Mark::Done { thread, records, key } => {
                let intent = self.in_flight.remove(thread).unwrap();
                if let Intent::Delete { id } = intent {
                    self.keys.remove(&id);
                    self.deleted.insert(id);
                }
                if let (Some(new), Some(key)) = (records.last(), key) {
                    self.secrets.insert(new.id.clone(), key.clone());
                }
                for facts in records {
                    self.last = self.last.max(facts.revision);
                    self.keys.insert(facts.id.clone(), facts.clone());
                }
                self.acknowledged += 1;
            }
            Mark::Pruned { sequence } => {
                self.last = *sequence;
                self.is_pruned = true;
                self.acknowledged += 1;
            }
        }
    }

    /// Compares with the records of an open store, and authenticates each key.
    pub(crate) fn check(&self, store: &Store, counts: &mut Counts) {
        let found: Vec<Facts> = records(store).iter().map(|record| Facts::of(record)).collect();
        self.compare(&found, counts);
        for (id, key) in &self.secrets {
            let facts = found.iter().find(|facts| facts.id == *id);
            let expected = match facts {
                None => Err(Refusal::Unknown),
                Some(facts) if !facts.active => Err(Refusal::Inactive),
                // No key expires during a campaign.
                Some(_) => Ok(()),
            };
            let answer = store.authenticate_key(key.as_bytes()).map(drop);
            if answer != expected {
                println!("{id} answers {answer:?}, and its record says {expected:?}");
                *(if answer.is_ok() { &mut counts.revived } else { &mut counts.lost }) += 1;
            }
        }
        let audit_end = match store.audit(0, usize::MAX) {
            Ok(entries) => {
                if self.is_pruned && entries.first().is_some_and(|entry| entry.sequence == 1) {
                    println!("a prune of the audit log was acknowledged, but no entry is pruned");
                    counts.revived += 1;
                }
                entries.last().map_or(0, |entry| entry.sequence)
            }
            Err(error) => {
                println!("the audit log cannot be read: {error}");
                0
            }
        };
        if audit_end < self.last {
            println!("change {} was acknowledged, the audit log ends at {audit_end}", self.last);
            counts.lost += 1;
        }
        counts.acknowledged += self.acknowledged;
    }

    fn compare(&self, found: &[Facts], counts: &mut Counts) {
        for facts in found {
            let is_in_flight = || self.in_flight.values().any(|intent| facts.is_outcome_of(intent));
            match self.keys.get(&facts.id) {
                Some(known) if known == facts => {}
                _ if is_in_flight() => {}
                Some(known) if facts.is_looser_than(known) => {
                    println!("revived: {facts:?}, acknowledged was {known:?}");
                    counts.revived += 1;
                }
                Some(known) => {
                    println!("lost: {known:?}, found {facts:?}");
                    counts.lost += 1;
                }
                None if self.deleted.contains(&facts.id) => {
                    println!("revived after deletion: {facts:?}");
                    counts.revived += 1;
                }
                // Created by a change that a later opening no longer had.
                None => {
                    println!("unexpected: {facts:?}");
                    counts.revived += 1;
                }
            }
        }
        for intent in self.in_flight.values() {
            if let Intent::Rotate(Facts { id, .. }) = intent {
                let has_old = found.iter().any(|f| f.id == *id && self.keys.get(id) != Some(f));
                let has_new = found.iter().any(|f| f.replaces.as_ref() == Some(id));
                if has_old != has_new {
                    println!("lost: half of the rotation of {id}");
                    counts.lost += 1;
                }
            }
        }
        let found: BTreeSet<&str> = found.iter().map(|facts| facts.id.as_str()).collect();
        for id in self.keys.keys().filter(|id| !found.contains(id.as_str())) {
            let deleting =
                |intent: &Intent| matches!(intent, Intent::Delete { id: it } if it == id);
            if !self.in_flight.values().any(deleting) {
                println!("lost: {:?} is not there", self.keys[id]);
                counts.lost += 1;
            }
        }
    }
}
