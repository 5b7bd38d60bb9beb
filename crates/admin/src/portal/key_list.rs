//! The page "API Keys": the list of keys, with search and paging.

use super::{
    bulk,
    form_body::FormInput,
    key_filter::KeyFilter,
    layout::{self, EarlyResponse},
    user::User,
};
use axum::{extract::Query, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Grant, Record, Scope,
    audit::Attempt,
    list::Page,
    scope::catalogue::{ADMIN_KEY_CREATE, ADMIN_KEY_LIST},
};

const PAGE_SIZE: usize = 25;
/// The number of scopes in a row. The page of the key has all of them.
const MAX_SCOPES_SHOWN: usize = 2;

/// `GET /`
pub(crate) async fn list(
    user: User,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, EarlyResponse> {
    let store = &user.state.store;
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let (mut filter, mut token, mut was_deleted) = (KeyFilter::default(), None, false);
    for (name, value) in parameters {
        match name.as_str() {
            "page" => token = Some(value),
            "deleted" => was_deleted = true,
            _ => filter.set(store, &name, &value),
        }
    }
    let query = filter.query(store).map_err(|problem| user.error_page(problem))?;
    let mut query = query.with_page_size(PAGE_SIZE).with_total();
    query.page_token.clone_from(&token);
    let page = user.caller.read_many(store, move |acting| acting.list(&query)).await;
    let page = page.map_err(|error| user.error_page(error))?;
    let view = View { filter, is_later: token.is_some(), was_deleted };
    Ok(show(&user, &view, &page))
}

/// `POST /search`: redirects to the list, so that its address has the id of a pasted key and not the key.
pub(crate) async fn search(user: User, mut input: FormInput) -> Result<Response, EarlyResponse> {
    let filter = KeyFilter::read(&user.state.store, &mut input);
    Ok(user.base.redirect(&filter.address()))
}

/// The parts of the page besides the keys.
struct View {
    filter: KeyFilter,
    /// Whether it is a later page than the first.
    is_later: bool,
    was_deleted: bool,
}

fn show(user: &User, view: &View, page: &Page) -> Response {
    let is_filtered = view.filter.is_set();
    let total = page.total.unwrap_or(0);
    let body = html! {
        div .head {
            h1 { "API Keys" }
            a .button .quiet href=(user.base.path("/policy")) { "Policy" }
            a .button .quiet href=(user.base.path("/keys/leaked")) { "Find leaked keys" }
            @if user.may(&ADMIN_KEY_CREATE) {
                a .button .primary href=(user.base.path("/keys/new")) { "Add API Key" }
            }
        }
        @if view.was_deleted { p .banner .good role="status" { "The key was deleted." } }
        (view.filter.form(&user.state.store, &user.base))
        @if total > 0 { p .hint .total { (total) @if total == 1 { " key" } @else { " keys" } } }
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
        (pages(view, page, &user.base.path("/")))
        (bulk::form(user, &view.filter, total))
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
                    @let hint = layout::hint(&user.state.store, record);
                    tr {
                        th .name scope="row" {
                            a href=(user.base.path(&format!("/keys/{}", record.id))) { bdi { (record.name) } }
                            span .slim .mono .faint { (hint) }
                        }
                        td .wide { span .mono .faint { (hint) } }
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

/// Renders the first scopes of a key, and the number of the others.
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

fn pages(view: &View, page: &Page, root: &str) -> Markup {
    html! {
        @if view.is_later || page.next_page_token.is_some() {
            nav .pages aria-label="Pages" {
                @if view.is_later {
                    form method="get" action=(root) { (view.filter.hidden()) button type="submit" { "First page" } }
                }
                @if let Some(token) = &page.next_page_token {
                    form method="get" action=(root) {
                        (view.filter.hidden())
                        input type="hidden" name="page" value=(token);
                        button type="submit" { "Next page" }
                    }
                }
            }
        }
    }
}
