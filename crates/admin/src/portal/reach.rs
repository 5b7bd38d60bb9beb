//! The page of a key's reach: what it created, what replaced it, and what it did; and revoking a group.

use super::{
    audit, key_list,
    layout::{self, EarlyResponse},
    sentence::sentence,
    user::User,
};
use crate::reach::{NotRevoked, group_named};
use axum::{
    extract::{Path, Query},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};
use portcullis::{
    Acting, KeyEntries, KeyReach, ReachGroup, Record,
    audit::Attempt,
    scope::catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
};

/// The most keys of a group on the page.
const MAX_SHOWN: usize = 50;

/// `GET /keys/{id}/reach`
pub(crate) async fn page(
    user: User,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, EarlyResponse> {
    let revoked = query.iter().find(|(name, _)| name == "revoked");
    let revoked = revoked.and_then(|(_, count)| count.parse().ok());
    show(&user, &id, revoked, &[]).await
}

/// `POST /keys/{id}/reach/{group}`: revokes the keys of a group.
pub(crate) async fn revoke(
    user: User,
    Path((id, group)): Path<(String, String)>,
) -> Result<Response, EarlyResponse> {
    let key = user.find_key(&id, &ADMIN_KEY_UPDATE, Attempt::Update).await?.id;
    let group = group_named(&group).ok_or_else(|| user.no_such_key())?;
    let work = move |acting: Acting<'_>| acting.revoke_group(key, group);
    let done = user.caller.act(&user.state.store, work).await;
    let done = done.map_err(|error| user.error_page(error))?;
    let count = done.revoked.len();
    if done.failed.is_empty() {
        return Ok(user.base.redirect(&format!("/keys/{key}/reach?revoked={count}")));
    }
    let failed = done.failed.into_iter().map(|(id, error)| NotRevoked::new(id, error));
    show(&user, &id, Some(count), &failed.collect::<Vec<_>>()).await
}

/// Redirects a browser that revisits the address of a form's response.
pub(crate) async fn redirect(user: User, Path((id, _)): Path<(String, String)>) -> Response {
    match user.parse_id(&id) {
        Ok(id) => user.base.redirect(&format!("/keys/{id}/reach")),
        Err(_) => user.base.redirect("/"),
    }
}

async fn show(
    user: &User,
    id: &str,
    revoked: Option<usize>,
    failed: &[NotRevoked],
) -> Result<Response, EarlyResponse> {
    let id = user.find_key(id, &ADMIN_KEY_LIST, Attempt::List).await?.id;
    let read = move |acting: Acting<'_>| acting.reach_of(id);
    let reach = user.caller.read_many(&user.state.store, read).await;
    let reach = reach.map_err(|error| user.error_page(error))?;
    let record: &Record = &reach.key;
    let body = html! {
        p .back { a href=(user.base.path(&format!("/keys/{id}"))) { span aria-hidden="true" { "← " } bdi { (record.name) } } }
        div .head { h1 { "Reach of " bdi { (record.name) } } (layout::status_badge(record, user.time())) }
        @if let Some(count) = revoked { p .banner .good role="status" { (counted(count)) " revoked." } }
        @for refused in failed { p .banner .bad role="alert" { "Not revoked: " (sentence(&refused.to_string())) } }
        @if record.active {
            p .banner .warn { "This key is active. If it leaked, deactivate it first, so that it creates no more keys." }
        }
        div .card {
            h2 { "The key" }
            dl {
                dt { "Scopes" } dd { (key_list::scopes(record)) }
                dt { "Last used" } dd { (layout::last_use(user.state.store.last_used(id))) }
                dt { "Created" } dd { (layout::time(record.created_at)) }
                dt { "Created by" } dd { (audit::actor(user, record.created_by)) }
            }
        }
        (group(user, &reach, ReachGroup::Created))
        (group(user, &reach, ReachGroup::Successors))
        (entries(user, "What it did", &reach.acts, audit::Columns::All))
        (entries(user, "What was done to it", &reach.changes, audit::Columns::OfOneKey))
    };
    let title = format!("Reach of \u{2068}{}\u{2069} · API Keys", record.name);
    Ok(layout::page(&user.layout(&title), StatusCode::OK, &body))
}

fn counted(count: usize) -> String {
    if count == 1 { "1 key was".to_owned() } else { format!("{count} keys were") }
}

/// Renders a group of keys, with the button that revokes the active ones.
fn group(user: &User, reach: &KeyReach, group: ReachGroup) -> Markup {
    let records = reach.group(group);
    let active = records.iter().filter(|record| record.active).count();
    let (name, title, hint) = match group {
        ReachGroup::Created => (
            "created",
            "Keys that it created",
            "Also by rotation, and the keys that those created. A thief of this key has their secrets.",
        ),
        ReachGroup::Successors => (
            "successors",
            "Its successors",
            "The keys that replaced it. The rightful holder has them, unless the thief rotated this key.",
        ),
    };
    let action = user.base.path(&format!("/keys/{}/reach/{name}", reach.key.id));
    let shown = records.get(..MAX_SHOWN).unwrap_or(records);
    html! {
        section aria-labelledby=(name) {
            div .head {
                h2 id=(name) { (title) ": " (records.len()) }
                @if active > 0 && user.may(&ADMIN_KEY_UPDATE) {
                    form method="post" action=(action) {
                        button .danger type="submit" {
                            "Revoke the " @if active == 1 { "active key" } @else { (active) " active keys" }
                        }
                    }
                }
            }
            p .hint { (hint) }
            @if !records.is_empty() {
                div .card .flush { (key_list::table(user, shown)) }
                @if shown.len() < records.len() { p .hint { "The other keys are not shown." } }
            }
            @if group == ReachGroup::Created && !reach.deleted.is_empty() {
                p .hint {
                    "Deleted since: "
                    @for (position, id) in reach.deleted.iter().take(MAX_SHOWN).enumerate() {
                        @if position > 0 { ", " }
                        span .mono { (id) }
                    }
                    @if reach.deleted.len() > MAX_SHOWN { " and " (reach.deleted.len() - MAX_SHOWN) " more" }
                }
            }
        }
    }
}

fn entries(user: &User, title: &str, found: &KeyEntries, columns: audit::Columns) -> Markup {
    html! {
        section {
            h2 { (title) }
            (audit::table(user, &found.entries, columns))
            @if !found.is_complete {
                p .hint { "Earlier entries are in the " a href=(user.base.path("/audit")) { "audit log" } "." }
            }
        }
    }
}
