//! Forms that make a key: each makes at most one, and can be sent again if it made none.

use super::{
    Site,
    frame::{self, Frame},
    session::{Form, Token},
    visitor::{Stop, Visitor},
};
use crate::denied::Denied;
use axum::{http::StatusCode, response::Response};
use maud::html;
use portcullis::{Acting, Error, Issued};

/// Why a form did not reveal a key.
pub(crate) enum Failed {
    /// No key was made; the form can be sent again.
    Nothing(Denied),
    /// The outcome is unknown; the form cannot be sent again.
    InDoubt(Response),
}

/// A form whose act is in progress. The state is written where the act runs, since the browser may
/// close the connection before that.
struct Sending {
    site: Site,
    session: Token,
    form: Token,
    outcome: Form,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.site.sessions.settle_form(self.session, self.form, self.outcome);
    }
}

/// Runs the act of a form that was [sent](super::session::Sessions::send_form).
pub(crate) async fn act(
    visitor: &Visitor,
    form: Token,
    work: impl FnOnce(Acting<'_>) -> Result<Issued, Error> + Send + 'static,
) -> Result<Issued, Failed> {
    let (site, session) = (visitor.site.clone(), visitor.session);
    // A panic leaves this outcome.
    let sending = Sending { site, session, form, outcome: Form::InDoubt };
    let done = visitor.caller.act(&visitor.site.store, move |acting| {
        let mut sending = sending;
        let done = work(acting);
        sending.outcome = match &done {
            Ok(issued) => Form::Done(issued.record.id),
            Err(Error::NotDurable(_) | Error::Unanswered(_)) => Form::InDoubt,
            Err(_) => Form::Open,
        };
        Ok((done, sending.outcome))
    });
    match done.await {
        Ok((Ok(issued), _)) => Ok(issued),
        Ok((Err(error), Form::Open)) => Err(Failed::Nothing(error.into())),
        Ok((Err(error), _)) => {
            tracing::error!(%error, "it is unknown whether a form made a key");
            Err(Failed::InDoubt(sent_before(visitor, Form::InDoubt)))
        }
        Err(_) => Err(Failed::InDoubt(sent_before(visitor, Form::InDoubt))),
    }
}

/// The page for a form that was sent before.
pub(crate) fn sent_before(visitor: &Visitor, form: Form) -> Response {
    let (status, title, why) = match form {
        Form::Done(_) => (
            StatusCode::CONFLICT,
            "This key was already revealed",
            "The form was sent before, and its key was shown then. It cannot be shown again, and no second key was \
             made. If you did not copy it, make a new key and deactivate this one.",
        ),
        Form::InDoubt => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The outcome is unknown",
            "The server could not confirm whether a key was made. No key was shown. Look through the list of keys; \
             if there is a new one, deactivate it and make another.",
        ),
        _ => (
            StatusCode::CONFLICT,
            "This form was already sent",
            "Its first request is still in progress and shows the key when it is done. No second key is made.",
        ),
    };
    let body = html! {
        div .card .notice {
            h1 { (title) }
            p { (why) }
            p .actions {
                @if let Form::Done(id) = form {
                    a .button .primary href=(visitor.base.path(&format!("/keys/{id}"))) { "Look at this key" }
                }
                a .button .quiet href=(visitor.base.path("/")) { "Back to API Keys" }
            }
        }
    };
    frame::page(&Frame::of(visitor, title), status, &body)
}

impl Failed {
    /// Ends the walk with a page that says what failed.
    pub(crate) fn stop(self, visitor: &Visitor) -> Stop {
        match self {
            Self::Nothing(denied) => visitor.stop(denied),
            Self::InDoubt(page) => Stop::from(page),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        caller::Caller,
        portal::{Portal, visitor::Base},
    };
    use portcullis::{Expiry, Grant, Metadata, NewKey, Store};

    fn visitor() -> Visitor {
        let store = Store::in_memory().unwrap();
        let (name, owner, metadata) = ("root".into(), None, Metadata::new());
        let (grant, expiry) = (Grant::All, Expiry::Never);
        let issued = store.issue(NewKey { name, grant, active: true, expiry, owner, metadata });
        let key = issued.unwrap().secret.reveal(|key| key.as_bytes().to_vec());
        let (principal, digest) = (store.authenticate_key(&key).unwrap(), store.digest(&key));
        let site = Portal::new(store).site();
        let session = site.sessions.begin(principal.id(), digest).unwrap();
        let (base, caller) = (Base::default(), Caller::Key(principal.clone(), None));
        Visitor { site, base, session, caller, principal, name: "root".into() }
    }

    #[tokio::test]
    async fn only_an_act_that_made_nothing_can_be_sent_again() {
        let visitor = visitor();
        let failures: [(fn() -> Error, Form); 4] = [
            (|| Error::Poisoned("the disk failed".into()), Form::Open),
            (|| Error::Contended, Form::Open),
            (|| Error::NotDurable("the disk failed".into()), Form::InDoubt),
            (|| panic!("a bug"), Form::InDoubt),
        ];
        for (failure, outcome) in failures {
            let form = visitor.site.sessions.open_form(visitor.session).unwrap();
            assert_eq!(visitor.site.sessions.send_form(visitor.session, Some(form)), Form::Open);
            let failed = act(&visitor, form, move |_| Err(failure())).await;
            let Err(failed) = failed else { panic!("a key was made") };
            assert_eq!(matches!(failed, Failed::InDoubt(_)), outcome == Form::InDoubt);
            assert_eq!(visitor.site.sessions.send_form(visitor.session, Some(form)), outcome);
        }
    }

    #[tokio::test]
    async fn key_of_a_request_that_was_dropped_is_known_to_its_form() {
        let visitor = visitor();
        let form = visitor.site.sessions.open_form(visitor.session).unwrap();
        visitor.site.sessions.send_form(visitor.session, Some(form));
        let scopes = visitor.site.store.scopes(["api.read"]).unwrap();
        let (start, wait) = std::sync::mpsc::channel::<()>();
        let work = move |acting: Acting<'_>| {
            wait.recv().unwrap();
            let (name, owner, metadata) = ("a".into(), None, Metadata::new());
            let (grant, expiry) = (Grant::Scopes(scopes), Expiry::Never);
            acting.issue(NewKey { name, grant, active: true, expiry, owner, metadata })
        };
        let dropped = tokio::time::timeout(std::time::Duration::ZERO, act(&visitor, form, work));
        assert!(dropped.await.is_err());
        let state = || visitor.site.sessions.send_form(visitor.session, Some(form));
        assert_eq!(state(), Form::Sent);
        start.send(()).unwrap();
        while state() == Form::Sent {
            std::thread::yield_now();
        }
        assert!(matches!(state(), Form::Done(id) if visitor.site.store.get(id).is_ok()));
    }
}
