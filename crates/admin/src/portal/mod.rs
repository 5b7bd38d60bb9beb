//! The portal: Developers ▸ API Keys for people, in pages that the server renders.
//!
//! It stands on the same walks as the API. A visitor is a key that logged in; each page asks the
//! store anew whether that key is valid and what it may do, and what it changes is its own act in
//! the trail. The pages need no script but for copying, and ask no other server for anything.

mod create;
mod edit;
mod fields;
mod form;
mod frame;
mod guard;
mod listing;
mod login;
mod merge;
mod once;
mod pairs;
mod removal;
#[cfg(feature = "cluster")]
mod replicas;
mod rotate;
mod session;
mod trail;
mod visitor;

use super::{body, origin::Origin};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path},
    middleware,
    response::Response,
    routing::{get, post},
};
use portcullis::{KeyId, Store, web};
use session::Sessions;
use std::sync::Arc;
use visitor::Base;

const MAX_FORM_BYTES: usize = 64 * 1024;

/// The portal of a store, to be merged with the [API](super::router), whose paths it leaves alone,
/// and mounted with it.
///
/// ```
/// use portcullis_admin::{Portal, router};
/// # let store = portcullis::Store::in_memory()?;
/// let portal = Portal::new(store.clone()).at("https://keys.example.com".parse()?);
/// let app = axum::Router::new().nest("/admin", router(store).merge(portal.router()));
/// # let _: axum::Router = app;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Portal {
    store: Store,
    origin: Option<Origin>,
}

impl Portal {
    /// A portal that learns from browsers alone whether a form is of its own origin: from the
    /// header `Sec-Fetch-Site`.
    pub fn new(store: Store) -> Self {
        Self { store, origin: None }
    }

    /// Names the origin under which browsers reach the portal. A form of another one is refused.
    #[must_use]
    pub fn at(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// The pages: `/`, `/login`, `/logout`, `/keys…`, `/audit`, `/replicas` with the feature `cluster`, `/assets/…`.
    pub fn router(self) -> Router {
        let site = self.site();
        let router = Router::new();
        // Handlers that take no form: the request must have come whole all the same.
        let whole = middleware::from_fn(body::read_first);
        #[cfg(feature = "cluster")]
        let router = router.route("/replicas", get(replicas::page));
        router
            .route("/", get(listing::list))
            .route("/login", get(login::page).post(login::log_in))
            .route("/logout", post(login::log_out).layer(whole.clone()).get(to_the_list))
            .route("/keys", post(create::create).get(to_the_list))
            .route("/keys/new", get(create::page))
            .route("/keys/{id}", get(edit::page).post(edit::save))
            .route("/keys/{id}/deactivate", post(removal::deactivate).layer(whole).get(to_the_key))
            .route("/keys/{id}/delete", get(removal::confirm_deletion).post(removal::delete))
            .route("/keys/{id}/rotate", get(rotate::page).post(rotate::rotate))
            .route("/audit", get(trail::page))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .layer(middleware::from_fn(web::refuse_cut))
            .layer(middleware::from_fn_with_state(site.clone(), guard::refuse_foreign_forms))
            .layer(middleware::map_response(guard::not_stored))
            .route("/assets/portal.css", get(frame::style))
            .route("/assets/portal.js", get(frame::script))
            .route("/assets/favicon.svg", get(frame::icon))
            .route("/favicon.ico", get(frame::icon))
            .layer(middleware::map_response(guard::closed))
            .with_state(site)
    }

    fn site(self) -> Site {
        let cookie = match self.origin.as_ref().and_then(Origin::loopback_port) {
            Some(port) => format!("__Host-portcullis-{port}"),
            None => "__Host-portcullis".into(),
        };
        let parts =
            Parts { store: self.store, sessions: Sessions::default(), origin: self.origin, cookie };
        Site(Arc::new(parts))
    }
}

/// Leads a browser on that gets the address of a form's answer, as one does that reloads it or goes
/// back to it.
async fn to_the_list(base: Base) -> Response {
    base.redirect("/")
}

async fn to_the_key(base: Base, Path(id): Path<String>) -> Response {
    match id.parse::<KeyId>() {
        Ok(id) => base.redirect(&format!("/keys/{id}")),
        Err(_) => base.redirect("/"),
    }
}

/// What all pages share.
#[derive(Clone)]
pub(crate) struct Site(Arc<Parts>);

pub(crate) struct Parts {
    store: Store,
    sessions: Sessions,
    origin: Option<Origin>,
    /// The name of the session's cookie.
    cookie: String,
}

impl std::ops::Deref for Site {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, http::Request};
    use portcullis::{Expiry, Grant, Metadata, NewKey, Timestamp};
    use tower::ServiceExt;

    /// A change that was made with a clock three days ahead moves the time by which keys expire.
    #[tokio::test]
    async fn badges_and_forms_go_by_the_time_of_the_store() {
        let store = Store::in_memory().unwrap();
        let tomorrow = Timestamp::from_millis(store.now().as_millis() + 86_400_000);
        let new = |name: &str, grant, expiry| {
            let (name, owner, metadata) = (name.into(), None, Metadata::new());
            let new = NewKey { name, grant, active: true, expiry, owner, metadata };
            store.issue(new).unwrap().secret.reveal(str::to_owned)
        };
        let root = new("root", Grant::All, Expiry::Never);
        let read = Grant::Scopes(store.scopes(["api.read"]).unwrap());
        new("short", read, Expiry::At(tomorrow));
        portcullis::testing::advance_time(
            &store,
            Timestamp::from_millis(tomorrow.as_millis() + 2 * 86_400_000),
        );

        let app = Portal::new(store).router();
        let send = async |request: axum::http::request::Builder, body: String| {
            let request = request
                .header("sec-fetch-site", "same-origin")
                .header("content-type", "application/x-www-form-urlencoded");
            let response = app.clone().oneshot(request.body(Body::from(body)).unwrap());
            let (parts, body) = response.await.unwrap().into_parts();
            let text = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            (parts, String::from_utf8(text.to_vec()).unwrap())
        };
        let (login, _) = send(Request::post("/login"), format!("key={root}")).await;
        let cookie = login.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap();
        let get = |path| Request::get(path).header("cookie", cookie);
        let (_, list) = send(get("/"), String::new()).await;
        assert!(list.contains("Expired"));
        let (_, form) = send(get("/keys/new"), String::new()).await;
        let (_, token) = form.split_once(r#"name="form" value=""#).unwrap();
        let day = form::day(Expiry::At(tomorrow));
        let fields = format!("form={}&name=a&active=yes&expires={day}&end=1", &token[..64]);
        let (_, refused) = send(Request::post("/keys").header("cookie", cookie), fields).await;
        assert!(refused.contains("This day is over or has begun"));
    }
}
