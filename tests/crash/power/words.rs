//! What the child tells the test, between its calls: what it is about to do, and what was done.

use portcullis::{Expiry, Grant, Record};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Serialize, Deserialize)]
pub(crate) enum Mark {
    Opening,
    /// It is open and showed these records.
    Opened(Vec<Facts>),
    Try {
        thread: usize,
        intent: Intent,
    },
    /// It was acknowledged; these records are its outcome.
    Done {
        thread: usize,
        records: Vec<Facts>,
        key: Option<String>,
    },
    /// The trail was cut, by the change of this number.
    Cut {
        sequence: u64,
    },
}

impl Mark {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap()
    }
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) enum Intent {
    Issue {
        name: String,
    },
    Change(Facts),
    Delete {
        id: String,
    },
    /// The old key as it will be, but for its end.
    Rotate(Facts),
}

/// All that counts of a record.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) active: bool,
    /// In seconds; 0 is never.
    pub(crate) ends: u64,
    pub(crate) scopes: Vec<String>,
    /// A hash of the owner and the metadata.
    pub(crate) notes: u64,
    pub(crate) replaces: Option<String>,
    pub(crate) revision: u64,
}

impl Facts {
    pub(crate) fn of(record: &Record) -> Self {
        let Grant::Scopes(scopes) = record.grant else { panic!("no key of this test is a root") };
        let mut notes = DefaultHasher::new();
        (&record.owner, &record.metadata).hash(&mut notes);
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            active: record.active,
            ends: match record.expiry {
                Expiry::At(end) => end.as_secs(),
                Expiry::Never => 0,
            },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            notes: notes.finish(),
            replaces: record.replaces.map(|id| id.to_string()),
            revision: record.revision,
        }
    }

    /// Whether this is what an intent would have made of it.
    pub(crate) fn is_outcome_of(&self, intent: &Intent) -> bool {
        match intent {
            Intent::Issue { name } => self.name == *name,
            Intent::Change(after) => *self == Self { revision: self.revision, ..after.clone() },
            Intent::Rotate(after) if self.id == after.id => {
                *self == Self { revision: self.revision, ends: self.ends, ..after.clone() }
            }
            Intent::Rotate(after) => self.replaces.as_ref() == Some(&after.id),
            Intent::Delete { .. } => false,
        }
    }

    /// Whether it lets pass what `other` does not.
    pub(crate) fn is_looser_than(&self, other: &Self) -> bool {
        let end = |facts: &Self| if facts.ends == 0 { u64::MAX } else { facts.ends };
        self.active
            && (!other.active
                || end(self) > end(other)
                || self.scopes.iter().any(|scope| !other.scopes.contains(scope)))
    }
}
