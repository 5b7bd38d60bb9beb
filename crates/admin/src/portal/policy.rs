//! The page "Policy": how long keys may live, and what happens to unused keys. Only a root key sets it.

use super::{
    audit::key,
    form_body::{CompleteForm, FormInput, end_marker},
    key_form::{DAY, days},
    layout::{self, EarlyResponse},
    sentence::sentence,
    user::User,
};
use crate::{api_error::ApiError, blocking};
use axum::{http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Grant, LifetimePolicy, Policy, Store, UnusedBlocked, UnusedKeys, UnusedPolicy, audit::Attempt,
    list::ListQuery, scope::catalogue::ADMIN_KEY_LIST,
};
use std::time::Duration;

const TITLE: &str = "Policy";
/// The number of unused keys that the page names.
const SHOWN_UNUSED: usize = 20;

/// The fields for one kind of keys, as texts.
struct Limits {
    /// The names of the fields begin with it.
    kind: &'static str,
    title: &'static str,
    max: String,
    default: String,
    required: bool,
}

/// `GET /policy`
pub(crate) async fn page(user: User) -> Result<Response, EarlyResponse> {
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let policy = user.state.store.policy();
    let policy = policy.map_err(|error| user.error_page(error))?;
    show(&user, StatusCode::OK, &Form::of(&policy), None).await
}

