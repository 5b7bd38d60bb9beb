//! The HTML of a key's form: name, scopes, Active, Expires.

use super::{
    key_form::{Field, FormErrors, KeyForm, day, days},
    merge::Conflict,
    sentence::capitalize,
    user::User,
};
use maud::{Markup, html};
use portcullis::{Expiry, Grant, LifetimePolicy, Plane, scope::Entry};

/// The fields of a form, as this user may edit them.
pub(crate) struct FormHtml<'f> {
    pub(crate) user: &'f User,
    pub(crate) form: &'f KeyForm,
    pub(crate) errors: &'f FormErrors,
    /// The grant of an existing key. The scopes of a root key cannot be edited.
    pub(crate) held: Option<&'f Grant>,
    /// Fields that this user and another one changed to different values.
    pub(crate) conflicts: &'f [Conflict],
}

impl FormHtml<'_> {
    /// Renders the error of the form as a whole, then the fields.
    pub(crate) fn render(&self) -> Markup {
        html! {
            @if let Some(error) = self.errors.at(Field::Form) {
                p .banner .bad role="alert" tabindex="-1" autofocus[self.first(Field::Form)] { (error) }
            }
            (self.conflict(Field::Name).unwrap_or_else(|| self.name()))
            @if self.held == Some(&Grant::All) {
                div .field {
                    span .label { "Scopes" }
                    p .hint { "This is a root key: it has every scope, including scopes that are added later." }
                }
            } @else {
                (self.conflict(Field::Scopes).unwrap_or_else(|| self.scopes()))
            }
            (self.conflict(Field::Active).unwrap_or_else(|| self.active()))
            (self.conflict(Field::Expires).unwrap_or_else(|| self.expires()))
            (self.conflict(Field::Networks).unwrap_or_else(|| self.networks()))
            (self.conflict(Field::Rate).unwrap_or_else(|| self.rate()))
        }
    }

    /// Renders both values of a field in conflict, in place of the field. Neither is preselected: the
    /// old value would undo the other user's change, and the wider one could undo a revocation.
    fn conflict(&self, field: Field) -> Option<Markup> {
        let conflict = self.conflicts.iter().find(|conflict| conflict.field == field)?;
        let (name, title) = (field.as_str(), field.title());
        let keep = format!("keep_{name}");
        let options =
            [("now", "Current value: ", &conflict.now), ("mine", "Your value: ", &conflict.mine)];
        Some(html! {
            fieldset .plain .field .invalid aria-describedby=(format!("{name}-error"))
                tabindex="-1" autofocus[self.first(field)] {
                legend { (title) }
                (error_line(self.errors.at(field), &format!("{name}-error")))
                input type="hidden" name="conflict" value=(name);
                (self.entered(field))
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

    /// Renders the entered value of a hidden field, so that it is sent again.
    fn entered(&self, field: Field) -> Markup {
        let form = self.form;
        html! {
            @match field {
                Field::Name => { input type="hidden" name="name" value=(form.name); }
                Field::Scopes => {
                    @for scope in &form.scopes { input type="hidden" name="scope" value=(scope); }
                }
                Field::Active => {
                    input type="hidden" name="active" value=(if form.active == Some(true) { "yes" } else { "no" });
                }
                Field::Expires => { input type="hidden" name="expires" value=(form.expires); }
                Field::Networks => {
                    input type="hidden" name="networks" value=(form.networks);
                }
                Field::Rate => { input type="hidden" name="rate" value=(form.rate); }
                Field::Form => {}
            }
        }
    }

    fn name(&self) -> Markup {
        let error = self.errors.at(Field::Name);
        html! {
            div .field .invalid[error.is_some()] {
                label for="name" { "Name" }
                p .hint #name-hint { "A memorable name to find the key by later." }
                (error_line(error, "name-error"))
                input #name name="name" type="text" value=(self.form.name) required maxlength="128"
                    dir="auto" autocomplete="off" autofocus[self.first(Field::Name) || self.is_new()]
                    aria-invalid=[error.map(|_| "true")]
                    aria-describedby=(described("name-hint", "name-error", error));
            }
        }
    }

    fn scopes(&self) -> Markup {
        let entries = self.user.state.store.catalogue().entries();
        let in_group = |group: Group| {
            entries.iter().filter(move |e| e.offered && Group::of(e) == group).collect::<Vec<_>>()
        };
        let error = self.errors.at(Field::Scopes);
        html! {
            div .field .invalid[error.is_some()] #scopes role="group" aria-labelledby="scopes-label"
                aria-describedby=[error.map(|_| "scopes-error")]
                tabindex=[error.map(|_| "-1")] autofocus[self.first(Field::Scopes)] {
                span .label #scopes-label { "Scopes" }
                p .hint { "The rights of the key. Choose only the scopes that its holder needs. A key without scopes cannot do anything." }
                (error_line(error, "scopes-error"))
                @if matches!(self.held, Some(Grant::Scopes(set)) if set.is_empty()) {
                    p .hint { strong { "This key has no scopes, so it cannot do anything." } }
                }
                @if entries.iter().any(|entry| entry.offered && !self.user.may(&entry.scope)) {
                    p .hint { "You cannot change scopes that your own key lacks." }
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
        let locked = !self.user.may(&entry.scope);
        html! {
            div .choice {
                input type="checkbox" id=(id) name="scope" value=(name) checked[chosen] disabled[locked]
                    aria-describedby=(about);
                // A browser does not send a disabled box, which would then look cleared.
                @if locked && chosen { input type="hidden" name="scope" value=(name); }
                div {
                    label .mono for=(id) { (name) }
                    p .hint id=(about) { (capitalize(&entry.description)) }
                }
            }
        }
    }

    fn active(&self) -> Markup {
        let error = self.errors.at(Field::Active);
        html! {
            fieldset .plain .field .invalid[error.is_some()] tabindex=[error.map(|_| "-1")]
                autofocus[self.first(Field::Active)] aria-describedby=(described("active-hint", "active-error", error)) {
                legend { "Active" }
                p .hint #active-hint { "An inactive key is refused at once, everywhere." }
                (error_line(error, "active-error"))
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
        let error = self.errors.at(Field::Expires);
        let record = self.user.state.store.get(self.user.principal.id());
        let own_expiry = record.map_or(Expiry::Never, |record| record.expiry);
        html! {
            div .field .invalid[error.is_some()] {
                label for="expires" { "Expires" }
                p .hint #expires-hint {
                    "The key expires at the end of this day (UTC). Leave the field empty for "
                    (self.without_expiry())
                    "."
                    @if self.held.is_some() { " With a past day, the key expires at once." }
                    @if own_expiry != Expiry::Never {
                        " Your own key expires at the end of " (day(own_expiry)) " or before; a key that you create expires no later."
                    }
                }
                (error_line(error, "expires-error"))
                input #expires .short name="expires" type="date" value=(self.form.expires)
                    max=(if own_expiry == Expiry::Never { "2499-12-31".into() } else { day(own_expiry) })
                    autofocus[self.first(Field::Expires)] aria-invalid=[error.map(|_| "true")]
                    aria-describedby=(described("expires-hint", "expires-error", error));
            }
        }
    }

    /// The lifetime of a key whose field is empty, in words.
    fn without_expiry(&self) -> String {
        let policy = self.user.state.store.policy().unwrap_or_default();
        let lifetime = |limits: LifetimePolicy| match limits.default {
            Some(span) => format!("a lifetime of {} days", days(Some(span))),
            None => "a key that never expires".to_owned(),
        };
        let (other, admin) = (lifetime(policy.others), lifetime(policy.administrators));
        match self.held {
            Some(_) => lifetime(LifetimePolicy::default()),
            None if other == admin => other,
            None => format!("{other}, and for {admin} if it has a scope of the Administration API"),
        }
    }

    fn networks(&self) -> Markup {
        let error = self.errors.at(Field::Networks);
        let record = self.user.state.store.get(self.user.principal.id());
        let is_bound = record.is_ok_and(|record| !record.networks.is_any());
        html! {
            div .field .invalid[error.is_some()] {
                label for="networks" { "Networks" }
                p .hint #networks-hint {
                    "The key can be used only from these networks: an address or a range such as 192.0.2.0/24, one a line. "
                    "Leave the field empty for a key that can be used from everywhere."
                    @if is_bound {
                        " Your own key has networks; a key that you create needs networks within those."
                    }
                }
                (error_line(error, "networks-error"))
                textarea #networks .mono name="networks" rows="3" spellcheck="false" autocapitalize="off"
                    autofocus[self.first(Field::Networks)] aria-invalid=[error.map(|_| "true")]
                    aria-describedby=(described("networks-hint", "networks-error", error)) { (self.form.networks) }
            }
        }
    }

    fn rate(&self) -> Markup {
        let error = self.errors.at(Field::Rate);
        let record = self.user.state.store.get(self.user.principal.id());
        let own = record.ok().and_then(|record| record.rate);
        html! {
            div .field .invalid[error.is_some()] {
                label for="rate" { "Rate" }
                p .hint #rate-hint {
                    "The most requests in a span of time, such as 100/60s or 5000/1h, on each server. "
                    "Leave the field empty for a key without a limit."
                    @if let Some(own) = own {
                        " Your own key has the rate " (own) "; a key that you create has no higher one."
                    }
                }
                (error_line(error, "rate-error"))
                input #rate .short name="rate" type="text" value=(self.form.rate) autocomplete="off"
                    autofocus[self.first(Field::Rate)] aria-invalid=[error.map(|_| "true")]
                    aria-describedby=(described("rate-hint", "rate-error", error));
            }
        }
    }

    fn is_new(&self) -> bool {
        self.held.is_none() && self.errors.is_empty()
    }

    fn first(&self, field: Field) -> bool {
        self.errors.first() == Some(field)
    }
}

/// Renders the error of a field.
fn error_line(error: Option<&str>, id: &str) -> Markup {
    html! { @if let Some(error) = error { p .error id=(id) { (error) } } }
}

/// The ids of the elements that describe a field.
fn described(hint: &str, error_id: &str, error: Option<&str>) -> String {
    if error.is_some() { format!("{error_id} {hint}") } else { hint.to_owned() }
}

/// The fieldset of a scope.
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
