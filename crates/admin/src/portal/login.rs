//! Logging in with a key, and out again.

use super::{
    Site,
    frame::{self, Frame, mark},
    pairs::Pairs,
    visitor::{Base, Stop, UNAVAILABLE, Visitor, forget, remember, token},
};
use crate::{
    caller::{self, Caller},
    doorkeeper::AtTheDoor,
};
use axum::{
    extract::{FromRequest, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::Response,
};
use maud::html;
use portcullis::{Attempt, Principal, Refusal, scope::catalogue::ADMIN_KEY_LIST};
use std::net::IpAddr;
use zeroize::Zeroizing;

/// `GET /login`
pub(crate) async fn page(
    base: Base,
    Query(query): Query<Vec<(String, String)>>,
    visitor: Result<Visitor, Stop>,
) -> Response {
    if let Ok(visitor) = visitor {
        return visitor.base.redirect("/");
    }
    let notice = query.iter().find_map(|(name, _)| match name.as_str() {
        "ended" => Some(
            "Your session has ended. A form that was sent after that was not saved. Log in again.",
        ),
        "out" => Some("You are logged out."),
        _ => None,
    });
    show(&base, StatusCode::OK, notice, None)
}

/// `POST /login`
pub(crate) async fn log_in(State(site): State<Site>, request: Request) -> Result<Response, Stop> {
    let base = Base::of(request.uri(), request.extensions());
    let peer = caller::peer(request.extensions());
    let door = request.extensions().get::<AtTheDoor>().cloned();
    let session = token(&site, request.headers());
    let mut form = Pairs::from_request(request, &site).await?;
    // A new login replaces the old session, once the whole form is here.
    if let Some(session) = session {
        site.sessions.end(session);
    }
    let key = Zeroizing::new(form.text("key"));
    let digest = site.store.digest(key.trim().as_bytes());
    let checked = site.store.authenticate_key(key.trim().as_bytes());
    let wait = door.and_then(|door| door.note(checked.as_ref().map(Principal::id), peer));
    let principal = match checked {
        Ok(principal) => principal,
        Err(refusal) => return Ok(turn_away(&base, &refusal, peer, wait)),
    };
    let id = principal.id();
    let caller = Caller::Key(principal, peer);
    if caller.require(&site.store, &ADMIN_KEY_LIST, Attempt::List, None).await.is_err() {
        let why =
            "This key may not see API keys: it lacks the scope admin.key.list. Use an admin key.";
        return Ok(show(&base, StatusCode::FORBIDDEN, None, Some(why)));
    }
    match site.sessions.begin(id, digest) {
        Ok(session) => Ok(remember(&site, session, base.redirect("/"))),
        Err(error) => {
            tracing::error!(%error, "no session can be made");
            let why = "The server cannot make a session at the moment.";
            Ok(show(&base, StatusCode::SERVICE_UNAVAILABLE, None, Some(why)))
        }
    }
}

/// `POST /logout`
pub(crate) async fn log_out(State(site): State<Site>, base: Base, headers: HeaderMap) -> Response {
    if let Some(session) = token(&site, &headers) {
        site.sessions.end(session);
    }
    forget(&site, base.redirect("/login?out=1"))
}

/// The page for a key that does not pass. It tells no kind of bad key from another.
fn turn_away(base: &Base, refusal: &Refusal, peer: Option<IpAddr>, wait: Option<u64>) -> Response {
    if let Some(seconds) = wait {
        let why = "This key is not valid, and too many such keys came from your address. Wait a moment; a valid key \
                   passes all the same.";
        let mut page = show(base, StatusCode::TOO_MANY_REQUESTS, None, Some(why));
        page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        return page;
    }
    caller::log(refusal, peer);
    let (status, why) = match refusal {
        Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE),
        _ => {
            (StatusCode::UNAUTHORIZED, "This key is not valid. Check that it is whole and active.")
        }
    };
    show(base, status, None, Some(why))
}

fn show(base: &Base, status: StatusCode, notice: Option<&str>, wrong: Option<&str>) -> Response {
    let body = html! {
        div .card .login {
            div .brand { (mark()) span { "Portcullis" } }
            h1 { "Log in" }
            p .lead { "Use an admin key to manage API keys." }
            @if let Some(notice) = notice { p .banner role="status" { (notice) } }
            form method="post" action=(base.path("/login")) {
                // Password managers ask for a user's name.
                input type="text" name="username" value="admin" autocomplete="username" hidden readonly;
                div .field .wrong[wrong.is_some()] {
                    label for="key" { "Admin key" }
                    @if let Some(wrong) = wrong { p .error #key-error { (wrong) } }
                    input #key .mono name="key" type="password" required autofocus
                        autocomplete="current-password" spellcheck="false" autocapitalize="off"
                        aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong.map(|_| "key-error")];
                }
                button .primary .wide type="submit" { "Log in" }
            }
        }
    };
    frame::page(&Frame::outside(base, "Log in"), status, &body)
}
