//! The signed-in user of a page, authenticated again for each request.

use super::{
    base_path::BasePath,
    layout::{self, EarlyResponse, Layout},
    sentence::sentence,
    session::Token,
    session_cookie,
    state::PortalState,
};
use crate::{
    api_error::ApiError,
    caller::{self, Caller},
};
use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use portcullis::{KeyHandle, KeyId, Principal, Record, Refusal, Scope, Timestamp, audit::Attempt};
use std::sync::Arc;

/// The text of a page when this server cannot authenticate any key.
pub(crate) const UNAVAILABLE: &str = "The server cannot check keys now. Try again shortly.";

/// A user who has logged in with a key. axum does not call a handler that takes a `User` without one.
pub(crate) struct User {
    pub(crate) state: PortalState,
    pub(crate) base: BasePath,
    pub(crate) session: Token,
    pub(crate) caller: Caller,
    pub(crate) principal: Principal,
    /// The name of the user's key.
    pub(crate) name: String,
}

impl FromRequestParts<PortalState> for User {
    type Rejection = EarlyResponse;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &PortalState,
    ) -> Result<Self, EarlyResponse> {
        let base = BasePath::of(&parts.uri, &parts.extensions);
        let Some(session) = session_cookie::token(state, &parts.headers) else {
            return Err(base.redirect("/login").into());
        };
        let handle = state.sessions.find(session);
        let address = caller::peer(&parts.extensions);
        let again = |handle: Arc<KeyHandle>| state.store.authenticate_again_from(&handle, address);
        let principal = match handle.map(again) {
            Some(Ok(principal)) => principal,
            // The key may still be valid: keep the session.
            Some(Err(Refusal::Unavailable)) => {
                let layout = Layout::signed_out(&base, "Not available");
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return Err(layout::notice(&layout, status, UNAVAILABLE).into());
            }
            _ => {
                state.sessions.end(session);
                return Err(session_cookie::delete(state, base.redirect("/login?ended=1")).into());
            }
        };
        let name = state.store.get(principal.id()).map(|record| record.name.clone());
        let caller = Caller::Key(principal.clone(), address);
        let name = name.unwrap_or_default();
        Ok(Self { state: state.clone(), base, session, caller, principal, name })
    }
}

impl User {
    /// Returns whether the user's key has this scope.
    pub(crate) fn may(&self, scope: &Scope) -> bool {
        self.principal.grant().allows(scope)
    }

    /// Accepts a user whose key has this scope. Otherwise records the attempt in the audit log and
    /// returns an error page.
    pub(crate) async fn require(
        &self,
        scope: &Scope,
        attempt: Attempt,
        key: Option<KeyId>,
    ) -> Result<(), EarlyResponse> {
        let accepted = self.caller.require(&self.state.store, scope, attempt, key).await;
        accepted.map_err(|error| self.error_page(error))
    }

    /// Returns the time of the store's clock, which decides whether a key has expired.
    pub(crate) fn time(&self) -> Timestamp {
        self.state.store.now()
    }

    /// Returns whether this is the user's own key.
    pub(crate) fn is(&self, id: KeyId) -> bool {
        self.principal.id() == id
    }

    /// Returns the layout of a page with this title.
    pub(crate) fn layout<'l>(&'l self, title: &'l str) -> Layout<'l> {
        #[cfg(feature = "cluster")]
        let has_replicas = self.state.store.following().is_some()
            && !self.caller.acting(&self.state.store).has_boundary();
        #[cfg(not(feature = "cluster"))]
        let has_replicas = false;
        Layout::signed_in(&self.base, title, &self.name, has_replicas)
    }

    /// Parses the key id of a path.
    pub(crate) fn parse_id(&self, id: &str) -> Result<KeyId, EarlyResponse> {
        id.parse().map_err(|_| self.no_such_key())
    }

    /// Returns the key of this id, if the user has the scope.
    pub(crate) async fn find_key(
        &self,
        id: &str,
        scope: &Scope,
        attempt: Attempt,
    ) -> Result<Arc<Record>, EarlyResponse> {
        self.require(scope, attempt, id.parse().ok()).await?;
        let id = self.parse_id(id)?;
        self.visible(id).ok_or_else(|| self.no_such_key())
    }

    /// Returns the record of a key, unless it does not exist for the user.
    pub(crate) fn visible(&self, id: KeyId) -> Option<Arc<Record>> {
        self.caller.acting(&self.state.store).visible(id)
    }

    /// Returns the error page for an error.
    pub(crate) fn error_page(&self, error: impl Into<ApiError>) -> EarlyResponse {
        let (status, text) = match error.into() {
            ApiError::Refused(Refusal::LacksScope(scope)) => {
                (StatusCode::FORBIDDEN, format!("Your key lacks the scope {scope}."))
            }
            ApiError::Refused(Refusal::Unavailable) => {
                (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE.into())
            }
            ApiError::Refused(_) => {
                self.state.sessions.end(self.session);
                let login = self.base.redirect("/login?ended=1");
                return session_cookie::delete(&self.state, login).into();
            }
            ApiError::Problem(problem) => (problem.status(), sentence(problem.detail())),
        };
        let title = match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Not allowed",
            status if status.is_server_error() => "Not available",
            _ => "Not possible",
        };
        layout::notice(&self.layout(title), status, &text).into()
    }

    /// Returns the error page for an unknown key.
    pub(crate) fn no_such_key(&self) -> EarlyResponse {
        let text = "There is no key with this id. It may have been deleted.";
        layout::notice(&self.layout("Not found"), StatusCode::NOT_FOUND, text).into()
    }
}
