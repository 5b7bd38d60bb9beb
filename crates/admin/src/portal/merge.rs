//! Merging a submitted form with the current key: which fields to change, and which to ask about.
//!
//! A form carries the values that it had when it was opened. A field that the user left unchanged
//! is never written, even if it has changed since. If the user and somebody else changed a field to
//! different values, the next page asks the user. The opened values come from the browser and are
//! only hints: forging them allows nothing that a fresh form would not allow.

use super::{
    form_body::FormInput,
    key_form::{Field, KeyForm, lines},
};
use crate::rfc3339;
use maud::{Markup, html};
use portcullis::{
    Acting, Change, Error, Expiry, Grant, KeyId, Networks, Rate, Record, Store, Timestamp,
};
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

/// How long a save is retried when other changes of the same key win.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// The values of a key when its form was opened, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenedValues {
    name: String,
    scopes: BTreeSet<String>,
    /// `yes`, or the time of the deactivation, which distinguishes two deactivations.
    active: String,
    /// The exact time, or empty. The form shows only the date.
    expires: String,
    networks: String,
    rate: String,
}

const YES: &str = "yes";

impl OpenedValues {
    pub(crate) fn of(store: &Store, record: &Record) -> Self {
        let since = || record.inactive_since.map(rfc3339::format).unwrap_or_default();
        let KeyForm { name, scopes, networks, rate, .. } = KeyForm::of(store, record);
        let expires = match record.expiry {
            Expiry::At(at) => rfc3339::format(at),
            Expiry::Never => String::new(),
        };
        let active = if record.active { YES.into() } else { since() };
        Self { name, scopes, active, expires, networks, rate }
    }

    fn read(input: &mut FormInput) -> Self {
        Self {
            name: input.text("was_name"),
            scopes: input.all("was_scope"),
            active: input.text("was_active"),
            expires: input.text("was_expires"),
            networks: lines(&input.text("was_networks")),
            rate: input.text("was_rate"),
        }
    }

    fn is_active(&self) -> bool {
        self.active == YES
    }

    fn day(&self) -> &str {
        self.expires.get(..10).unwrap_or_default()
    }

    pub(crate) fn hidden(&self) -> Markup {
        html! {
            input type="hidden" name="was_name" value=(self.name);
            @for scope in &self.scopes { input type="hidden" name="was_scope" value=(scope); }
            input type="hidden" name="was_active" value=(self.active);
            input type="hidden" name="was_expires" value=(self.expires);
            input type="hidden" name="was_networks" value=(self.networks);
            input type="hidden" name="was_rate" value=(self.rate);
        }
    }
}

/// A submitted form: its values when it was opened, and the entered values.
#[derive(Clone, Debug)]
pub(crate) struct SubmittedForm {
    pub(crate) opened: OpenedValues,
    pub(crate) form: KeyForm,
    /// The expiry of the form's date, if the date is valid.
    pub(crate) expiry: Option<Expiry>,
    /// The networks of the form, if they are valid.
    pub(crate) networks: Option<Networks>,
    /// The rate of the form, if it is valid.
    pub(crate) rate: Option<Option<Rate>>,
    /// Conflicts that the form asked about and the user left open.
    undecided: Vec<Field>,
}

/// The result of merging a form with the current key.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) change: Change,
    /// The part of the change that only restricts the key. It is applied despite conflicts.
    restriction: Change,
    pub(crate) conflicts: Vec<Field>,
}

/// The outcome of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaveOutcome {
    Saved {
        /// Whether somebody else changed the key while the form was open.
        has_other_changes: bool,
    },
    /// The user must decide on conflicts.
    Conflict {
        /// Whether the restrictions of the form were applied.
        is_restricted: bool,
    },
}

impl SubmittedForm {
    /// The form of a key without changes.
    pub(crate) fn unchanged(store: &Store, record: &Record) -> Self {
        let (opened, form) = (OpenedValues::of(store, record), KeyForm::of(store, record));
        Self { opened, form, expiry: None, networks: None, rate: None, undecided: Vec::new() }
    }

