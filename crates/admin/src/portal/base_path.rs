//! The path below which the host has mounted the portal.

use super::state::PortalState;
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{Extensions, HeaderValue, StatusCode, Uri, header::LOCATION, request::Parts},
    response::{IntoResponse, Response},
};
use std::convert::Infallible;

/// The prefix of all paths of the portal; empty if it is mounted at the root.
#[derive(Default)]
pub(crate) struct BasePath(String);

impl BasePath {
    /// Derives the prefix from the original and the nested path of a request.
    pub(crate) fn of(uri: &Uri, extensions: &Extensions) -> Self {
        let full = extensions.get::<OriginalUri>().map_or(uri.path(), |uri| uri.0.path());
        Self(full.strip_suffix(uri.path()).unwrap_or(full).trim_end_matches('/').to_owned())
    }

    /// Returns a path of the portal as browsers see it.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Redirects a browser to another page of the portal, with GET.
    pub(crate) fn redirect(&self, path: &str) -> Response {
        let mut response = StatusCode::SEE_OTHER.into_response();
        if let Ok(location) = HeaderValue::try_from(self.path(path)) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}

impl FromRequestParts<PortalState> for BasePath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &PortalState) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri, &parts.extensions))
    }
}
