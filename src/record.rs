//! The record of a key: all fields but its secret, and the standing that decides.

mod changes;
mod characters;
mod limits;
mod standing;

pub(crate) use self::{
    limits::is_description,
    standing::{Standing, check_state},
};

use crate::{
    id::KeyId, imported::Imported, networks::Networks, rate::Rate, scope::Grant, time::Timestamp,
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// Metadata of a key, for the host's own use: at most 16 entries of 64 + 256 bytes.
pub type Metadata = BTreeMap<String, String>;

/// Entries of the metadata to set or, with `None`, to remove.
pub type MetadataPatch = BTreeMap<String, Option<String>>;

/// The expiry of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// The key is refused from this time on. In whole seconds, rounded down.
    At(Timestamp),
    /// The key does not expire.
    Never,
}

impl Expiry {
    /// The same expiry in whole seconds.
    fn in_whole_seconds(self) -> Self {
        match self {
            Self::At(end) => Self::At(Timestamp::from_secs(end.as_secs())),
            Self::Never => Self::Never,
        }
    }

    /// The end of a time span that begins now, in whole seconds, rounded up.
    pub(crate) fn after_since(now: Timestamp, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let end = now.as_millis().saturating_add(millis).div_ceil(1000);
        Self::At(Timestamp::from_secs(end))
    }

    /// Whether a key with this expiry has expired.
    pub fn has_come(self, now: Timestamp) -> bool {
        match self {
            Self::At(end) => now >= end,
            Self::Never => false,
        }
    }
}

/// The actor of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// The host process, which contains the store.
    Host,
    /// A local user, by uid: through the control socket or the command line.
    Local(u32),
    /// A key, through the Administration API.
    Key(KeyId),
    /// A signed report of a secret-scanning service, which revokes the leaked keys that it contains.
    SecretScanning,
    /// The server, which revokes a key that a request sent over plain HTTP.
    PlainHttp,
    /// The policy of the store, which deactivates unused keys.
    Policy,
    /// Somebody whom the reader may not know: the reader has an owner, and the actor is not a key of that
    /// owner. Only in what such a reader is shown, never stored.
    Operator,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Local(uid) => write!(f, "local:{uid}"),
            Self::Key(id) => write!(f, "{id}"),
            Self::SecretScanning => f.write_str("secret-scanning"),
            Self::PlainHttp => f.write_str("plain-http"),
            Self::Policy => f.write_str("policy"),
            Self::Operator => f.write_str("operator"),
        }
    }
}

/// The fields of a new key. Name, scopes and expiry have no default.
///
/// ```
/// # use portcullis::*;
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let new = NewKey::new("Till 4", store.scopes(["api.read"])?, Expiry::Never).with_owner("shop-17");
/// assert!(new.active);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewKey {
    /// The name: 1 to 128 characters, at least one of them visible, none that is invisible or changes
    /// the direction of text. It need not be unique.
    pub name: String,
    /// The scopes.
    pub grant: Grant,
    /// Whether the key is active.
    pub active: bool,
    /// The expiry.
    pub expiry: Expiry,
    /// The identity that the key stands for, at most 128 bytes.
    pub owner: Option<String>,
    /// Metadata of the host.
    pub metadata: Metadata,
    /// The networks that the key can be used from: at most 16.
    pub networks: Networks,
    /// The requests that the key may make; `None`: as many as it wants.
    pub rate: Option<Rate>,
}

impl NewKey {
    /// An active key without an owner or metadata. A set of scopes is a grant, too.
    pub fn new(name: impl Into<String>, grant: impl Into<Grant>, expiry: Expiry) -> Self {
        Self {
            name: name.into(),
            grant: grant.into(),
            active: true,
            expiry,
            owner: None,
            metadata: Metadata::new(),
            networks: Networks::ANY,
            rate: None,
        }
    }

    /// Sets the name.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets the scopes.
    #[must_use]
    pub fn with_grant(self, grant: impl Into<Grant>) -> Self {
        Self { grant: grant.into(), ..self }
    }

