//! Login with a key, and logout.

use super::{
    base_path::BasePath,
    form_body::FormInput,
    layout::{self, EarlyResponse, Layout, logo},
    session_cookie,
    state::PortalState,
    user::{UNAVAILABLE, User},
};
use crate::{
    caller::{Caller, log_refusal, peer},
    login_limiter::SharedLoginLimiter,
};
use axum::{
    extract::{FromRequest, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::Response,
};
use maud::html;
use portcullis::{Refusal, audit::Attempt, scope::catalogue::ADMIN_KEY_LIST};
use std::net::IpAddr;
use zeroize::Zeroizing;

/// `GET /login`
pub(crate) async fn page(
    base: BasePath,
    Query(query): Query<Vec<(String, String)>>,
    user: Result<User, EarlyResponse>,
) -> Response {
    if let Ok(user) = user {
        return user.base.redirect("/");
    }
    let notice = query.iter().find_map(|(name, _)| match name.as_str() {
        "ended" => Some(
            "Your session has ended. A form that you sent after that was not saved. Log in again.",
        ),
        "out" => Some("You are logged out."),
        _ => None,
    });
    show(&base, StatusCode::OK, notice, None)
}

/// `POST /login`
pub(crate) async fn log_in(
    State(state): State<PortalState>,
    request: Request,
) -> Result<Response, EarlyResponse> {
    let base = BasePath::of(request.uri(), request.extensions());
    let peer = peer(request.extensions());
    let limiter = request.extensions().get::<SharedLoginLimiter>().cloned();
    let session = session_cookie::token(&state, request.headers());
    let mut form = FormInput::from_request(request, &state).await?;
    // A new login replaces the old session, once the complete form has arrived.
    if let Some(session) = session {
        state.sessions.end(session);
    }
    let key = Zeroizing::new(form.text("key"));
    let checked = state.store.authenticate_with_handle_from(key.trim().as_bytes(), peer);
    let id = checked.as_ref().map(|(principal, _)| principal.id());
    let wait = limiter.and_then(|limiter| limiter.record(id, peer));
    let (principal, handle) = match checked {
        Ok(authenticated) => authenticated,
        Err(refusal) => return Ok(refusal_page(&base, &refusal, peer, wait)),
    };
    let id = principal.id();
    let caller = Caller::Key(principal, peer);
    if caller.require(&state.store, &ADMIN_KEY_LIST, Attempt::List, None).await.is_err() {
        let text =
            "This key may not list API keys: it lacks the scope admin.key.list. Use an admin key.";
        return Ok(show(&base, StatusCode::FORBIDDEN, None, Some(text)));
    }
    match state.sessions.start(id, handle) {
        Ok(session) => Ok(session_cookie::set(&state, session, base.redirect("/"))),
        Err(error) => {
            tracing::error!(%error, "a session could not be created");
            let text = "The server cannot create a session now. Try again shortly.";
            Ok(show(&base, StatusCode::SERVICE_UNAVAILABLE, None, Some(text)))
        }
    }
}

/// `POST /logout`
pub(crate) async fn log_out(
    State(state): State<PortalState>,
    base: BasePath,
    headers: HeaderMap,
) -> Response {
    if let Some(session) = session_cookie::token(&state, &headers) {
        state.sessions.end(session);
    }
    session_cookie::delete(&state, base.redirect("/login?out=1"))
}

/// Returns the page for a refused key. It does not say why the key is refused.
fn refusal_page(
    base: &BasePath,
    refusal: &Refusal,
    peer: Option<IpAddr>,
    wait: Option<u64>,
) -> Response {
    if let Some(seconds) = wait {
        let text = "This key is not valid, and too many invalid keys came from your address. Wait a moment; a valid \
                    key is accepted at any time.";
        let mut page = show(base, StatusCode::TOO_MANY_REQUESTS, None, Some(text));
        page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        return page;
    }
    log_refusal(refusal, peer);
    if let Refusal::RateLimited { retry_after, .. } = refusal {
        let text = format!("This key made all requests of its rate. Try again in {retry_after} s.");
        let mut page = show(base, StatusCode::TOO_MANY_REQUESTS, None, Some(&text));
        page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after));
        return page;
    }
    let (status, text) = match refusal {
        Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE),
        _ => (
            StatusCode::UNAUTHORIZED,
            "This key is not valid. Check that it is complete and active.",
        ),
    };
    show(base, status, None, Some(text))
}

fn show(
    base: &BasePath,
    status: StatusCode,
    notice: Option<&str>,
    error: Option<&str>,
) -> Response {
    let body = html! {
        div .card .login {
            div .brand { (logo()) span { "Portcullis" } }
            h1 { "Log in" }
            p .lead { "Use an admin key to manage API keys." }
            @if let Some(notice) = notice { p .banner role="status" { (notice) } }
            form method="post" action=(base.path("/login")) {
                // Password managers expect a user name.
                input type="text" name="username" value="admin" autocomplete="username" hidden readonly;
                div .field .invalid[error.is_some()] {
                    label for="key" { "Admin key" }
                    @if let Some(error) = error { p .error #key-error { (error) } }
                    input #key .mono name="key" type="password" required autofocus
                        autocomplete="current-password" spellcheck="false" autocapitalize="off"
                        aria-invalid=[error.map(|_| "true")] aria-describedby=[error.map(|_| "key-error")];
                }
                button .primary .wide type="submit" { "Log in" }
            }
        }
    };
    layout::page(&Layout::signed_out(base, "Log in"), status, &body)
}
