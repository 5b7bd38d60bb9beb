//! Forms that issue a key: each issues at most one, and the page that shows it.

use super::{
    layout::{self, EarlyResponse},
    session::{FormState, Token},
    state::PortalState,
    user::User,
};
use crate::api_error::ApiError;
use axum::{
    http::{HeaderMap, StatusCode, Uri, header::HOST, uri::Authority},
    response::Response,
};
use maud::html;
use portcullis::{Acting, Error, Grant, Issued};

/// Why a submission revealed no key.
pub(crate) enum SubmissionFailure {
    /// No key was issued; the form can be submitted again.
    NotIssued(ApiError),
    /// The outcome is unknown; the form cannot be submitted again.
    InDoubt(Response),
}

/// A form whose act is in progress. The thread of the act records the outcome when it drops this,
/// since the browser may disconnect before that.
struct Submission {
    state: PortalState,
    session: Token,
    form: Token,
    outcome: FormState,
}

impl Drop for Submission {
    fn drop(&mut self) {
        self.state.sessions.record_outcome(self.session, self.form, self.outcome);
    }
}

/// Executes the act of a form that was just [submitted](super::session::Sessions::submit_form).
pub(crate) async fn execute(
    user: &User,
    form: Token,
    work: impl FnOnce(Acting<'_>) -> Result<Issued, Error> + Send + 'static,
) -> Result<Issued, SubmissionFailure> {
    let (state, session) = (user.state.clone(), user.session);
    // The outcome if `work` panics.
    let submission = Submission { state, session, form, outcome: FormState::InDoubt };
    let done = user.caller.act(&user.state.store, move |acting| {
        let mut submission = submission;
        let done = work(acting);
        submission.outcome = match &done {
            Ok(issued) => FormState::Done(issued.record.id),
            Err(Error::NotDurable(_) | Error::Unanswered(_)) => FormState::InDoubt,
            Err(_) => FormState::Open,
        };
        Ok((done, submission.outcome))
    });
    match done.await {
        Ok((Ok(issued), _)) => Ok(issued),
        Ok((Err(error), FormState::Open)) => Err(SubmissionFailure::NotIssued(error.into())),
        Ok((Err(error), _)) => {
            tracing::error!(%error, "it is unknown whether a form issued a key");
            Err(SubmissionFailure::InDoubt(already_submitted(user, FormState::InDoubt)))
        }
        Err(_) => Err(SubmissionFailure::InDoubt(already_submitted(user, FormState::InDoubt))),
    }
}

/// Returns the page for a form that was submitted before.
pub(crate) fn already_submitted(user: &User, form: FormState) -> Response {
    let (status, title, text) = match form {
        FormState::Done(_) => (
            StatusCode::CONFLICT,
            "This key was already revealed",
            "This form was submitted before, and its key was shown then. It cannot be shown again, and no second key \
             was created. If you did not copy it, create a new key and deactivate this one.",
        ),
        FormState::InDoubt => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The outcome is unknown",
            "The server could not confirm whether it created a key. No key was shown. Check the list of keys: if it has \
             a new key, deactivate that key and create another.",
        ),
        _ => (
            StatusCode::CONFLICT,
            "This form was already submitted",
            "The first request is still in progress and will show the key. No second key is created.",
        ),
    };
    let body = html! {
        div .card .notice {
            h1 { (title) }
            p { (text) }
            p .actions {
                @if let FormState::Done(id) = form {
                    a .button .primary href=(user.base.path(&format!("/keys/{id}"))) { "Open this key" }
                }
                a .button .quiet href=(user.base.path("/")) { "Back to API Keys" }
            }
        }
    };
    layout::page(&user.layout(title), status, &body)
}

impl SubmissionFailure {
    /// Returns the page that reports the failure.
    pub(crate) fn into_page(self, user: &User) -> EarlyResponse {
        match self {
            Self::NotIssued(error) => user.error_page(error),
            Self::InDoubt(page) => page.into(),
        }
    }
}

