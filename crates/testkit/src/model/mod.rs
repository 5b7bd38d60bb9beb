//! A naive model of the store, clear rather than efficient: the oracle of the property tests and of the
//! fuzz target `store`. It shares plain values with the crate (ids, times, actors, texts of refusals) and
//! none of its decisions.
//!
//! Keys are a list in the order of creation, scopes are strings, an expiry is a number of seconds, and
//! every query scans all keys.

mod run;
mod step;

pub use self::{run::run, step::Step};

use portcullis::{
    Actor, KeyId, Refusal, Timestamp, audit::Attempt, error::Field, error::Forbidden,
};
use std::collections::{BTreeMap, BTreeSet};

/// The grant of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Powers {
    All,
    Scopes(BTreeSet<String>),
}

impl Powers {
    fn have(&self, scope: &str) -> bool {
        match self {
            Self::All => true,
            Self::Scopes(names) => names.contains(scope),
        }
    }

    fn are_within(&self, others: &Self) -> bool {
        match (self, others) {
            (_, Self::All) => true,
            (Self::All, Self::Scopes(_)) => false,
            (Self::Scopes(mine), Self::Scopes(theirs)) => mine.is_subset(theirs),
        }
    }
}

/// The expiry of a key: the second from which it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Never,
    At(u64),
}

impl End {
    fn is_after(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Never) => false,
            (Self::Never, Self::At(_)) => true,
            (Self::At(mine), Self::At(theirs)) => mine > theirs,
        }
    }

    fn has_come(self, now: Timestamp) -> bool {
        match self {
            Self::Never => false,
            Self::At(second) => second * 1000 <= now.as_millis(),
        }
    }
}

/// The fields of a key that a caller sets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    name: String,
    powers: Powers,
    active: bool,
    end: End,
    owner: Option<String>,
    metadata: BTreeMap<String, String>,
}

/// A change of some fields.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[expect(clippy::option_option, reason = "the inner option is an owner that may be removed")]
struct Edit {
    name: Option<String>,
    powers: Option<Powers>,
    active: Option<bool>,
    end: Option<End>,
    owner: Option<Option<String>>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Fields {
    fn edited(&self, edit: &Edit) -> Self {
        Self {
            name: edit.name.clone().unwrap_or(self.name.clone()),
            powers: edit.powers.clone().unwrap_or(self.powers.clone()),
            active: edit.active.unwrap_or(self.active),
            end: edit.end.unwrap_or(self.end),
            owner: edit.owner.clone().unwrap_or(self.owner.clone()),
            metadata: edit.metadata.clone().unwrap_or(self.metadata.clone()),
        }
    }

    fn all(&self) -> Edit {
        Edit {
            name: Some(self.name.clone()),
            powers: Some(self.powers.clone()),
            active: Some(self.active),
            end: Some(self.end),
            owner: Some(self.owner.clone()),
            metadata: Some(self.metadata.clone()),
        }
    }

    fn unlike(&self, other: &Self) -> Edit {
        let mut edit = self.all();
        edit.name = edit.name.filter(|name| *name != other.name);
        edit.powers = edit.powers.filter(|powers| *powers != other.powers);
        edit.active = edit.active.filter(|active| *active != other.active);
        edit.end = edit.end.filter(|end| *end != other.end);
        edit.owner = edit.owner.filter(|owner| *owner != other.owner);
        edit.metadata = edit.metadata.filter(|metadata| *metadata != other.metadata);
        edit
    }

    /// Whether this is less strict than `other`: active, a wider grant, or a later expiry.
    fn are_looser_than(&self, other: &Self) -> bool {
        (self.active && !other.active)
            || !self.powers.are_within(&other.powers)
            || self.end.is_after(other.end)
    }

    fn are_a_lasting_root(&self) -> bool {
        self.active && self.powers == Powers::All && self.end == End::Never
    }

    fn check_limits(&self) -> Result<(), Fault> {
        let control = |text: &str| text.chars().any(char::is_control);
        let letters = self.name.chars().count();
        if !(1..=128).contains(&letters) || control(&self.name) {
            return Err(Fault::Invalid(Field::Name));
        }
        let owner_fits =
            |owner: &String| !owner.is_empty() && owner.len() <= 128 && !control(owner);
        if !self.owner.iter().all(owner_fits) {
            return Err(Fault::Invalid(Field::Owner));
        }
        if self.metadata.len() > 16 {
            return Err(Fault::Invalid(Field::Metadata));
        }
        for (key, value) in &self.metadata {
            let fits = !key.is_empty() && key.len() <= 64 && value.len() <= 256;
            if !fits {
                return Err(Fault::Invalid(Field::Metadata));
            }
        }
        if self.end.is_after(End::At(16_725_225_600)) && self.end != End::Never {
            return Err(Fault::Invalid(Field::ExpiresAt));
        }
        if holds_a_key(&self.name) {
            return Err(Fault::Invalid(Field::Name));
        }
        if self.owner.as_ref().is_some_and(|owner| holds_a_key(owner)) {
            return Err(Fault::Invalid(Field::Owner));
        }
        if self.metadata.iter().any(|(key, value)| holds_a_key(key) || holds_a_key(value)) {
            return Err(Fault::Invalid(Field::Metadata));
        }
        Ok(())
    }
}

/// Whether the text contains a key. The steps insert only complete keys, so the length is enough.
fn holds_a_key(text: &str) -> bool {
    text.split(' ').any(|word| word.starts_with("pcl_") && word.len() == 54)
}

/// The record of a key, without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    fields: Fields,
    created_at: Timestamp,
    created_by: Actor,
    updated_at: Timestamp,
    updated_by: Actor,
    inactive_since: Option<Timestamp>,
    replaces: Option<KeyId>,
    replaced_by: Option<KeyId>,
    revision: u64,
}

