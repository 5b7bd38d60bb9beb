//! All we know of a key but its secret, and whether that lets it pass now.

mod characters;
mod limits;

use crate::{error::Error, id::KeyId, refusal::Refusal, scope::Grant, time::Timestamp};
use std::{collections::BTreeMap, fmt, time::Duration};

/// Notes of the host on a key: at most 16 entries of 64 + 256 bytes.
pub type Metadata = BTreeMap<String, String>;

/// Single entries of the metadata to set or, with `None`, to remove.
pub type MetadataPatch = BTreeMap<String, Option<String>>;

/// When a key stops working by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// Refused from this moment on. Whole seconds: a fraction is cut off.
    At(Timestamp),
    /// It does not stop by itself.
    Never,
}

impl Expiry {
    /// The same end in whole seconds.
    fn in_whole_seconds(self) -> Self {
        match self {
            Self::At(end) => Self::At(Timestamp::from_secs(end.as_secs())),
            Self::Never => Self::Never,
        }
    }

    /// The end, in whole seconds, of a span that begins now and is not cut short.
    fn after(now: Timestamp, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let end = now.as_millis().saturating_add(millis).div_ceil(1000);
        Self::At(Timestamp::from_secs(end))
    }

    /// Whether the end has come.
    pub fn has_come(self, now: Timestamp) -> bool {
        match self {
            Self::At(end) => now >= end,
            Self::Never => false,
        }
    }
}

/// Who made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The process that the store is linked into.
    Host,
    /// A user of this machine, by number: the control socket or the command line.
    Local(u32),
    /// A key, over the Administration API.
    Key(KeyId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Local(uid) => write!(f, "local:{uid}"),
            Self::Key(id) => write!(f, "{id}"),
        }
    }
}

/// What a new key shall be. There is no default: each question is answered in writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// A memorable name: 1 to 128 characters, at least one visible and none that is invisible or
    /// changes the direction of text. It need not be unique.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// Whether it works from the start.
    pub active: bool,
    /// When it stops working by itself.
    pub expiry: Expiry,
    /// Whom it speaks for upstream, at most 128 bytes.
    pub owner: Option<String>,
    /// Notes of the host.
    pub metadata: Metadata,
}

/// A change to a key: what is `None` stays as it is.
///
/// ```
/// use portcullis::Change;
/// let change = Change { active: Some(false), ..Change::default() };
/// assert_eq!(change, Change::deactivate());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Change {
    /// The memorable name.
    pub name: Option<String>,
    /// What it may do.
    pub grant: Option<Grant>,
    /// Whether it works.
    pub active: Option<bool>,
    /// When it stops working by itself.
    pub expiry: Option<Expiry>,
    /// Whom it speaks for; `Some(None)` takes the owner away.
    pub owner: Option<Option<String>>,
    /// Notes of the host, replaced as a whole.
    pub metadata: Option<Metadata>,
}

impl Change {
    /// Takes the key away; an update can bring it back.
    pub fn deactivate() -> Self {
        Self { active: Some(false), ..Self::default() }
    }

    /// Lets the key work again.
    pub fn activate() -> Self {
        Self { active: Some(true), ..Self::default() }
    }

    /// Adds the metadata of the record with `patch` merged into it. An empty patch adds nothing.
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

/// All that is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its public name.
    pub id: KeyId,
    /// Its memorable name.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// Whether it works.
    pub active: bool,
    /// When it stops working by itself.
    pub expiry: Expiry,
    /// Whom it speaks for upstream.
    pub owner: Option<String>,
    /// Notes of the host.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Actor,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who last changed it.
    pub updated_by: Actor,
    /// Since when it is inactive.
    pub inactive_since: Option<Timestamp>,
    /// The key whose place it took.
    pub replaces: Option<KeyId>,
    /// The key that took its place.
    pub replaced_by: Option<KeyId>,
    /// The number of its last change in the store's sequence; it differs after each change.
    pub revision: u64,
}

impl Record {
    /// The record of a new key, if each value is within its limits.
    pub(crate) fn new(
        id: KeyId,
        new: NewKey,
        now: Timestamp,
        by: Actor,
        revision: u64,
    ) -> Result<Self, Error> {
        let record = Self::unchecked(id, new, now, by, revision);
        record.check_limits(None)?;
        Ok(record)
    }