    /// Sets whether the key is active.
    #[must_use]
    pub fn with_active(self, active: bool) -> Self {
        Self { active, ..self }
    }

    /// Sets the expiry.
    #[must_use]
    pub fn with_expiry(self, expiry: Expiry) -> Self {
        Self { expiry, ..self }
    }

    /// Sets the owner.
    #[must_use]
    pub fn with_owner(self, owner: impl Into<String>) -> Self {
        Self { owner: Some(owner.into()), ..self }
    }

    /// Sets the metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Sets the networks that the key can be used from. Requests then need an address: see
    /// [`Store::authenticate_from`](crate::Store::authenticate_from).
    #[must_use]
    pub fn with_networks(self, networks: Networks) -> Self {
        Self { networks, ..self }
    }

    /// Limits the requests that the key may make, in each process.
    #[must_use]
    pub fn with_rate(self, rate: Rate) -> Self {
        Self { rate: Some(rate), ..self }
    }
}

/// A change of a key. A field that is `None` stays unchanged.
///
/// ```
/// use portcullis::Change;
/// let change = Change::default().with_active(false);
/// assert_eq!(change, Change::deactivate());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Change {
    /// The name.
    pub name: Option<String>,
    /// The scopes.
    pub grant: Option<Grant>,
    /// Whether the key is active.
    pub active: Option<bool>,
    /// The expiry.
    pub expiry: Option<Expiry>,
    /// The owner; `Some(None)` removes it.
    pub owner: Option<Option<String>>,
    /// The metadata, replaced as a whole.
    pub metadata: Option<Metadata>,
    /// The networks, replaced as a whole; [`Networks::ANY`] removes them.
    pub networks: Option<Networks>,
    /// The rate; `Some(None)` removes it.
    pub rate: Option<Option<Rate>>,
}

impl Change {
    /// A change that revokes the key. [`activate`](Self::activate) reverses it.
    pub fn deactivate() -> Self {
        Self { active: Some(false), ..Self::default() }
    }

    /// A change that reactivates the key.
    pub fn activate() -> Self {
        Self { active: Some(true), ..Self::default() }
    }

    /// Sets the name.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Sets the scopes.
    #[must_use]
    pub fn with_grant(self, grant: impl Into<Grant>) -> Self {
        Self { grant: Some(grant.into()), ..self }
    }

    /// Sets whether the key is active.
    #[must_use]
    pub fn with_active(self, active: bool) -> Self {
        Self { active: Some(active), ..self }
    }

    /// Sets the expiry.
    #[must_use]
    pub fn with_expiry(self, expiry: Expiry) -> Self {
        Self { expiry: Some(expiry), ..self }
    }

    /// Sets the owner.
    #[must_use]
    pub fn with_owner(self, owner: impl Into<String>) -> Self {
        Self { owner: Some(Some(owner.into())), ..self }
    }

    /// Removes the owner.
    #[must_use]
    pub fn without_owner(self) -> Self {
        Self { owner: Some(None), ..self }
    }

    /// Replaces the metadata as a whole.
    #[must_use]
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata: Some(metadata), ..self }
    }

    /// Replaces the networks as a whole. [`Networks::ANY`] removes them.
    #[must_use]
    pub fn with_networks(self, networks: Networks) -> Self {
        Self { networks: Some(networks), ..self }
    }

    /// Sets the rate.
    #[must_use]
    pub fn with_rate(self, rate: Rate) -> Self {
        Self { rate: Some(Some(rate)), ..self }
    }

    /// Removes the rate.
    #[must_use]
    pub fn without_rate(self) -> Self {
        Self { rate: Some(None), ..self }
    }

    /// Sets the metadata to that of the record with `patch` merged into it, unless the patch is empty.
    pub(crate) fn merge_metadata(&mut self, patch: &MetadataPatch, record: &Record) {
        if patch.is_empty() {
            return;
        }
        let metadata = self.metadata.get_or_insert_with(|| record.metadata.clone());
        for (key, value) in patch {
            match value {
                Some(value) => metadata.insert(key.clone(), value.clone()),
                None => metadata.remove(key),
            };
        }
    }
}

