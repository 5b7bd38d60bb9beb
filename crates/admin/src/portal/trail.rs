//! The audit log, and the part of it that tells of one key.

use super::{
    frame::{self, Frame, Here},
    visitor::{Stop, Visitor},
};
use crate::{caller::read_many, moment};
use axum::{extract::Query, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Act, Actor, Attempt, AuditEntry, Change, Error, Expiry, Grant, KeyId, Scope, Store,
    scope::catalogue::ADMIN_KEY_LIST,
};

const PAGE_SIZE: u64 = 50;
/// How far back the activity of one key is looked for, and how much of it is shown.
const MOST_READ: u64 = 4000;
const STRIDE: u64 = 500;
const MOST_SHOWN: usize = 20;

/// What happened to one key lately, newest first.
pub(crate) struct Activity {
    pub(crate) entries: Vec<AuditEntry>,
    /// Whether there may be more, further back.
    pub(crate) is_cut: bool,
}

/// The newest entries that tell of this key, as its holder or as what was changed.
pub(crate) fn activity(store: &Store, id: KeyId) -> Result<Activity, Error> {
    let newest = store.newest_change();
    let oldest = newest.saturating_sub(MOST_READ);
    let (mut end, mut entries) = (newest, Vec::new());
    while end > oldest && entries.len() <= MOST_SHOWN {
        let start = end.saturating_sub(STRIDE).max(oldest);
        let stride = before(store, start, end)?;
        end = start;
        entries.extend(stride.into_iter().filter(|entry| tells_of(entry, id)));
    }
    let born = |entry: &AuditEntry| match &entry.act {
        Act::Create => entry.key == Some(id),
        Act::Rotate { into } => *into == id,
        _ => false,
    };
    let is_cut = entries.len() > MOST_SHOWN || end > 0 && !entries.last().is_some_and(born);
    entries.truncate(MOST_SHOWN);
    Ok(Activity { entries, is_cut })
}

fn tells_of(entry: &AuditEntry, id: KeyId) -> bool {
    let made = matches!(&entry.act, Act::Rotate { into } if *into == id);
    made || entry.key == Some(id) || entry.actor == Actor::Key(id)
}

/// The entries after `start` up to `end`, newest first.
fn before(store: &Store, start: u64, end: u64) -> Result<Vec<AuditEntry>, Error> {
    let count = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let mut entries = store.audit(start, count)?;
    // Where older ones were cut away, the count reaches further than it should.
    entries.retain(|entry| entry.sequence <= end);
    entries.reverse();
    Ok(entries)
}

/// `GET /audit`
pub(crate) async fn page(
    visitor: Visitor,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Stop> {
    let store = &visitor.site.store;
    visitor.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let upto = query.iter().find(|(name, _)| name == "upto").and_then(|(_, n)| n.parse().ok());
    let newest = store.newest_change();
    let end = upto.unwrap_or(newest).min(newest);
    let start = end.saturating_sub(PAGE_SIZE);
    let entries = read_many(store, move |store| before(store, start, end)).await;
    let entries = entries.map_err(|denied| visitor.stop(denied))?;
    let path = visitor.base.path("/audit");
    let body = html! {
        div .head { h1 { "Audit log" } }
        p .lead { "Who did what to which key, and what was refused. Nothing here is ever changed." }
        (table(&visitor, &entries, Columns::All))
        @if end < newest || start > 0 {
            nav .pages aria-label="Pages" {
                @if end < newest { a .button href=(path) { "Newest" } }
                @if start > 0 { a .button href=(format!("{path}?upto={start}")) { "Older" } }
            }
        }
    };
    let frame = Frame::of(&visitor, "Audit log").in_place(Here::Audit);
    Ok(frame::page(&frame, StatusCode::OK, &body))
}

/// Which columns a table of entries has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    All,
    OfOneKey,
}

