//! The page of a key: its form, saving the form, and the activity of the key.

use super::{
    audit,
    form_body::{CompleteForm, end_marker},
    form_html::FormHtml,
    key_form::{Field, FormErrors, KeyForm, day},
    layout::{self, EarlyResponse},
    merge::{Conflict, SaveOutcome, SubmittedForm},
    removal::removal,
    user::User,
};
use axum::{
    extract::{Path, Query},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};
use portcullis::{
    Acting, Grant, Record,
    audit::Attempt,
    scope::catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
};
use std::sync::Arc;

const CHOOSE: &str =
    "Somebody else changed this while your form was open. Choose one of the two values.";

/// `GET /keys/{id}`
pub(crate) async fn page(
    user: User,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, EarlyResponse> {
    let record = user.find_key(&id, &ADMIN_KEY_LIST, Attempt::List).await?;
    let has = |parameter: &str| query.iter().any(|(name, _)| name == parameter);
    let notice = match (has("saved"), has("meanwhile")) {
        (true, false) => Some("Your changes are saved."),
        (true, true) => Some(
            "Your changes are saved. Somebody else changed this key while your form was open; those changes stay.",
        ),
        _ => None,
    };
    let submitted = SubmittedForm::unchanged(&user.state.store, &record);
    show(&user, StatusCode::OK, &record, submitted, FormErrors::default(), notice).await
}

/// `POST /keys/{id}`: Save Changes.
pub(crate) async fn save(
    user: User,
    Path(id): Path<String>,
    CompleteForm(mut input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    let record = user.find_key(&id, &ADMIN_KEY_UPDATE, Attempt::Update).await?;
    let mut submitted = SubmittedForm::read(&mut input);
    let mut errors = FormErrors::default();
    if input.text("by") != user.principal.id().to_string() {
        let text = "You are logged in with another key than when you opened this form. Nothing was saved. Check the form \
                    and save it again.";
        errors.add(Field::Form, text);
        return show(&user, StatusCode::CONFLICT, &record, submitted, errors, None).await;
    }
    if submitted.changes(Field::Expires) {
        submitted.expiry = submitted.form.expiry(&mut errors, None);
    }
    if submitted.changes(Field::Networks) {
        submitted.networks = submitted.form.networks(&mut errors);
    }
    if submitted.changes(Field::Rate) {
        submitted.rate = submitted.form.rate(&mut errors);
    }
    if !errors.is_empty() {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return show(&user, status, &record, submitted, errors, None).await;
    }
    let (id, time) = (record.id, user.time());
    let (store, form) = (user.state.store.clone(), submitted.clone());
    let work = move |acting: Acting<'_>| form.apply(&store, acting, id, time);
    let (status, errors) = match user.caller.act(&user.state.store, work).await {
        Ok(SaveOutcome::Saved { has_other_changes }) => {
            let more = if has_other_changes { "&meanwhile=1" } else { "" };
            return Ok(user.base.redirect(&format!("/keys/{id}?saved=1{more}")));
        }
        Ok(SaveOutcome::Conflict { is_restricted }) => {
            errors.add(Field::Form, conflict_text(&submitted, is_restricted));
            (StatusCode::CONFLICT, errors)
        }
        Err(error) => FormErrors::of(error).map_err(|error| user.error_page(error))?,
    };
    let fresh = user.visible(id).ok_or_else(|| user.no_such_key())?;
    show(&user, status, &fresh, submitted, errors, None).await
}

fn conflict_text(submitted: &SubmittedForm, is_restricted: bool) -> String {
    let saved = match (is_restricted, submitted.form.active) {
        (true, Some(false)) => "The key is inactive now; nothing else was saved yet.",
        (true, _) => "The key has expired now; nothing else was saved yet.",
        (false, _) => "Nothing was saved yet.",
    };
    format!(
        "Somebody else changed this key while your form was open. {saved} Choose the values to keep, and save again."
    )
}

async fn show(
    user: &User,
    status: StatusCode,
    record: &Arc<Record>,
    submitted: SubmittedForm,
    mut errors: FormErrors,
    notice: Option<&str>,
) -> Result<Response, EarlyResponse> {
    let store = &user.state.store;
    let mut conflicts = submitted.merge(store, record, user.time()).unwrap_or_default().conflicts;
    conflicts.retain(|field| errors.at(*field).is_none());
    let submitted = submitted.rebased(store, record, |field| errors.at(field).is_some());
    let now = KeyForm::of(store, record);
    let conflicts: Vec<Conflict> =
        conflicts.into_iter().map(|field| Conflict::of(field, &now, &submitted.form)).collect();
    for conflict in &conflicts {
        errors.add(conflict.field, CHOOSE);
    }
    let fields = FormHtml {
        user,
        form: &submitted.form,
        errors: &errors,
        held: Some(&record.grant),
        conflicts: &conflicts,
    };
    let id = record.id;
    let newest = audit::newest_change(user).await?;
    let store = &user.state.store;
    let read = move |acting: Acting<'_>| audit::activity(&acting, id, newest);
    let activity = user.caller.read_many(store, read).await;
    let activity = activity.map_err(|error| user.error_page(error))?;
    let here = user.base.path(&format!("/keys/{id}"));
    let body = html! {
        p .back { a href=(user.base.path("/")) { span aria-hidden="true" { "← " } "API Keys" } }
        div .head { h1 { bdi { (record.name) } } (layout::status_badge(record, user.time())) }
        @if let Some(notice) = notice { p .banner .good role="status" { (notice) } }
        div .columns {
            form .card .sheet method="post" action=(here) {
                input type="hidden" name="by" value=(user.principal.id());
                (submitted.opened.hidden())
                (fields.render())
                div .actions {
                    @if user.may(&ADMIN_KEY_UPDATE) {
                        button .primary type="submit" { "Save Changes" }
                    }
                    a .button .quiet href=(user.base.path("/")) { "Cancel" }
                }
                (end_marker())
            }
            div .aside {
                (details(user, record))
                (rotation(user, record, &here))
                (reach(&here))
                (removal(user, record, &here))
            }
        }
        section aria-labelledby="activity" {
            h2 #activity { "Activity" }
            (audit::table(user, &activity.entries, audit::Columns::OfOneKey))
            @if activity.is_truncated {
                p .hint { "Earlier entries are in the " a href=(user.base.path("/audit")) { "audit log" } "." }
            }
        }
    };
    // A title holds no elements: isolate characters replace `bdi`.
    let title = format!("\u{2068}{}\u{2069} · API Keys", record.name);
    Ok(layout::page(&user.layout(&title), status, &body))
}

/// Renders the fields that the form does not have.
fn details(user: &User, record: &Record) -> Markup {
    html! {
        div .card {
            h2 { "Details" }
            dl {
                dt { "Key" } dd .mono { (layout::hint(&user.state.store, record)) }
                dt { "Id" } dd .mono { (record.id) }
                @if let Some(imported) = record.imported {
                    dt { "Imported" } dd { "as " (imported.as_str()) "; its strength is unknown, so rotate it" }
                }
                dt { "Created" } dd { (layout::time(record.created_at)) }
                dt { "Created by" } dd { (audit::actor(user, record.created_by)) }
                dt { "Changed" } dd { (layout::time(record.updated_at)) }
                dt { "Last used" } dd { (layout::last_use(user.state.store.last_used(record.id))) }
                @if let Some(since) = record.inactive_since {
                    dt { "Inactive since" } dd { (layout::time(since)) }
                }
                @if !day(record.expiry).is_empty() {
                    dt { "Expires" } dd { (layout::expiry(record.expiry)) }
                }
                @if let Some(owner) = &record.owner { dt { "Owner" } dd { bdi { (owner) } } }
                @for (label, other) in [("Replaces", record.replaces), ("Replaced by", record.replaced_by)] {
                    @if let Some(other) = other { dt { (label) } dd { (audit::key(user, other)) } }
                }
            }
        }
    }
}

/// Renders the rotation. A root key is rotated on the local host only.
fn rotation(user: &User, record: &Record, here: &str) -> Markup {
    let is_current = record.active && record.replaced_by.is_none() && record.grant != Grant::All;
    html! {
        @if is_current && user.may(&ADMIN_KEY_UPDATE) {
            div .card {
                h2 { "Rotate" }
                p .hint { "Create a new key that replaces this one. The old key can stay valid for a while." }
                a .button href=(format!("{here}/rotate")) { "Rotate…" }
            }
        }
    }
}

/// Renders the link to the reach of the key.
fn reach(here: &str) -> Markup {
    html! {
        div .card {
            h2 { "Reach" }
            p .hint { "The keys that this one created, and what it did: for a key that leaked." }
            a .button href=(format!("{here}/reach")) { "Show reach" }
        }
    }
}
