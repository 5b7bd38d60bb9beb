//! Deactivating a key, and deleting one that is inactive.

use super::{
    edit::{find, parse},
    frame::{self, Frame},
    pairs::{Whole, end},
    visitor::{Stop, Visitor},
};
use axum::{extract::Path, http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Acting, Attempt, Change, Error, Record,
    scope::catalogue::{ADMIN_KEY_DELETE, ADMIN_KEY_UPDATE},
};

/// `POST /keys/{id}/deactivate`: at once, whatever else the key's form says.
pub(crate) async fn deactivate(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Stop> {
    let id = parse(&visitor, &id)?;
    let done = visitor.caller.act(&visitor.site.store, move |a| a.update(id, Change::deactivate()));
    match done.await {
        Ok(_) => Ok(visitor.base.redirect(&format!("/keys/{id}?saved=1"))),
        Err(denied) => Err(visitor.stop(denied)),
    }
}

/// `GET /keys/{id}/delete`
pub(crate) async fn confirm_deletion(
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_DELETE, Attempt::Delete).await?;
    if record.active {
        return Err(visitor.stop(Error::StillActive(record.id)));
    }
    Ok(confirm(&visitor, StatusCode::OK, &record, None))
}

fn confirm(
    visitor: &Visitor,
    status: StatusCode,
    record: &Record,
    warning: Option<&str>,
) -> Response {
    let here = visitor.base.path(&format!("/keys/{}", record.id));
    let body = html! {
        div .card .notice {
            h1 { "Delete " bdi { (record.name) } "?" }
            @if let Some(warning) = warning { p .banner .bad role="alert" { (warning) } }
            p {
                "The key " span .mono { (visitor.site.store.prefix().hint(record.id)) "…" }
                " is deleted for good and can never work again. Its entries in the audit log stay."
            }
            form .actions method="post" action=(format!("{here}/delete")) {
                input type="hidden" name="revision" value=(record.revision);
                button .danger type="submit" { "Delete key" }
                a .button .quiet href=(here) { "Cancel" }
                (end())
            }
        }
    };
    frame::page(&Frame::of(visitor, "Delete key"), status, &body)
}

/// `POST /keys/{id}/delete`: deletes the key that the confirmation showed, as it was then.
pub(crate) async fn delete(
    visitor: Visitor,
    Path(id): Path<String>,
    Whole(mut pairs): Whole,
) -> Result<Response, Stop> {
    let id = parse(&visitor, &id)?;
    let revision = pairs.text("revision").parse().unwrap_or(0);
    let work = move |acting: Acting<'_>| match acting.delete_if(id, revision) {
        Err(Error::Changed(_)) => Ok(false),
        done => done.map(|()| true),
    };
    match visitor.caller.act(&visitor.site.store, work).await {
        Ok(true) => Ok(visitor.base.redirect("/?deleted=1")),
        Ok(false) => {
            let record =
                find(&visitor, &id.to_string(), &ADMIN_KEY_DELETE, Attempt::Delete).await?;
            if record.active {
                return Err(visitor.stop(Error::StillActive(id)));
            }
            let warning = "Somebody else changed this key since this page was opened. Nothing was deleted; look at it \
                           again.";
            Ok(confirm(&visitor, StatusCode::CONFLICT, &record, Some(warning)))
        }
        Err(denied) => Err(visitor.stop(denied)),
    }
}

/// How the key is taken away: deactivated while it is active, deleted afterwards.
pub(crate) fn removal(visitor: &Visitor, record: &Record, here: &str) -> Markup {
    html! {
        @if record.active && visitor.may(&ADMIN_KEY_UPDATE) {
            form .card method="post" action=(format!("{here}/deactivate")) {
                h2 { "Take it away" }
                p .hint {
                    "The key is refused from the next request on. You can activate it again."
                    @if visitor.is(record.id) { strong { " It is the key that you are logged in with." } }
                }
                button .danger type="submit" { "Deactivate" }
            }
        } @else if !record.active && visitor.may(&ADMIN_KEY_DELETE) {
            div .card {
                h2 { "Delete it" }
                p .hint { "An inactive key can be deleted for good. Its entries in the audit log stay." }
                a .button .danger href=(format!("{here}/delete")) { "Delete…" }
            }
        }
    }
}