/// `POST /policy`
pub(crate) async fn set(
    user: User,
    CompleteForm(mut input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    let allowed = user.caller.require_root_for(&user.state.store, Attempt::SetPolicy).await;
    allowed.map_err(|error| user.error_page(error))?;
    let given = Form::read(&mut input);
    let Some(policy) = given.parse() else {
        let text = "A time is a number of days, such as 90. To deactivate unused keys, give one.";
        return show(&user, StatusCode::UNPROCESSABLE_ENTITY, &given, Some((text, false))).await;
    };
    let set = user.caller.act(&user.state.store, move |acting| acting.set_policy(policy)).await;
    match set {
        Ok(()) => {
            let form = Form::of(&policy);
            show(&user, StatusCode::OK, &form, Some(("The policy was saved.", true))).await
        }
        Err(ApiError::Problem(problem)) if !problem.errors().is_empty() => {
            let text = problem.errors().first().map(|error| sentence(error.detail()));
            let text = text.unwrap_or_default();
            show(&user, problem.status(), &given, Some((&text, false))).await
        }
        Err(error) => Err(user.error_page(error)),
    }
}

/// The fields of the form.
struct Form {
    limits: [Limits; 2],
    unused_after: String,
    deactivate: bool,
}

impl Form {
    fn of(policy: &Policy) -> Self {
        let kinds = [("admin", policy.administrators), ("other", policy.others)];
        let limits = kinds.map(|(kind, limits)| Limits {
            max: days(limits.max),
            default: days(limits.default),
            required: limits.required,
            ..Limits::empty(kind)
        });
        let unused_after = days(policy.unused.map(|unused| unused.after));
        Self {
            limits,
            unused_after,
            deactivate: policy.unused.is_some_and(|unused| unused.deactivate),
        }
    }

    fn read(input: &mut FormInput) -> Self {
        Self {
            limits: [read(input, "admin"), read(input, "other")],
            unused_after: input.text("unused_after").trim().to_owned(),
            deactivate: input.text("deactivate_unused") == "1",
        }
    }

    fn parse(&self) -> Option<Policy> {
        let [administrators, others] = self.limits.each_ref().map(Limits::parse);
        let after = span(&self.unused_after)?;
        let unused = after.map(|after| UnusedPolicy { after, deactivate: self.deactivate });
        let is_whole = unused.is_some() || !self.deactivate;
        is_whole.then_some(Policy { administrators: administrators?, others: others?, unused })
    }

    fn fields(&self, may_set: bool) -> Markup {
        html! {
            @for limits in &self.limits { (limits.fields(may_set)) }
            fieldset {
                legend { "Unused keys" }
                div .field {
                    label for="unused_after" { "A key is unused after this many days without a use (empty: never)" }
                    input .short id="unused_after" name="unused_after" value=(self.unused_after) inputmode="decimal"
                        autocomplete="off" readonly[!may_set];
                }
                div .field {
                    label .check {
                        input type="checkbox" name="deactivate_unused" value="1" checked[self.deactivate] disabled[!may_set];
                        "Deactivate unused keys: 1 % of the active keys a day, at least one"
                    }
                }
            }
        }
    }
}

/// Reads a number of days; empty for none.
fn span(text: &str) -> Option<Option<Duration>> {
    if text.is_empty() {
        return Some(None);
    }
    let days = text.parse::<f64>().ok().filter(|days| days.is_finite())?;
    let span = Duration::try_from_secs_f64((days * DAY.as_secs_f64()).round());
    Some(Some(span.ok()?))
}

fn read(input: &mut FormInput, kind: &'static str) -> Limits {
    let mut text = |name: &str| input.text(&format!("{kind}_{name}")).trim().to_owned();
    Limits {
        max: text("max"),
        default: text("default"),
        required: text("required") == "1",
        ..Limits::empty(kind)
    }
}

impl Limits {
    fn empty(kind: &'static str) -> Self {
        let is_admin = kind == "admin";
        let title = if is_admin { "Administrator keys" } else { "Other keys" };
        Self { kind, title, max: String::new(), default: String::new(), required: false }
    }

    fn parse(&self) -> Option<LifetimePolicy> {
        let (max, default) = (span(&self.max)?, span(&self.default)?);
        Some(LifetimePolicy { max, default, required: self.required })
    }

    fn fields(&self, may_set: bool) -> Markup {
        let name = |field: &str| format!("{}_{field}", self.kind);
        let field = |field: &str, label: &str, value: &str| {
            html! {
                div .field {
                    label for=(name(field)) { (label) }
                    input .short id=(name(field)) name=(name(field)) value=(value) inputmode="decimal"
                        autocomplete="off" readonly[!may_set];
                }
            }
        };
        html! {
            fieldset {
                legend { (self.title) }
                (field("max", "Longest lifetime in days (empty: no limit)", &self.max))
                (field("default", "Default lifetime in days (empty: none)", &self.default))
                div .field {
                    label .check {
                        input type="checkbox" name=(name("required")) value="1" checked[self.required] disabled[!may_set];
                        "An expiry is required, also without a longest lifetime"
                    }
                }
            }
        }
    }
}

async fn show(
    user: &User,
    status: StatusCode,
    form: &Form,
    message: Option<(&str, bool)>,
) -> Result<Response, EarlyResponse> {
    let may_set = *user.principal.grant() == Grant::All;
    let query = ListQuery::default().with_active(true).with_exceeds_policy(true);
    let has_boundary = user.caller.acting(&user.state.store).has_boundary();
    let count = move |store: &Store| store.count_matching(&query);
    let exceeding = blocking::call(&user.state.store, count).await;
    let exceeding = exceeding.map_err(|error| user.error_page(error))?;
    let unused = blocking::read_many(&user.state.store, Store::unused_keys).await;
    let unused = unused.map_err(|error| user.error_page(error))?;
    let body = html! {
        div .head { h1 { (TITLE) } }
        @match message {
            Some((text, true)) => p .banner .good role="status" { (text) },
            Some((text, false)) => p .banner .bad role="alert" { (text) },
            None => {},
        }
        form .card .sheet method="post" action=(user.base.path("/policy")) {
            p .lead {
                "The policy limits new keys, and changes that extend, reactivate or raise a key. It changes no existing key. "
                "Administrator keys have a scope of the Administration API. Root keys are exempt, also from deactivation."
            }
            (form.fields(may_set))
            @if may_set {
                div .actions {
                    button .primary type="submit" { "Save Changes" }
                    a .button .quiet href=(user.base.path("/")) { "Cancel" }
                }
                (end_marker())
            } @else {
                p .hint { "Only a root key sets the policy." }
            }
        }
        @if !form.unused_after.is_empty() && !has_boundary { (unused_keys(user, &unused)) }
        @if exceeding > 0 && !has_boundary {
            p { a href=(user.base.path("/?status=exceeding")) { (exceeding) @if exceeding == 1 { " key exceeds" } @else { " keys exceed" } " the policy" } "." }
        }
    };
    Ok(layout::page(&user.layout(TITLE), status, &body))
}

/// Says which keys are unused, and which of them are deactivated next.
fn unused_keys(user: &User, unused: &UnusedKeys) -> Markup {
    let shown = unused.next().iter().take(SHOWN_UNUSED);
    let more = unused.next().len().saturating_sub(SHOWN_UNUSED);
    html! {
        section .card .sheet {
            h2 { "Unused keys" }
            p {
                (unused.ids.len()) @if unused.ids.len() == 1 { " key is" } @else { " keys are" } " unused by the policy. "
                @match &unused.blocked {
                    Some(UnusedBlocked::RanAt(at)) => { "Some were deactivated at " (layout::time(*at)) ". " },
                    Some(blocked) => { "None is deactivated now: " (blocked) ". " },
                    None => {},
                }
                @if !unused.ids.is_empty() { "The next are:" }
            }
            ul {
                @for id in shown { li { (key(user, *id)) } }
                @if more > 0 { li { "and " (more) " more" } }
            }
            p .hint {
                "A key is unused only if all uses since its creation and its last change are known: not from before the "
                "policy was set, before a crash or a restore, or while a replica has not reported."
            }
        }
    }
}