/// All stored fields of a key.
//
// A new field also needs changes in these places:
// - `Change`, `NewKey` and `record/limits.rs`;
// - `codec/stored/extra.rs`, as a variant that is written only where the key has the field;
// - `record/standing.rs` and `index/limits.rs`, if the field decides;
// - `backup/later.rs`, which carries later changes into a restore;
// - portcullis-admin: `key_request.rs`, `wire.rs`, `openapi.rs`, `audit.rs`, and the portal's form
//   (`key_form.rs`, `merge.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The public id.
    pub id: KeyId,
    /// The name.
    pub name: String,
    /// The scopes.
    pub grant: Grant,
    /// Whether the key is active.
    pub active: bool,
    /// The expiry.
    pub expiry: Expiry,
    /// The identity that the key stands for.
    pub owner: Option<String>,
    /// Metadata of the host.
    pub metadata: Metadata,
    /// The networks that the key can be used from.
    pub networks: Networks,
    /// The requests that the key may make.
    pub rate: Option<Rate>,
    /// How the digest of a key of another system was computed. Such a key has an unknown strength.
    pub imported: Option<Imported>,
    /// When the key was created.
    pub created_at: Timestamp,
    /// The actor who created it.
    pub created_by: Actor,
    /// When the key was last changed.
    pub updated_at: Timestamp,
    /// The actor who last changed it.
    pub updated_by: Actor,
    /// Since when the key is inactive.
    pub inactive_since: Option<Timestamp>,
    /// The key that this one replaced.
    pub replaces: Option<KeyId>,
    /// The key that replaced this one.
    pub replaced_by: Option<KeyId>,
    /// The sequence number of the last change of the key. It differs after each change.
    pub revision: u64,
}

