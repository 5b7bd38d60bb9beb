//! The portal: server-rendered pages for managing API keys.
//!
//! The portal uses the same store operations as the API. A user logs in with a key. Each page
//! authenticates that key again and checks its scopes, and each change is in the audit log under
//! that key. Scripts are optional, and the pages load nothing from other servers.

// ── the state and its parts
mod sentence;
mod session;
mod state;
mod session_cookie;
pub(crate) mod base_path;
mod layout;
mod security;

// ── users and forms
mod user;
mod form_body;
mod key_form;
mod merge;
mod form_html;
mod submission;

// ── the pages
mod login;
mod key_filter;
mod bulk;
mod key_list;
mod create;
mod audit;
mod removal;
mod reach;
mod edit;
mod rotate;
mod leaked;
mod policy;
#[cfg(feature = "cluster")]
mod replicas;
pub(crate) mod not_found;
pub(crate) mod reference;

use super::{body, origin::Origin};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path},
    middleware,
    response::Response,
    routing::{get, post},
};
use base_path::BasePath;
use portcullis::{KeyId, Store, web};
use state::PortalState;

const MAX_FORM_BYTES: usize = 64 * 1024;

/// The portal of a store. Merge its router with that of the [API](super::router) and mount both
/// together; their paths do not overlap.
///
/// ```
/// use portcullis_admin::{Portal, router};
/// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let portal = Portal::new(store.clone()).at("https://keys.example.com".parse()?);
/// let app = axum::Router::new().nest("/admin", router(store).merge(portal.router()));
/// # let _: axum::Router = app;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Portal {
    store: Store,
    origin: Option<Origin>,
}

impl Portal {
    /// Creates a portal. It relies on the browser's header `Sec-Fetch-Site` to detect forms of other
    /// sites.
    pub fn new(store: Store) -> Self {
        Self { store, origin: None }
    }

    /// Sets the origin under which browsers reach the portal. Forms of other origins are refused.
    #[must_use]
    pub fn at(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Returns the router of the pages: `/`, `/login`, `/logout`, `/search`, `/keys…`, `/bulk…`, `/audit`, `/policy`, `/replicas`
    /// (with the feature `cluster`), `/assets/…`.
    pub fn router(self) -> Router {
        let state = PortalState::new(self.store, self.origin);
        let router = Router::new();
        // For handlers that read no form: their requests must be complete too.
        let complete = middleware::from_fn(body::require_complete);
        #[cfg(feature = "cluster")]
        let router = router.route("/replicas", get(replicas::page));
        router
            .route("/", get(key_list::list))
            .route("/login", get(login::page).post(login::log_in))
            .route("/logout", post(login::log_out).layer(complete.clone()).get(redirect_to_list))
            .route("/search", post(key_list::search).get(redirect_to_list))
            .route("/bulk", post(bulk::confirm).get(redirect_to_list))
            .route("/bulk/{token}", post(bulk::run).get(redirect_to_list))
            .route("/keys", post(create::create).get(redirect_to_list))
            .route("/keys/new", get(create::page))
            .route("/keys/leaked", get(leaked::page).post(leaked::find))
            .route("/keys/leaked/revoke", post(leaked::revoke).get(redirect_to_list))
            .route("/keys/{id}", get(edit::page).post(edit::save))
            .route(
                "/keys/{id}/deactivate",
                post(removal::deactivate).layer(complete.clone()).get(redirect_to_key),
            )
            .route("/keys/{id}/delete", get(removal::confirm_deletion).post(removal::delete))
            .route("/keys/{id}/rotate", get(rotate::page).post(rotate::rotate))
            .route("/keys/{id}/reach", get(reach::page))
            .route(
                "/keys/{id}/reach/{group}",
                post(reach::revoke).layer(complete).get(reach::redirect),
            )
            .route("/audit", get(audit::page))
            .route("/policy", get(policy::page).post(policy::set))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .layer(middleware::from_fn(web::require_complete_body))
            .layer(middleware::from_fn_with_state(state.clone(), security::refuse_cross_site_forms))
            .layer(middleware::map_response(security::no_store))
            .route("/assets/portal.css", get(layout::style))
            .route("/assets/portal.js", get(layout::script))
            .route("/assets/favicon.svg", get(layout::icon))
            .route("/favicon.ico", get(layout::icon))
            .layer(middleware::map_response(security::headers))
            .with_state(state)
    }
}

/// Redirects a browser that reloads or revisits the address of a form's response.
async fn redirect_to_list(base: BasePath) -> Response {
    base.redirect("/")
}

async fn redirect_to_key(base: BasePath, Path(id): Path<String>) -> Response {
    match id.parse::<KeyId>() {
        Ok(id) => base.redirect(&format!("/keys/{id}")),
        Err(_) => base.redirect("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, http::Request};
    use portcullis::{Expiry, Grant, NewKey, Timestamp};
    use tower::ServiceExt;

    /// A change made with a clock three days ahead advances the time by which keys expire.
    #[tokio::test]
    async fn badges_and_forms_use_the_time_of_the_store() {
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .in_memory()
            .unwrap();
        let tomorrow = Timestamp::from_millis(store.now().as_millis() + 86_400_000);
        let new = |name: &str, grant, expiry| {
            let issued = store.issue(NewKey::new(name, grant, expiry)).unwrap();
            issued.secret.reveal(str::to_owned)
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
        let day = key_form::day(Expiry::At(tomorrow));
        let fields = format!("form={}&name=a&active=yes&expires={day}&end=1", &token[..64]);
        let (_, refused) = send(Request::post("/keys").header("cookie", cookie), fields).await;
        assert!(refused.contains("This date is past"));
    }
}
