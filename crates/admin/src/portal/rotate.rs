//! Rotate: a new key in the place of one, whose secret may work on for a while.

use super::{
    create::{origin, reveal},
    edit::find,
    frame::{self, Frame},
    once::{self, sent_before},
    pairs::{Whole, end},
    session::{Form, Token},
    visitor::{Stop, Visitor},
};
use axum::{
    extract::{OriginalUri, Path},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use maud::html;
use portcullis::{Attempt, Error, scope::catalogue::ADMIN_KEY_UPDATE};
use std::time::Duration;

/// How long the old secret may work on.
const GRACES: [(&str, u64); 4] =
    [("Not at all", 0), ("One hour", 3600), ("One day", 86_400), ("One week", 7 * 86_400)];

/// `GET /keys/{id}/rotate`
pub(crate) async fn page(visitor: Visitor, Path(id): Path<String>) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_UPDATE, Attempt::Rotate).await?;
    let form = visitor.site.sessions.open_form(visitor.session);
    let form = form.map_err(|error| visitor.stop(Error::from(error)))?;
    let here = visitor.base.path(&format!("/keys/{}", record.id));
    let body = html! {
        div .card .notice {
            h1 { "Rotate " bdi { (record.name) } }
            p { "A new key takes its place, with the same name and scopes. It is shown once." }
            form method="post" action=(format!("{here}/rotate")) {
                input type="hidden" name="form" value=(form.to_text());
                fieldset .plain {
                    legend { "How long does the old key work on?" }
                    div .choices {
                        @for (index, (text, seconds)) in GRACES.iter().enumerate() {
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
                (end())
            }
        }
    };
    Ok(frame::page(&Frame::of(&visitor, "Rotate key"), StatusCode::OK, &body))
}

/// `POST /keys/{id}/rotate`: answers with the reveal page.
pub(crate) async fn rotate(
    visitor: Visitor,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Whole(mut pairs): Whole,
) -> Result<Response, Stop> {
    let record = find(&visitor, &id, &ADMIN_KEY_UPDATE, Attempt::Rotate).await?;
    let id = record.id;
    let grace = pairs.text("grace");
    let known = GRACES.iter().find(|(_, seconds)| seconds.to_string() == grace);
    let again = || Ok(visitor.base.redirect(&format!("/keys/{id}/rotate")));
    let (Some((_, seconds)), Some(token)) = (known, Token::from_text(&pairs.text("form"))) else {
        return again();
    };
    match visitor.site.sessions.send_form(visitor.session, Some(token)) {
        Form::Open => {}
        Form::Unknown => return again(),
        sent => return Ok(sent_before(&visitor, sent)),
    }
    let grace = Duration::from_secs(*seconds);
    let rotated = once::act(&visitor, token, move |acting| acting.rotate(id, grace)).await;
    let issued = rotated.map_err(|failed| failed.stop(&visitor))?;
    Ok(reveal(&visitor, &origin(&visitor, &uri, &headers), issued))
}
