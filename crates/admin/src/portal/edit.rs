//! One key: its fields, how they are saved, and its activity.

use super::{
    fields::Fields,
    form::{KeyForm, Place, Wrongs, day},
    frame::{self, Frame},
    merge::{Conflict, Outcome, Wish},
    pairs::{Whole, end},
    removal::removal,
    trail,
    visitor::{Stop, Visitor},
};
use crate::caller::read_many;
use axum::{
    extract::{Path, Query},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};
use portcullis::{
    Acting, Attempt, Grant, KeyId, Record, Scope,
    scope::catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
};
use std::sync::Arc;

const CHOOSE: &str =
    "Somebody else changed this while your form was open. Choose one of the two values.";

/// `GET /keys/{id}`
pub(crate) async fn page(
    visitor: Visitor,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_LIST, Attempt::List).await?;
    let has = |wanted: &str| query.iter().any(|(name, _)| name == wanted);
    let notice = match (has("saved"), has("meanwhile")) {
        (true, false) => Some("Your changes are saved."),
        (true, true) => Some(
            "Your changes are saved. Somebody else changed this key while your form was open; those changes stay.",
        ),
        _ => None,
    };
    let wish = Wish::unchanged(&visitor.site.store, &record);
    show(&visitor, StatusCode::OK, &record, wish, Wrongs::default(), notice).await
}

/// `POST /keys/{id}`: Save Changes.
pub(crate) async fn save(
    visitor: Visitor,
    Path(id): Path<String>,
    Whole(mut pairs): Whole,
) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_UPDATE, Attempt::Update).await?;
    let mut wish = Wish::read(&mut pairs);
    let mut wrongs = Wrongs::default();
    if pairs.text("by") != visitor.principal.id().to_string() {
        let why = "You are logged in with another key than the one that this form was opened with. Nothing was saved; \
                   look the form over and save it again.";
        wrongs.add(Place::Whole, why);
        return show(&visitor, StatusCode::CONFLICT, &record, wish, wrongs, None).await;
    }
    if wish.changes(Place::Expires) {
        wish.expiry = wish.form.expiry(&mut wrongs, None);
    }
    if !wrongs.is_empty() {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return show(&visitor, status, &record, wish, wrongs, None).await;
    }
    let (id, time) = (record.id, visitor.time());
    let (store, asked) = (visitor.site.store.clone(), wish.clone());
    let work = move |acting: Acting<'_>| asked.apply(&store, acting, id, time);
    let (status, wrongs) = match visitor.caller.act(&visitor.site.store, work).await {
        Ok(Outcome::Saved { meanwhile }) => {
            let more = if meanwhile { "&meanwhile=1" } else { "" };
            return Ok(visitor.base.redirect(&format!("/keys/{id}?saved=1{more}")));
        }
        Ok(Outcome::Asked { denied }) => {
            wrongs.add(Place::Whole, asked_text(&wish, denied));
            (StatusCode::CONFLICT, wrongs)
        }
        Err(denied) => Wrongs::of(denied).map_err(|denied| visitor.stop(denied))?,
    };
    let fresh = visitor.site.store.get(id).map_err(|_| visitor.no_such_key())?;
    show(&visitor, status, &fresh, wish, wrongs, None).await
}

fn asked_text(wish: &Wish, denied: bool) -> String {
    let saved = match (denied, wish.form.active) {
        (true, Some(false)) => "The key is inactive now; nothing else was saved yet.",
        (true, _) => "The key has expired now; nothing else was saved yet.",
        (false, _) => "Nothing was saved yet.",
    };
    format!(
        "Somebody else changed this key while your form was open. {saved} Choose the values to keep, and save again."
    )
}

pub(crate) fn parse(visitor: &Visitor, id: &str) -> Result<KeyId, Stop> {
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
    wish: Wish,
    mut wrongs: Wrongs,
    notice: Option<&str>,
) -> Result<Response, Stop> {
    let store = &visitor.site.store;
    let mut conflicts = wish.merge(store, record, visitor.time()).unwrap_or_default().conflicts;
    conflicts.retain(|place| wrongs.at(*place).is_none());
    let wish = wish.rebased(store, record, |place| wrongs.at(place).is_some());
    let now = KeyForm::of(store, record);
    let conflicts: Vec<Conflict> =
        conflicts.into_iter().map(|place| Conflict::of(place, &now, &wish.form)).collect();
    for conflict in &conflicts {
        wrongs.add(conflict.place, CHOOSE);
    }
    let fields = Fields {
        visitor,
        form: &wish.form,
        wrongs: &wrongs,
        held: Some(&record.grant),
        conflicts: &conflicts,
    };
    let id = record.id;
    let activity = read_many(&visitor.site.store, move |store| trail::activity(store, id)).await;
    let activity = activity.map_err(|denied| visitor.stop(denied))?;
    let here = visitor.base.path(&format!("/keys/{id}"));
    let body = html! {
        p .back { a href=(visitor.base.path("/")) { span aria-hidden="true" { "← " } "API Keys" } }
        div .head { h1 { bdi { (record.name) } } (frame::status(visitor, record)) }
        @if let Some(notice) = notice { p .banner .good role="status" { (notice) } }
        div .columns {
            form .card .sheet method="post" action=(here) {
                input type="hidden" name="by" value=(visitor.principal.id());
                (wish.opened.hidden())
                (fields.show())
                div .actions {
                    @if visitor.may(&ADMIN_KEY_UPDATE) {
                        button .primary type="submit" { "Save Changes" }
                    }
                    a .button .quiet href=(visitor.base.path("/")) { "Cancel" }
                }
                (end())
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
    // A title holds no elements: the isolates stand for `bdi`.
    let title = format!("\u{2068}{}\u{2069} · API Keys", record.name);
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
                @if let Some(owner) = &record.owner { dt { "Owner" } dd { bdi { (owner) } } }
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