impl Record {
    /// The fields of this record that differ from another, with the values of this one. All fields if
    /// there is no other.
    pub(crate) fn fields_unlike(&self, other: Option<&Self>) -> Change {
        fn unlike<T: PartialEq + Clone>(mine: &T, theirs: Option<&T>) -> Option<T> {
            (theirs != Some(mine)).then(|| mine.clone())
        }
        Change {
            name: unlike(&self.name, other.map(|o| &o.name)),
            grant: unlike(&self.grant, other.map(|o| &o.grant)),
            active: unlike(&self.active, other.map(|o| &o.active)),
            expiry: unlike(&self.expiry, other.map(|o| &o.expiry)),
            owner: unlike(&self.owner, other.map(|o| &o.owner)),
            metadata: unlike(&self.metadata, other.map(|o| &o.metadata)),
            // A key without the field has an entry without it, as before the field existed.
            networks: unlike(&self.networks, Some(other.map_or(&Networks::ANY, |o| &o.networks))),
            rate: unlike(&self.rate, Some(other.map_or(&None, |o| &o.rate))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actor_text_matches_the_audit_log() {
        let key = Actor::Key(KeyId::from_u64(7));
        let named = [Actor::Host, Actor::Local(7), key, Actor::SecretScanning, Actor::PlainHttp];
        assert_eq!(
            named.map(|actor| actor.to_string()),
            ["host", "local:7", "key_00000000007", "secret-scanning", "plain-http"]
        );
    }
    use crate::{
        error::{Error, Field},
        network::Network,
        refusal::Refusal,
        scope::Catalogue,
        secret::{Prefix, Secret},
    };

    fn sample() -> NewKey {
        NewKey {
            name: "Nightly export".into(),
            grant: Grant::Scopes(Catalogue::with_preset().set(["api.read"]).unwrap()),
            active: true,
            expiry: Expiry::Never,
            owner: None,
            metadata: Metadata::new(),
            networks: Networks::ANY,
            rate: None,
        }
    }

    fn addresses(count: u8) -> Networks {
        (0..count).map(|last| format!("192.0.2.{last}").parse::<Network>().unwrap()).collect()
    }

    fn create(new: NewKey) -> Result<Record, Error> {
        Record::new(KeyId::from_u64(1), new, Timestamp::from_secs(5), Actor::Host, 1)
    }

    #[test]
    fn each_limit_names_its_field() {
        type Invalidate = fn(&mut NewKey);
        let cases: [(Field, Invalidate); 16] = [
            (Field::Name, |n| n.name.clear()),
            (Field::Name, |n| n.name = "till\u{202e}4".into()),
            (Field::Name, |n| n.name = "\u{3164}".into()),
            (Field::Owner, |n| n.owner = Some("shop\u{200b}".into())),
            (Field::Metadata, |n| n.metadata = [("k\u{ad}".into(), "v".into())].into()),
            (Field::Metadata, |n| n.metadata = [("k".into(), "\u{9b}2J".into())].into()),
            (Field::Name, |n| n.name = "x".repeat(129)),
            (Field::Name, |n| n.name = "a\nb".into()),
            (Field::Owner, |n| n.owner = Some(String::new())),
            (Field::Owner, |n| n.owner = Some("x".repeat(129))),
            (Field::Metadata, |n| {
                n.metadata = (0..17).map(|i| (i.to_string(), String::new())).collect();
            }),
            (Field::Metadata, |n| n.metadata = [("k".repeat(65), String::new())].into()),
            (Field::Metadata, |n| n.metadata = [(String::new(), String::new())].into()),
            (Field::Metadata, |n| n.metadata = [("k".into(), "v".repeat(257))].into()),
            (Field::ExpiresAt, |n| n.expiry = Expiry::At(Timestamp::from_secs(16_725_225_601))),
            (Field::Networks, |n| n.networks = addresses(17)),
        ];
        for (field, invalidate) in cases {
            let mut new = sample();
            invalidate(&mut new);
            assert!(
                matches!(create(new), Err(Error::Invalid { field: f, .. }) if f == field),
                "{field}"
            );
        }
        let mut new = sample();
        (new.name, new.networks) = ("ü".repeat(128), addresses(16));
        assert!(create(new).is_ok());
    }

    #[test]
    fn old_record_whose_values_are_refused_today_can_be_changed_in_every_other_field() {
        let old = Record {
            name: "till\u{202e}4".into(),
            owner: Some("\u{200b}".into()),
            metadata: (0..17).map(|n| (format!("{n}\u{7f}"), "\u{9b}2J".into())).collect(),
            expiry: Expiry::At(Timestamp::from_secs(20_000_000_000)),
            ..create(sample()).unwrap()
        };
        let (now, by) = (Timestamp::from_secs(9), Actor::Local(0));
        let changed = |change| old.changed(change, now, by, 2);
        let mut note = Change::default();
        note.merge_metadata(
            &[("0\u{7f}".into(), None), ("n".into(), Some("1".into()))].into(),
            &old,
        );
        let ends = Expiry::At(Timestamp::from_secs(5));
        for change in [
            Change::deactivate(),
            Change { expiry: Some(ends), ..Change::default() },
            Change { grant: Some(Grant::All), ..Change::default() },
            Change { owner: Some(None), ..Change::default() },
            Change { name: Some("till 4".into()), ..Change::default() },
            note,
            // Values that are sent back as they were read.
            Change { active: Some(false), ..old.fields_unlike(None) },
        ] {
            assert!(changed(change.clone()).unwrap().is_some(), "{change:?}");
        }
        let successor = old.successor(KeyId::from_u64(8), now, by, 2);
        assert_eq!((&successor.name, &successor.metadata), (&old.name, &old.metadata));
        let other = |name: &str| Change { name: Some(name.into()), ..Change::deactivate() };
        assert!(changed(other("till\u{202e}5")).is_err());
        let mut more = Change::default();
        more.merge_metadata(&[("n".into(), Some("1".into()))].into(), &old);
        assert!(changed(more).is_err(), "one more than there were");
    }

    #[test]
    fn api_key_in_a_field_is_refused() {
        type Paste = fn(&mut NewKey, String);
        let key = Secret::generate(Prefix::default(), KeyId::from_u64(7)).unwrap();
        let key = key.reveal(|text| format!("from {text}."));
        let cases: [(Field, Paste); 4] = [
            (Field::Name, |n, key| n.name = key),
            (Field::Owner, |n, key| n.owner = Some(key)),
            (Field::Metadata, |n, key| n.metadata = [("note".into(), key)].into()),
            (Field::Metadata, |n, key| n.metadata = [(key, "note".into())].into()),
        ];
        for (field, paste) in cases {
            let mut new = sample();
            paste(&mut new, key.clone());
            let refused = create(new).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{field}: looks like an API key")), "{refused}");
            assert!(!refused.contains(&key));
        }
    }

    #[test]
    fn key_is_refused_from_its_expiry_on() {
        let mut new = sample();
        new.expiry = Expiry::At(Timestamp::from_millis(10_999));
        let record = create(new).unwrap();
        assert_eq!(record.expiry, Expiry::At(Timestamp::from_secs(10)));
        let at = |millis| record.standing().check(None, || Timestamp::from_millis(millis));
        assert_eq!(at(9_999), Ok(()));
        assert_eq!(at(10_000), Err(Refusal::Expired));
    }

    #[test]
    fn change_without_effect_is_none() {
        let record = create(sample()).unwrap();
        let same =
            Change { name: Some(record.name.clone()), active: Some(true), ..Change::default() };
        assert_eq!(
            record.changed(same, Timestamp::from_secs(9), Actor::Local(0), 2).unwrap(),
            None
        );
        let off = record
            .changed(Change::deactivate(), Timestamp::from_secs(9), Actor::Local(0), 2)
            .unwrap()
            .unwrap();
        assert_eq!((off.inactive_since, off.revision), (Some(Timestamp::from_secs(9)), 2));
        assert_eq!(off.fields_unlike(Some(&record)), Change::deactivate());
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn rewritten_record_has_a_new_revision_time_and_actor() {
        let record = create(sample()).unwrap();
        let (now, by) = (Timestamp::from_secs(9), Actor::Local(0));
        let again = record.rewritten(now, by, 2);
        assert_eq!((again.updated_at, again.updated_by, again.revision), (now, by, 2));
        assert_eq!(again.fields_unlike(Some(&record)), Change::default());
    }

    #[test]
    fn meet_of_two_standings_is_within_both() {
        let catalogue = Catalogue::with_preset();
        let grants = [
            Grant::All,
            Grant::Scopes(catalogue.empty()),
            Grant::Scopes(catalogue.set(["api.read"]).unwrap()),
            Grant::Scopes(catalogue.set(["api.read", "api.write"]).unwrap()),
        ];
        let ends = [
            Expiry::Never,
            Expiry::At(Timestamp::from_secs(1)),
            Expiry::At(Timestamp::from_secs(2)),
        ];
        let networks = [Networks::ANY, addresses(2), addresses(3)];
        let mut all = Vec::new();
        for active in [true, false] {
            for grant in grants {
                for networks in &networks {
                    for rate in [None, Rate::new(9, 60).ok(), Rate::new(5, 50).ok()] {
                        let networks = || networks.clone();
                        let of =
                            |expiry| Standing { active, grant, expiry, networks: networks(), rate };
                        all.extend(ends.map(of));
                    }
                }
            }
        }
        for a in &all {
            for b in &all {
                let meet = a.clone().meet(b);
                assert!(meet.is_within(a) && meet.is_within(b));
                assert_eq!(a.is_within(b), meet == *a);
            }
        }
    }
}