    pub(crate) fn read(input: &mut FormInput) -> Self {
        let opened = OpenedValues::read(input);
        let mut form = KeyForm::read(input);
        let conflicts = input.all("conflict");
        let mut undecided = Vec::new();
        for field in Field::EDITED {
            if !conflicts.contains(field.as_str()) {
                continue;
            }
            match (input.text(&format!("keep_{}", field.as_str())).as_str(), field) {
                ("mine", _) => {}
                ("now", Field::Name) => form.name.clone_from(&opened.name),
                ("now", Field::Scopes) => form.scopes.clone_from(&opened.scopes),
                ("now", Field::Expires) => opened.day().clone_into(&mut form.expires),
                ("now", Field::Networks) => form.networks.clone_from(&opened.networks),
                ("now", Field::Rate) => form.rate.clone_from(&opened.rate),
                ("now", _) => form.active = None,
                _ => undecided.push(field),
            }
        }
        Self { opened, form, expiry: None, networks: None, rate: None, undecided }
    }

    /// Returns whether the user changed the field.
    pub(crate) fn changes(&self, field: Field) -> bool {
        match field {
            Field::Name => self.form.name != self.opened.name.trim(),
            Field::Scopes => self.form.scopes != self.opened.scopes,
            Field::Active => self.form.active.is_some_and(|yes| yes != self.opened.is_active()),
            Field::Expires => self.form.expires != self.opened.day(),
            Field::Networks => self.form.networks != self.opened.networks,
            Field::Rate => self.form.rate != self.opened.rate,
            Field::Form => false,
        }
    }

    /// Merges the form with the current key.
    pub(crate) fn merge(
        &self,
        store: &Store,
        record: &Record,
        time: Timestamp,
    ) -> Result<Merged, Error> {
        let now = OpenedValues::of(store, record);
        let mut merged = Merged::default();
        let mut may_apply = |field, is_untouched: bool| {
            let applies = is_untouched && !self.undecided.contains(&field);
            if !applies {
                merged.conflicts.push(field);
            }
            applies
        };
        if self.changes(Field::Name)
            && self.form.name != record.name
            && may_apply(Field::Name, now.name == self.opened.name)
        {
            merged.change.name = Some(self.form.name.clone());
        }
        if self.changes(Field::Scopes)
            && let Grant::Scopes(held) = record.grant
        {
            let mut added = self.form.scopes.difference(&self.opened.scopes);
            let wanted = if now.scopes == self.opened.scopes {
                Some(self.form.scopes.clone())
            } else if added.all(|scope| now.scopes.contains(scope)) {
                // The user only removed scopes: that takes effect whatever others changed.
                let kept = |scope: &&String| {
                    self.form.scopes.contains(*scope) || !self.opened.scopes.contains(*scope)
                };
                Some(now.scopes.iter().filter(kept).cloned().collect())
            } else {
                None
            };
            let is_there = self.form.scopes == now.scopes;
            if !is_there && may_apply(Field::Scopes, wanted.is_some()) {
                let chosen = store.scopes(wanted.unwrap_or_default())?;
                merged.change.grant = Some(Grant::Scopes(chosen.keeping_unoffered(&held)));
            }
        }
        if self.changes(Field::Active) {
            if self.form.active == Some(false) {
                // Also for an inactive key: a reactivation may be in flight.
                merged.change.active = Some(false);
                merged.restriction.active = Some(false);
            } else if !record.active && may_apply(Field::Active, now.active == self.opened.active) {
                merged.change.active = Some(true);
            }
        }
        if let Some(expiry) = self.expiry
            && self.changes(Field::Expires)
            && self.form.expires != now.day()
        {
            if expiry.has_come(time) && expiry < record.expiry {
                merged.change.expiry = Some(expiry);
                merged.restriction.expiry = Some(expiry);
            } else if may_apply(Field::Expires, now.expires == self.opened.expires) {
                merged.change.expiry = Some(expiry);
            }
        }
        if let Some(networks) = &self.networks
            && self.changes(Field::Networks)
            && *networks != record.networks
            && may_apply(Field::Networks, now.networks == self.opened.networks)
        {
            merged.change.networks = Some(networks.clone());
        }
        if let Some(rate) = self.rate
            && self.changes(Field::Rate)
            && rate != record.rate
            && may_apply(Field::Rate, now.rate == self.opened.rate)
        {
            merged.change.rate = Some(rate);
        }
        Ok(merged)
    }