/// Returns the page that shows a new key. No later page shows it again.
pub(crate) fn reveal(user: &User, origin: &str, issued: Issued) -> Response {
    let record = issued.record;
    let whoami = format!("{origin}{}", user.base.path("/v1/whoami"));
    // The certificate of a local host is usually self-signed.
    let is_local = user.state.origin.as_ref().is_some_and(|o| o.loopback_port().is_some());
    let trust = if is_local { "-k " } else { "" };
    let page_of_key = user.base.path(&format!("/keys/{}", record.id));
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
                    p .hint #key-hint { "Anyone who has this key can do what its scopes allow. Store it like a password." }
                    p .hint .copied role="status" data-copy-status {}
                }
                @if !record.active {
                    p .hint { "The key is inactive. To use it, set Active to Yes." }
                }
                @if matches!(&record.grant, Grant::Scopes(set) if set.is_empty()) {
                    p .hint { "The key has no scopes, so it cannot do anything until you add one." }
                }
                details open {
                    summary { "Try it" }
                    pre { code { "curl " (trust) "-u " (key) ": " (whoami) } }
                }
                div .actions {
                    a .button .primary href=(user.base.path("/")) { "I have stored it" }
                    a .button .quiet href=(page_of_key) { "Edit this key" }
                }
            }
        }
    });
    layout::page(&user.layout("Your new API key"), StatusCode::CREATED, &body)
}

/// Returns the address of this server for programs: the configured origin, or the requested host.
pub(crate) fn origin(user: &User, uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(origin) = &user.state.origin {
        return origin.to_string();
    }
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    // HTTP/2 has the host in the URI.
    let host = uri.authority().map(Authority::as_str);
    let host = host.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()));
    match host.filter(|host| host.bytes().all(is_host_byte)) {
        Some(host) => format!("https://{host}"),
        None => "https://YOUR-SERVER".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Caller, portal::base_path::BasePath};
    use portcullis::{Expiry, Grant, NewKey, Store};

    fn user() -> User {
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .in_memory()
            .unwrap();
        let issued = store.issue(NewKey::new("root", Grant::All, Expiry::Never));
        let key = issued.unwrap().secret.reveal(|key| key.as_bytes().to_vec());
        let (principal, handle) = store.authenticate_with_handle(&key).unwrap();
        let state = PortalState::new(store, None);
        let session = state.sessions.start(principal.id(), handle).unwrap();
        let (base, caller) = (BasePath::default(), Caller::Key(principal.clone(), None));
        User { state, base, session, caller, principal, name: "root".into() }
    }

    #[tokio::test]
    async fn form_can_be_submitted_again_only_if_it_issued_no_key() {
        let user = user();
        let failures: [(fn() -> Error, FormState); 4] = [
            (|| Error::Poisoned("the disk failed".into()), FormState::Open),
            (|| Error::Contended, FormState::Open),
            (|| Error::NotDurable("the disk failed".into()), FormState::InDoubt),
            (|| panic!("a bug"), FormState::InDoubt),
        ];
        for (failure, outcome) in failures {
            let form = user.state.sessions.open_form(user.session).unwrap();
            assert_eq!(user.state.sessions.submit_form(user.session, Some(form)), FormState::Open);
            let failed = execute(&user, form, move |_| Err(failure())).await;
            let Err(failed) = failed else { panic!("a key was issued") };
            assert_eq!(
                matches!(failed, SubmissionFailure::InDoubt(_)),
                outcome == FormState::InDoubt
            );
            assert_eq!(user.state.sessions.submit_form(user.session, Some(form)), outcome);
        }
    }

    #[tokio::test]
    async fn form_of_a_dropped_request_records_its_key() {
        let user = user();
        let form = user.state.sessions.open_form(user.session).unwrap();
        user.state.sessions.submit_form(user.session, Some(form));
        let scopes = user.state.store.scopes(["api.read"]).unwrap();
        let (start, wait) = std::sync::mpsc::channel::<()>();
        let work = move |acting: Acting<'_>| {
            wait.recv().unwrap();
            acting.issue(NewKey::new("a", scopes, Expiry::Never))
        };
        let dropped = tokio::time::timeout(std::time::Duration::ZERO, execute(&user, form, work));
        assert!(dropped.await.is_err());
        let state = || user.state.sessions.submit_form(user.session, Some(form));
        assert_eq!(state(), FormState::Submitted);
        start.send(()).unwrap();
        while state() == FormState::Submitted {
            std::thread::yield_now();
        }
        assert!(matches!(state(), FormState::Done(id) if user.state.store.get(id).is_ok()));
    }
}