/// A table of entries.
pub(crate) fn table(visitor: &Visitor, entries: &[AuditEntry], columns: Columns) -> Markup {
    let all = columns == Columns::All;
    html! {
        @if entries.is_empty() {
            div .card .empty { p .hint { "Nothing is recorded." } }
        } @else {
            div .card .flush {
                table .trail {
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
                                td { (frame::time(entry.at)) }
                                td .wide { (actor(visitor, entry.actor)) }
                                td {
                                    (act(visitor, entry))
                                    span .slim .faint { "by " (actor(visitor, entry.actor)) }
                                }
                                @if all {
                                    td .wide { @if let Some(id) = entry.key { (key(visitor, id)) } }
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

/// Who acted: a key by its name.
pub(crate) fn actor(visitor: &Visitor, actor: Actor) -> Markup {
    match actor {
        Actor::Host => html! { "This service" },
        Actor::Local(0) => html! { "root on the machine" },
        Actor::Local(uid) => html! { "User " (uid) " on the machine" },
        Actor::Key(id) => key(visitor, id),
    }
}

/// A key by its name, as a link to it while it is there.
pub(crate) fn key(visitor: &Visitor, id: KeyId) -> Markup {
    let Ok(record) = visitor.site.store.get(id) else {
        return html! { span .mono title="This key was deleted" { (id) } };
    };
    let page = visitor.base.path(&format!("/keys/{id}"));
    html! { a href=(page) title=(id) { bdi { (record.name) } } }
}

fn act(visitor: &Visitor, entry: &AuditEntry) -> Markup {
    let (class, word) = match (&entry.act, entry.before.active, entry.after.active) {
        (Act::Create, ..) => ("act made", "Created"),
        (Act::Update, Some(true), Some(false)) => ("act ended", "Deactivated"),
        (Act::Update, Some(false), Some(true)) => ("act made", "Activated"),
        (Act::Update, ..) => ("act", "Changed"),
        (Act::Delete, ..) => ("act ended", "Deleted"),
        (Act::Rotate { .. }, ..) => ("act made", "Rotated"),
        (Act::ExtendCatalogue, ..) => ("act", "Scopes added"),
        (Act::Refuse { .. } | Act::RefuseRepeated { .. }, ..) => ("act refused", "Refused"),
        (Act::Prune { .. }, ..) => ("act ended", "Trail cut"),
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
                li { (again(*count)) ", from " (frame::time(*first)) " to " (frame::time(*last)) }
            }
            @if let Act::Prune { through, .. } = &entry.act {
                li { "The entries up to number " (through) " were removed" }
            }
            @if let Act::Rotate { into } = &entry.act { li { "New key: " (key(visitor, *into)) } }
            @if let (Act::Delete, Some(name)) = (&entry.act, &entry.before.name) {
                li { "Name: " bdi { (name) } }
            } @else {
                @for line in changes(&entry.before, &entry.after) { li { (line) } }
            }
        }
    }
}

fn again(count: u64) -> String {
    if count == 1 { "once more".to_owned() } else { format!("{count} times more") }
}

fn attempted(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::Create => "make a key",
        Attempt::List => "look at keys",
        Attempt::Update => "change a key",
        Attempt::Delete => "delete a key",
        Attempt::Rotate => "rotate a key",
        Attempt::Verify => "verify a key",
        Attempt::Prune => "cut the trail",
        other => other.as_str(),
    }
}

/// What changed, a line for each field.
fn changes(before: &Change, after: &Change) -> Vec<Markup> {
    fn line<T>(
        label: &str,
        before: Option<&T>,
        after: Option<&T>,
        say: impl Fn(&T) -> Markup,
    ) -> Option<Markup> {
        match (before, after) {
            (Some(before), Some(after)) => {
                Some(html! { (label) ": " (say(before)) " → " (say(after)) })
            }
            (None, Some(after)) => Some(html! { (label) ": " (say(after)) }),
            _ => None,
        }
    }
    // Of a new key it goes without saying that it is active and has no end.
    let active = after.active.as_ref().filter(|active| before.active.is_some() || !**active);
    let end = after.expiry.as_ref().filter(|e| before.expiry.is_some() || **e != Expiry::Never);
    let name = |name: &String| html! { bdi { (name) } };
    let owner = |owner: &Option<String>| {
        html! { @if let Some(owner) = owner { bdi { (owner) } } @else { "none" } }
    };
    let has_owner = after.owner.as_ref().filter(|o| o.is_some() || before.owner.is_some());
    let notes = after.metadata.as_ref().filter(|m| !m.is_empty() || before.metadata.is_some());
    [
        line("Name", before.name.as_ref(), after.name.as_ref(), name),
        line("Scopes", before.grant.as_ref(), after.grant.as_ref(), |set| html! { (grant(set)) }),
        line("Active", before.active.as_ref(), active, |active| html! { (yes(*active)) }),
        line("Expires", before.expiry.as_ref(), end, |end| html! { (end_of(*end)) }),
        line("Owner", before.owner.as_ref(), has_owner, owner),
        notes.map(|_| html! { "Notes of the service changed" }),
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

fn yes(active: bool) -> &'static str {
    if active { "Yes" } else { "No" }
}

fn end_of(expiry: Expiry) -> String {
    match expiry {
        Expiry::At(at) => moment::to_text(at).replace('T', " ").replace(":00Z", ""),
        Expiry::Never => "never".into(),
    }
}
