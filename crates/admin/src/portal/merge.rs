//! A saved form against the key as it is now: which fields to change, and which to ask about.
//!
//! A form carries the values that it was opened with. A field that the user left alone is never
//! written, whatever happened to it meanwhile. A field that the user and somebody else changed to
//! different values is asked about. The opened values come from the browser and are only hints:
//! forging them does nothing that the user could not do with a fresh form.

use super::{
    form::{KeyForm, Place},
    pairs::Pairs,
};
use crate::moment;
use maud::{Markup, html};
use portcullis::{Acting, Change, Error, Expiry, Grant, KeyId, Record, Store, Timestamp};
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

/// How long a save competes with other changes of the same key.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// The values of a key at the moment when its form was opened, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    name: String,
    scopes: BTreeSet<String>,
    /// `yes`, or the moment since when the key is inactive: two revocations are distinguished.
    active: String,
    /// The exact moment, or empty. The form shows the day only.
    expires: String,
}

const YES: &str = "yes";

impl Opened {
    pub(crate) fn of(store: &Store, record: &Record) -> Self {
        let since = || record.inactive_since.map(moment::to_text).unwrap_or_default();
        let KeyForm { name, scopes, .. } = KeyForm::of(store, record);
        let expires = match record.expiry {
            Expiry::At(at) => moment::to_text(at),
            Expiry::Never => String::new(),
        };
        Self { name, scopes, active: if record.active { YES.into() } else { since() }, expires }
    }

    fn read(pairs: &mut Pairs) -> Self {
        Self {
            name: pairs.text("was_name"),
            scopes: pairs.all("was_scope"),
            active: pairs.text("was_active"),
            expires: pairs.text("was_expires"),
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
        }
    }
}

/// A form that was sent: what it showed when it was opened, and what it says now.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) opened: Opened,
    pub(crate) form: KeyForm,
    /// The expiry that the form's day means, where it is a day.
    pub(crate) expiry: Option<Expiry>,
    /// Conflicts that the form asked about and the user did not decide.
    undecided: Vec<Place>,
}

/// What a wish comes to for the key as it is now.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) change: Change,
    /// The part of the change that only denies; it waits for no answer of the user.
    denial: Change,
    pub(crate) conflicts: Vec<Place>,
}

/// What became of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Saved {
        /// Whether somebody else changed the key while the form was open.
        meanwhile: bool,
    },
    /// There are conflicts to ask about.
    Asked {
        /// Whether the denials of the form were applied all the same.
        denied: bool,
    },
}

impl Wish {
    /// The form of a key as it is.
    pub(crate) fn unchanged(store: &Store, record: &Record) -> Self {
        let (opened, form) = (Opened::of(store, record), KeyForm::of(store, record));
        Self { opened, form, expiry: None, undecided: Vec::new() }
    }

    pub(crate) fn read(pairs: &mut Pairs) -> Self {
        let opened = Opened::read(pairs);
        let mut form = KeyForm::read(pairs);
        let conflicts = pairs.all("conflict");
        let mut undecided = Vec::new();
        for place in [Place::Name, Place::Scopes, Place::Active, Place::Expires] {
            if !conflicts.contains(place.as_str()) {
                continue;
            }
            match (pairs.text(&format!("keep_{}", place.as_str())).as_str(), place) {
                ("mine", _) => {}
                ("now", Place::Name) => form.name.clone_from(&opened.name),
                ("now", Place::Scopes) => form.scopes.clone_from(&opened.scopes),
                ("now", Place::Expires) => opened.day().clone_into(&mut form.expires),
                ("now", _) => form.active = None,
                _ => undecided.push(place),
            }
        }
        Self { opened, form, expiry: None, undecided }
    }

    /// Whether the user changed the field.
    pub(crate) fn changes(&self, place: Place) -> bool {
        match place {
            Place::Name => self.form.name != self.opened.name.trim(),
            Place::Scopes => self.form.scopes != self.opened.scopes,
            Place::Active => self.form.active.is_some_and(|yes| yes != self.opened.is_active()),
            Place::Expires => self.form.expires != self.opened.day(),
            Place::Whole => false,
        }
    }

