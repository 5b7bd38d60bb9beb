//! The payloads of the format: mirrors of the values, with their fields in the order of the bytes.
//!
//! A variant may be appended to an enum: a new field of a record is one of [`StoredExtra`]. Any other change
//! here, such as a field, makes a new format: [`FORMAT`](super::FORMAT) says what that requires.

mod entry;
mod extra;

pub(super) use self::{
    entry::StoredEntry,
    extra::{Extras, StoredExtra},
};

use crate::{
    id::KeyId,
    record::{Actor, Expiry, Metadata, Record},
    scope::{Catalogue, Grant, NumberedScope, Offer},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum StoredGrant {
    Scopes([u64; 4]),
    All,
}

impl From<Grant> for StoredGrant {
    fn from(grant: Grant) -> Self {
        match grant {
            Grant::All => Self::All,
            Grant::Scopes(set) => Self::Scopes(set.bits()),
        }
    }
}

impl StoredGrant {
    pub(super) fn into_grant(self, catalogue: &'static Catalogue) -> Option<Grant> {
        match self {
            Self::All => Some(Grant::All),
            Self::Scopes(bits) => catalogue.set_of_bits(bits).map(Grant::Scopes),
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum StoredOffer {
    ByHost,
    Always,
    Never,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredScope<'b> {
    name: &'b str,
    description: &'b str,
    offer: StoredOffer,
}

impl<'b> From<&'b NumberedScope> for StoredScope<'b> {
    fn from(scope: &'b NumberedScope) -> Self {
        Self {
            name: scope.scope.as_str(),
            description: &scope.description,
            offer: match scope.offer {
                Offer::ByHost => StoredOffer::ByHost,
                Offer::Always => StoredOffer::Always,
                Offer::Never => StoredOffer::Never,
            },
        }
    }
}

impl StoredScope<'_> {
    pub(super) fn into_numbered(self) -> Option<NumberedScope> {
        let numbered = NumberedScope {
            scope: self.name.parse().ok()?,
            description: self.description.to_owned(),
            offer: match self.offer {
                StoredOffer::ByHost => Offer::ByHost,
                StoredOffer::Always => Offer::Always,
                StoredOffer::Never => Offer::Never,
            },
        };
        // A scope with only its name has the older format: each scope has one encoding.
        let is_plain = numbered.description.is_empty() && numbered.offer == Offer::ByHost;
        (!is_plain).then_some(numbered)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum StoredActor {
    Host,
    Local(u32),
    Key(u64),
    SecretScanning,
    PlainHttp,
    Policy,
}

impl From<Actor> for StoredActor {
    fn from(actor: Actor) -> Self {
        match actor {
            // A reader's view is never stored.
            Actor::Host | Actor::Operator => Self::Host,
            Actor::Local(uid) => Self::Local(uid),
            Actor::Key(id) => Self::Key(id.as_u64()),
            Actor::SecretScanning => Self::SecretScanning,
            Actor::PlainHttp => Self::PlainHttp,
            Actor::Policy => Self::Policy,
        }
    }
}

impl From<StoredActor> for Actor {
    fn from(actor: StoredActor) -> Self {
        match actor {
            StoredActor::Host => Self::Host,
            StoredActor::Local(uid) => Self::Local(uid),
            StoredActor::Key(id) => Self::Key(KeyId::from_u64(id)),
            StoredActor::SecretScanning => Self::SecretScanning,
            StoredActor::PlainHttp => Self::PlainHttp,
            StoredActor::Policy => Self::Policy,
        }
    }
}

/// The expiry in seconds; `None` for [`Expiry::Never`].
pub(super) fn stored_expiry(expiry: Expiry) -> Option<u64> {
    match expiry {
        Expiry::At(end) => Some(end.as_secs()),
        Expiry::Never => None,
    }
}

/// Returns the expiry for a stored number; `None` if the number is beyond the range of a [`Timestamp`].
/// Two numbers must not mean the same time.
pub(super) fn expiry_of(stored: Option<u64>) -> Option<Expiry> {
    let Some(secs) = stored else { return Some(Expiry::Never) };
    let end = Timestamp::from_secs(secs);
    (end.as_secs() == secs).then_some(Expiry::At(end))
}

/// Sorted by key, each key once, so that equal metadata has equal bytes.
pub(super) type StoredMetadata<'b> = Vec<(&'b str, &'b str)>;

fn stored_metadata(metadata: &Metadata) -> StoredMetadata<'_> {
    metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

pub(super) fn is_in_order(stored: &StoredMetadata<'_>) -> bool {
    stored.is_sorted_by(|(one, _), (next, _)| one < next)
}

fn metadata_of(stored: StoredMetadata<'_>) -> Option<Metadata> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    is_in_order(&stored).then(|| stored.into_iter().map(owned).collect())
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredRecord<'b> {
    pub(super) id: u64,
    pub(super) name: &'b str,
    pub(super) grant: StoredGrant,
    pub(super) active: bool,
    pub(super) expires_at: Option<u64>,
    pub(super) owner: Option<&'b str>,
    pub(super) metadata: StoredMetadata<'b>,
    pub(super) created_at: u64,
    pub(super) created_by: StoredActor,
    pub(super) updated_at: u64,
    pub(super) updated_by: StoredActor,
    pub(super) inactive_since: Option<u64>,
    pub(super) replaces: Option<u64>,
    pub(super) replaced_by: Option<u64>,
    pub(super) revision: u64,
    /// Not among these bytes: the list follows them, in a format of its own.
    #[serde(skip)]
    pub(super) extras: Vec<StoredExtra>,
}

impl<'b> From<&'b Record> for StoredRecord<'b> {
    fn from(record: &'b Record) -> Self {
        Self {
            id: record.id.as_u64(),
            name: &record.name,
            grant: record.grant.into(),
            active: record.active,
            expires_at: stored_expiry(record.expiry),
            owner: record.owner.as_deref(),
            metadata: stored_metadata(&record.metadata),
            created_at: record.created_at.as_millis(),
            created_by: record.created_by.into(),
            updated_at: record.updated_at.as_millis(),
            updated_by: record.updated_by.into(),
            inactive_since: record.inactive_since.map(Timestamp::as_millis),
            replaces: record.replaces.map(KeyId::as_u64),
            replaced_by: record.replaced_by.map(KeyId::as_u64),
            revision: record.revision,
            extras: Extras::of(record).into_stored(),
        }
    }
}

impl<'b> StoredRecord<'b> {
    /// The record at its longest: with every field that a later change of the key can set.
    pub(super) fn fullest(record: &'b Record) -> Self {
        let id = record.id.as_u64();
        Self {
            expires_at: Some(0),
            created_by: StoredActor::Key(id),
            updated_by: StoredActor::Key(id),
            inactive_since: Some(0),
            replaces: Some(id),
            replaced_by: Some(id),
            ..Self::from(record)
        }
    }

    pub(super) fn into_record(self, catalogue: &'static Catalogue) -> Option<Record> {
        let Extras { networks, imported, rate } = Extras::of_stored(&self.extras)?;
        Some(Record {
            id: KeyId::from_u64(self.id),
            name: self.name.to_owned(),
            grant: self.grant.into_grant(catalogue)?,
            active: self.active,
            expiry: expiry_of(self.expires_at)?,
            owner: self.owner.map(str::to_owned),
            metadata: metadata_of(self.metadata)?,
            networks,
            imported,
            rate,
            created_at: Timestamp::from_millis(self.created_at),
            created_by: self.created_by.into(),
            updated_at: Timestamp::from_millis(self.updated_at),
            updated_by: self.updated_by.into(),
            inactive_since: self.inactive_since.map(Timestamp::from_millis),
            replaces: self.replaces.map(KeyId::from_u64),
            replaced_by: self.replaced_by.map(KeyId::from_u64),
            revision: self.revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsorted_or_duplicate_metadata_is_refused() {
        let stored =
            |keys: &[&'static str]| metadata_of(keys.iter().map(|key| (*key, "")).collect());
        assert_eq!(stored(&["a", "b"]).map(|metadata| metadata.len()), Some(2));
        assert_eq!((stored(&["b", "a"]), stored(&["a", "a"])), (None, None));
        let map: Metadata = [("a".into(), "1".into()), ("b".into(), "2".into())].into();
        let (as_map, as_list) =
            (super::super::pack(&map), super::super::pack(&stored_metadata(&map)));
        assert_eq!(as_map.unwrap(), as_list.unwrap());
    }

    #[test]
    fn expiry_beyond_the_timestamp_range_is_refused() {
        assert_eq!(expiry_of(None), Some(Expiry::Never));
        assert_eq!(expiry_of(Some(5)), Some(Expiry::At(Timestamp::from_secs(5))));
        assert_eq!(expiry_of(Some(u64::MAX)), None);
    }
}