impl Record {
    /// Returns the length of the frame with every optional mark set, as the format description has it.
    fn length(&self) -> usize {
        let text = |text: &String| 8 + text.len();
        let fields = &self.fields;
        let (marks, actors) = (9 * 4, 12 + 12);
        let fixed = 1 + 8 + 4 + 1 + 1 + 8 + 8 + 8 + marks + actors + 8 + 16;
        fixed
            + text(&fields.name)
            + if fields.powers == Powers::All { 0 } else { 32 }
            + fields.owner.as_ref().map_or(0, text)
            + fields.metadata.iter().map(|(key, value)| text(key) + text(value)).sum::<usize>()
    }
}

/// A key that was issued.
struct Key {
    id: KeyId,
    text: String,
    /// `None` once the key is deleted.
    record: Option<Record>,
}

/// An expected audit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ExpectedEntry {
    sequence: u64,
    actor: Actor,
    act: &'static str,
    attempt: Option<Attempt>,
    /// The text of the refusal, if the act was refused.
    reason: Option<String>,
    /// How often the act was refused again, if the entry is a summary.
    again: u64,
    key: Option<KeyId>,
    before: Edit,
    after: Edit,
}

/// Refused acts of one actor, act and reason: the first has an audit entry, the others are counted.
struct Counted {
    actor: Actor,
    attempt: Attempt,
    /// `None` for all reasons beyond those that are counted one by one.
    reason: Option<String>,
    again: u64,
    /// The key of the counted acts, if it was always the same.
    key: Option<KeyId>,
}

/// Why a step fails.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Invalid(Field),
    UnknownScope,
    NoSuchKey,
    StillActive,
    LastRoot,
    Changed,
    NotCurrent,
    Forbidden(Forbidden),
}

/// Which keys to list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    active: Option<bool>,
    scope: Option<&'static str>,
    text: Option<String>,
    size: Option<usize>,
}

/// The position at which a page ended.
type Position = (Timestamp, KeyId);

#[derive(Default)]
struct Model {
    keys: Vec<Key>,
    audit: Vec<ExpectedEntry>,
    sequence: u64,
    /// The last refused act, until its reason is known.
    refused: Option<(Actor, Attempt, Option<KeyId>, Edit)>,
    /// The refused acts since the store was opened.
    counted: Vec<Counted>,
    /// The scope names in the catalogue.
    known: Vec<String>,
    /// The scope names that may be granted.
    grantable: Vec<String>,
}

