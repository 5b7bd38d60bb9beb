//! The marks that the child writes to the journal: before a change and after its acknowledgement.

use portcullis::{Expiry, Grant, Record};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Serialize, Deserialize)]
pub(crate) enum Mark {
    Opening,
    /// The store is open and has these records.
    Opened(Vec<Facts>),
    Try {
        thread: usize,
        intent: Intent,
    },
    /// The change was acknowledged with these records.
    Done {
        thread: usize,
        records: Vec<Facts>,
        key: Option<String>,
    },
    /// The audit log was pruned by the change with this number.
    Pruned {
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
    /// The old key after the rotation, except for its expiry.
    Rotate(Facts),
}

/// The compared fields of a record.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) active: bool,
    /// The expiry in seconds; 0 for none.
    pub(crate) expires_at: u64,
    pub(crate) scopes: Vec<String>,
    /// A hash of the owner and the metadata.
    pub(crate) other_fields: u64,
    pub(crate) replaces: Option<String>,
    pub(crate) revision: u64,
}

impl Facts {
    pub(crate) fn of(record: &Record) -> Self {
        let Grant::Scopes(scopes) = record.grant else { panic!("no key of this test is a root") };
        let mut hasher = DefaultHasher::new();
        (&record.owner, &record.metadata).hash(&mut hasher);
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            active: record.active,
            expires_at: match record.expiry {
                Expiry::At(end) => end.as_secs(),
                Expiry::Never => 0,
            },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            other_fields: hasher.finish(),
            replaces: record.replaces.map(|id| id.to_string()),
            revision: record.revision,
        }
    }

    /// Whether this is the result of an intent.
    pub(crate) fn is_outcome_of(&self, intent: &Intent) -> bool {
        match intent {
            Intent::Issue { name } => self.name == *name,
            Intent::Change(after) => *self == Self { revision: self.revision, ..after.clone() },
            Intent::Rotate(after) if self.id == after.id => {
                *self
                    == Self {
                        revision: self.revision,
                        expires_at: self.expires_at,
                        ..after.clone()
                    }
            }
            Intent::Rotate(after) => self.replaces.as_ref() == Some(&after.id),
            Intent::Delete { .. } => false,
        }
    }

    /// Whether it permits more than `other`.
    pub(crate) fn is_looser_than(&self, other: &Self) -> bool {
        let end = |facts: &Self| if facts.expires_at == 0 { u64::MAX } else { facts.expires_at };
        self.active
            && (!other.active
                || end(self) > end(other)
                || self.scopes.iter().any(|scope| !other.scopes.contains(scope)))
    }
}
