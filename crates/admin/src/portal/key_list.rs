//! The page "API Keys": the list of keys, with search and paging.

use super::{
    layout::{self, EarlyResponse},
    user::User,
};
use axum::{extract::Query, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Grant, Record, Scope,
    audit::Attempt,
    list::{ListQuery, Page},
    scope::catalogue::{ADMIN_KEY_CREATE, ADMIN_KEY_LIST},
};

const PAGE_SIZE: usize = 25;
/// The number of scopes in a row. The page of the key has all of them.
const MAX_SCOPES_SHOWN: usize = 2;

/// The query of the page.
#[derive(Default)]
struct Filter {
    text: String,
    status: String,
    page: Option<String>,
    deleted: Option<()>,
}

/// `GET /`
pub(crate) async fn list(
    user: User,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, EarlyResponse> {
    let store = &user.state.store;
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let mut filter = Filter::default();
    for (name, value) in parameters {
        match name.as_str() {
            "q" => filter.text = value.trim().to_owned(),
            "status" => filter.status = value,
            "page" => filter.page = Some(value),
            "deleted" => filter.deleted = Some(()),
            _ => {}
        }
    }
    let mut query = ListQuery::default().with_page_size(PAGE_SIZE);
    query.active = match filter.status.as_str() {
        "active" => Some(true),
        "inactive" => Some(false),
        _ => None,
    };
    query.text = Some(filter.text.clone()).filter(|text| !text.is_empty());
    query.page_token.clone_from(&filter.page);
    let page = user.caller.read_many(store, move |acting| acting.list(&query)).await;
    let page = page.map_err(|error| user.error_page(error))?;
    Ok(show(&user, &filter, &page))
}

fn show(user: &User, filter: &Filter, page: &Page) -> Response {
    let root = user.base.path("/");
    let is_filtered =
        !filter.text.is_empty() || matches!(filter.status.as_str(), "active" | "inactive");
    let body = html! {
        div .head {
            h1 { "API Keys" }
            @if user.may(&ADMIN_KEY_CREATE) {
                a .button .primary href=(user.base.path("/keys/new")) { "Add API Key" }
            }
        }
        @if filter.deleted.is_some() { p .banner .good role="status" { "The key was deleted." } }
        form .filters method="get" action=(root) role="search" {
            div {
                label for="q" { "Search" }
                input #q name="q" type="search" dir="auto" value=(filter.text) placeholder="Name or id" autocomplete="off";
            }
            div {
                label for="status" { "Status" }
                select #status name="status" {
                    @for (value, text) in [("", "All"), ("active", "Active"), ("inactive", "Inactive")] {
                        option value=(value) selected[value == filter.status] { (text) }
                    }
                }
            }
            button type="submit" { "Search" }
            @if is_filtered { a .button .quiet href=(root) { "Clear" } }
        }
        @if page.records.is_empty() {
            div .card .empty {
                @if is_filtered {
                    p { strong { "No key matches." } }
                    p .hint { "Try a part of the name, or another status." }
                } @else {
                    p { strong { "There are no API keys." } }
                    p .hint { "Add one to give a program access." }
                }
            }
        } @else {
            div .card .flush { (table(user, &page.records)) }
        }
        (pages(filter, page, &root))
    };
    layout::page(&user.layout("API Keys"), StatusCode::OK, &body)
}

/// Renders a table of keys.
pub(crate) fn table(user: &User, records: &[std::sync::Arc<Record>]) -> Markup {
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
                    @let hint = user.state.store.prefix().hint(record.id);
                    tr {
                        th .name scope="row" {
                            a href=(user.base.path(&format!("/keys/{}", record.id))) { bdi { (record.name) } }
                            span .slim .mono .faint { (hint) "…" }
                        }
                        td .wide { span .mono .faint { (hint) "…" } }
                        td .wide { (scopes(record)) }
                        td { (layout::status_badge(record, user.time())) }
                        td .wide { (layout::expiry(record.expiry)) }
                        td .wide { (layout::last_use(user.state.store.last_used(record.id))) }
                        td .wide { (layout::time(record.created_at)) }
                    }
                }
            }
        }
    }
}

/// Renders the first scopes of a key, and how many more it has.
pub(crate) fn scopes(record: &Record) -> Markup {
    let names: Vec<&str> = match &record.grant {
        Grant::All => vec!["All scopes (root)"],
        Grant::Scopes(set) => set.iter().map(Scope::as_str).collect(),
    };
    let (shown, rest) = names.split_at(names.len().min(MAX_SCOPES_SHOWN));
    html! {
        div .tags {
            @if names.is_empty() { span .faint { "None" } }
            @for name in shown { span .tag { (name) } }
            @if !rest.is_empty() { span .faint title=(rest.join(", ")) { "+" (rest.len()) " more" } }
        }
    }
}

fn pages(filter: &Filter, page: &Page, root: &str) -> Markup {
    let kept = |token: &str| {
        html! {
            input type="hidden" name="q" value=(filter.text);
            input type="hidden" name="status" value=(filter.status);
            @if !token.is_empty() { input type="hidden" name="page" value=(token); }
        }
    };
    html! {
        @if filter.page.is_some() || page.next_page_token.is_some() {
            nav .pages aria-label="Pages" {
                @if filter.page.is_some() {
                    form method="get" action=(root) { (kept("")) button type="submit" { "First page" } }
                }
                @if let Some(token) = &page.next_page_token {
                    form method="get" action=(root) { (kept(token)) button type="submit" { "Next page" } }
                }
            }
        }
    }
}