impl Model {
    /// Closes the store, which writes the counted refusals.
    fn close(&mut self) {
        for Counted { actor, attempt, reason, again, key } in std::mem::take(&mut self.counted) {
            if again > 0 {
                self.record(actor, "refuse", key, Edit::default(), Edit::default());
                if let Some(entry) = self.audit.last_mut() {
                    let reason = reason.unwrap_or_else(|| "(several other reasons)".into());
                    (entry.attempt, entry.reason, entry.again) =
                        (Some(attempt), Some(reason), again);
                }
            }
        }
    }

    /// Records a refusal with its reason. No run takes as long as the minute after which repetitions are
    /// written.
    fn record_refusal(&mut self, reason: String) {
        let Some((actor, attempt, key, asked)) = self.refused.take() else { return };
        let of_actor = self.counted.iter().filter(|counted| counted.actor == actor).count();
        let has = |counted: &Counted, reason: Option<&str>| {
            (counted.actor, counted.attempt) == (actor, attempt)
                && counted.reason.as_deref() == reason
        };
        let is_own = self.counted.iter().any(|counted| has(counted, Some(&reason)));
        let own = (is_own || of_actor < 16).then_some(reason.clone());
        if let Some(counted) = self.counted.iter_mut().find(|c| has(c, own.as_deref())) {
            let is_same = counted.again == 0 || counted.key == key;
            counted.key = if is_same { key } else { None };
            counted.again += 1;
            return;
        }
        self.counted.push(Counted { actor, attempt, reason: own, again: 0, key: None });
        self.record(actor, "refuse", key, Edit::default(), asked);
        if let Some(entry) = self.audit.last_mut() {
            (entry.attempt, entry.reason) = (Some(attempt), Some(reason));
        }
    }

    /// Opens the store with a host that adds these scopes. A store on disk records new ones.
    fn open(&mut self, host: Option<&[&str]>, on_disk: bool) {
        const BUILT_IN: [&str; 14] = [
            "admin.key.create",
            "admin.key.list",
            "admin.key.update",
            "admin.key.delete",
            "admin.key.verify",
            "admin.key.owner",
            "admin.account.create",
            "admin.account.list",
            "admin.account.update",
            "admin.connection.disconnect",
            "admin.connection.health",
            "admin.embed.token",
            "api.read",
            "api.write",
        ];
        let mut wanted: Vec<String> = BUILT_IN.map(String::from).to_vec();
        wanted.extend(host.unwrap_or_default().iter().map(|name| (*name).to_owned()));
        let before = self.known.len();
        for name in &wanted {
            if !self.known.contains(name) {
                self.known.push(name.clone());
            }
        }
        self.grantable = if host.is_some() { wanted } else { self.known.clone() };
        if on_disk && self.known.len() > before {
            self.record(Actor::Host, "extend_catalogue", None, Edit::default(), Edit::default());
        }
    }

    /// The record as the actor is shown it.
    fn shown(&self, by: Actor, mut record: Record) -> Record {
        let Actor::Key(id) = by else { return record };
        let Some(actor) = self.find(id).map(|actor| actor.fields.clone()) else { return record };
        if actor.powers == Powers::All || actor.owner.is_none() {
            return record;
        }
        let is_own = |id| self.find(id).is_some_and(|found| found.fields.owner == actor.owner);
        let shown = |by| match by {
            Actor::Key(id) if is_own(id) => by,
            _ => Actor::Operator,
        };
        (record.created_by, record.updated_by) =
            (shown(record.created_by), shown(record.updated_by));
        record.replaces = record.replaces.filter(|id| is_own(*id));
        record.replaced_by = record.replaced_by.filter(|id| is_own(*id));
        record
    }

