//! An act on all keys of a filtered list: the page that confirms it, and the page that reports it.

use super::{
    form_body::{CompleteForm, FormInput, end_marker},
    key_filter::KeyFilter,
    layout::{self, EarlyResponse},
    user::User,
};
use crate::{
    bulk::{self, BulkReport, Counted},
    rfc3339, scopes,
};
use axum::{extract::Path, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Acting, BulkAct, Expiry, Store,
    audit::Attempt,
    error::Field,
    scope::catalogue::{ADMIN_KEY_DELETE, ADMIN_KEY_LIST, ADMIN_KEY_UPDATE},
    web::{FieldError, Problem},
};

/// The acts: value, and text.
const ACTS: [(&str, &str); 5] = [
    ("revoke", "Deactivate the keys"),
    ("remove_scope", "Remove a scope"),
    ("set_expiry", "Set the last day"),
    ("set_owner", "Set the owner"),
    ("delete", "Delete the inactive keys"),
];

/// Renders the form that acts on all keys of a list.
pub(crate) fn form(user: &User, filter: &KeyFilter, total: usize) -> Markup {
    let may = |act: &str| match act {
        "delete" => user.may(&ADMIN_KEY_DELETE),
        _ => user.may(&ADMIN_KEY_UPDATE),
    };
    let acts: Vec<_> = ACTS.into_iter().filter(|(act, _)| may(act)).collect();
    html! {
        @if !acts.is_empty() && total > 0 {
            section {
                details {
                    summary { "Change all " (total) " keys of this list…" }
                    form .bulk method="post" action=(user.base.path("/bulk")) {
                        (filter.hidden())
                        div .fields {
                            div {
                                label for="act" { "Act" }
                                select #act name="act" {
                                    @for (act, text) in &acts { option value=(act) { (text) } }
                                }
                            }
                            div {
                                label for="remove" { "Scope to remove" }
                                select #remove name="remove" {
                                    @for entry in scopes::all(&user.state.store) {
                                        option value=(entry.scope.as_str()) { (entry.scope.as_str()) }
                                    }
                                }
                            }
                            div {
                                label for="last_day" { "Last day (empty: never expires)" }
                                input #last_day name="last_day" type="date";
                            }
                            div {
                                label for="new_owner" { "New owner (empty: none)" }
                                input #new_owner name="new_owner" type="text" dir="auto" autocomplete="off";
                            }
                        }
                        p .hint { "The next page shows how many keys are affected. Nothing is changed yet." }
                        div .actions { button type="submit" { "Continue" } }
                        (end_marker())
                    }
                }
            }
        }
    }
}

fn act_of(store: &Store, input: &mut FormInput) -> Result<(BulkAct, String), Problem> {
    let wrong = |name: &str, text: &str| Err(Problem::invalid(vec![FieldError::field(name, text)]));
    Ok(match input.text("act").as_str() {
        "revoke" => (BulkAct::Revoke, "Deactivate".to_owned()),
        "delete" => (BulkAct::Delete, "Delete the inactive ones of".to_owned()),
        "remove_scope" => {
            let name = input.text("remove");
            let Ok(entry) = store.catalogue().find(&name) else {
                return wrong("scopes", "is not a scope of this store");
            };
            let text = format!("Remove the scope {} from", entry.scope.as_str());
            (BulkAct::RemoveScopes(vec![entry.scope.clone()]), text)
        }
        "set_expiry" => match input.text("last_day").as_str() {
            "" => (BulkAct::SetExpiry(Expiry::Never), "Remove the expiry of".to_owned()),
            day => match rfc3339::end_of_day(day) {
                Some(end) => (
                    BulkAct::SetExpiry(Expiry::At(end)),
                    format!("Set the last day {day} (UTC) of"),
                ),
                None => {
                    return wrong(Field::ExpiresAt.as_str(), "must be a date such as 2030-01-31");
                }
            },
        },
        "set_owner" => match input.text("new_owner").trim() {
            "" => (BulkAct::SetOwner(None), "Remove the owner of".to_owned()),
            owner => {
                (BulkAct::SetOwner(Some(owner.to_owned())), format!("Set the owner {owner} of"))
            }
        },
        _ => return wrong("act", "is not an act"),
    })
}

/// `POST /bulk`: counts the keys, and asks for confirmation.
pub(crate) async fn confirm(
    user: User,
    CompleteForm(mut input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    let store = &user.state.store;
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let filter = KeyFilter::read(store, &mut input);
    let (act, text) = act_of(store, &mut input).map_err(|problem| user.error_page(problem))?;
    let (scope, attempt) = bulk::needed(&act);
    user.require(&scope, attempt, None).await?;
    let query = filter.query(store).map_err(|problem| user.error_page(problem))?;
    let count = move |acting: Acting<'_>| acting.count_for_bulk(&query);
    let keys = user.caller.read_many(store, count).await.map_err(|error| user.error_page(error))?;
    let (count, counted) = (keys.len(), &user.state.counted);
    counted.check_room(count).map_err(|problem| user.error_page(problem))?;
    let token = counted.keep(user.caller.actor(), act, keys);
    let token = token.map_err(|error| user.error_page(error))?;
    let list = user.base.path(&filter.address());
    let body = html! {
        div .card .notice {
            h1 { (text) " " (keys_text(count)) "?" }
            @if filter.is_set() {
                p { "These are the keys that the list selects now. A key that changes before you confirm is left alone." }
            } @else {
                p { strong { "These are all keys that you can see." } " A key that changes before you confirm is left alone." }
            }
            form .actions method="post" action=(user.base.path(&format!("/bulk/{token}"))) {
                button .danger type="submit" { "Confirm" }
                a .button .quiet href=(list) { "Cancel" }
                (end_marker())
            }
        }
    };
    Ok(layout::page(&user.layout("Change keys"), StatusCode::OK, &body))
}

/// `POST /bulk/{token}`: does the act on the next counted keys.
pub(crate) async fn run(
    user: User,
    Path(token): Path<String>,
    CompleteForm(_): CompleteForm,
) -> Result<Response, EarlyResponse> {
    let (store, counted): (_, &Counted) = (&user.state.store, &user.state.counted);
    let report = bulk::part(store, counted, &user.caller, &token).await;
    let report = report.map_err(|error| user.error_page(error))?;
    Ok(show(&user, &token, &report))
}

fn show(user: &User, token: &str, report: &BulkReport) -> Response {
    let body = html! {
        div .card .notice {
            h1 { "Done for " (keys_text(report.done)) }
            @if report.left_alone_count > 0 {
                p .banner .warn role="status" { (keys_text(report.left_alone_count)) " left alone." }
                ul {
                    @for key in &report.left_alone {
                        li {
                            a .mono href=(user.base.path(&format!("/keys/{}", key.id))) { (key.id) }
                            ": " (key.detail)
                        }
                    }
                }
            }
            @if report.remaining > 0 {
                p { (keys_text(report.remaining)) " remain." }
                form .actions method="post" action=(user.base.path(&format!("/bulk/{token}"))) {
                    button .primary type="submit" { "Continue" }
                    (end_marker())
                }
            } @else {
                p .actions { a .button .primary href=(user.base.path("/")) { "Back to the list" } }
            }
        }
    };
    layout::page(&user.layout("Change keys"), StatusCode::OK, &body)
}

fn keys_text(count: usize) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}
