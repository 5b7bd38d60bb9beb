//! The page "Policy": how long keys may live. Only a root key sets it.

use super::{
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
    Grant, LifetimePolicy, Policy, Store, audit::Attempt, list::ListQuery,
    scope::catalogue::ADMIN_KEY_LIST,
};
use std::time::Duration;

const TITLE: &str = "Policy";

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
    show(&user, StatusCode::OK, &limits(&policy), None).await
}

/// `POST /policy`
pub(crate) async fn set(
    user: User,
    CompleteForm(mut input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    let allowed = user.caller.require_root_for(&user.state.store, Attempt::SetPolicy).await;
    allowed.map_err(|error| user.error_page(error))?;
    let given = [read(&mut input, "admin"), read(&mut input, "other")];
    let parsed = given.each_ref().map(Limits::parse);
    let [Some(administrators), Some(others)] = parsed else {
        let text = "A lifetime is a number of days, such as 90.";
        return show(&user, StatusCode::UNPROCESSABLE_ENTITY, &given, Some((text, false))).await;
    };
    let policy = Policy { administrators, others };
    let set = user.caller.act(&user.state.store, move |acting| acting.set_policy(policy)).await;
    match set {
        Ok(()) => {
            let limits = limits(&policy);
            show(&user, StatusCode::OK, &limits, Some(("The policy was saved.", true))).await
        }
        Err(ApiError::Problem(problem)) if !problem.errors().is_empty() => {
            let text = problem.errors().first().map(|error| sentence(error.detail()));
            let text = text.unwrap_or_default();
            show(&user, problem.status(), &given, Some((&text, false))).await
        }
        Err(error) => Err(user.error_page(error)),
    }
}

fn limits(policy: &Policy) -> [Limits; 2] {
    [("admin", policy.administrators), ("other", policy.others)].map(|(kind, limits)| Limits {
        max: days(limits.max),
        default: days(limits.default),
        required: limits.required,
        ..Limits::empty(kind)
    })
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
        let span = |text: &str| match text {
            "" => Some(None),
            text => {
                let days = text.parse::<f64>().ok().filter(|days| days.is_finite())?;
                let span = Duration::try_from_secs_f64((days * DAY.as_secs_f64()).round());
                Some(Some(span.ok()?))
            }
        };
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
    limits: &[Limits; 2],
    message: Option<(&str, bool)>,
) -> Result<Response, EarlyResponse> {
    let may_set = *user.principal.grant() == Grant::All;
    let query = ListQuery::default().with_active(true).with_exceeds_policy(true);
    let has_boundary = user.caller.acting(&user.state.store).has_boundary();
    let count = move |store: &Store| store.count_matching(&query);
    let exceeding = blocking::call(&user.state.store, count).await;
    let exceeding = exceeding.map_err(|error| user.error_page(error))?;
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
                "Administrator keys have a scope of the Administration API. Root keys are exempt."
            }
            @for limits in limits { (limits.fields(may_set)) }
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
        @if exceeding > 0 && !has_boundary {
            p { a href=(user.base.path("/?status=exceeding")) { (exceeding) @if exceeding == 1 { " key exceeds" } @else { " keys exceed" } " the policy" } "." }
        }
    };
    Ok(layout::page(&user.layout(TITLE), status, &body))
}