    /// The keys that a valid key with `admin.key.list` sees, newest first; `None` for other actors.
    fn view(&self, by: Actor, now: Timestamp) -> Option<Vec<KeyId>> {
        let Actor::Key(id) = by else { return None };
        let actor = &self.find(id)?.fields;
        let may = actor.active && !actor.end.has_come(now) && actor.powers.have("admin.key.list");
        let seen = self.keys.iter().filter_map(|key| Some((key.record.as_ref()?, key.id)));
        let seen = seen.filter(|(record, _)| sees(Some(actor), record.fields.owner.as_ref()));
        let mut seen: Vec<_> = seen.map(|(record, id)| (record.created_at, id)).collect();
        seen.sort();
        may.then(|| seen.into_iter().rev().map(|(_, id)| id).collect())
    }

    /// The changes that the actor sees in the audit log: those of keys that had its owner at the time. Without
    /// keys that a rotation issued, whose owner no entry names.
    fn audit_of(&self, by: Actor) -> Vec<(u64, KeyId)> {
        let actor =
            if let Actor::Key(id) = by { self.find(id).map(|found| &found.fields) } else { None };
        let (mut owners, mut seen) = (BTreeMap::new(), Vec::new());
        for entry in self.audit.iter().filter(|entry| entry.act != "refuse") {
            let Some(key) = entry.key else { continue };
            if entry.act == "create" {
                owners.insert(key, entry.after.owner.clone().flatten());
            }
            let Some(owner) = owners.get(&key) else { continue };
            if sees(actor, owner.as_ref()) {
                seen.push((entry.sequence, key));
            }
            if let Some(next) = &entry.after.owner {
                owners.insert(key, next.clone());
            }
        }
        seen
    }

    fn find(&self, id: KeyId) -> Option<&Record> {
        self.keys.iter().find(|key| key.id == id)?.record.as_ref()
    }

    /// Returns the expected outcome of authenticating the key.
    fn decision(key: &Key, now: Timestamp) -> Result<Powers, Refusal> {
        let Some(record) = &key.record else { return Err(Refusal::Unknown) };
        if !record.fields.active {
            return Err(Refusal::Inactive);
        }
        if record.fields.end.has_come(now) {
            return Err(Refusal::Expired);
        }
        Ok(record.fields.powers.clone())
    }

    /// Checks that all of these names may be granted.
    fn powers(&self, powers: &Powers) -> Result<(), Fault> {
        match powers {
            Powers::All => Ok(()),
            Powers::Scopes(names) if names.iter().all(|name| self.grantable.contains(name)) => {
                Ok(())
            }
            Powers::Scopes(_) => Err(Fault::UnknownScope),
        }
    }

    /// Checks whether this key may be issued. Returns its record.
    fn issue(&mut self, by: Actor, mut new: Fields, now: Timestamp) -> Result<Record, Fault> {
        let issuer = self.authority(by, Attempt::Create, None, now)?;
        if let (Some(issuer), None) = (&issuer, &new.owner) {
            new.owner.clone_from(&issuer.owner);
        }
        new.check_limits()?;
        if let Err(reason) = issuer.map_or(Ok(()), |issuer| may_issue(&issuer, &new)) {
            return Err(self.refuse(
                by,
                Attempt::Create,
                None,
                new.all(),
                Fault::Forbidden(reason),
            ));
        }
        let record = Record {
            inactive_since: if new.active { None } else { Some(now) },
            fields: new,
            created_at: now,
            created_by: by,
            updated_at: now,
            updated_by: by,
            replaces: None,
            replaced_by: None,
            revision: self.sequence + 1,
        };
        if record.fields.end.has_come(now) {
            return Err(Fault::Invalid(Field::ExpiresAt));
        }
        if record.length() > 1536 {
            return Err(Fault::Invalid(Field::Record));
        }
        Ok(record)
    }

    /// Records the issued key.
    fn issued(&mut self, id: KeyId, text: String, record: Record) {
        self.record(record.created_by, "create", Some(id), Edit::default(), record.fields.all());
        self.keys.push(Key { id, text, record: Some(record) });
    }