    fn unchecked(id: KeyId, new: NewKey, now: Timestamp, by: Actor, revision: u64) -> Self {
        Self {
            id,
            name: new.name,
            grant: new.grant,
            active: new.active,
            expiry: new.expiry.in_whole_seconds(),
            owner: new.owner,
            metadata: new.metadata,
            created_at: now,
            created_by: by,
            updated_at: now,
            updated_by: by,
            inactive_since: (!new.active).then_some(now),
            replaces: None,
            replaced_by: None,
            revision,
        }
    }

    /// The record of the key that takes this one's place: the same in all but its secret.
    pub(crate) fn successor(&self, id: KeyId, now: Timestamp, by: Actor, revision: u64) -> Self {
        let new = NewKey {
            name: self.name.clone(),
            grant: self.grant,
            active: true,
            expiry: self.expiry,
            owner: self.owner.clone(),
            metadata: self.metadata.clone(),
        };
        // An old key can be rotated, whatever its values were allowed to be when it was made.
        Self { replaces: Some(self.id), ..Self::unchecked(id, new, now, by, revision) }
    }

    /// This record once `successor` has taken its place: without a grace it is inactive, else its
    /// end comes after the grace, unless it comes earlier anyway.
    pub(crate) fn replaced(&self, successor: &Self, grace: Duration) -> Self {
        let now = successor.created_at;
        let mut old = Self {
            replaced_by: Some(successor.id),
            updated_at: now,
            updated_by: successor.created_by,
            revision: successor.revision,
            ..self.clone()
        };
        if grace.is_zero() {
            (old.active, old.inactive_since) = (false, Some(now));
        } else {
            old.expiry = self.expiry.min(Expiry::after(now, grace));
        }
        old
    }

    /// The record after a change; `None` where the change alters nothing.
    pub(crate) fn changed(
        &self,
        change: Change,
        now: Timestamp,
        by: Actor,
        revision: u64,
    ) -> Result<Option<Self>, Error> {
        let mut next = self.clone();
        if let Some(name) = change.name {
            next.name = name;
        }
        if let Some(grant) = change.grant {
            next.grant = grant;
        }
        if let Some(active) = change.active {
            next.active = active;
        }
        if let Some(expiry) = change.expiry {
            next.expiry = expiry.in_whole_seconds();
        }
        if let Some(owner) = change.owner {
            next.owner = owner;
        }
        if let Some(metadata) = change.metadata {
            next.metadata = metadata;
        }
        next.check_limits(Some(self))?;
        if next == *self {
            return Ok(None);
        }
        if next.active != self.active {
            next.inactive_since = (!next.active).then_some(now);
        }
        (next.updated_at, next.updated_by, next.revision) = (now, by, revision);
        Ok(Some(next))
    }

    /// The same, written once more.
    pub(crate) fn rewritten(&self, now: Timestamp, by: Actor, revision: u64) -> Self {
        Self { updated_at: now, updated_by: by, revision, ..self.clone() }
    }

    /// The fields of this record that differ from another's, with this record's values; all of
    /// them where there is no other.
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
        }
    }

    /// Whether this is an active root key without an end.
    pub(crate) fn is_lasting_root(&self) -> bool {
        self.standing().is_lasting_root()
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { active: self.active, grant: self.grant, expiry: self.expiry }
    }
}

/// The part of a record that decides. Standings form a lattice: the meet of two lets pass only
/// what both let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) active: bool,
    pub(crate) grant: Grant,
    pub(crate) expiry: Expiry,
}

