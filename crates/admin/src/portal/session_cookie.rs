//! The cookie that holds the token of a session.

use super::{session::Token, state::PortalState};
use axum::{
    http::{
        HeaderMap, HeaderValue,
        header::{COOKIE, SET_COOKIE},
    },
    response::Response,
};

const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

/// Returns the token in the session cookie. Cookies of other programs on this host can have any
/// bytes and fill several header lines; unreadable cookies are skipped.
pub(crate) fn token(state: &PortalState, headers: &HeaderMap) -> Option<Token> {
    let lines = headers.get_all(COOKIE).iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut values = cookies.filter_map(|cookie| {
        let cookie = cookie.trim_ascii();
        cookie.strip_prefix(state.cookie.as_bytes())?.trim_ascii_start().strip_prefix(b"=")
    });
    values.find_map(|value| Token::from_text(str::from_utf8(value.trim_ascii()).ok()?))
}

/// Sets the session cookie.
pub(crate) fn set(state: &PortalState, session: Token, response: Response) -> Response {
    with_cookie(response, &format!("{}={}; {ATTRIBUTES}", state.cookie, session.to_text()))
}

/// Deletes the session cookie.
pub(crate) fn delete(state: &PortalState, response: Response) -> Response {
    with_cookie(response, &format!("{}=; {ATTRIBUTES}; Max-Age=0", state.cookie))
}

fn with_cookie(mut response: Response, text: &str) -> Response {
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}
