//! One key: its fields, its activity, and how it is taken away.

use super::{
    fields::Fields,
    form::{KeyForm, Pairs, Place, Wrongs, day},
    frame::{self, Frame},
    trail,
    visitor::{Stop, Visitor},
};
use crate::{
    Attempt, Change, Error, Grant, KeyId, Record, Scope,
    admin::caller::ask,
    scope::catalogue::{ADMIN_KEY_DELETE, ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
};
use axum::{
    extract::{Path, Query},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};
use std::sync::Arc;

/// `GET /keys/{id}`
pub(crate) async fn page(
    visitor: Visitor,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_LIST, Attempt::List).await?;
    let form = KeyForm::of(&visitor.site.store, &record);
    let saved = query.iter().any(|(name, _)| name == "saved");
    let notice = saved.then_some("Your changes are saved.");
    show(&visitor, StatusCode::OK, &record, &form, &Wrongs::default(), notice).await
}

/// `POST /keys/{id}`: Save Changes.
pub(crate) async fn save(
    visitor: Visitor,
    Path(id): Path<String>,
    mut pairs: Pairs,
) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_UPDATE, Attempt::Update).await?;
    let revision: u64 = pairs.text("revision").parse().unwrap_or(0);
    let (form, before) = (KeyForm::read(&mut pairs), KeyForm::of(&visitor.site.store, &record));
    let mut wrongs = Wrongs::default();
    let mut change = Change {
        name: (form.name != before.name).then(|| form.name.clone()),
        active: (form.active != before.active).then_some(form.active),
        ..Change::default()
    };
    // The day that is shown stands for an end within it, which must not move by being saved.
    if form.expires != before.expires {
        change.expiry = Some(form.expiry(&mut wrongs));
    }
    if form.scopes != before.scopes && record.grant != Grant::All {
        match visitor.site.store.scopes(&form.scopes) {
            Ok(set) if set.is_empty() => wrongs.add(Place::Scopes, "Choose at least one scope."),
            Ok(set) => change.grant = Some(Grant::Scopes(set)),
            Err(error) => wrongs.add(Place::Scopes, error.to_string()),
        }
    }
    if !wrongs.is_empty() {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return show(&visitor, status, &record, &form, &wrongs, None).await;
    }
    let id = record.id;
    let saved = visitor
        .caller
        .act(&visitor.site.store, move |acting| acting.update_if(id, revision, change));
    match saved.await {
        Ok(_) => Ok(visitor.base.redirect(&format!("/keys/{id}?saved=1"))),
        Err(denied) => {
            let (status, wrongs) = Wrongs::of(denied).map_err(|denied| visitor.stop(denied))?;
            let fresh = visitor.site.store.get(id).unwrap_or(record);
            show(&visitor, status, &fresh, &form, &wrongs, None).await
        }
    }
}

/// `POST /keys/{id}/deactivate`: at once, whatever else the key's form says.
pub(crate) async fn deactivate(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Stop> {
    let id = parse(&visitor, &id)?;
    let done = visitor.caller.act(&visitor.site.store, move |a| a.update(id, Change::deactivate()));
    match done.await {
        Ok(_) => Ok(visitor.base.redirect(&format!("/keys/{id}?saved=1"))),
        Err(denied) => Err(visitor.stop(denied)),
    }
}

/// `GET /keys/{id}/delete`
pub(crate) async fn confirm_deletion(
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_DELETE, Attempt::Delete).await?;
    if record.active {
        return Err(visitor.stop(Error::StillActive(record.id)));
    }
    let here = visitor.base.path(&format!("/keys/{}", record.id));
    let body = html! {
        div .card .notice {
            h1 { "Delete " (record.name) "?" }
            p {
                "The key " span .mono { (visitor.site.store.prefix().hint(record.id)) "…" }
                " is deleted for good and can never work again. Its entries in the audit log stay."
            }
            form .actions method="post" action=(format!("{here}/delete")) {
                button .danger type="submit" { "Delete key" }
                a .button .quiet href=(here) { "Cancel" }
            }
        }
    };
    Ok(frame::page(&Frame::of(&visitor, "Delete key"), StatusCode::OK, &body))
}

