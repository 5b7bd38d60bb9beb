//! The store, said once more: clear rather than efficient. The oracle of the walks and of the fuzz
//! target `store`. It shares plain values with the crate (ids, moments, actors, the words of
//! refusals) and none of its decisions.
//!
//! Keys are a list in the order of their making, scopes are strings, an end is a number of seconds,
//! and every question is answered by looking at all there is.

mod run;
mod step;

pub use self::{run::run, step::Step};

use portcullis::{Actor, Attempt, KeyId, Refusal, Timestamp, error::Field, error::Forbidden};
use std::collections::{BTreeMap, BTreeSet};

/// What a key may do.
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

/// The second from which on a key is refused, if there is one.
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

/// What people say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    name: String,
    powers: Powers,
    active: bool,
    end: End,
    owner: Option<String>,
    metadata: BTreeMap<String, String>,
}

/// Some of the fields.
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

    /// Whether this lets a key pass, or do, or live for more than `other` does.
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

/// Of the keys in these walks only whole ones are pasted, so the length of their tail will do.
fn holds_a_key(text: &str) -> bool {
    text.split(' ').any(|word| word.starts_with("pcl_") && word.len() == 54)
}

/// All that is kept of a key but its id.
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
    /// The length of its frame when it has all the marks of a long life, by the description of
    /// the format.
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

/// A key that was made.
struct Key {
    id: KeyId,
    text: String,
    /// Nothing once it is deleted.
    record: Option<Record>,
}

/// What an entry of the trail must say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    sequence: u64,
    actor: Actor,
    act: &'static str,
    attempt: Option<Attempt>,
    /// The text of the refusal, where the act was refused.
    reason: Option<String>,
    /// How often the act was refused again, where the entry is about that.
    again: u64,
    key: Option<KeyId>,
    before: Edit,
    after: Edit,
}

/// Refused acts of one actor, act and reason: the first is in the trail, the others are counted.
struct Counted {
    actor: Actor,
    attempt: Attempt,
    /// `None` for all reasons beyond those that are counted one by one.
    reason: Option<String>,
    again: u64,
    /// Of those that are counted, if it was always the same.
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

/// Where a page ended.
type Place = (Timestamp, KeyId);

#[derive(Default)]
struct Model {
    keys: Vec<Key>,
    trail: Vec<Told>,
    sequence: u64,
    /// What was refused just now, until its reason is known.
    refused: Option<(Actor, Attempt, Option<KeyId>, Edit)>,
    /// What was refused since the store was opened.
    counted: Vec<Counted>,
    /// The scope names that have a number.
    known: Vec<String>,
    /// Those that may be given.
    offered: Vec<String>,
}

impl Model {
    /// Closes the store, which writes what was counted.
    fn close(&mut self) {
        for Counted { actor, attempt, reason, again, key } in std::mem::take(&mut self.counted) {
            if again > 0 {
                self.tell(actor, "refuse", key, Edit::default(), Edit::default());
                if let Some(told) = self.trail.last_mut() {
                    let reason = reason.unwrap_or_else(|| "(several other reasons)".into());
                    (told.attempt, told.reason, told.again) = (Some(attempt), Some(reason), again);
                }
            }
        }
    }

    /// The caller was told why its act was refused. No walk takes as long as the minute after which
    /// repetitions are written.
    fn told_why(&mut self, reason: String) {
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
        self.tell(actor, "refuse", key, Edit::default(), asked);
        if let Some(told) = self.trail.last_mut() {
            (told.attempt, told.reason) = (Some(attempt), Some(reason));
        }
    }

    /// Opens the store with a host that brings these scopes; a store on disk tells of new ones.
    fn open(&mut self, host: Option<&[&str]>, on_disk: bool) {
        const BUILT_IN: [&str; 13] = [
            "admin.account.create",
            "admin.account.list",
            "admin.account.update",
            "admin.connection.disconnect",
            "admin.connection.health",
            "admin.embed.token",
            "api.read",
            "api.write",
            "admin.key.create",
            "admin.key.list",
            "admin.key.update",
            "admin.key.delete",
            "admin.key.verify",
        ];
        let mut wanted: Vec<String> = BUILT_IN.map(String::from).to_vec();
        wanted.extend(host.unwrap_or_default().iter().map(|name| (*name).to_owned()));
        let before = self.known.len();
        for name in &wanted {
            if !self.known.contains(name) {
                self.known.push(name.clone());
            }
        }
        self.offered = if host.is_some() { wanted } else { self.known.clone() };
        if on_disk && self.known.len() > before {
            self.tell(Actor::Host, "extend_catalogue", None, Edit::default(), Edit::default());
        }
    }

    fn find(&self, id: KeyId) -> Option<&Record> {
        self.keys.iter().find(|key| key.id == id)?.record.as_ref()
    }

    /// What presenting the key must lead to.
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

    /// The set of these names.
    fn powers(&self, powers: &Powers) -> Result<(), Fault> {
        match powers {
            Powers::All => Ok(()),
            Powers::Scopes(names) if names.iter().all(|name| self.offered.contains(name)) => Ok(()),
            Powers::Scopes(_) => Err(Fault::UnknownScope),
        }
    }

