//! The plan of `apply`: how the declared keys and the keys of the store differ.

use super::{
    declared_file::{Entry, MARK},
    failure::Failure,
};
use portcullis::KeyId;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The state of one key in the plan.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// The store does not have the key, and `--yes` creates it.
    Create,
    /// The key is as the file has it.
    Unchanged,
    /// The key differs from the file. It is left alone.
    Drift,
    /// The entry cannot be applied.
    Conflict,
    /// The entry has another key now, and `--prune` deactivates this one.
    Superseded,
    /// The entry of the key is gone, and `--prune` deactivates the key.
    Undeclared,
}

impl Action {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Unchanged => "unchanged",
            Self::Drift => "drift",
            Self::Conflict => "conflict",
            Self::Superseded => "superseded",
            Self::Undeclared => "undeclared",
        }
    }

    /// Whether `--prune` deactivates the key.
    pub(crate) fn is_pruned(self) -> bool {
        matches!(self, Self::Superseded | Self::Undeclared)
    }
}

/// A field that differs.
#[derive(Serialize)]
pub(crate) struct Difference {
    pub(crate) field: String,
    pub(crate) file: Value,
    pub(crate) store: Value,
}

/// One key of the plan.
#[derive(Serialize)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) entry: String,
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Whether this run executed the step.
    pub(crate) done: bool,
}

/// The keys of the store that the file can be about: those with an id of the file, and those with the mark.
#[derive(Default)]
pub(crate) struct Stored(BTreeMap<String, Map<String, Value>>);

impl Stored {
    /// Adds a key as in the responses of the API, if the file can be about it.
    pub(crate) fn add(&mut self, key: &str, declared: &HashSet<String>) -> Result<(), Failure> {
        let other = || Failure::failed("the response is from another version of the server");
        let key: Map<String, Value> = serde_json::from_str(key).map_err(|_| other())?;
        let id = key.get("id").and_then(Value::as_str).ok_or_else(other)?.to_owned();
        if declared.contains(&id) || mark(&key).is_some() {
            self.0.insert(id, key);
        }
        Ok(())
    }

    pub(crate) fn has(&self, id: KeyId) -> bool {
        self.0.contains_key(&id.to_string())
    }

    /// The keys that replaced a key, one after another.
    fn successors(&self, id: &str) -> BTreeSet<String> {
        let mut successors = BTreeSet::new();
        let mut next = self.0.get(id);
        while let Some(key) = next.and_then(|key| key.get("replaced_by")?.as_str()) {
            if !successors.insert(key.to_owned()) {
                break;
            }
            next = self.0.get(key);
        }
        successors
    }
}

/// Computes the plan. `refused` has the entries that the store refuses because of their secret, each with the
/// reason.
pub(crate) fn plan(
    entries: &[Entry],
    stored: &Stored,
    refused: &HashMap<String, String>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    // The keys that are as they should be, or that a conflict leaves alone.
    let mut kept = BTreeSet::new();
    let mut settled = HashSet::new();
    for entry in entries {
        let id = entry.id.to_string();
        let step = |action, differences, reason| Step {
            action,
            entry: entry.name.clone(),
            id: id.clone(),
            differences,
            reason,
            done: false,
        };
        kept.extend(stored.successors(&id));
        kept.insert(id.clone());
        if let Some(reason) = refused.get(&entry.name) {
            steps.push(step(Action::Conflict, Vec::new(), Some(reason.clone())));
            continue;
        }
        settled.insert(entry.name.as_str());
        steps.push(match stored.0.get(&id) {
            None => step(Action::Create, Vec::new(), None),
            Some(key) => {
                let differences = differences(&entry.fields, key);
                let is_same = differences.is_empty();
                step(if is_same { Action::Unchanged } else { Action::Drift }, differences, None)
            }
        });
    }
    let names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    for (id, key) in &stored.0 {
        let Some(name) = mark(key).filter(|_| !kept.contains(id)) else { continue };
        let is_active = key.get("active") != Some(&Value::Bool(false));
        // A key of an entry in conflict is left alone: the entry has no other key.
        let action = match (settled.contains(name), names.contains(name)) {
            (true, _) => Action::Superseded,
            (false, true) => continue,
            (false, false) => Action::Undeclared,
        };
        if is_active {
            let (entry, id) = (name.to_owned(), id.clone());
            let (differences, reason) = (Vec::new(), None);
            steps.push(Step { action, entry, id, differences, reason, done: false });
        }
    }
    steps
}

/// The name of the entry that declares a key.
fn mark(key: &Map<String, Value>) -> Option<&str> {
    key.get("metadata")?.get(MARK)?.as_str()
}

fn differences(file: &Map<String, Value>, key: &Map<String, Value>) -> Vec<Difference> {
    let mut store = flat(key);
    let mut file = flat(file);
    // The file names no successor.
    file.insert("replaced_by".into(), Value::Null);
    store.retain(|field, _| file.contains_key(field) || field.starts_with("metadata."));
    let fields: BTreeSet<String> = file.keys().chain(store.keys()).cloned().collect();
    let mut differences = Vec::new();
    for field in fields {
        let file = file.remove(&field).unwrap_or_default();
        let store = store.remove(&field).unwrap_or_default();
        if file != store {
            differences.push(Difference { field, file, store });
        }
    }
    differences
}

/// The fields of a key, each entry of its metadata as a field of its own, and its scopes in order.
fn flat(key: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for (name, value) in key {
        match (name.as_str(), value) {
            ("metadata", Value::Object(entries)) => {
                let entries = entries.iter();
                fields
                    .extend(entries.map(|(name, text)| (format!("metadata.{name}"), text.clone())));
            }
            ("scopes", Value::Array(scopes)) => {
                let mut scopes = scopes.clone();
                scopes.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
                fields.insert(name.clone(), scopes.into());
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    fields
}