/// `POST /keys/{id}/delete`
pub(crate) async fn delete(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Stop> {
    let id = parse(&visitor, &id)?;
    match visitor.caller.act(&visitor.site.store, move |acting| acting.delete(id)).await {
        Ok(()) => Ok(visitor.base.redirect("/?deleted=1")),
        Err(denied) => Err(visitor.stop(denied)),
    }
}

fn parse(visitor: &Visitor, id: &str) -> Result<KeyId, Stop> {
    id.parse().map_err(|_| visitor.no_such_key())
}

/// The key of this id, for a visitor that has the scope.
pub(crate) async fn find(
    visitor: &Visitor,
    id: &str,
    scope: &Scope,
    attempt: Attempt,
) -> Result<Arc<Record>, Stop> {
    let known: Option<KeyId> = id.parse().ok();
    visitor.require(scope, attempt, known).await?;
    let id = parse(visitor, id)?;
    visitor.site.store.get(id).map_err(|_| visitor.no_such_key())
}

async fn show(
    visitor: &Visitor,
    status: StatusCode,
    record: &Arc<Record>,
    form: &KeyForm,
    wrongs: &Wrongs,
    notice: Option<&str>,
) -> Result<Response, Stop> {
    let id = record.id;
    let activity = ask(&visitor.site.store, move |store| trail::activity(store, id)).await;
    let activity = activity.map_err(|denied| visitor.stop(denied))?;
    let here = visitor.base.path(&format!("/keys/{id}"));
    let body = html! {
        p .back { a href=(visitor.base.path("/")) { span aria-hidden="true" { "← " } "API Keys" } }
        div .head { h1 { (record.name) } (frame::status(record)) }
        @if let Some(notice) = notice { p .banner .good role="status" { (notice) } }
        div .columns {
            form .card .sheet method="post" action=(here) {
                input type="hidden" name="revision" value=(record.revision);
                (Fields { visitor, form, wrongs, held: Some(&record.grant) }.show())
                div .actions {
                    @if visitor.may(&ADMIN_KEY_UPDATE) {
                        button .primary type="submit" { "Save Changes" }
                    }
                    a .button .quiet href=(visitor.base.path("/")) { "Cancel" }
                }
            }
            div .aside {
                (facts(visitor, record))
                (rotation(visitor, record, &here))
                (removal(visitor, record, &here))
            }
        }
        section aria-labelledby="activity" {
            h2 #activity { "Activity" }
            (trail::table(visitor, &activity.entries, trail::Columns::OfOneKey))
            @if activity.is_cut {
                p .hint { "Earlier entries are in the " a href=(visitor.base.path("/audit")) { "audit log" } "." }
            }
        }
    };
    let title = format!("{} · API Keys", record.name);
    Ok(frame::page(&Frame::of(visitor, &title), status, &body))
}

fn facts(visitor: &Visitor, record: &Record) -> Markup {
    html! {
        div .card {
            h2 { "Details" }
            dl {
                dt { "Key" } dd .mono { (visitor.site.store.prefix().hint(record.id)) "…" }
                dt { "Id" } dd .mono { (record.id) }
                dt { "Created" } dd { (frame::time(record.created_at)) }
                dt { "Created by" } dd { (trail::actor(visitor, record.created_by)) }
                dt { "Changed" } dd { (frame::time(record.updated_at)) }
                dt { "Last used" } dd { (frame::last_use(visitor.site.store.last_used(record.id))) }
                @if let Some(since) = record.inactive_since {
                    dt { "Inactive since" } dd { (frame::time(since)) }
                }
                @if !day(record.expiry).is_empty() {
                    dt { "Expires" } dd { (frame::end(record.expiry)) }
                }
                @if let Some(owner) = &record.owner { dt { "Owner" } dd { (owner) } }
                @for (label, other) in [("Replaces", record.replaces), ("Replaced by", record.replaced_by)] {
                    @if let Some(other) = other { dt { (label) } dd { (trail::key(visitor, other)) } }
                }
            }
        }
    }
}

/// A new secret in the place of this one; a root key gets it on the machine only.
fn rotation(visitor: &Visitor, record: &Record, here: &str) -> Markup {
    let is_current = record.active && record.replaced_by.is_none() && record.grant != Grant::All;
    html! {
        @if is_current && visitor.may(&ADMIN_KEY_UPDATE) {
            div .card {
                h2 { "Rotate it" }
                p .hint { "A new key takes its place. The old one can work on for a while." }
                a .button href=(format!("{here}/rotate")) { "Rotate…" }
            }
        }
    }
}

/// How the key is taken away: deactivated while it is active, deleted afterwards.
fn removal(visitor: &Visitor, record: &Record, here: &str) -> Markup {
    html! {
        @if record.active && visitor.may(&ADMIN_KEY_UPDATE) {
            form .card method="post" action=(format!("{here}/deactivate")) {
                h2 { "Take it away" }
                p .hint {
                    "The key is refused from the next request on. You can activate it again."
                    @if visitor.is(record.id) { strong { " It is the key that you are logged in with." } }
                }
                button .danger type="submit" { "Deactivate" }
            }
        } @else if !record.active && visitor.may(&ADMIN_KEY_DELETE) {
            div .card {
                h2 { "Delete it" }
                p .hint { "An inactive key can be deleted for good. Its entries in the audit log stay." }
                a .button .danger href=(format!("{here}/delete")) { "Delete…" }
            }
        }
    }
}