    /// Returns the record after this change, or the old record if the change alters nothing.
    fn update(
        &mut self,
        by: Actor,
        id: KeyId,
        edit: &Edit,
        revision: Option<u64>,
        now: Timestamp,
    ) -> Result<Record, Fault> {
        let actor = self.authority(by, Attempt::Update, Some(id), now)?;
        let before = self.target(by, Attempt::Update, actor.as_ref(), id)?;
        let fields = before.fields.edited(edit);
        fields.check_limits()?;
        let allowed = match actor {
            Some(actor) => may_update(&actor, by == Actor::Key(id), &before.fields, &fields)
                .map_err(Fault::Forbidden),
            None => Ok(()),
        };
        let roots = self.keys.iter().filter_map(|key| key.record.as_ref());
        let roots = roots.filter(|record| record.fields.are_a_lasting_root()).count();
        let falls = before.fields.are_a_lasting_root() && !fields.are_a_lasting_root();
        let allowed = allowed.and(if falls && roots == 1 { Err(Fault::LastRoot) } else { Ok(()) });
        if let Err(fault) = allowed {
            return Err(self.refuse(by, Attempt::Update, Some(id), edit.clone(), fault));
        }
        if revision.is_some_and(|revision| revision != before.revision) {
            return Err(Fault::Changed);
        }
        if fields == before.fields {
            return Ok(before);
        }
        let mut after = Record {
            updated_at: now,
            updated_by: by,
            revision: self.sequence + 1,
            ..before.clone()
        };
        if fields.active != before.fields.active {
            after.inactive_since = if fields.active { None } else { Some(now) };
        }
        after.fields = fields;
        if after.length() > 1536 && after.length() > before.length() {
            return Err(Fault::Invalid(Field::Record));
        }
        let unlike = (before.fields.unlike(&after.fields), after.fields.unlike(&before.fields));
        self.record(by, "update", Some(id), unlike.0, unlike.1);
        for key in &mut self.keys {
            if key.id == id {
                key.record = Some(after.clone());
            }
        }
        Ok(after)
    }

    /// Checks whether this key may be rotated. Returns the record of the new key.
    fn rotate(
        &mut self,
        by: Actor,
        id: KeyId,
        grace_hours: u64,
        now: Timestamp,
    ) -> Result<Record, Fault> {
        let actor = self.authority(by, Attempt::Rotate, Some(id), now)?;
        if grace_hours > 366 * 24 {
            return Err(Fault::Invalid(Field::Grace));
        }
        let mut old = self.target(by, Attempt::Rotate, actor.as_ref(), id)?;
        let before = old.fields.clone();
        let is_there = |id| self.keys.iter().any(|key| key.id == id && key.record.is_some());
        let is_replaced = old.replaced_by.is_some_and(is_there);
        let current = before.active && !before.end.has_come(now) && !is_replaced;
        let allowed = actor.map_or(Ok(()), |actor| may_rotate(&actor, &before));
        let allowed = allowed.map_err(Fault::Forbidden);
        let allowed = allowed.and(if current { Ok(()) } else { Err(Fault::NotCurrent) });
        if let Err(fault) = allowed {
            return Err(self.refuse(by, Attempt::Rotate, Some(id), Edit::default(), fault));
        }
        let new = Record {
            fields: before.clone(),
            created_at: now,
            created_by: by,
            updated_at: now,
            updated_by: by,
            inactive_since: None,
            replaces: Some(id),
            replaced_by: None,
            revision: self.sequence + 1,
        };
        (old.updated_at, old.updated_by, old.revision) = (now, by, new.revision);
        if grace_hours == 0 {
            (old.fields.active, old.inactive_since) = (false, Some(now));
        } else {
            let end = End::At(now.as_millis().div_ceil(1000) + grace_hours * 3600);
            old.fields.end = if before.end.is_after(end) { end } else { before.end };
        }
        self.record(by, "rotate", Some(id), before.unlike(&old.fields), old.fields.unlike(&before));
        for key in &mut self.keys {
            if key.id == id {
                key.record = Some(old.clone());
            }
        }
        Ok(new)
    }

