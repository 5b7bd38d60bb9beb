//! The body of a form → names and values. An incomplete form is refused.

use super::{
    base_path::BasePath,
    layout::{self, EarlyResponse, Layout},
    state::PortalState,
};
use axum::{
    Form,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use maud::{Markup, html};
use std::{collections::BTreeSet, time::Duration};

const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The last field of a form. A truncated body can still parse as a form with fewer fields, such as
/// a key without an expiry.
const END_MARKER: (&str, &str) = ("end", "1");
/// The fields that a form may have more than once. Of any other field, a second value would be
/// ignored silently, so it is refused.
const REPEATABLE: [&str; 4] = ["scope", "was_scope", "conflict", "id"];

/// The names and values that a browser sent.
pub(crate) struct FormInput(Vec<(String, String)>);

impl FormInput {
    /// Removes and returns a value; empty if the form lacks it.
    pub(crate) fn text(&mut self, name: &str) -> String {
        self.find(name).unwrap_or_default()
    }

    /// Removes and returns a value, unless the form lacks it.
    fn find(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Returns all values of this name.
    pub(crate) fn all(&self, name: &str) -> BTreeSet<String> {
        self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone()).collect()
    }

    fn has_single_values(&self) -> bool {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| match pair {
            [one, other] => one != other || REPEATABLE.contains(one),
            _ => true,
        })
    }
}

impl FromRequest<PortalState> for FormInput {
    type Rejection = EarlyResponse;

    async fn from_request(request: Request, state: &PortalState) -> Result<Self, EarlyResponse> {
        let base = BasePath::of(request.uri(), request.extensions());
        let read = Form::<Vec<(String, String)>>::from_request(request, state);
        let status = match tokio::time::timeout(BODY_TIMEOUT, read).await {
            Ok(Ok(Form(input))) => {
                let input = Self(input);
                if input.has_single_values() {
                    return Ok(input);
                }
                StatusCode::BAD_REQUEST
            }
            Ok(Err(rejection)) => axum::response::IntoResponse::into_response(rejection).status(),
            Err(_) => StatusCode::REQUEST_TIMEOUT,
        };
        Err(incomplete(&base, status))
    }
}

/// A form that arrived with its last field.
pub(crate) struct CompleteForm(pub(crate) FormInput);

impl FromRequest<PortalState> for CompleteForm {
    type Rejection = EarlyResponse;

    async fn from_request(request: Request, state: &PortalState) -> Result<Self, EarlyResponse> {
        let base = BasePath::of(request.uri(), request.extensions());
        let mut input = FormInput::from_request(request, state).await?;
        let (name, value) = END_MARKER;
        if input.text(name) == value {
            return Ok(Self(input));
        }
        Err(incomplete(&base, StatusCode::BAD_REQUEST))
    }
}

/// Renders the last field of a form, by which [`CompleteForm`] recognizes a complete form.
pub(crate) fn end_marker() -> Markup {
    html! { input type="hidden" name=(END_MARKER.0) value=(END_MARKER.1); }
}

fn incomplete(base: &BasePath, status: StatusCode) -> EarlyResponse {
    let text = "The form was incomplete, and nothing was changed. Go back and send it again.";
    layout::notice(&Layout::signed_out(base, "Form incomplete"), status, text).into()
}