    /// Saves the form, unless there are conflicts; its restrictions are applied in any case. If
    /// somebody else changes the key between merging and writing, merges again.
    pub(crate) fn apply(
        &self,
        store: &Store,
        acting: Acting<'_>,
        id: KeyId,
        time: Timestamp,
    ) -> Result<SaveOutcome, Error> {
        let start = Instant::now();
        loop {
            let record = acting.visible(id).ok_or(Error::NoSuchKey(id))?;
            let Merged { change, restriction, conflicts } = self.merge(store, &record, time)?;
            let restricts = restriction != Change::default();
            let has_other_changes = OpenedValues::of(store, &record) != self.opened;
            if !conflicts.is_empty() {
                if restricts {
                    acting.update(id, restriction)?;
                }
                return Ok(SaveOutcome::Conflict { is_restricted: restricts });
            }
            if change == restriction {
                // A restriction has no condition, so contention cannot delay it.
                acting.update(id, restriction)?;
                return Ok(SaveOutcome::Saved { has_other_changes });
            }
            match acting.update_if(id, record.revision, change) {
                Err(Error::Changed(_)) if start.elapsed() < RETRY_TIMEOUT => {
                    thread::sleep(RETRY_PAUSE);
                }
                Err(error @ Error::Changed(_)) if restricts => {
                    acting.update(id, restriction)?;
                    return Err(error);
                }
                done => return done.map(|_| SaveOutcome::Saved { has_other_changes }),
            }
        }
    }

    /// Returns the next form, based on the current key. A field that the user left unchanged shows
    /// the current value. A field with an error keeps its opened value, so that a conflict is found
    /// once the error is corrected.
    pub(crate) fn rebased(
        self,
        store: &Store,
        record: &Record,
        is_wrong: impl Fn(Field) -> bool,
    ) -> Self {
        let (now, shown) = (OpenedValues::of(store, record), KeyForm::of(store, record));
        let [name, scopes, active, expires, nets, rates] =
            Field::EDITED.map(|field| self.changes(field));
        let Self { opened: was, form, expiry, networks, rate, undecided } = self;
        let opened = OpenedValues {
            name: if name && is_wrong(Field::Name) { was.name } else { now.name },
            scopes: if scopes && is_wrong(Field::Scopes) { was.scopes } else { now.scopes },
            active: if active && is_wrong(Field::Active) { was.active } else { now.active },
            expires: if expires && is_wrong(Field::Expires) { was.expires } else { now.expires },
            networks: if nets && is_wrong(Field::Networks) { was.networks } else { now.networks },
            rate: if rates && is_wrong(Field::Rate) { was.rate } else { now.rate },
        };
        let form = KeyForm {
            name: if name { form.name } else { shown.name },
            scopes: if scopes { form.scopes } else { shown.scopes },
            active: if active { form.active } else { shown.active },
            expires: if expires { form.expires } else { shown.expires },
            networks: if nets { form.networks } else { shown.networks },
            rate: if rates { form.rate } else { shown.rate },
        };
        Self { opened, form, expiry, networks, rate, undecided }
    }
}

/// A field that the user and somebody else changed to different values.
pub(crate) struct Conflict {
    pub(crate) field: Field,
    pub(crate) now: String,
    pub(crate) mine: String,
}

impl Conflict {
    pub(crate) fn of(field: Field, now: &KeyForm, mine: &KeyForm) -> Self {
        let text = |form: &KeyForm| match field {
            Field::Name => form.name.clone(),
            Field::Scopes if form.scopes.is_empty() => "no scopes".into(),
            Field::Scopes => form.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            Field::Active => if form.active == Some(true) { "Yes" } else { "No" }.into(),
            Field::Expires if form.expires.is_empty() => "never".into(),
            Field::Networks if form.networks.is_empty() => "every network".into(),
            Field::Networks => form.networks.replace('\n', ", "),
            Field::Rate if form.rate.is_empty() => "no limit".into(),
            Field::Rate => form.rate.clone(),
            Field::Expires | Field::Form => form.expires.clone(),
        };
        Self { field, now: text(now), mine: text(mine) }
    }
}
