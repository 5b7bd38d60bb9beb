//! Finding leaked keys in a text, and revoking them.
//!
//! The first page reads the text, and the second one shows the found keys. It repeats no part of the text,
//! only ids. The user confirms the revocation of these ids, so it needs the rights for each of the keys.

use super::{
    form_body::{CompleteForm, end_marker},
    key_list::scopes,
    layout::{self, EarlyResponse},
    user::User,
};
use crate::leaked::{self, Outcome};
use axum::{body::Body, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    LeakedKeys, Record,
    audit::Attempt,
    scope::catalogue::{ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
};
use std::sync::Arc;

const TITLE: &str = "Find leaked keys";

/// `GET /keys/leaked`
pub(crate) async fn page(user: User) -> Result<Response, EarlyResponse> {
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let body = html! {
        div .head { h1 { (TITLE) } }
        // The body is searched as it is, so the encoding must not change a key.
        form .card .sheet method="post" action=(user.base.path("/keys/leaked")) enctype="multipart/form-data" {
            p .lead {
                "Paste a text, such as a log or a file of a repository, or choose a file. The next page shows each key "
                "whose whole text it contains. Nothing is revoked before you confirm it."
            }
            div .field {
                label for="text" { "Text" }
                textarea #text .mono name="text" rows="10" autocomplete="off" spellcheck="false" {}
            }
            div .field {
                label for="file" { "File" }
                input #file name="file" type="file" aria-describedby="limit";
                p .hint #limit { "Text and file together are at most 1 MiB. The server does not keep them." }
            }
            div .actions {
                button .primary type="submit" { "Find keys" }
                a .button .quiet href=(user.base.path("/")) { "Cancel" }
            }
        }
    };
    Ok(layout::page(&user.layout(TITLE), StatusCode::OK, &body))
}

/// `POST /keys/leaked`: shows the keys in the text.
pub(crate) async fn find(user: User, body: Body) -> Result<Response, EarlyResponse> {
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let found = leaked::search(&user.state.store, &user.caller, body).await;
    let LeakedKeys { records, unknown, .. } = found.map_err(|error| user.error_page(error))?;
    let active: Vec<_> = records.iter().filter(|record| record.active).collect();
    let rows =
        records.iter().map(|record| (Arc::clone(record), Outcome::Found)).collect::<Vec<_>>();
    let body = html! {
        div .head { h1 { "Leaked keys" } }
        @if records.is_empty() {
            div .card .empty { p { strong { "No key of this store was found." } } }
        } @else {
            div .card .flush { (table(&user, &rows)) }
        }
        @if unknown > 0 {
            p .hint { (texts(unknown)) ", but not a key of this store." }
        }
        @if !active.is_empty() && user.may(&ADMIN_KEY_UPDATE) {
            form method="post" action=(user.base.path("/keys/leaked/revoke")) {
                @for record in &active { input type="hidden" name="id" value=(record.id); }
                @if active.iter().any(|record| user.is(record.id)) {
                    p .banner .warn { "You are logged in with one of these keys. Revoking it logs you out." }
                }
                div .actions {
                    button .danger type="submit" { "Revoke " (keys(active.len())) }
                    a .button .quiet href=(user.base.path("/")) { "Cancel" }
                }
                (end_marker())
            }
        } @else {
            p .actions { a .button .quiet href=(user.base.path("/keys/leaked")) { "Search another text" } }
        }
    };
    Ok(layout::page(&user.layout(TITLE), StatusCode::OK, &body))
}

/// `POST /keys/leaked/revoke`: revokes the keys that the page before showed.
pub(crate) async fn revoke(
    user: User,
    CompleteForm(input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    user.require(&ADMIN_KEY_UPDATE, Attempt::Update, None).await?;
    let ids = input.all("id");
    let records: Vec<_> = ids.iter().filter_map(|id| user.visible(id.parse().ok()?)).collect();
    if records.is_empty() {
        return Err(user.no_such_key());
    }
    let done = leaked::revoke(&user.state.store, &user.caller, records).await;
    let done = done.map_err(|error| user.error_page(error))?;
    let is_done = |outcome| matches!(outcome, Outcome::Revoked | Outcome::AlreadyInactive);
    let is_complete = done.iter().all(|(_, outcome)| is_done(*outcome));
    let body = html! {
        div .head { h1 { "Leaked keys" } }
        @if is_complete {
            p .banner .good role="status" { "The keys are inactive. They are refused from now on." }
        } @else {
            p .banner .bad role="alert" { "Not every key was revoked. The others are still valid." }
        }
        div .card .flush { (table(&user, &done)) }
        p .actions { a .button href=(user.base.path("/")) { "Back to API Keys" } }
    };
    Ok(layout::page(&user.layout(TITLE), StatusCode::OK, &body))
}

fn table(user: &User, rows: &[(Arc<Record>, Outcome)]) -> Markup {
    let is_search = rows.iter().all(|(_, outcome)| *outcome == Outcome::Found);
    html! {
        table {
            thead { tr {
                th scope="col" { "Name" }
                th .wide scope="col" { "Owner" }
                th .wide scope="col" { "Scopes" }
                th scope="col" { @if is_search { "Status" } @else { "Result" } }
                th .wide scope="col" { "Last used" }
            } }
            tbody {
                @for (record, outcome) in rows {
                    tr {
                        th .name scope="row" {
                            a href=(user.base.path(&format!("/keys/{}", record.id))) { bdi { (record.name) } }
                            " " span .mono .faint { (record.id) }
                        }
                        td .wide { @if let Some(owner) = &record.owner { bdi { (owner) } } @else { "–" } }
                        td .wide { (scopes(record)) }
                        td { (result(user, record, *outcome)) }
                        td .wide { (layout::last_use(user.state.store.last_used(record.id))) }
                    }
                }
            }
        }
    }
}

fn result(user: &User, record: &Record, outcome: Outcome) -> Markup {
    match outcome {
        Outcome::Found => layout::status_badge(record, user.time()),
        Outcome::Revoked => html! { "Revoked" },
        Outcome::AlreadyInactive => html! { "Inactive before" },
        Outcome::LastRootKey => html! {
            strong { "Not revoked: " } "it is the last root key. Rotate it on the host now: "
            span .mono { "portcullis key rotate " (record.id) }
        },
        Outcome::Failed => {
            html! { strong { "Not revoked." } " Try again, and see the log of the server." }
        }
    }
}

fn keys(count: usize) -> String {
    if count == 1 { "1 key".into() } else { format!("{count} keys") }
}

fn texts(count: usize) -> String {
    if count == 1 {
        "1 other text has the form of a key".into()
    } else {
        format!("{count} other texts have the form of a key")
    }
}
