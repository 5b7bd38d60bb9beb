//! A form's body → names and values, refused unless it is whole.

use super::{
    Site,
    frame::{self, Frame},
    visitor::{Base, Stop},
};
use axum::{
    Form,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use maud::{Markup, html};
use std::{collections::BTreeSet, time::Duration};

const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The last field of a form. A body that was cut off can still parse as a form with fewer fields,
/// such as a key without an expiry.
const END: (&str, &str) = ("end", "1");
/// The fields that a form may hold more than once. For any other field a second value would be
/// silently ignored.
const REPEATED: [&str; 3] = ["scope", "was_scope", "conflict"];

/// The names and values that a browser sent.
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The value of this name; empty where there is none.
    pub(crate) fn text(&mut self, name: &str) -> String {
        self.find(name).unwrap_or_default()
    }

    /// The value of this name, unless the form lacks it.
    pub(crate) fn find(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(place).1)
    }

    pub(crate) fn all(&self, name: &str) -> BTreeSet<String> {
        self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone()).collect()
    }

    fn has_single_values(&self) -> bool {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| match pair {
            [one, other] => one != other || REPEATED.contains(one),
            _ => true,
        })
    }
}

impl FromRequest<Site> for Pairs {
    type Rejection = Stop;

    async fn from_request(request: Request, site: &Site) -> Result<Self, Stop> {
        let base = Base::of(request.uri(), request.extensions());
        let read = Form::<Vec<(String, String)>>::from_request(request, site);
        let status = match tokio::time::timeout(BODY_TIMEOUT, read).await {
            Ok(Ok(Form(pairs))) => {
                let pairs = Self(pairs);
                if pairs.has_single_values() {
                    return Ok(pairs);
                }
                StatusCode::BAD_REQUEST
            }
            Ok(Err(rejection)) => axum::response::IntoResponse::into_response(rejection).status(),
            Err(_) => StatusCode::REQUEST_TIMEOUT,
        };
        Err(not_whole(&base, status))
    }
}

/// A form that arrived with its last field.
pub(crate) struct Whole(pub(crate) Pairs);

impl FromRequest<Site> for Whole {
    type Rejection = Stop;

    async fn from_request(request: Request, site: &Site) -> Result<Self, Stop> {
        let base = Base::of(request.uri(), request.extensions());
        let mut pairs = Pairs::from_request(request, site).await?;
        let (name, value) = END;
        if pairs.text(name) == value {
            return Ok(Self(pairs));
        }
        Err(not_whole(&base, StatusCode::BAD_REQUEST))
    }
}

/// The last field of a form, by which [`Whole`] recognises that nothing is missing.
pub(crate) fn end() -> Markup {
    html! { input type="hidden" name=(END.0) value=(END.1); }
}

fn not_whole(base: &Base, status: StatusCode) -> Stop {
    let why = "The form did not arrive whole, and nothing was changed. Go back, and send it again.";
    Stop::from(frame::notice(&Frame::outside(base, "Not understood"), status, why))
}
