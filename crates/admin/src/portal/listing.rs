//! API Keys: the list, its search and its pages.

use super::{
    frame::{self, Frame},
    visitor::{Stop, Visitor},
};
use crate::caller::read_many;
use axum::{extract::Query, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Attempt, Grant, ListQuery, Page, Record,
    scope::catalogue::{ADMIN_KEY_CREATE, ADMIN_KEY_LIST},
};

const PAGE_SIZE: usize = 25;
/// More scopes than these make a row hard to read; the key's page has them all.
const MOST_SCOPES: usize = 2;

/// What the list is asked for, as it stands in the address.
#[derive(Default)]
struct Asked {
    text: String,
    status: String,
    page: Option<String>,
    deleted: Option<()>,
}

/// `GET /`
pub(crate) async fn list(
    visitor: Visitor,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Stop> {
    let store = &visitor.site.store;
    visitor.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let mut asked = Asked::default();
    for (name, value) in pairs {
        match name.as_str() {
            "q" => asked.text = value.trim().to_owned(),
            "status" => asked.status = value,
            "page" => asked.page = Some(value),
            "deleted" => asked.deleted = Some(()),
            _ => {}
        }
    }
    let query = ListQuery {
        active: match asked.status.as_str() {
            "active" => Some(true),
            "inactive" => Some(false),
            _ => None,
        },
        text: Some(asked.text.clone()).filter(|text| !text.is_empty()),
        page_size: Some(PAGE_SIZE),
        page_token: asked.page.clone(),
        scope: None,
    };
    let page = read_many(store, move |store| store.list(&query)).await;
    let page = page.map_err(|denied| visitor.stop(denied))?;
    Ok(show(&visitor, &asked, &page))
}

fn show(visitor: &Visitor, asked: &Asked, page: &Page) -> Response {
    let root = visitor.base.path("/");
    let narrowed = !asked.text.is_empty() || matches!(asked.status.as_str(), "active" | "inactive");
    let body = html! {
        div .head {
            h1 { "API Keys" }
            @if visitor.may(&ADMIN_KEY_CREATE) {
                a .button .primary href=(visitor.base.path("/keys/new")) { "Add API Key" }
            }
        }
        @if asked.deleted.is_some() { p .banner .good role="status" { "The key was deleted." } }
        form .filters method="get" action=(root) role="search" {
            div {
                label for="q" { "Search" }
                input #q name="q" type="search" dir="auto" value=(asked.text) placeholder="Name or id" autocomplete="off";
            }
            div {
                label for="status" { "Status" }
                select #status name="status" {
                    @for (value, text) in [("", "All"), ("active", "Active"), ("inactive", "Inactive")] {
                        option value=(value) selected[value == asked.status] { (text) }
                    }
                }
            }
            button type="submit" { "Search" }
            @if narrowed { a .button .quiet href=(root) { "Clear" } }
        }
        @if page.records.is_empty() {
            div .card .empty {
                @if narrowed {
                    p { strong { "No key matches." } }
                    p .hint { "Try a part of its name, or another status." }
                } @else {
                    p { strong { "No API keys here." } }
                    p .hint { "Add one to give a program access." }
                }
            }
        } @else {
            div .card .flush { (table(visitor, &page.records)) }
        }
        (pages(asked, page, &root))
    };
    frame::page(&Frame::of(visitor, "API Keys"), StatusCode::OK, &body)
}

fn table(visitor: &Visitor, records: &[std::sync::Arc<Record>]) -> Markup {
    html! {
        table {
            thead { tr {
                th scope="col" { "Name" }
                th .wide scope="col" { "Key" }
                th .wide scope="col" { "Scopes" }
                th scope="col" { "Status" }
                th .wide scope="col" { "Expires" }
                th .wide scope="col" { "Last used" }
                th .wide scope="col" { "Created" }
            } }
            tbody {
                @for record in records {
                    @let hint = visitor.site.store.prefix().hint(record.id);
                    tr {
                        th .name scope="row" {
                            a href=(visitor.base.path(&format!("/keys/{}", record.id))) { bdi { (record.name) } }
                            span .slim .mono .faint { (hint) "…" }
                        }
                        td .wide { span .mono .faint { (hint) "…" } }
                        td .wide { (scopes(record)) }
                        td { (frame::status(visitor, record)) }
                        td .wide { (frame::end(record.expiry)) }
                        td .wide { (frame::last_use(visitor.site.store.last_used(record.id))) }
                        td .wide { (frame::time(record.created_at)) }
                    }
                }
            }
        }
    }
}

fn scopes(record: &Record) -> Markup {
    let names: Vec<&str> = match &record.grant {
        Grant::All => vec!["All scopes (root)"],
        Grant::Scopes(set) => set.iter().map(portcullis::Scope::as_str).collect(),
    };
    let (shown, rest) = names.split_at(names.len().min(MOST_SCOPES));
    html! {
        div .tags {
            @if names.is_empty() { span .faint { "None" } }
            @for name in shown { span .tag { (name) } }
            @if !rest.is_empty() { span .faint title=(rest.join(", ")) { "+" (rest.len()) " more" } }
        }
    }
}

fn pages(asked: &Asked, page: &Page, root: &str) -> Markup {
    let kept = |token: &str| {
        html! {
            input type="hidden" name="q" value=(asked.text);
            input type="hidden" name="status" value=(asked.status);
            @if !token.is_empty() { input type="hidden" name="page" value=(token); }
        }
    };
    html! {
        @if asked.page.is_some() || page.next_page_token.is_some() {
            nav .pages aria-label="Pages" {
                @if asked.page.is_some() {
                    form method="get" action=(root) { (kept("")) button type="submit" { "First page" } }
                }
                @if let Some(token) = &page.next_page_token {
                    form method="get" action=(root) { (kept(token)) button type="submit" { "Next page" } }
                }
            }
        }
    }
}
