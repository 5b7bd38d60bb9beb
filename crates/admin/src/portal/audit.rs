//! The page "Audit log", and the table of entries about one key.

use super::{
    layout::{self, EarlyResponse, Section},
    user::User,
};
use crate::{rfc3339, wire};
use axum::{extract::Query, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Acting, Actor, Change, Error, Expiry, Grant, KeyId, Networks, Scope,
    audit::{Act, Attempt, AuditEntry},
    scope::catalogue::ADMIN_KEY_LIST,
};

const PAGE_SIZE: u64 = 50;
/// How many entries are searched for the activity of one key, and how many are shown.
const MAX_SEARCHED: u64 = 4000;
const BATCH: u64 = 500;
const MAX_SHOWN: usize = 20;

/// Reads the number of the newest entry.
pub(crate) async fn newest_change(user: &User) -> Result<u64, EarlyResponse> {
    let newest = user.caller.act(&user.state.store, |acting| acting.newest_change()).await;
    newest.map_err(|error| user.error_page(error))
}

/// The recent entries about one key, newest first.
pub(crate) struct Activity {
    pub(crate) entries: Vec<AuditEntry>,
    /// Whether there may be earlier entries.
    pub(crate) is_truncated: bool,
}

/// Reads the last entries up to `newest` in which this key is the actor or the changed key.
pub(crate) fn activity(acting: &Acting<'_>, id: KeyId, newest: u64) -> Result<Activity, Error> {
    let oldest = newest.saturating_sub(MAX_SEARCHED);
    let (mut end, mut entries) = (newest, Vec::new());
    while end > oldest && entries.len() <= MAX_SHOWN {
        let start = end.saturating_sub(BATCH).max(oldest);
        let batch = read_range(acting, start, end)?;
        end = start;
        entries.extend(batch.into_iter().filter(|entry| concerns(entry, id)));
    }
    let creates = |entry: &AuditEntry| match &entry.act {
        Act::Create => entry.key == Some(id),
        Act::Rotate { into } => *into == id,
        _ => false,
    };
    let is_truncated = entries.len() > MAX_SHOWN || end > 0 && !entries.last().is_some_and(creates);
    entries.truncate(MAX_SHOWN);
    Ok(Activity { entries, is_truncated })
}

fn concerns(entry: &AuditEntry, id: KeyId) -> bool {
    let is_replacement = matches!(&entry.act, Act::Rotate { into } if *into == id);
    is_replacement || entry.key == Some(id) || entry.actor == Actor::Key(id)
}

/// Reads the entries after `start` up to `end`, newest first.
fn read_range(acting: &Acting<'_>, start: u64, end: u64) -> Result<Vec<AuditEntry>, Error> {
    let count = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let (mut entries, _) = acting.audit(start, count)?;
    // If older entries were pruned, the count extends beyond `end`.
    entries.retain(|entry| entry.sequence <= end);
    entries.reverse();
    Ok(entries)
}

/// `GET /audit`
pub(crate) async fn page(
    user: User,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, EarlyResponse> {
    let store = &user.state.store;
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let upto = query.iter().find(|(name, _)| name == "upto").and_then(|(_, n)| n.parse().ok());
    let newest = newest_change(&user).await?;
    let end = upto.unwrap_or(newest).min(newest);
    let start = end.saturating_sub(PAGE_SIZE);
    let read = move |acting: Acting<'_>| read_range(&acting, start, end);
    let entries = user.caller.read_many(store, read).await;
    let entries = entries.map_err(|error| user.error_page(error))?;
    let path = user.base.path("/audit");
    let body = html! {
        div .head { h1 { "Audit log" } }
        p .lead { "All changes to keys, and refused attempts. Entries are never edited." }
        (table(&user, &entries, Columns::All))
        @if end < newest || start > 0 {
            nav .pages aria-label="Pages" {
                @if end < newest { a .button href=(path) { "Newest" } }
                @if start > 0 { a .button href=(format!("{path}?upto={start}")) { "Older" } }
            }
        }
    };
    let layout = user.layout("Audit log").in_section(Section::Audit);
    Ok(layout::page(&layout, StatusCode::OK, &body))
}

/// The columns of a table of entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    All,
    OfOneKey,
}