    /// Whether this key may be made; if so, its record.
    fn issue(&mut self, by: Actor, mut new: Fields, now: Timestamp) -> Result<Record, Fault> {
        let maker = self.authority(by, Attempt::Create, None, now)?;
        if let (Some(maker), None) = (&maker, &new.owner) {
            new.owner.clone_from(&maker.owner);
        }
        new.check_limits()?;
        if let Err(reason) = maker.map_or(Ok(()), |maker| may_issue(&maker, &new)) {
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

    /// The key was made.
    fn issued(&mut self, id: KeyId, text: String, record: Record) {
        self.tell(record.created_by, "create", Some(id), Edit::default(), record.fields.all());
        self.keys.push(Key { id, text, record: Some(record) });
    }

    /// The record after this change, which is the same one where the change alters nothing.
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
        self.tell(by, "update", Some(id), unlike.0, unlike.1);
        for key in &mut self.keys {
            if key.id == id {
                key.record = Some(after.clone());
            }
        }
        Ok(after)
    }

    /// Whether a new key may take the place of this one; if so, the new one's record.
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
        self.tell(by, "rotate", Some(id), before.unlike(&old.fields), old.fields.unlike(&before));
        for key in &mut self.keys {
            if key.id == id {
                key.record = Some(old.clone());
            }
        }
        Ok(new)
    }

    /// The new key was made.
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
        self.tell(by, "delete", Some(id), before.all(), Edit::default());
        for key in &mut self.keys {
            if key.id == id {
                key.record = None;
            }
        }
        Ok(())
    }

    /// A page of the keys that are older than `place`, newest first, and where it ended if there
    /// are more.
    fn list(
        &self,
        filter: &Filter,
        place: Option<Place>,
    ) -> Result<(Vec<KeyId>, Option<Place>), Fault> {
        let size = filter.size.unwrap_or(50);
        if !(1..=200).contains(&size) {
            return Err(Fault::Invalid(Field::PageSize));
        }
        let mut found: Vec<Place> = Vec::new();
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
        found.retain(|found| place.is_none_or(|place| *found < place));
        let more = found.len() > size;
        found.truncate(size);
        let last = found.last().copied().filter(|_| more);
        Ok((found.into_iter().map(|(_, id)| id).collect(), last))
    }

    /// What the actor holds, if it is a key; it must be valid.
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

    /// The key that is to be changed; whoever may change none does not learn which there are.
    fn target(
        &mut self,
        by: Actor,
        attempt: Attempt,
        actor: Option<&Fields>,
        id: KeyId,
    ) -> Result<Record, Fault> {
        if let Some(record) = self.find(id) {
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
        // No walk asks for anything between what certainly fits an entry and what does not.
        let room = |metadata: &BTreeMap<String, String>| {
            metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() < 3000
        };
        asked.metadata = asked.metadata.filter(room);
        self.refused = Some((by, attempt, key, asked));
        fault
    }

    fn tell(
        &mut self,
        actor: Actor,
        act: &'static str,
        key: Option<KeyId>,
        before: Edit,
        after: Edit,
    ) {
        self.sequence += 1;
        let (sequence, attempt, reason, again) = (self.sequence, None, None, 0);
        self.trail.push(Told { sequence, actor, act, attempt, reason, again, key, before, after });
    }
}

/// A key makes no key that may do more, lives longer, or speaks for another owner.
fn may_issue(maker: &Fields, new: &Fields) -> Result<(), Forbidden> {
    if !maker.powers.have("admin.key.create") {
        return Err(lacks("admin.key.create"));
    }
    if new.powers == Powers::All {
        return Err(Forbidden::RootIsLocal);
    }
    covers(maker, new)?;
    if maker.powers != Powers::All && new.owner != maker.owner {
        return Err(Forbidden::ForeignOwner);
    }
    Ok(())
}

/// A key may always take itself away. Else it needs the scope; what becomes looser in any way must
/// result in no more than it holds; an owner changes hands only where both hands are its own.
fn may_update(actor: &Fields, own: bool, before: &Fields, after: &Fields) -> Result<(), Forbidden> {
    let takes_itself_away = own && *after == Fields { active: false, ..before.clone() };
    if !takes_itself_away && !actor.powers.have("admin.key.update") {
        return Err(lacks("admin.key.update"));
    }
    if after.powers == Powers::All && before.powers != Powers::All {
        return Err(Forbidden::RootIsLocal);
    }
    if after.are_looser_than(before) {
        covers(actor, after)?;
    }
    let foreign = |owner: &Option<String>| actor.powers != Powers::All && *owner != actor.owner;
    if after.owner != before.owner && (foreign(&after.owner) || foreign(&before.owner)) {
        return Err(Forbidden::ForeignOwner);
    }
    Ok(())
}

/// A rotation hands out a key like this one.
fn may_rotate(actor: &Fields, old: &Fields) -> Result<(), Forbidden> {
    if !actor.powers.have("admin.key.update") {
        return Err(lacks("admin.key.update"));
    }
    if old.powers == Powers::All {
        return Err(Forbidden::RootIsLocal);
    }
    covers(actor, old)?;
    if actor.powers != Powers::All && old.owner != actor.owner {
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