    /// Compares the form with the key as it is now.
    pub(crate) fn merge(
        &self,
        store: &Store,
        record: &Record,
        time: Timestamp,
    ) -> Result<Merged, Error> {
        let now = Opened::of(store, record);
        let mut merged = Merged::default();
        let mut may_apply = |place, is_untouched: bool| {
            let applies = is_untouched && !self.undecided.contains(&place);
            if !applies {
                merged.conflicts.push(place);
            }
            applies
        };
        if self.changes(Place::Name)
            && self.form.name != record.name
            && may_apply(Place::Name, now.name == self.opened.name)
        {
            merged.change.name = Some(self.form.name.clone());
        }
        if self.changes(Place::Scopes)
            && let Grant::Scopes(held) = record.grant
        {
            let mut added = self.form.scopes.difference(&self.opened.scopes);
            let wanted = if now.scopes == self.opened.scopes {
                Some(self.form.scopes.clone())
            } else if added.all(|scope| now.scopes.contains(scope)) {
                // The user only removed scopes, which takes effect whatever else was changed.
                let kept = |scope: &&String| {
                    self.form.scopes.contains(*scope) || !self.opened.scopes.contains(*scope)
                };
                Some(now.scopes.iter().filter(kept).cloned().collect())
            } else {
                None
            };
            let is_there = self.form.scopes == now.scopes;
            if !is_there && may_apply(Place::Scopes, wanted.is_some()) {
                let chosen = store.scopes(wanted.unwrap_or_default())?;
                merged.change.grant = Some(Grant::Scopes(chosen.keeping_unoffered(&held)));
            }
        }
        if self.changes(Place::Active) {
            if self.form.active == Some(false) {
                // Even for an inactive key: a reactivation may be in flight.
                merged.change.active = Some(false);
                merged.denial.active = Some(false);
            } else if !record.active && may_apply(Place::Active, now.active == self.opened.active) {
                merged.change.active = Some(true);
            }
        }
        if let Some(expiry) = self.expiry
            && self.changes(Place::Expires)
            && self.form.expires != now.day()
        {
            if expiry.has_come(time) && expiry < record.expiry {
                merged.change.expiry = Some(expiry);
                merged.denial.expiry = Some(expiry);
            } else if may_apply(Place::Expires, now.expires == self.opened.expires) {
                merged.change.expiry = Some(expiry);
            }
        }
        Ok(merged)
    }

    /// Saves the form, unless there are conflicts; what it denies is applied in any case. A change
    /// that somebody else makes between comparing and writing is compared again.
    pub(crate) fn apply(
        &self,
        store: &Store,
        acting: Acting<'_>,
        id: KeyId,
        time: Timestamp,
    ) -> Result<Outcome, Error> {
        let start = Instant::now();
        loop {
            let record = store.get(id)?;
            let Merged { change, denial, conflicts } = self.merge(store, &record, time)?;
            let denies = denial != Change::default();
            let meanwhile = Opened::of(store, &record) != self.opened;
            if !conflicts.is_empty() {
                if denies {
                    acting.update(id, denial)?;
                }
                return Ok(Outcome::Asked { denied: denies });
            }
            if change == denial {
                // A denial has no condition: no contention can delay it.
                acting.update(id, denial)?;
                return Ok(Outcome::Saved { meanwhile });
            }
            match acting.update_if(id, record.revision, change) {
                Err(Error::Changed(_)) if start.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(error @ Error::Changed(_)) if denies => {
                    acting.update(id, denial)?;
                    return Err(error);
                }
                done => return done.map(|_| Outcome::Saved { meanwhile }),
            }
        }
    }

    /// The form to show next, over the key as it is now. A field that the user left alone shows
    /// the present value. A field for which the page has an error keeps the value that it was
    /// opened with, so that a conflict is found once the error is corrected.
    pub(crate) fn rebased(
        self,
        store: &Store,
        record: &Record,
        is_wrong: impl Fn(Place) -> bool,
    ) -> Self {
        let (now, shown) = (Opened::of(store, record), KeyForm::of(store, record));
        let changed = |place| self.changes(place);
        let [name, scopes, active, expires] =
            [Place::Name, Place::Scopes, Place::Active, Place::Expires].map(changed);
        let Self { opened: was, form, expiry, undecided } = self;
        let opened = Opened {
            name: if name && is_wrong(Place::Name) { was.name } else { now.name },
            scopes: if scopes && is_wrong(Place::Scopes) { was.scopes } else { now.scopes },
            active: if active && is_wrong(Place::Active) { was.active } else { now.active },
            expires: if expires && is_wrong(Place::Expires) { was.expires } else { now.expires },
        };
        let form = KeyForm {
            name: if name { form.name } else { shown.name },
            scopes: if scopes { form.scopes } else { shown.scopes },
            active: if active { form.active } else { shown.active },
            expires: if expires { form.expires } else { shown.expires },
        };
        Self { opened, form, expiry, undecided }
    }
}

/// A field that the user and somebody else changed to different values.
pub(crate) struct Conflict {
    pub(crate) place: Place,
    pub(crate) now: String,
    pub(crate) mine: String,
}

impl Conflict {
    pub(crate) fn of(place: Place, now: &KeyForm, mine: &KeyForm) -> Self {
        let text = |form: &KeyForm| match place {
            Place::Name => form.name.clone(),
            Place::Scopes if form.scopes.is_empty() => "no scopes".into(),
            Place::Scopes => form.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            Place::Active => if form.active == Some(true) { "Yes" } else { "No" }.into(),
            Place::Expires if form.expires.is_empty() => "never".into(),
            Place::Expires | Place::Whole => form.expires.clone(),
        };
        Self { place, now: text(now), mine: text(mine) }
    }
}
