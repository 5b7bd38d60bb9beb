//! The pages of the portal, requested as a browser would request them.

mod imported;
mod leaked;
mod networks;
mod policy;
mod stale_forms;

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, HeaderValue, Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis::{Actor, Change, Expiry, Grant, KeyId, Record, Secret, Store, Timestamp};
use portcullis_admin::{Portal, router};
use portcullis_testkit::{issue, new_key, scopes};
use std::{net::SocketAddr, sync::Arc};
use tower::ServiceExt;

const ORIGIN: &str = "https://keys.example.com";

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns the `Cookie` header that a browser would send after this reply.
    fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap().into()
    }

    #[track_caller]
    fn assert_redirects_to(&self, path: &str) {
        assert_eq!((self.status, self.header("location")), (StatusCode::SEE_OTHER, path));
    }

    #[track_caller]
    fn assert_contains(&self, expected: &str) {
        assert!(self.text.contains(expected), "no {expected:?} in {}", self.text);
    }

    /// Returns the fields that a browser would send if the form with this action is not edited.
    fn form(&self, action: &str) -> Fields {
        let (_, rest) = self.text.split_once(&format!(r#"action="{action}">"#)).unwrap();
        let (form, _) = rest.split_once("</form>").unwrap();
        let attribute = |tag: &str, name: &str| {
            let (_, rest) = tag.split_once(&format!(r#" {name}=""#))?;
            rest.split('"').next().map(unescape)
        };
        let tags = form.split("<input").skip(1).map(|tag| tag.split('>').next().unwrap());
        let sent = tags.filter(|tag| {
            let is_chosen = tag.contains(" checked");
            let is_choice = tag.contains(r#"type="checkbox""#) || tag.contains(r#"type="radio""#);
            !tag.contains(" disabled") && (is_chosen || !is_choice)
        });
        let pair =
            |tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()));
        let areas = form.split("<textarea").skip(1).filter_map(|area| {
            let (tag, rest) = area.split_once('>')?;
            Some((attribute(tag, "name")?, unescape(rest.split_once("</textarea>")?.0)))
        });
        let mut fields: Vec<_> = sent.filter_map(pair).collect();
        let end = fields.pop();
        fields.extend(areas);
        fields.extend(end);
        Fields(fields)
    }

    /// Returns the value of a hidden input.
    fn hidden(&self, name: &str) -> String {
        let (_, rest) = self.text.split_once(&format!(r#"name="{name}" value=""#)).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// Returns the keys on the page.
    fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self
            .text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| Secret::is_well_formed(word))
            .collect();
        keys.dedup();
        keys
    }
}

/// Decodes the HTML entities of an attribute.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// The fields of a form as a browser sends them.
#[derive(Clone, Debug)]
struct Fields(Vec<(String, String)>);

impl Fields {
    /// Sets the value of a field. The last field, the end marker, stays last.
    fn with(mut self, name: &str, value: &str) -> Self {
        let end = self.0.pop();
        self.0.retain(|(given, _)| given != name);
        self.0.push((name.into(), value.into()));
        self.0.extend(end);
        self
    }

    /// Checks exactly these boxes.
    fn with_scopes(mut self, scopes: &[&str]) -> Self {
        let end = self.0.pop();
        self.0.retain(|(given, _)| given != "scope");
        self.0.extend(scopes.iter().map(|scope| ("scope".into(), (*scope).into())));
        self.0.extend(end);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(given, _)| given != name);
        self
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// A portal, and the session cookie of the current user.
struct Browser {
    app: Router,
    store: Store,
    cookie: String,
    root: String,
    root_id: KeyId,
}

impl Browser {
    fn over(store: Store) -> Self {
        let (root_id, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
        let portal = Portal::new(store.clone()).at(ORIGIN.parse().unwrap());
        let app = router(store.clone()).merge(portal.router());
        let root = String::from_utf8(root).unwrap();
        Self { app, store, cookie: String::new(), root, root_id }
    }

    fn new() -> Self {
        Self::over(portcullis_testkit::builder().in_memory().unwrap())
    }

    async fn logged_in() -> Self {
        let mut browser = Self::new();
        let root = browser.root.clone();
        browser.log_in(&root).await;
        browser
    }

    async fn log_in(&mut self, key: &str) {
        let reply = self.post("/login", &[("key", key)]).await;
        reply.assert_redirects_to("/");
        self.cookie = reply.cookie();
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let reply = Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes).unwrap(),
        };
        assert_eq!(reply.header("referrer-policy"), "same-origin");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(
            reply.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'; connect-src 'none'; require-trusted-types-for 'script'"
        );
        reply
    }

    async fn get(&self, path: &str) -> Reply {
        let request = Request::get(path).header("cookie", &self.cookie);
        let reply = self.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.header("cache-control"), "no-store");
        reply
    }

    fn form(&self, path: &str) -> axum::http::request::Builder {
        Request::post(path)
            .header("cookie", &self.cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 9))))
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.post_text(path, &text_of(fields)).await
    }

    async fn post_text(&self, path: &str, text: &str) -> Reply {
        let request = self.form(path).header("sec-fetch-site", "same-origin");
        let reply = self.send(request.body(Body::from(text.to_owned())).unwrap()).await;
        assert_eq!(reply.header("cache-control"), "no-store");
        reply
    }

    async fn submit(&self, path: &str, fields: &Fields) -> Reply {
        self.post(path, &fields.pairs()).await
    }

    /// Opens a page whose form is submitted to the same path, and returns the fields of the form.
    async fn open(&self, path: &str) -> Fields {
        self.get(path).await.form(path)
    }

    /// Opens the form of a new key.
    async fn open_new(&self) -> Fields {
        self.get("/keys/new").await.form("/keys")
    }

    /// Creates a key with the form.
    async fn add(&self, name: &str, scopes: &[&str]) -> Reply {
        let fields = self.open_new().await.with("name", name).with_scopes(scopes);
        self.submit("/keys", &fields).await
    }

    fn record(&self, id: KeyId) -> Arc<Record> {
        self.store.get(id).unwrap()
    }

    fn key(&self, names: &[&str]) -> (KeyId, String) {
        let (id, key) = issue(&self.store, new_key(&self.store, "some", names));
        (id, String::from_utf8(key).unwrap())
    }
}

