//! Rotation: a new key replaces an old one, which may stay valid for a grace period.

use super::{
    form_body::{CompleteForm, end_marker},
    layout::{self, EarlyResponse},
    session::{FormState, Token},
    submission::{self, already_submitted, origin, reveal},
    user::User,
};
use axum::{
    extract::{OriginalUri, Path},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use maud::html;
use portcullis::{Error, audit::Attempt, scope::catalogue::ADMIN_KEY_UPDATE};
use std::time::Duration;

/// The grace periods, in seconds.
const GRACE_PERIODS: [(&str, u64); 4] =
    [("Not at all", 0), ("One hour", 3600), ("One day", 86_400), ("One week", 7 * 86_400)];

/// `GET /keys/{id}/rotate`
pub(crate) async fn page(user: User, Path(id): Path<String>) -> Result<Response, EarlyResponse> {
    let record = user.find_key(&id, &ADMIN_KEY_UPDATE, Attempt::Rotate).await?;
    let form = user.state.sessions.open_form(user.session);
    let form = form.map_err(|error| user.error_page(Error::from(error)))?;
    let here = user.base.path(&format!("/keys/{}", record.id));
    let body = html! {
        div .card .notice {
            h1 { "Rotate " bdi { (record.name) } }
            p { "A new key with the same name and scopes replaces this one. It is shown once." }
            form method="post" action=(format!("{here}/rotate")) {
                input type="hidden" name="form" value=(form.to_text());
                fieldset .plain {
                    legend { "How long does the old key stay valid?" }
                    div .choices {
                        @for (index, (text, seconds)) in GRACE_PERIODS.iter().enumerate() {
                            label .choice for=(format!("grace-{seconds}")) {
                                input type="radio" id=(format!("grace-{seconds}")) name="grace"
                                    value=(seconds) checked[index == 0];
                                (text)
                            }
                        }
                    }
                }
                div .actions {
                    button .primary type="submit" { "Rotate key" }
                    a .button .quiet href=(here) { "Cancel" }
                }
                (end_marker())
            }
        }
    };
    Ok(layout::page(&user.layout("Rotate key"), StatusCode::OK, &body))
}

/// `POST /keys/{id}/rotate`: responds with the page that shows the new key.
pub(crate) async fn rotate(
    user: User,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    CompleteForm(mut input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    let record = user.find_key(&id, &ADMIN_KEY_UPDATE, Attempt::Rotate).await?;
    let id = record.id;
    let grace = input.text("grace");
    let known = GRACE_PERIODS.iter().find(|(_, seconds)| seconds.to_string() == grace);
    let reopen = || Ok(user.base.redirect(&format!("/keys/{id}/rotate")));
    let (Some((_, seconds)), Some(token)) = (known, Token::from_text(&input.text("form"))) else {
        return reopen();
    };
    match user.state.sessions.submit_form(user.session, Some(token)) {
        FormState::Open => {}
        FormState::Unknown => return reopen(),
        previous => return Ok(already_submitted(&user, previous)),
    }
    let grace = Duration::from_secs(*seconds);
    let rotated = submission::execute(&user, token, move |acting| acting.rotate(id, grace)).await;
    let issued = rotated.map_err(|failure| failure.into_page(&user))?;
    Ok(reveal(&user, &origin(&user, &uri, &headers), issued))
}