impl Standing {
    /// Whether a key of this standing passes; the clock is read only where the key has an end.
    #[inline]
    pub(crate) fn check(&self, now: impl FnOnce() -> Timestamp) -> Result<(), Refusal> {
        if !self.active {
            return Err(Refusal::Inactive);
        }
        if self.expiry != Expiry::Never && self.expiry.has_come(now()) {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    /// Whether this is that of an active root key without an end.
    pub(crate) fn is_lasting_root(&self) -> bool {
        self.active && self.grant == Grant::All && self.expiry == Expiry::Never
    }

    pub(crate) fn meet(self, other: Self) -> Self {
        Self {
            active: self.active && other.active,
            grant: self.grant.meet(other.grant),
            expiry: self.expiry.min(other.expiry),
        }
    }

    /// Whether this lets pass nothing that the other does not.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.active <= other.active
            && self.grant.is_within(&other.grant)
            && self.expiry <= other.expiry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_named_as_the_trail_names_it() {
        let named = [Actor::Host, Actor::Local(7), Actor::Key(KeyId::from_u64(7))];
        assert_eq!(named.map(|actor| actor.to_string()), ["host", "local:7", "key_00000000007"]);
    }
    use crate::{
        error::Field,
        scope::Catalogue,
        secret::{Prefix, Secret},
    };

    fn sample() -> NewKey {
        NewKey {
            name: "Nightly export".into(),
            grant: Grant::Scopes(Catalogue::new(vec![], None).unwrap().set(["api.read"]).unwrap()),
            active: true,
            expiry: Expiry::Never,
            owner: None,
            metadata: Metadata::new(),
        }
    }

    fn made(new: NewKey) -> Result<Record, Error> {
        Record::new(KeyId::from_u64(1), new, Timestamp::from_secs(5), Actor::Host, 1)
    }

    #[test]
    fn each_limit_names_its_field() {
        type Spoil = fn(&mut NewKey);
        let cases: [(Field, Spoil); 15] = [
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
        ];
        for (field, spoil) in cases {
            let mut new = sample();
            spoil(&mut new);
            assert!(
                matches!(made(new), Err(Error::Invalid { field: f, .. }) if f == field),
                "{field}"
            );
        }
        let mut new = sample();
        new.name = "ü".repeat(128);
        assert!(made(new).is_ok());
    }

    #[test]
    fn old_record_whose_values_are_refused_today_can_be_changed_in_every_other_field() {
        let old = Record {
            name: "till\u{202e}4".into(),
            owner: Some("\u{200b}".into()),
            metadata: (0..17).map(|n| (format!("{n}\u{7f}"), "\u{9b}2J".into())).collect(),
            expiry: Expiry::At(Timestamp::from_secs(20_000_000_000)),
            ..made(sample()).unwrap()
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
    fn a_key_that_was_pasted_into_a_field_is_not_kept() {
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
            let refused = made(new).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{field}: looks like an API key")), "{refused}");
            assert!(!refused.contains(&key));
        }
    }

    #[test]
    fn a_key_is_refused_from_the_instant_of_its_end_on() {
        let mut new = sample();
        new.expiry = Expiry::At(Timestamp::from_millis(10_999));
        let record = made(new).unwrap();
        assert_eq!(record.expiry, Expiry::At(Timestamp::from_secs(10)));
        let at = |millis| record.standing().check(|| Timestamp::from_millis(millis));
        assert_eq!(at(9_999), Ok(()));
        assert_eq!(at(10_000), Err(Refusal::Expired));
    }

    #[test]
    fn a_change_that_alters_nothing_is_none() {
        let record = made(sample()).unwrap();
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
    fn a_record_that_is_written_once_more_says_when_and_by_whom() {
        let record = made(sample()).unwrap();
        let (now, by) = (Timestamp::from_secs(9), Actor::Local(0));
        let again = record.rewritten(now, by, 2);
        assert_eq!((again.updated_at, again.updated_by, again.revision), (now, by, 2));
        assert_eq!(again.fields_unlike(Some(&record)), Change::default());
    }

    #[test]
    fn the_meet_is_within_both() {
        let catalogue = Catalogue::new(vec![], None).unwrap();
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
        let mut all = Vec::new();
        for active in [true, false] {
            for grant in grants {
                all.extend(ends.map(|expiry| Standing { active, grant, expiry }));
            }
        }
        for a in &all {
            for b in &all {
                let meet = a.meet(*b);
                assert!(meet.is_within(a) && meet.is_within(b));
                assert_eq!(a.is_within(b), meet == *a);
            }
        }
    }
}