    /// Records the new key of a rotation.
    fn rotated(&mut self, id: KeyId, text: String, record: Record) {
        for key in &mut self.keys {
            if let Some(old) = key.record.as_mut().filter(|_| Some(key.id) == record.replaces) {
                old.replaced_by = Some(id);
            }
        }
        self.keys.push(Key { id, text, record: Some(record) });
    }

    fn delete(&mut self, by: Actor, id: KeyId, now: Timestamp) -> Result<(), Fault> {
        let actor = self.authority(by, Attempt::Delete, Some(id), now)?;
        let before = self.target(by, Attempt::Delete, actor.as_ref(), id)?.fields;
        let fault = match actor {
            Some(actor) if !actor.powers.have("admin.key.delete") => {
                Some(Fault::Forbidden(lacks("admin.key.delete")))
            }
            _ if before.active => Some(Fault::StillActive),
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(self.refuse(by, Attempt::Delete, Some(id), Edit::default(), fault));
        }
        self.record(by, "delete", Some(id), before.all(), Edit::default());
        for key in &mut self.keys {
            if key.id == id {
                key.record = None;
            }
        }
        Ok(())
    }

    /// Returns a page of the keys that are older than `position`, newest first, and its end if there are
    /// more.
    fn list(
        &self,
        filter: &Filter,
        position: Option<Position>,
    ) -> Result<(Vec<KeyId>, Option<Position>), Fault> {
        let size = filter.size.unwrap_or(50);
        if !(1..=200).contains(&size) {
            return Err(Fault::Invalid(Field::PageSize));
        }
        let mut found: Vec<Position> = Vec::new();
        for key in &self.keys {
            let Some(record) = &key.record else { continue };
            let fields = &record.fields;
            let named = |text: &String| {
                let text = text.to_lowercase();
                fields.name.to_lowercase().contains(&text)
                    || key.id.to_string().to_lowercase().contains(&text)
            };
            if filter.active.is_none_or(|active| fields.active == active)
                && filter.scope.is_none_or(|scope| fields.powers.have(scope))
                && filter.text.as_ref().is_none_or(named)
            {
                found.push((record.created_at, key.id));
            }
        }
        found.sort();
        found.reverse();
        found.retain(|found| position.is_none_or(|position| *found < position));
        let more = found.len() > size;
        found.truncate(size);
        let last = found.last().copied().filter(|_| more);
        Ok((found.into_iter().map(|(_, id)| id).collect(), last))
    }

    /// Returns the fields of the actor, if it is a key. The key must be valid.
    fn authority(
        &mut self,
        by: Actor,
        attempt: Attempt,
        target: Option<KeyId>,
        now: Timestamp,
    ) -> Result<Option<Fields>, Fault> {
        let Actor::Key(id) = by else { return Ok(None) };
        match self.find(id) {
            Some(record) if record.fields.active && !record.fields.end.has_come(now) => {
                Ok(Some(record.fields.clone()))
            }
            _ => {
                let fault = Fault::Forbidden(Forbidden::ActorRefused);
                Err(self.refuse(by, attempt, target, Edit::default(), fault))
            }
        }
    }

    /// Returns the key to change. An actor without the scope is not told whether the key exists.
    fn target(
        &mut self,
        by: Actor,
        attempt: Attempt,
        actor: Option<&Fields>,
        id: KeyId,
    ) -> Result<Record, Fault> {
        // A key of another owner is treated as one that does not exist.
        let found = self.find(id).filter(|record| sees(actor, record.fields.owner.as_ref()));
        if let Some(record) = found {
            return Ok(record.clone());
        }
        let scope = match attempt {
            Attempt::Delete => "admin.key.delete",
            _ => "admin.key.update",
        };
        match actor {
            Some(actor) if !actor.powers.have(scope) => {
                let fault = Fault::Forbidden(lacks(scope));
                Err(self.refuse(by, attempt, Some(id), Edit::default(), fault))
            }
            _ => Err(Fault::NoSuchKey),
        }
    }

