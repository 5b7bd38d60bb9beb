//! Deactivating an active key, and deleting an inactive one.

use super::{
    form_body::{CompleteForm, end_marker},
    layout::{self, EarlyResponse},
    user::User,
};
use axum::{extract::Path, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Acting, Change, Error, Record,
    audit::Attempt,
    scope::catalogue::{ADMIN_KEY_DELETE, ADMIN_KEY_UPDATE},
};

/// `POST /keys/{id}/deactivate`: deactivates the key and ignores the rest of its form.
pub(crate) async fn deactivate(
    user: User,
    Path(id): Path<String>,
) -> Result<Response, EarlyResponse> {
    let id = user.parse_id(&id)?;
    let done = user.caller.act(&user.state.store, move |a| a.update(id, Change::deactivate()));
    match done.await {
        Ok(_) => Ok(user.base.redirect(&format!("/keys/{id}?saved=1"))),
        Err(error) => Err(user.error_page(error)),
    }
}

/// `GET /keys/{id}/delete`
pub(crate) async fn confirm_deletion(
    user: User,
    Path(id): Path<String>,
) -> Result<Response, EarlyResponse> {
    let record = user.find_key(&id, &ADMIN_KEY_DELETE, Attempt::Delete).await?;
    if record.active {
        return Err(user.error_page(Error::StillActive(record.id)));
    }
    if record.imported.is_some() {
        return Err(user.error_page(Error::IsImported(record.id)));
    }
    Ok(confirm(&user, StatusCode::OK, &record, None))
}

fn confirm(user: &User, status: StatusCode, record: &Record, warning: Option<&str>) -> Response {
    let here = user.base.path(&format!("/keys/{}", record.id));
    let body = html! {
        div .card .notice {
            h1 { "Delete " bdi { (record.name) } "?" }
            @if let Some(warning) = warning { p .banner .bad role="alert" { (warning) } }
            p {
                "The key " span .mono { (layout::hint(&user.state.store, record)) }
                " is deleted permanently. Its entries in the audit log stay."
            }
            form .actions method="post" action=(format!("{here}/delete")) {
                input type="hidden" name="revision" value=(record.revision);
                button .danger type="submit" { "Delete key" }
                a .button .quiet href=(here) { "Cancel" }
                (end_marker())
            }
        }
    };
    layout::page(&user.layout("Delete key"), status, &body)
}

/// `POST /keys/{id}/delete`: deletes the key if it has not changed since the confirmation showed it.
pub(crate) async fn delete(
    user: User,
    Path(id): Path<String>,
    CompleteForm(mut input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    let id = user.parse_id(&id)?;
    let revision = input.text("revision").parse().unwrap_or(0);
    let work = move |acting: Acting<'_>| match acting.delete_if(id, revision) {
        Err(Error::Changed(_)) => Ok(false),
        done => done.map(|()| true),
    };
    match user.caller.act(&user.state.store, work).await {
        Ok(true) => Ok(user.base.redirect("/?deleted=1")),
        Ok(false) => {
            let record = user.find_key(&id.to_string(), &ADMIN_KEY_DELETE, Attempt::Delete).await?;
            if record.active {
                return Err(user.error_page(Error::StillActive(id)));
            }
            let warning = "Somebody else changed this key since you opened this page. Nothing was deleted; check the key again.";
            Ok(confirm(&user, StatusCode::CONFLICT, &record, Some(warning)))
        }
        Err(error) => Err(user.error_page(error)),
    }
}

/// Renders the button that deactivates an active key, or deletes an inactive one.
pub(crate) fn removal(user: &User, record: &Record, here: &str) -> Markup {
    html! {
        @if record.active && user.may(&ADMIN_KEY_UPDATE) {
            form .card method="post" action=(format!("{here}/deactivate")) {
                h2 { "Deactivate" }
                p .hint {
                    "The key is refused from the next request on. You can activate it again later."
                    @if user.is(record.id) { strong { " You are logged in with this key." } }
                }
                button .danger type="submit" { "Deactivate" }
            }
        } @else if record.imported.is_some() {
            p .hint { "An imported key cannot be deleted: a later import would bring it back." }
        } @else if !record.active && user.may(&ADMIN_KEY_DELETE) {
            div .card {
                h2 { "Delete" }
                p .hint { "You can delete an inactive key permanently. Its entries in the audit log stay." }
                a .button .danger href=(format!("{here}/delete")) { "Delete…" }
            }
        }
    }
}
