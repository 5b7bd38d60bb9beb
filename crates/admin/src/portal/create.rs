//! The page "Add API Key".

use super::{
    form_body::{CompleteForm, end_marker},
    form_html::FormHtml,
    key_form::{Field, FormErrors, KeyForm},
    layout::{self, EarlyResponse},
    session::{FormState, Token},
    submission::{self, SubmissionFailure, already_submitted, origin, reveal},
    user::User,
};
use axum::{
    extract::OriginalUri,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use maud::html;
use portcullis::{Error, Grant, NewKey, audit::Attempt, scope::catalogue::ADMIN_KEY_CREATE};

/// `GET /keys/new`
pub(crate) async fn page(user: User) -> Result<Response, EarlyResponse> {
    user.require(&ADMIN_KEY_CREATE, Attempt::Create, None).await?;
    show(&user, None, StatusCode::OK, &KeyForm::empty(), &FormErrors::default())
}

/// `POST /keys`: responds with the page that shows the key, so that the server need not keep the key.
pub(crate) async fn create(
    user: User,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    CompleteForm(mut input): CompleteForm,
) -> Result<Response, EarlyResponse> {
    user.require(&ADMIN_KEY_CREATE, Attempt::Create, None).await?;
    let token = Token::from_text(&input.text("form"));
    let form = KeyForm::read(&mut input);
    let previous = user.state.sessions.submit_form(user.session, token);
    let token = match (previous, token) {
        (FormState::Open, Some(token)) => token,
        (FormState::Unknown, _) | (_, None) => {
            let mut errors = FormErrors::default();
            let text = "This form was open for too long. No key was created. Check the form and save it again.";
            errors.add(Field::Form, text);
            return show(&user, None, StatusCode::CONFLICT, &form, &errors);
        }
        (previous, _) => return Ok(already_submitted(&user, previous)),
    };
    let mut errors = FormErrors::default();
    let expiry = form.expiry(&mut errors, Some(user.time()));
    if form.active.is_none() {
        errors.add(Field::Active, "Choose Yes or No.");
    }
    let (networks, rate) = (form.networks(&mut errors), form.rate(&mut errors));
    let given = (expiry, form.active, networks, rate);
    let (Some(expiry), Some(active), Some(networks), Some(rate)) = given else {
        user.state.sessions.record_outcome(user.session, token, FormState::Open);
        return show(&user, Some(token), StatusCode::UNPROCESSABLE_ENTITY, &form, &errors);
    };
    let (store, values) = (user.state.store.clone(), form.clone());
    let issued = submission::execute(&user, token, move |acting| {
        let grant = Grant::Scopes(store.scopes(&values.scopes)?);
        let is_empty = values.expires.is_empty();
        let expiry = if is_empty { store.default_expiry(&grant)? } else { expiry };
        let mut new = NewKey::new(values.name, grant, expiry).with_active(active);
        (new.networks, new.rate) = (networks, rate);
        acting.issue(new)
    });
    match issued.await {
        Ok(issued) => Ok(reveal(&user, &origin(&user, &uri, &headers), issued)),
        Err(SubmissionFailure::NotIssued(error)) => {
            let (status, errors) = FormErrors::of(error).map_err(|error| user.error_page(error))?;
            show(&user, Some(token), status, &form, &errors)
        }
        Err(SubmissionFailure::InDoubt(page)) => Ok(page),
    }
}

fn show(
    user: &User,
    token: Option<Token>,
    status: StatusCode,
    form: &KeyForm,
    errors: &FormErrors,
) -> Result<Response, EarlyResponse> {
    let token = match token {
        Some(token) => Ok(token),
        None => user.state.sessions.open_form(user.session),
    };
    let token = token.map_err(|error| user.error_page(Error::from(error)))?;
    let body = html! {
        div .head { h1 { "Add API Key" } }
        form .card .sheet method="post" action=(user.base.path("/keys")) {
            input type="hidden" name="form" value=(token.to_text());
            (FormHtml { user, form, errors, held: None, conflicts: &[] }.render())
            div .actions {
                button .primary type="submit" { "Save Changes" }
                a .button .quiet href=(user.base.path("/")) { "Cancel" }
            }
            (end_marker())
        }
    };
    Ok(layout::page(&user.layout("Add API Key"), status, &body))
}