    fn refuse(
        &mut self,
        by: Actor,
        attempt: Attempt,
        key: Option<KeyId>,
        mut asked: Edit,
        fault: Fault,
    ) -> Fault {
        // No step has metadata of a size between one that certainly fits an entry and one that does not.
        let fits = |metadata: &BTreeMap<String, String>| {
            metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() < 3000
        };
        asked.metadata = asked.metadata.filter(fits);
        self.refused = Some((by, attempt, key, asked));
        fault
    }

    fn record(
        &mut self,
        actor: Actor,
        act: &'static str,
        key: Option<KeyId>,
        before: Edit,
        after: Edit,
    ) {
        self.sequence += 1;
        let (sequence, attempt, reason, again) = (self.sequence, None, None, 0);
        self.audit.push(ExpectedEntry {
            sequence,
            actor,
            act,
            attempt,
            reason,
            again,
            key,
            before,
            after,
        });
    }
}

/// A key with an owner sees only the keys of that owner, unless it is a root key.
fn sees(actor: Option<&Fields>, owner: Option<&String>) -> bool {
    actor.is_none_or(|actor| {
        actor.powers == Powers::All || actor.owner.is_none() || actor.owner.as_ref() == owner
    })
}

/// A key sets its own owner. A key without one and with `admin.key.owner` sets every owner.
fn may_set_owner(actor: &Fields, owner: Option<&String>) -> bool {
    let has_scope = actor.owner.is_none() && actor.powers.have("admin.key.owner");
    actor.powers == Powers::All || has_scope || actor.owner.as_ref() == owner
}

/// A key issues no key with a wider grant, a later expiry or another owner.
fn may_issue(issuer: &Fields, new: &Fields) -> Result<(), Forbidden> {
    if !issuer.powers.have("admin.key.create") {
        return Err(lacks("admin.key.create"));
    }
    if new.powers == Powers::All {
        return Err(Forbidden::RootIsLocal);
    }
    covers(issuer, new)?;
    if !may_set_owner(issuer, new.owner.as_ref()) {
        return Err(Forbidden::ForeignOwner);
    }
    Ok(())
}

/// A key may always revoke itself. For other changes it needs the scope. A less strict change must not
/// exceed its own grant and expiry.
fn may_update(actor: &Fields, own: bool, before: &Fields, after: &Fields) -> Result<(), Forbidden> {
    let revokes_itself = own && *after == Fields { active: false, ..before.clone() };
    if !revokes_itself && !actor.powers.have("admin.key.update") {
        return Err(lacks("admin.key.update"));
    }
    if after.powers == Powers::All && before.powers != Powers::All {
        return Err(Forbidden::RootIsLocal);
    }
    if after.are_looser_than(before) {
        covers(actor, after)?;
    }
    let foreign = |owner: &Option<String>| !may_set_owner(actor, owner.as_ref());
    if after.owner != before.owner && (foreign(&after.owner) || foreign(&before.owner)) {
        return Err(Forbidden::ForeignOwner);
    }
    Ok(())
}

/// A rotation issues a key with the same grant, so the actor must hold that grant.
fn may_rotate(actor: &Fields, old: &Fields) -> Result<(), Forbidden> {
    if !actor.powers.have("admin.key.update") {
        return Err(lacks("admin.key.update"));
    }
    if old.powers == Powers::All {
        return Err(Forbidden::RootIsLocal);
    }
    covers(actor, old)?;
    if !may_set_owner(actor, old.owner.as_ref()) {
        return Err(Forbidden::ForeignOwner);
    }
    Ok(())
}

fn covers(holder: &Fields, result: &Fields) -> Result<(), Forbidden> {
    if !result.powers.are_within(&holder.powers) {
        return Err(Forbidden::ExceedsScopes);
    }
    if result.end.is_after(holder.end) {
        return Err(Forbidden::ExceedsExpiry);
    }
    Ok(())
}

fn lacks(scope: &str) -> Forbidden {
    Forbidden::LacksScope(scope.parse().expect("a scope's name"))
}
