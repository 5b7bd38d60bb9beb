//! Add API Key, and the one page that ever shows a key.

use super::{
    fields::Fields,
    form::{KeyForm, Place, Wrongs},
    frame::{self, Frame},
    once::{self, Failed, sent_before},
    pairs::{Whole, end},
    session::{Form, Token},
    visitor::{Stop, Visitor},
};
use axum::{
    extract::OriginalUri,
    http::{HeaderMap, StatusCode, Uri, header::HOST, uri::Authority},
    response::Response,
};
use maud::html;
use portcullis::{
    Attempt, Error, Grant, Issued, Metadata, NewKey, scope::catalogue::ADMIN_KEY_CREATE,
};

/// `GET /keys/new`
pub(crate) async fn page(visitor: Visitor) -> Result<Response, Stop> {
    visitor.require(&ADMIN_KEY_CREATE, Attempt::Create, None).await?;
    show(&visitor, None, StatusCode::OK, &KeyForm::empty(), &Wrongs::default())
}

/// `POST /keys`: answers with the reveal page itself, so that the key is kept nowhere until then.
pub(crate) async fn create(
    visitor: Visitor,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Whole(mut pairs): Whole,
) -> Result<Response, Stop> {
    visitor.require(&ADMIN_KEY_CREATE, Attempt::Create, None).await?;
    let token = Token::from_text(&pairs.text("form"));
    let form = KeyForm::read(&mut pairs);
    let sent = visitor.site.sessions.send_form(visitor.session, token);
    let token = match (sent, token) {
        (Form::Open, Some(token)) => token,
        (Form::Unknown, _) | (_, None) => {
            let mut wrongs = Wrongs::default();
            let why = "This form was open for too long. Nothing was made; look it over and save it again.";
            wrongs.add(Place::Whole, why);
            return show(&visitor, None, StatusCode::CONFLICT, &form, &wrongs);
        }
        (sent, _) => return Ok(sent_before(&visitor, sent)),
    };
    let mut wrongs = Wrongs::default();
    let expiry = form.expiry(&mut wrongs, Some(visitor.time()));
    if form.active.is_none() {
        wrongs.add(Place::Active, "Choose Yes or No.");
    }
    let (Some(expiry), Some(active)) = (expiry, form.active) else {
        visitor.site.sessions.settle_form(visitor.session, token, Form::Open);
        return show(&visitor, Some(token), StatusCode::UNPROCESSABLE_ENTITY, &form, &wrongs);
    };
    let (store, asked) = (visitor.site.store.clone(), form.clone());
    let issued = once::act(&visitor, token, move |acting| {
        let grant = Grant::Scopes(store.scopes(&asked.scopes)?);
        let (name, owner, metadata) = (asked.name, None, Metadata::new());
        acting.issue(NewKey { name, grant, active, expiry, owner, metadata })
    });
    match issued.await {
        Ok(issued) => Ok(reveal(&visitor, &origin(&visitor, &uri, &headers), issued)),
        Err(Failed::Nothing(denied)) => {
            let (status, wrongs) = Wrongs::of(denied).map_err(|denied| visitor.stop(denied))?;
            show(&visitor, Some(token), status, &form, &wrongs)
        }
        Err(Failed::InDoubt(page)) => Ok(page),
    }
}

fn show(
    visitor: &Visitor,
    token: Option<Token>,
    status: StatusCode,
    form: &KeyForm,
    wrongs: &Wrongs,
) -> Result<Response, Stop> {
    let token = match token {
        Some(token) => Ok(token),
        None => visitor.site.sessions.open_form(visitor.session),
    };
    let token = token.map_err(|error| visitor.stop(Error::from(error)))?;
    let body = html! {
        div .head { h1 { "Add API Key" } }
        form .card .sheet method="post" action=(visitor.base.path("/keys")) {
            input type="hidden" name="form" value=(token.to_text());
            (Fields { visitor, form, wrongs, held: None, conflicts: &[] }.show())
            div .actions {
                button .primary type="submit" { "Save Changes" }
                a .button .quiet href=(visitor.base.path("/")) { "Cancel" }
            }
            (end())
        }
    };
    Ok(frame::page(&Frame::of(visitor, "Add API Key"), status, &body))
}

/// The page that shows a key, once.
pub(crate) fn reveal(visitor: &Visitor, origin: &str, issued: Issued) -> Response {
    let record = issued.record;
    let whoami = format!("{origin}{}", visitor.base.path("/v1/whoami"));
    // On this machine the certificate is most often one that nobody vouches for.
    let is_here = visitor.site.origin.as_ref().is_some_and(|o| o.loopback_port().is_some());
    let trust = if is_here { "-k " } else { "" };
    let page_of_key = visitor.base.path(&format!("/keys/{}", record.id));
    let body = issued.secret.reveal(|key| {
        html! {
            div .head { h1 { "Your new API key" } }
            div .card .reveal {
                p .banner .warn role="status" {
                    strong { "Copy this key now." } " It is shown only once."
                }
                div .field {
                    label for="key" { "API key for " strong { bdi { (record.name) } } }
                    div .copy {
                        input #key .mono type="text" value=(key) readonly autofocus autocomplete="off"
                            spellcheck="false" aria-describedby="key-hint";
                        button .primary type="button" data-copy="key" hidden { "Copy" }
                    }
                    p .hint #key-hint { "Whoever has it can do what its scopes allow: keep it like a password." }
                    p .hint .told role="status" data-told {}
                }
                @if !record.active {
                    p .hint { "It is inactive, and works once you set Active to Yes." }
                }
                @if matches!(&record.grant, Grant::Scopes(set) if set.is_empty()) {
                    p .hint { "It has no scopes, so it may do nothing until it gets one." }
                }
                details open {
                    summary { "Try it" }
                    pre { code { "curl " (trust) "-u " (key) ": " (whoami) } }
                }
                div .actions {
                    a .button .primary href=(visitor.base.path("/")) { "I have stored it" }
                    a .button .quiet href=(page_of_key) { "Edit this key" }
                }
            }
        }
    });
    frame::page(&Frame::of(visitor, "Your new API key"), StatusCode::CREATED, &body)
}

/// The address that programs reach this server by, as far as it is known.
pub(crate) fn origin(visitor: &Visitor, uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(origin) = &visitor.site.origin {
        return origin.to_string();
    }
    let is_of_host = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    // HTTP/2 has the host in the place of the address.
    let host = uri.authority().map(Authority::as_str);
    let host = host.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()));
    match host.filter(|host| host.bytes().all(is_of_host)) {
        Some(host) => format!("https://{host}"),
        None => "https://YOUR-SERVER".into(),
    }
}