/// Renders a table of entries.
pub(crate) fn table(user: &User, entries: &[AuditEntry], columns: Columns) -> Markup {
    let all = columns == Columns::All;
    html! {
        @if entries.is_empty() {
            div .card .empty { p .hint { "There are no entries." } }
        } @else {
            div .card .flush {
                table .log {
                    thead { tr {
                        th scope="col" { "When" }
                        th .wide scope="col" { "Who" }
                        th scope="col" { "What" }
                        @if all { th .wide scope="col" { "Key" } }
                        th .wide scope="col" { "From" }
                    } }
                    tbody {
                        @for entry in entries {
                            tr {
                                td { (layout::time(entry.at)) }
                                td .wide { (actor(user, entry.actor)) }
                                td {
                                    (act(user, entry))
                                    span .slim .faint { "by " (actor(user, entry.actor)) }
                                }
                                @if all {
                                    td .wide { @if let Some(id) = entry.key { (key(user, id)) } }
                                }
                                td .wide .mono .faint {
                                    @if let Some(source) = entry.source { (source) } @else { "–" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders an actor; a key by its name.
pub(crate) fn actor(user: &User, actor: Actor) -> Markup {
    match actor {
        Actor::Host => html! { "This service" },
        Actor::Local(0) => html! { "root on this host" },
        Actor::Local(uid) => html! { "User " (uid) " on this host" },
        Actor::Key(id) => key(user, id),
        Actor::SecretScanning => html! { "Secret scanning" },
        Actor::PlainHttp => html! { "The check for plain HTTP" },
        Actor::Policy => html! { "The policy" },
        Actor::Operator => html! { "An operator" },
        other => html! { (other) },
    }
}

/// Renders a key by its name, as a link unless the key was deleted.
pub(crate) fn key(user: &User, id: KeyId) -> Markup {
    let Some(record) = user.visible(id) else {
        return html! { span .mono title="This key was deleted" { (id) } };
    };
    let page = user.base.path(&format!("/keys/{id}"));
    html! { a href=(page) title=(id) { bdi { (record.name) } } }
}

fn act(user: &User, entry: &AuditEntry) -> Markup {
    let (class, word) = match (&entry.act, entry.before.active, entry.after.active) {
        (Act::Create, ..) => ("act made", "Created"),
        (Act::Update, Some(true), Some(false)) => ("act ended", "Deactivated"),
        (Act::Update, Some(false), Some(true)) => ("act made", "Activated"),
        (Act::Update, ..) => ("act", "Changed"),
        (Act::Delete, ..) => ("act ended", "Deleted"),
        (Act::Rotate { .. }, ..) => ("act made", "Rotated"),
        (Act::ExtendCatalogue, ..) => ("act", "Scopes added"),
        (Act::AddScope { .. }, ..) => ("act made", "Scope added"),
        (Act::SetPolicy { .. }, ..) => ("act", "Policy set"),
        (Act::DeactivateUnused { .. }, ..) => ("act", "Unused keys deactivated"),
        (Act::HideScope { .. }, ..) => ("act ended", "Scope hidden"),
        (Act::Refuse { .. } | Act::RefuseRepeated { .. }, ..) => ("act refused", "Refused"),
        (Act::Prune { .. }, ..) => ("act ended", "Pruned"),
        (Act::Repair { .. }, ..) => ("act", "Repaired"),
        (Act::Restore { .. }, ..) => ("act", "Restored"),
        (other, ..) => ("act", other.as_str()),
    };
    html! {
        span class=(class) { (word) }
        ul .changes {
            @if let Act::Refuse { attempt, reason } = &entry.act {
                li { (attempted(*attempt)) ": " (reason) }
            }
            @if let Act::RefuseRepeated { attempt, reason, count, first, last } = &entry.act {
                li { (attempted(*attempt)) ": " (reason) }
                li { (repetitions(*count)) ", from " (layout::time(*first)) " to " (layout::time(*last)) }
            }
            @if let Act::Prune { through, .. } = &entry.act {
                li { "Entries up to number " (through) " were removed" }
            }
            @if let Act::AddScope { scope, description, .. } = &entry.act {
                li { (scope) ": " bdi { (description) } }
            }
            @if let Act::HideScope { scope } = &entry.act { li { (scope) } }
            @if let Act::DeactivateUnused { keys } = &entry.act { li { "Number of keys: " (keys) } }
            @if let Act::Rotate { into } = &entry.act { li { "New key: " (key(user, *into)) } }
            @if let (Act::Delete, Some(name)) = (&entry.act, &entry.before.name) {
                li { "Name: " bdi { (name) } }
            } @else {
                @for line in changes(&entry.before, &entry.after) { li { (line) } }
            }
        }
    }
}

fn repetitions(count: u64) -> String {
    if count == 1 { "once more".to_owned() } else { format!("{count} times more") }
}

fn attempted(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::Create => "create a key",
        Attempt::List => "list keys",
        Attempt::Update => "change a key",
        Attempt::Delete => "delete a key",
        Attempt::Rotate => "rotate a key",
        Attempt::Verify => "verify a key",
        Attempt::Prune => "prune the audit log",
        Attempt::SetPolicy => "set the policy",
        Attempt::ChangeScopes => "add or hide a scope",
        other => other.as_str(),
    }
}

/// Renders the changed fields, one line each.
fn changes(before: &Change, after: &Change) -> Vec<Markup> {
    fn line<T>(
        label: &str,
        before: Option<&T>,
        after: Option<&T>,
        render: impl Fn(&T) -> Markup,
    ) -> Option<Markup> {
        match (before, after) {
            (Some(before), Some(after)) => {
                Some(html! { (label) ": " (render(before)) " → " (render(after)) })
            }
            (None, Some(after)) => Some(html! { (label) ": " (render(after)) }),
            _ => None,
        }
    }
    // For a new key, omit the defaults: active and without expiry.
    let active = after.active.as_ref().filter(|active| before.active.is_some() || !**active);
    let expiry = after.expiry.as_ref().filter(|e| before.expiry.is_some() || **e != Expiry::Never);
    let name = |name: &String| html! { bdi { (name) } };
    let owner = |owner: &Option<String>| {
        html! { @if let Some(owner) = owner { bdi { (owner) } } @else { "none" } }
    };
    let has_owner = after.owner.as_ref().filter(|o| o.is_some() || before.owner.is_some());
    let metadata = after.metadata.as_ref().filter(|m| !m.is_empty() || before.metadata.is_some());
    [
        line("Name", before.name.as_ref(), after.name.as_ref(), name),
        line("Scopes", before.grant.as_ref(), after.grant.as_ref(), |set| html! { (grant(set)) }),
        line("Active", before.active.as_ref(), active, |active| html! { (yes_or_no(*active)) }),
        line("Expires", before.expiry.as_ref(), expiry, |expiry| html! { (expiry_text(*expiry)) }),
        line("Owner", before.owner.as_ref(), has_owner, owner),
        metadata.map(|_| html! { "Metadata changed" }),
        line("Networks", before.networks.as_ref(), after.networks.as_ref(), |networks| {
            html! { (networks_text(networks)) }
        }),
        line("Rate", before.rate.as_ref(), after.rate.as_ref(), |rate| {
            html! { @if let Some(rate) = rate { (rate) } @else { "no limit" } }
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn grant(grant: &Grant) -> String {
    match grant {
        Grant::All => "all (root)".into(),
        Grant::Scopes(set) if set.is_empty() => "none".into(),
        Grant::Scopes(set) => set.iter().map(Scope::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn yes_or_no(active: bool) -> &'static str {
    if active { "Yes" } else { "No" }
}

fn networks_text(networks: &Networks) -> String {
    if networks.is_any() { "every network".into() } else { wire::networks(networks).join(", ") }
}

fn expiry_text(expiry: Expiry) -> String {
    match expiry {
        Expiry::At(at) => rfc3339::format(at).replace('T', " ").replace(":00Z", ""),
        Expiry::Never => "never".into(),
    }
}
