//! The fields of a key's form: name, scopes, Active, Expires.

use super::{
    form::{KeyForm, Place, Wrongs, day},
    merge::Conflict,
    visitor::{Visitor, capital},
};
use maud::{Markup, html};
use portcullis::{Expiry, Grant, Plane, scope::Entry};

/// The fields of a form, as this visitor may fill them in.
pub(crate) struct Fields<'f> {
    pub(crate) visitor: &'f Visitor,
    pub(crate) form: &'f KeyForm,
    pub(crate) wrongs: &'f Wrongs,
    /// What the key holds already, if it is one; a root key's scopes cannot be chosen.
    pub(crate) held: Option<&'f Grant>,
    /// Fields that the user and somebody else changed to different values.
    pub(crate) conflicts: &'f [Conflict],
}

impl Fields<'_> {
    /// What is wrong with the form as a whole, then its fields.
    pub(crate) fn show(&self) -> Markup {
        html! {
            @if let Some(wrong) = self.wrongs.at(Place::Whole) {
                p .banner .bad role="alert" tabindex="-1" autofocus[self.first(Place::Whole)] { (wrong) }
            }
            (self.conflict(Place::Name).unwrap_or_else(|| self.name()))
            @if self.held == Some(&Grant::All) {
                div .field {
                    span .label { "Scopes" }
                    p .hint { "This is a root key: it has every scope, those added later included." }
                }
            } @else {
                (self.conflict(Place::Scopes).unwrap_or_else(|| self.scopes()))
            }
            (self.conflict(Place::Active).unwrap_or_else(|| self.active()))
            (self.conflict(Place::Expires).unwrap_or_else(|| self.expires()))
        }
    }

    /// Both values of a field, in the place of the field. Neither is selected beforehand: the older
    /// one would undo what somebody else did, and the looser one could undo a revocation.
    fn conflict(&self, place: Place) -> Option<Markup> {
        let conflict = self.conflicts.iter().find(|conflict| conflict.place == place)?;
        let (name, title) = (place.as_str(), place.title());
        let keep = format!("keep_{name}");
        let options =
            [("now", "As it is now: ", &conflict.now), ("mine", "Your value: ", &conflict.mine)];
        Some(html! {
            fieldset .plain .field .wrong aria-describedby=(format!("{name}-error"))
                tabindex="-1" autofocus[self.first(place)] {
                legend { (title) }
                (said(self.wrongs.at(place), &format!("{name}-error")))
                input type="hidden" name="conflict" value=(name);
                (self.typed(place))
                div .choices {
                    @for (value, label, shown) in options {
                        label .choice for=(format!("{keep}-{value}")) {
                            input type="radio" id=(format!("{keep}-{value}")) name=(keep) value=(value) required;
                            span { (label) strong { bdi { (shown) } } }
                        }
                    }
                }
            }
        })
    }

    /// What the user typed into a field that is not shown, to be sent again.
    fn typed(&self, place: Place) -> Markup {
        let form = self.form;
        html! {
            @match place {
                Place::Name => { input type="hidden" name="name" value=(form.name); }
                Place::Scopes => {
                    @for scope in &form.scopes { input type="hidden" name="scope" value=(scope); }
                }
                Place::Active => {
                    input type="hidden" name="active" value=(if form.active == Some(true) { "yes" } else { "no" });
                }
                Place::Expires => { input type="hidden" name="expires" value=(form.expires); }
                Place::Whole => {}
            }
        }
    }

    fn name(&self) -> Markup {
        let wrong = self.wrongs.at(Place::Name);
        html! {
            div .field .wrong[wrong.is_some()] {
                label for="name" { "Name" }
                p .hint #name-hint { "A memorable name, to find the key by later." }
                (said(wrong, "name-error"))
                input #name name="name" type="text" value=(self.form.name) required maxlength="128"
                    dir="auto" autocomplete="off" autofocus[self.first(Place::Name) || self.is_new()]
                    aria-invalid=[wrong.map(|_| "true")]
                    aria-describedby=(described("name-hint", "name-error", wrong));
            }
        }
    }

    fn scopes(&self) -> Markup {
        let entries = self.visitor.site.store.catalogue().entries();
        let in_group = |group: Group| {
            entries.iter().filter(move |e| e.offered && Group::of(e) == group).collect::<Vec<_>>()
        };
        let wrong = self.wrongs.at(Place::Scopes);
        html! {
            div .field .wrong[wrong.is_some()] #scopes role="group" aria-labelledby="scopes-label"
                aria-describedby=[wrong.map(|_| "scopes-error")]
                tabindex=[wrong.map(|_| "-1")] autofocus[self.first(Place::Scopes)] {
                span .label #scopes-label { "Scopes" }
                p .hint { "What the key may do. Choose as little as its holder needs; without a scope it may do nothing." }
                (said(wrong, "scopes-error"))
                @if matches!(self.held, Some(Grant::Scopes(set)) if set.is_empty()) {
                    p .hint { strong { "This key has no scopes, so it may do nothing." } }
                }
                @if entries.iter().any(|entry| entry.offered && !self.visitor.may(&entry.scope)) {
                    p .hint { "Scopes that your own key lacks cannot be changed." }
                }
                @for group in [Group::Administration, Group::Data, Group::Keys] {
                    @let entries = in_group(group);
                    @if !entries.is_empty() {
                        fieldset {
                            legend { (group.title()) }
                            div .choices { @for entry in entries { (self.scope(entry)) } }
                        }
                    }
                }
            }
        }
    }

    fn scope(&self, entry: &Entry) -> Markup {
        let name = entry.scope.as_str();
        let id = format!("scope-{}", name.replace('.', "-"));
        let about = format!("{id}-about");
        let chosen = self.form.scopes.contains(name);
        let locked = !self.visitor.may(&entry.scope);
        html! {
            div .choice {
                input type="checkbox" id=(id) name="scope" value=(name) checked[chosen] disabled[locked]
                    aria-describedby=(about);
                // A disabled box is not sent, and would be taken for one that was cleared.
                @if locked && chosen { input type="hidden" name="scope" value=(name); }
                div {
                    label .mono for=(id) { (name) }
                    p .hint id=(about) { (capital(&entry.description)) }
                }
            }
        }
    }

    fn active(&self) -> Markup {
        let wrong = self.wrongs.at(Place::Active);
        html! {
            fieldset .plain .field .wrong[wrong.is_some()] tabindex=[wrong.map(|_| "-1")]
                autofocus[self.first(Place::Active)] aria-describedby=(described("active-hint", "active-error", wrong)) {
                legend { "Active" }
                p .hint #active-hint { "An inactive key is refused at once, everywhere." }
                (said(wrong, "active-error"))
                div .radios {
                    @for (id, value, text, chosen) in [
                        ("active-yes", "yes", "Yes", self.form.active == Some(true)),
                        ("active-no", "no", "No", self.form.active == Some(false)),
                    ] {
                        label for=(id) {
                            input id=(id) type="radio" name="active" value=(value) checked[chosen];
                            (text)
                        }
                    }
                }
            }
        }
    }

    fn expires(&self) -> Markup {
        let wrong = self.wrongs.at(Place::Expires);
        let record = self.visitor.site.store.get(self.visitor.principal.id());
        let own_end = record.map_or(Expiry::Never, |record| record.expiry);
        html! {
            div .field .wrong[wrong.is_some()] {
                label for="expires" { "Expires" }
                p .hint #expires-hint {
                    "The key stops working when this day begins (UTC). Leave it empty for a key without an end."
                    @if self.held.is_some() { " A day that has begun ends the key at once." }
                    @if own_end != Expiry::Never {
                        " Your own key ends on " (day(own_end)) ", and one that you make ends by then."
                    }
                }
                (said(wrong, "expires-error"))
                input #expires .short name="expires" type="date" value=(self.form.expires)
                    max=(if own_end == Expiry::Never { "2499-12-31".into() } else { day(own_end) })
                    autofocus[self.first(Place::Expires)] aria-invalid=[wrong.map(|_| "true")]
                    aria-describedby=(described("expires-hint", "expires-error", wrong));
            }
        }
    }

    fn is_new(&self) -> bool {
        self.held.is_none() && self.wrongs.is_empty()
    }

    fn first(&self, place: Place) -> bool {
        self.wrongs.first() == Some(place)
    }
}

fn said(wrong: Option<&str>, id: &str) -> Markup {
    html! { @if let Some(wrong) = wrong { p .error id=(id) { (wrong) } } }
}

fn described(hint: &str, error: &str, wrong: Option<&str>) -> String {
    if wrong.is_some() { format!("{error} {hint}") } else { hint.to_owned() }
}

/// The fieldset that a scope stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Administration,
    Data,
    Keys,
}

impl Group {
    fn of(entry: &Entry) -> Self {
        match entry.scope.plane() {
            Plane::Data => Self::Data,
            Plane::Administration if entry.scope.as_str().starts_with("admin.key.") => Self::Keys,
            Plane::Administration => Self::Administration,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Administration => "Administration API",
            Self::Data => "Data API",
            Self::Keys => "Key management",
        }
    }
}