fn text_of(fields: &[(&str, &str)]) -> String {
    let escaped = |text: &str| -> String {
        let bytes: Vec<String> = text.bytes().map(|b| format!("%{b:02X}")).collect();
        bytes.concat()
    };
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn reach_of_a_key_is_shown_and_each_group_is_revoked_by_a_button() {
    let browser = Browser::logged_in().await;
    let (leaked, _) = browser.key(&["admin.key.create", "admin.key.update", "api.read"]);
    let acting = browser.store.acting_as(Actor::Key(leaked));
    let new = |name| new_key(&browser.store, name, &["api.read"]);
    let made = acting.issue(new("<b>made by it</b>")).unwrap().record.id;
    let successor = browser.store.rotate(leaked, std::time::Duration::ZERO).unwrap().record.id;
    let page = format!("/keys/{leaked}/reach");
    browser.get(&format!("/keys/{leaked}")).await.assert_contains(&format!(r#"href="{page}""#));
    let shown = browser.get(&page).await;
    for text in [
        "&lt;b&gt;made by it&lt;/b&gt;",
        "Keys that it created: 1",
        "Its successors: 1",
        "Revoke the active key",
    ] {
        shown.assert_contains(text);
    }
    let redirected = browser.get(&format!("{page}/created")).await;
    redirected.assert_redirects_to(&page);
    let revoked = browser.post(&format!("{page}/created"), &[]).await;
    revoked.assert_redirects_to(&format!("{page}?revoked=1"));
    assert!(!browser.record(made).active && browser.record(successor).active);
    browser.get(&format!("{page}?revoked=1")).await.assert_contains("1 key was revoked.");
    browser.post(&format!("{page}/successors"), &[]).await;
    assert!(!browser.record(successor).active);
    assert!(!browser.get(&page).await.text.contains("Revoke the active key"));
    assert_eq!(browser.post(&format!("{page}/others"), &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn reach_names_the_keys_that_could_not_be_revoked() {
    let browser = Browser::logged_in().await;
    let old = browser.root_id;
    let new = browser.store.rotate(old, std::time::Duration::from_hours(1)).unwrap().record.id;
    let failed = browser.post(&format!("/keys/{old}/reach/successors"), &[]).await;
    failed.assert_contains(&format!("Not revoked: {new}"));
    failed.assert_contains("last active root key");
    assert!(browser.record(new).active);
}

#[tokio::test]
async fn key_can_be_created_edited_and_deleted() {
    let browser = Browser::logged_in().await;
    browser.get("/").await.assert_contains("Add API Key");
    let created = browser.add("Nightly export", &["api.read", "admin.account.list"]).await;
    assert_eq!(created.status, StatusCode::CREATED);
    for words in ["Copy this key now.", "It is shown only once.", "I have stored it", "/v1/whoami"]
    {
        created.assert_contains(words);
    }
    let key = created.keys()[0].to_owned();
    let principal = browser.store.authenticate_key(key.as_bytes()).unwrap();
    let id = principal.id();
    let record = browser.store.get(id).unwrap();
    assert_eq!(record.created_by, Actor::Key(browser.root_id));
    assert_eq!(record.grant, scopes(&browser.store, &["api.read", "admin.account.list"]));

    let list = browser.get("/?q=nightly&status=active").await;
    list.assert_contains("Nightly export");
    assert!(list.keys().is_empty());
    assert!(!browser.get("/?q=nightly&status=inactive").await.text.contains("Nightly export"));

    let page = browser.get(&format!("/keys/{id}")).await;
    assert!(page.keys().is_empty());
    page.assert_contains("Save Changes");
    let here = format!("/keys/{id}");
    let fields = page
        .form(&here)
        .with("name", "Weekly export")
        .with_scopes(&["api.read"])
        .with("active", "no")
        .with("expires", "2099-01-31");
    browser.submit(&here, &fields).await.assert_redirects_to(&format!("{here}?saved=1"));
    let record = browser.store.get(id).unwrap();
    assert_eq!((record.name.as_str(), record.active), ("Weekly export", false));
    assert_eq!(record.expiry, Expiry::At(Timestamp::from_secs(4_073_587_200)));
    assert!(browser.store.authenticate_key(key.as_bytes()).is_err());
    browser.get(&format!("{here}?saved=1")).await.assert_contains("Your changes are saved.");

    let delete = format!("{here}/delete");
    let page = browser.get(&delete).await;
    page.assert_contains("Delete <bdi>Weekly export</bdi>?");
    browser.submit(&delete, &page.form(&delete)).await.assert_redirects_to("/?deleted=1");
    assert_eq!(browser.get(&here).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn repeated_submission_of_a_form_issues_one_key() {
    let browser = Browser::logged_in().await;
    let fields = browser.open_new().await.with("name", "once").with_scopes(&["api.read"]);
    assert_eq!(browser.submit("/keys", &fields).await.keys().len(), 1);
    for _ in 0..2 {
        let again = browser.submit("/keys", &fields).await;
        assert_eq!((again.status, again.keys().len()), (StatusCode::CONFLICT, 0));
        again.assert_contains("already revealed");
    }
    let unknown = browser.submit("/keys", &fields.without("form")).await;
    assert_eq!((unknown.status, unknown.keys().len()), (StatusCode::CONFLICT, 0));
    // The root key and the new key.
    assert_eq!(
        browser.store.list(&portcullis::list::ListQuery::default()).unwrap().records.len(),
        2
    );

    // A form with errors can be corrected and submitted again.
    let fields = browser.open_new().await.with("name", "x").with_scopes(&["api.read"]);
    let wrong = fields.clone().with("expires", "tomorrow").without("active");
    let wrong = browser.submit("/keys", &wrong).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.assert_contains("Choose Yes or No.");
    wrong.assert_contains("This is not a date");
    wrong.assert_contains(r#"aria-describedby="expires-error expires-hint""#);
    assert_eq!(Some(&*wrong.hidden("form")), fields.value("form"));
    let begun = browser.submit("/keys", &fields.clone().with("expires", "2026-01-01")).await;
    assert_eq!(begun.status, StatusCode::UNPROCESSABLE_ENTITY);
    begun.assert_contains("This date is past");
    assert_eq!(browser.submit("/keys", &fields).await.keys().len(), 1);
}

#[tokio::test]
async fn pages_of_a_key_without_scopes_warn_about_it() {
    let browser = Browser::logged_in().await;
    let created = browser.add("none", &[]).await;
    assert_eq!(created.status, StatusCode::CREATED);
    created.assert_contains("The key has no scopes, so it cannot do anything until you add one.");
    let id = browser.store.authenticate_key(created.keys()[0].as_bytes()).unwrap().id();
    assert_eq!(browser.record(id).grant, scopes(&browser.store, &[]));
    browser.get(&format!("/keys/{id}")).await.assert_contains("This key has no scopes");
}

#[tokio::test]
async fn key_is_rotated_once_and_the_old_key_is_revoked() {
    let browser = Browser::logged_in().await;
    let (id, old) = browser.key(&["api.read"]);
    let here = format!("/keys/{id}");
    browser.get(&here).await.assert_contains("Rotate…");
    let path = format!("{here}/rotate");
    let form = browser.open(&path).await;
    let rotated = browser.submit(&path, &form).await;
    assert_eq!(rotated.status, StatusCode::CREATED);
    rotated.assert_contains("It is shown only once.");
    let new = browser.store.authenticate_key(rotated.keys()[0].as_bytes()).unwrap().id();
    assert!(browser.store.authenticate_key(old.as_bytes()).is_err());
    let again = browser.submit(&path, &form).await;
    assert_eq!((again.status, again.keys().len()), (StatusCode::CONFLICT, 0));
    again.assert_contains("already revealed");
    // A replaced key cannot be rotated again. An unknown form token redirects to the form.
    let late = browser.submit(&path, &browser.open(&path).await).await;
    assert_eq!((late.status, late.keys().len()), (StatusCode::CONFLICT, 0));
    browser.submit(&path, &form.with("form", "x")).await.assert_redirects_to(&path);
    assert!(!browser.get(&here).await.text.contains("Rotate…"));
    browser.get(&format!("/keys/{new}")).await.assert_contains("Replaces");

    // A user cannot take over a stronger key by rotating it.
    let mut clerk = browser;
    let (_, weak) = clerk.key(&["admin.key.list", "admin.key.update"]);
    clerk.log_in(&weak).await;
    let path = format!("/keys/{new}/rotate");
    let form = clerk.open(&path).await;
    for _ in 0..2 {
        let refused = clerk.submit(&path, &form).await;
        assert_eq!((refused.status, refused.keys().len()), (StatusCode::FORBIDDEN, 0));
    }
}

#[tokio::test]
async fn markup_in_a_name_is_escaped() {
    let browser = Browser::logged_in().await;
    let name = "<script>alert(1)</script>\"'&";
    let created = browser.add(name, &["api.read"]).await;
    let id = browser.store.authenticate_key(created.keys()[0].as_bytes()).unwrap().id();
    let page = format!("/keys/{id}");
    for reply in [
        created,
        browser.get("/").await,
        browser.get(&page).await,
        browser.get("/?q=%3Cscript%3E").await,
    ] {
        assert!(!reply.text.contains("<script>alert") && !reply.text.contains("<script>\""));
        reply.assert_contains("&lt;script&gt;");
    }
}

#[tokio::test]
async fn revocation_or_expiry_of_the_key_ends_its_session() {
    let mut browser = Browser::new();
    browser.get("/").await.assert_redirects_to("/login");
    for path in ["/keys/new", "/audit", "/keys/key_00000000000", "/keys/x/delete"] {
        browser.get(path).await.assert_redirects_to("/login");
    }
    let (id, key) = browser.key(&["admin.key.list", "admin.key.create", "api.read"]);
    browser.log_in(&key).await;
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
    let form = browser.open_new().await.with("name", "x").with_scopes(&["api.read"]);
    browser.store.revoke(id).unwrap();
    let late = browser.submit("/keys", &form).await;
    late.assert_redirects_to("/login?ended=1");
    assert!(late.header("set-cookie").contains("Max-Age=0"));
    // The session stays ended after the key is reactivated.
    browser.store.update(id, Change::activate()).unwrap();
    browser.get("/").await.assert_redirects_to("/login?ended=1");

    browser.log_in(&key).await;
    let end = Expiry::At(Timestamp::from_secs(1));
    browser.store.update(id, Change::default().with_expiry(end)).unwrap();
    browser.get("/").await.assert_redirects_to("/login?ended=1");
}

#[tokio::test]
async fn session_cookie_has_strict_attributes_and_logout_ends_the_session() {
    let browser = Browser::logged_in().await;
    let login = browser.post("/login", &[("key", &browser.root)]).await;
    let cookie = login.header("set-cookie");
    let value = cookie.strip_prefix("__Host-portcullis=").unwrap();
    let (value, attributes) = value.split_once("; ").unwrap();
    assert_eq!((value.len(), attributes), (64, "Path=/; Secure; HttpOnly; SameSite=Strict"));
    // The new login ended the earlier session.
    browser.get("/").await.assert_redirects_to("/login?ended=1");

    let browser = Browser::logged_in().await;
    browser.post("/logout", &[]).await.assert_redirects_to("/login?out=1");
    browser.get("/").await.assert_redirects_to("/login?ended=1");

    let portal = Portal::new(browser.store.clone()).at("https://127.0.0.1:8443".parse().unwrap());
    let local = Browser { app: portal.router(), ..browser };
    let login = local.post("/login", &[("key", &local.root)]).await;
    assert!(login.header("set-cookie").starts_with("__Host-portcullis-8443="));
}

#[tokio::test]
async fn cookies_of_other_services_are_ignored() {
    let browser = Browser::logged_in().await;
    let own = browser.cookie.as_bytes();
    let name = own.split(|byte| *byte == b'=').next().unwrap();
    for lines in [
        vec![[b"theme=caf\xe9; ", own].concat()],
        vec![[own, b"; theme=\xff\x80"].concat()],
        vec![b"theme=\xe9".to_vec(), b"=; ;;novalue; a=b=c".to_vec(), own.to_vec()],
        vec![own.to_vec(), b"\xe9".to_vec()],
        vec![[name, b"=\xe9; ", own].concat()],
        vec![[name, b"-8443=x;", own].concat()],
    ] {
        let mut request = Request::get("/");
        for line in &lines {
            request = request.header("cookie", HeaderValue::from_bytes(line).unwrap());
        }
        let reply = browser.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, StatusCode::OK, "{lines:?}");
    }
}

#[tokio::test]
async fn get_of_a_form_address_redirects_to_a_page() {
    let browser = Browser::logged_in().await;
    let (id, _) = browser.key(&["api.read"]);
    for (path, page) in [
        ("/keys".to_owned(), "/".to_owned()),
        ("/logout".into(), "/".into()),
        (format!("/keys/{id}/deactivate"), format!("/keys/{id}")),
        ("/keys/%0d%0ax/deactivate".into(), "/".into()),
    ] {
        browser.get(&path).await.assert_redirects_to(&page);
    }
    assert!(browser.record(id).active);
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn names_and_owners_have_bidirectional_isolation() {
    let mut browser = Browser::logged_in().await;
    let new = new_key(&browser.store, "مفتاح", &["admin.key.list", "admin.key.update"])
        .with_owner("متجر");
    let (id, key) = issue(&browser.store, new);
    let here = format!("/keys/{id}");
    browser.log_in(&String::from_utf8(key).unwrap()).await;
    browser.store.update(id, Change::default().with_name("חדש")).unwrap();
    for path in ["/", &here, "/audit", &format!("{here}/rotate")] {
        let page = browser.get(path).await.text;
        let (head, body) = page.split_once("<body>").unwrap();
        if path == here {
            assert!(head.contains("\u{2068}חדש\u{2069}"));
        }
        for name in ["مفتاح", "متجر", "חדש"] {
            let bare = body.replace(&format!("<bdi>{name}</bdi>"), "");
            let bare = bare.replace(&format!(r#"value="{name}""#), "");
            assert!(!bare.contains(name), "{path}: {bare}");
        }
    }
}

#[tokio::test]
async fn refused_login_shows_an_error_without_the_key() {
    let browser = Browser::new();
    let (_, weak) = browser.key(&["api.read"]);
    let last = if browser.root.ends_with('x') { "y" } else { "x" };
    let unknown = format!("{}{last}", &browser.root[..browser.root.len() - 1]);
    for (key, status) in [
        (unknown.as_str(), StatusCode::UNAUTHORIZED),
        ("", StatusCode::UNAUTHORIZED),
        (weak.as_str(), StatusCode::FORBIDDEN),
    ] {
        let reply = browser.post("/login", &[("key", key)]).await;
        assert_eq!(reply.status, status);
        assert!(!reply.headers.contains_key("set-cookie"));
        assert!(!reply.headers.contains_key("www-authenticate"));
        assert!(reply.keys().is_empty());
        reply.assert_contains(r#"aria-describedby="key-error""#);
    }
}

#[tokio::test]
async fn cross_site_form_is_refused() {
    let browser = Browser::logged_in().await;
    let (id, _) = browser.key(&["api.read"]);
    let path = format!("/keys/{id}/deactivate");
    for headers in [
        vec![],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("origin", "https://elsewhere.example")],
        vec![("origin", "null")],
        vec![("sec-fetch-site", "same-origin"), ("origin", "https://keys.example.com:8443")],
        vec![("origin", ORIGIN), ("origin", "https://elsewhere.example")],
    ] {
        let mut request = browser.form(&path);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let reply = browser.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?}");
        assert!(browser.store.get(id).unwrap().active);
    }
    for headers in [vec![("sec-fetch-site", "none")], vec![("origin", ORIGIN)]] {
        browser.store.update(id, Change::activate()).unwrap();
        let mut request = browser.form(&path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        browser
            .send(request.body(Body::empty()).unwrap())
            .await
            .assert_redirects_to(&format!("/keys/{id}?saved=1"));
        assert!(!browser.store.get(id).unwrap().active);
    }
}

#[tokio::test]
async fn user_cannot_grant_more_than_the_rights_of_the_own_key() {
    let mut browser = Browser::new();
    let (_, clerk) =
        browser.key(&["admin.key.list", "admin.key.create", "admin.key.update", "api.read"]);
    let (strong, _) = browser.key(&["api.read", "api.write"]);
    browser.log_in(&clerk).await;
    let page = browser.get("/keys/new").await;
    assert!(page.text.contains(r#"value="api.write" disabled"#), "{}", page.text);
    assert!(!page.text.contains(r#"value="api.read" disabled"#));
    let refused = browser.add("strong", &["api.write"]).await;
    assert_eq!((refused.status, refused.keys().len()), (StatusCode::FORBIDDEN, 0));
    refused.assert_contains(r#"role="alert""#);
    refused.assert_contains("at most its own scopes");

    // A scope that the user lacks stays granted when another field is changed.
    let here = format!("/keys/{strong}");
    let page = browser.get(&here).await;
    assert!(page.text.contains(r#"<input type="hidden" name="scope" value="api.write">"#));
    let fields = page.form(&here).with("name", "renamed");
    browser.submit(&here, &fields).await.assert_redirects_to(&format!("{here}?saved=1"));
    assert_eq!(
        browser.store.get(strong).unwrap().grant,
        scopes(&browser.store, &["api.read", "api.write"])
    );
    // The user may revoke the stronger key, but not reactivate it.
    browser
        .post(&format!("{here}/deactivate"), &[])
        .await
        .assert_redirects_to(&format!("{here}?saved=1"));
    let fields = browser.open(&here).await.with("active", "yes");
    let back = browser.submit(&here, &fields).await;
    assert_eq!(back.status, StatusCode::FORBIDDEN);
    assert!(!browser.store.get(strong).unwrap().active);
    let revision = browser.record(strong).revision.to_string();
    let fields = [("revision", &*revision), ("end", "1")];
    let refused = browser.post(&format!("{here}/delete"), &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn last_root_key_cannot_be_revoked() {
    let browser = Browser::logged_in().await;
    let here = format!("/keys/{}", browser.root_id);
    let reply = browser.post(&format!("{here}/deactivate"), &[]).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    reply.assert_contains("the last active root key");
    let page = browser.get(&here).await;
    page.assert_contains("This is a root key");
    let renamed = page.form(&here).with("name", "Master");
    browser.submit(&here, &renamed).await.assert_redirects_to(&format!("{here}?saved=1"));
    let record = browser.store.get(browser.root_id).unwrap();
    assert_eq!((record.name.as_str(), record.grant), ("Master", Grant::All));
}

#[tokio::test]
async fn saving_keeps_the_time_of_day_of_an_expiry() {
    let browser = Browser::logged_in().await;
    let end = Expiry::At(Timestamp::from_secs(4_073_551_200));
    let new = new_key(&browser.store, "noon", &["api.read"]).with_expiry(end);
    let (id, _) = issue(&browser.store, new);
    let here = format!("/keys/{id}");
    let page = browser.get(&here).await;
    page.assert_contains(r#"value="2099-01-31""#);
    let fields = page.form(&here).with("name", "later");
    browser.submit(&here, &fields).await.assert_redirects_to(&format!("{here}?saved=1"));
    let record = browser.store.get(id).unwrap();
    assert_eq!((record.name.as_str(), record.expiry), ("later", end));
}

#[tokio::test]
async fn portal_can_be_mounted_under_a_path() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let browser = Browser::over(store.clone());
    let portal = Portal::new(store.clone()).router();
    let app = Router::new().nest("/admin", router(store).merge(portal));
    let mut browser = Browser { app, ..browser };
    browser.get("/admin").await.assert_redirects_to("/admin/login");
    let login = browser.post("/admin/login", &[("key", &browser.root)]).await;
    login.assert_redirects_to("/admin/");
    browser.cookie = login.cookie();
    let page = browser.get("/admin").await;
    page.assert_contains(r#"href="/admin/keys/new""#);
    page.assert_contains(r#"href="/admin/assets/portal.css?v="#);
    assert!(!page.text.contains(r#"href="/keys"#));
}

#[tokio::test]
async fn changes_appear_in_the_audit_log_and_on_the_page_of_the_key() {
    let (_dir, home) = portcullis_testkit::home();
    let mut browser = Browser::over(portcullis_testkit::builder().open(home).unwrap());
    let root = browser.root.clone();
    browser.log_in(&root).await;
    let created = browser.add("Till 4", &["api.read"]).await;
    let id = browser.store.authenticate_key(created.keys()[0].as_bytes()).unwrap().id();
    browser
        .post(&format!("/keys/{id}/deactivate"), &[])
        .await
        .assert_redirects_to(&format!("/keys/{id}?saved=1"));
    let last = browser.store.audit(0, 100).unwrap().pop().unwrap();
    assert_eq!(
        (last.actor, last.source),
        (Actor::Key(browser.root_id), Some([192, 0, 2, 7].into()))
    );
    for page in ["/audit".to_owned(), format!("/keys/{id}")] {
        let page = browser.get(&page).await;
        for words in ["Created", "Deactivated", "192.0.2.7", "Active: Yes → No"] {
            page.assert_contains(words);
        }
    }
    assert!(browser.get("/audit?upto=1").await.text.contains("Scopes added"));
    assert_eq!(browser.get("/audit?upto=x").await.status, StatusCode::OK);
}

#[tokio::test]
async fn assets_are_served_and_the_api_stays_available() {
    let browser = Browser::new();
    for (path, kind) in [
        ("/assets/portal.css", "text/css; charset=utf-8"),
        ("/assets/portal.js", "text/javascript; charset=utf-8"),
        ("/assets/favicon.svg", "image/svg+xml"),
        ("/favicon.ico", "image/svg+xml"),
    ] {
        let reply = browser.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, kind));
    }
    let request = Request::get("/v1/keys").body(Body::empty()).unwrap();
    let reply = browser.app.clone().oneshot(request).await.unwrap();
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert!(reply.headers().contains_key("www-authenticate"));
}

#[tokio::test]
async fn list_and_key_page_show_the_last_use() {
    let browser = Browser::logged_in().await;
    let (id, key) = browser.key(&["api.read"]);
    let page = browser.get(&format!("/keys/{id}")).await;
    page.assert_contains("<dt>Last used</dt><dd><span class=\"faint\">Never</span></dd>");
    browser.store.authenticate_key(key.as_bytes()).unwrap();
    let page = browser.get(&format!("/keys/{id}")).await;
    page.assert_contains("<dt>Last used</dt><dd><time datetime=\"20");
    browser.get("/").await.assert_contains("Last used");
}

#[tokio::test]
async fn list_has_pages() {
    let browser = Browser::logged_in().await;
    for number in 0..30 {
        issue(&browser.store, new_key(&browser.store, &format!("Till {number}"), &["api.read"]));
    }
    // The filter leaves out the root key: keys with the same creation time have a random order.
    let first = browser.get("/?q=Till").await;
    assert_eq!(first.text.matches("Till ").count(), 25);
    let second = browser.get(&format!("/?q=Till&status=&page={}", first.hidden("page"))).await;
    assert_eq!(second.text.matches("Till ").count(), 5);
    assert!(!second.text.contains("Next page") && second.text.contains("First page"));
    assert_eq!(browser.get("/?page=nonsense").await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn too_large_body_and_other_content_type_are_refused() {
    let browser = Browser::logged_in().await;
    let large = "x".repeat(100_000);
    let reply = browser.post("/login", &[("key", &large)]).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let request = Request::post("/login")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/json")
        .body(Body::from("{}"));
    let reply = browser.send(request.unwrap()).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn search_for_a_pasted_key_keeps_only_its_id() {
    let browser = Browser::logged_in().await;
    let (id, key) = issue(&browser.store, new_key(&browser.store, "Wanted", &["api.read"]));
    let key = String::from_utf8(key).unwrap();
    let fields = [("q", key.as_str()), ("status", "active"), ("sort", "name")];
    let found = browser.post("/search", &fields).await;
    let id = id.to_string().replace('_', "%5F");
    found.assert_redirects_to(&format!("/?q={id}&status=active&sort=name"));
    let list = browser.get(found.header("location")).await;
    list.assert_contains("Wanted");
    list.assert_contains("1 key");
    // Also an address with a key does not put it into the page.
    let list = browser.get(&format!("/?q={key}")).await;
    assert!(list.text.contains("Wanted") && list.keys().is_empty(), "{}", list.text);
    let list = browser.get(&format!("/?owner={key}")).await;
    assert!(list.keys().is_empty());
    for (query, expected) in [
        ("status=never-used&q=Wanted", "Wanted"),
        ("status=replaced", "No key matches."),
        ("scope=api.write", "root"),
        ("created_by=host&from=2000-01-01&until=2999-01-01&sort=expires_at", "Wanted"),
        ("until=2000-01-01", "No key matches."),
    ] {
        browser.get(&format!("/?{query}")).await.assert_contains(expected);
    }
    let refused = browser.get("/?created_by=somebody").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    refused.assert_contains("must be the id of a key");
}

#[tokio::test]
async fn all_keys_of_a_list_are_changed_after_a_confirmation() {
    let browser = Browser::logged_in().await;
    let issue = |name: &str, owner: &str| {
        let new = new_key(&browser.store, name, &["api.read", "api.write"]).with_owner(owner);
        issue(&browser.store, new).0
    };
    let (first, second, other) = (issue("a", "shop"), issue("b", "shop"), issue("c", "bank"));
    let list = browser.get("/?owner=shop").await;
    list.assert_contains("Change all 2 keys of this list…");
    let fields = list.form("/bulk").with("act", "revoke");
    let confirm = browser.submit("/bulk", &fields).await;
    confirm.assert_contains("Deactivate 2 keys?");
    assert!(browser.store.get(first).unwrap().active, "nothing is changed by the question");
    browser.store.update(second, Change::default().with_name("changed")).unwrap();
    let (_, rest) = confirm.text.split_once(r#"action="/bulk/"#).unwrap();
    let action = format!("/bulk/{}", rest.split('"').next().unwrap());
    let done = browser.submit(&action, &confirm.form(&action)).await;
    done.assert_contains("Done for 1 key");
    done.assert_contains(&second.to_string());
    let active = [first, second, other].map(|id| browser.store.get(id).unwrap().active);
    assert_eq!(active, [false, true, true]);
    let fields = list.form("/bulk").with("act", "remove_scope").with("remove", "api.write");
    browser
        .submit("/bulk", &fields)
        .await
        .assert_contains("Remove the scope api.write from 2 keys?");
    for (name, value, expected) in
        [("last_day", "soon", "must be a date"), ("act", "rename", "is not an act")]
    {
        let fields = list.form("/bulk").with("act", "set_expiry").with(name, value);
        let refused = browser.submit("/bulk", &fields).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        refused.assert_contains(expected);
    }
}
