//! A session's cookie → the key that logged in, asked anew on each request.

use super::{
    Site,
    frame::{self, Frame},
    session::Token,
};
use crate::{
    caller::{self, Caller},
    denied::Denied,
};
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{
        Extensions, HeaderMap, HeaderValue, StatusCode, Uri,
        header::{COOKIE, LOCATION, SET_COOKIE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use portcullis::{Attempt, KeyId, Principal, Refusal, Scope, Timestamp};

/// What a page says where no key can be checked now.
pub(crate) const UNAVAILABLE: &str =
    "The server cannot check keys at the moment. Try again shortly.";

/// Who is logged in. A page that takes a `Visitor` is never shown to anybody else.
pub(crate) struct Visitor {
    pub(crate) site: Site,
    pub(crate) base: Base,
    pub(crate) session: Token,
    pub(crate) caller: Caller,
    pub(crate) principal: Principal,
    /// The name of the visitor's key.
    pub(crate) name: String,
}

impl FromRequestParts<Site> for Visitor {
    type Rejection = Stop;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Stop> {
        let base = Base::of(&parts.uri, &parts.extensions);
        let out = |base: &Base| Stop::from(base.redirect("/login"));
        let Some(session) = token(site, &parts.headers) else { return Err(out(&base)) };
        let digest = site.sessions.find(session);
        let principal = match digest.map(|digest| site.store.authenticate_digest(&digest)) {
            Some(Ok(principal)) => principal,
            // That says nothing of the key, whose session goes on.
            Some(Err(Refusal::Unavailable)) => {
                let frame = Frame::outside(&base, "Not available");
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return Err(Stop::from(frame::notice(&frame, status, UNAVAILABLE)));
            }
            _ => {
                site.sessions.end(session);
                return Err(Stop::from(forget(site, base.redirect("/login?ended=1"))));
            }
        };
        let name = site.store.get(principal.id()).map(|record| record.name.clone());
        let caller = Caller::Key(principal.clone(), caller::peer(&parts.extensions));
        let name = name.unwrap_or_default();
        Ok(Self { site: site.clone(), base, session, caller, principal, name })
    }
}

impl Visitor {
    /// Whether the visitor's key has this scope.
    pub(crate) fn may(&self, scope: &Scope) -> bool {
        self.principal.grant().allows(scope)
    }

    /// Passes a visitor whose key has this scope. Another gets a page that says so, and the trail
    /// has it.
    pub(crate) async fn require(
        &self,
        scope: &Scope,
        attempt: Attempt,
        key: Option<KeyId>,
    ) -> Result<(), Stop> {
        let allowed = self.caller.require(&self.site.store, scope, attempt, key).await;
        allowed.map_err(|denied| self.stop(denied))
    }

    /// The time by the store's clock, which decides whether a key has expired.
    pub(crate) fn time(&self) -> Timestamp {
        self.site.store.now()
    }

    /// Whether this is the visitor's own key.
    pub(crate) fn is(&self, id: KeyId) -> bool {
        self.principal.id() == id
    }

    /// Ends the walk with a page that says why.
    pub(crate) fn stop(&self, denied: impl Into<Denied>) -> Stop {
        let (status, why) = match denied.into() {
            Denied::Refused(Refusal::LacksScope(scope)) => {
                (StatusCode::FORBIDDEN, format!("Your key lacks the scope {scope}."))
            }
            Denied::Refused(Refusal::Unavailable) => {
                (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE.into())
            }
            Denied::Refused(_) => {
                self.site.sessions.end(self.session);
                return Stop::from(forget(&self.site, self.base.redirect("/login?ended=1")));
            }
            Denied::Wrong(problem) => (problem.status(), sentence(problem.detail())),
        };
        let title = match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Not allowed",
            status if status.is_server_error() => "Not available",
            _ => "Not possible",
        };
        Stop::from(frame::notice(&Frame::of(self, title), status, &why))
    }

    /// The page of a key that is not there.
    pub(crate) fn no_such_key(&self) -> Stop {
        let why = "There is no key with this id. It may have been deleted.";
        let frame = Frame::of(self, "Not found");
        Stop::from(frame::notice(&frame, StatusCode::NOT_FOUND, why))
    }
}

/// A text of the API as a sentence of a page.
pub(crate) fn sentence(text: &str) -> String {
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{}{end}", capital(text))
}

/// The text with a capital letter, unless it begins with an id, a scope or another name: those
/// keep their case.
pub(crate) fn capital(text: &str) -> String {
    let word = text.split(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_end_matches([',', ';', ':', '.', '?', '!']);
    let is_plain =
        word.chars().all(|sign| sign.is_alphabetic() || matches!(sign, '-' | '\'' | '’'));
    let mut signs = text.chars();
    match signs.next() {
        Some(first) if is_plain => first.to_uppercase().chain(signs).collect(),
        _ => text.to_owned(),
    }
}

/// An answer that ends a walk early.
#[derive(Debug)]
pub(crate) struct Stop(Box<Response>);

impl From<Response> for Stop {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Stop {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// Where the portal is mounted: what stands before its own paths.
#[derive(Default)]
pub(crate) struct Base(String);

impl Base {
    pub(crate) fn of(uri: &Uri, extensions: &Extensions) -> Self {
        let full = extensions.get::<OriginalUri>().map_or(uri.path(), |uri| uri.0.path());
        Self(full.strip_suffix(uri.path()).unwrap_or(full).trim_end_matches('/').to_owned())
    }

    /// A path of the portal as browsers see it.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Leads a browser to another page, which it gets.
    pub(crate) fn redirect(&self, path: &str) -> Response {
        let mut response = StatusCode::SEE_OTHER.into_response();
        if let Ok(place) = HeaderValue::try_from(self.path(path)) {
            response.headers_mut().insert(LOCATION, place);
        }
        response
    }
}

impl FromRequestParts<Site> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &Site,
    ) -> Result<Self, std::convert::Infallible> {
        Ok(Self::of(&parts.uri, &parts.extensions))
    }
}

/// The session that the cookie names. Cookies of other programs on this host come along, of any
/// bytes and in any number of lines; one that cannot be read is skipped.
pub(crate) fn token(site: &Site, headers: &HeaderMap) -> Option<Token> {
    let lines = headers.get_all(COOKIE).iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut values = cookies.filter_map(|cookie| {
        let cookie = cookie.trim_ascii();
        cookie.strip_prefix(site.cookie.as_bytes())?.trim_ascii_start().strip_prefix(b"=")
    });
    values.find_map(|value| Token::from_text(std::str::from_utf8(value.trim_ascii()).ok()?))
}

/// Gives the browser the session.
pub(crate) fn remember(site: &Site, session: Token, response: Response) -> Response {
    with_cookie(response, &format!("{}={}; {ATTRIBUTES}", site.cookie, session.to_text()))
}

/// Takes the session from the browser.
pub(crate) fn forget(site: &Site, response: Response) -> Response {
    with_cookie(response, &format!("{}=; {ATTRIBUTES}; Max-Age=0", site.cookie))
}

const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

fn with_cookie(mut response: Response, text: &str) -> Response {
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_scopes_keep_their_case_at_the_start_of_a_sentence() {
        for (text, sentence_) in [
            (
                "key_8fK2mQ9xZ1a is active; deactivate it",
                "key_8fK2mQ9xZ1a is active; deactivate it.",
            ),
            ("pcl_8fK2mQ9xZ1a: unknown", "pcl_8fK2mQ9xZ1a: unknown."),
            ("api.read is needed", "api.read is needed."),
            ("no key has this id.", "No key has this id."),
            ("scopes: unknown", "Scopes: unknown."),
            ("", "."),
        ] {
            assert_eq!(sentence(text), sentence_);
        }
    }
}
