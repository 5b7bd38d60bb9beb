//! `POST /v1/keys/leaked`: the keys of a leaked text are found, and revoked on request.

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use portcullis::{Expiry, Grant, KeyId, NewKey, Store};
use portcullis_admin::router;
use portcullis_testkit::{basic, home, issue, new_key};
use serde_json::{Value, json};
use tower::ServiceExt;

struct Server {
    _dir: tempfile::TempDir,
    app: Router,
    store: Store,
    root: String,
    root_id: KeyId,
}

impl Server {
    fn new() -> Self {
        let (dir, home) = home();
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let (root_id, root) = issue(&store, NewKey::new("root", Grant::All, Expiry::Never));
        let root = String::from_utf8(root).unwrap();
        Self { _dir: dir, app: router(store.clone()), store, root, root_id }
    }

    fn key(&self, name: &str, names: &[&str], owner: Option<&str>) -> (KeyId, String) {
        let mut new = new_key(&self.store, name, names);
        new.owner = owner.map(str::to_owned);
        let (id, key) = issue(&self.store, new);
        (id, String::from_utf8(key).unwrap())
    }

    async fn ask(&self, key: &str, query: &str, kind: &str, text: Vec<u8>) -> (u16, Value) {
        let request = Request::post(format!("/v1/keys/leaked{query}"))
            .header("authorization", basic(key.as_bytes()))
            .header("content-type", kind)
            .body(Body::from(text))
            .unwrap();
        let reply = self.app.clone().oneshot(request).await.unwrap();
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        assert!(!portcullis::Secret::occurs_in(str::from_utf8(&bytes).unwrap()));
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn find(&self, key: &str, query: &str, text: &str) -> (u16, Value) {
        self.ask(key, query, "text/plain", text.as_bytes().to_vec()).await
    }
}

/// The ids and outcomes in an answer.
fn outcomes(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let keys = answer["keys"].as_array().unwrap().iter();
    keys.map(|key| (text(&key["key"]["id"]), text(&key["outcome"]))).collect()
}

#[tokio::test]
async fn search_alone_shows_the_keys_and_changes_nothing() {
    let server = Server::new();
    let (id, key) = server.key("Till 4", &["api.read"], Some("shop-17"));
    let before = server.store.audit(0, 100).unwrap();
    for query in ["", "?revoke=false"] {
        let text = format!("user={key}\nAuthorization: {}\n", basic(key.as_bytes()));
        let (status, answer) = server.find(&server.root, query, &text).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(outcomes(&answer), [(id.to_string(), "found".to_owned())]);
        let shown = &answer["keys"][0]["key"];
        assert_eq!((&shown["name"], &shown["owner"]), (&json!("Till 4"), &json!("shop-17")));
        assert_eq!((&shown["active"], &answer["unknown"]), (&json!(true), &json!(0)));
    }
    assert_eq!(server.store.audit(0, 100).unwrap(), before);
}

#[tokio::test]
async fn leaked_keys_are_revoked_and_the_last_root_key_is_reported() {
    let server = Server::new();
    let ((one, a), (two, b)) =
        (server.key("a", &["api.read"], None), server.key("b", &["api.read"], None));
    server.store.revoke(two).unwrap();
    let forged = format!("{}{}", &a[..15], &b[15..]);
    let text = format!("{}\n{a}\n{b}\n{forged}", server.root);
    let (status, answer) = server.find(&server.root, "?revoke=true", &text).await;
    assert_eq!(status, 200, "{answer}");
    let expected = [(one, "revoked"), (two, "already_inactive"), (server.root_id, "last_root_key")];
    let expected = expected.map(|(id, outcome)| (id.to_string(), outcome.to_owned()));
    assert_eq!(outcomes(&answer), expected);
    assert_eq!(answer["keys"][0]["key"]["active"], json!(false));
    assert!(!server.store.get(one).unwrap().active);
    assert!(server.store.get(server.root_id).unwrap().active);
}

#[tokio::test]
async fn own_key_of_the_caller_is_revoked_after_the_others() {
    let server = Server::new();
    let (own, clerk) = server.key("clerk", &["admin.key.list", "admin.key.update"], None);
    let (other, key) = server.key("till", &["api.read"], None);
    let (status, answer) = server.find(&clerk, "?revoke=true", &format!("{clerk} {key}")).await;
    assert_eq!((status, outcomes(&answer).len()), (200, 2), "{answer}");
    for id in [own, other] {
        assert!(!server.store.get(id).unwrap().active, "{id}");
    }
}

#[tokio::test]
async fn administrator_with_an_owner_finds_only_its_own_keys() {
    let server = Server::new();
    let scopes = ["admin.key.list", "admin.key.update"];
    let (_, clerk) = server.key("clerk", &scopes, Some("shop"));
    let (own, key) = server.key("till", &["api.read"], Some("shop"));
    let (other, foreign) = server.key("vault", &["api.read"], Some("bank"));
    let text = format!("{key} {foreign}");
    let (_, answer) = server.find(&clerk, "?revoke=true", &text).await;
    assert_eq!(outcomes(&answer), [(own.to_string(), "revoked".to_owned())]);
    assert_eq!(answer["unknown"], json!(1));
    assert!(server.store.get(other).unwrap().active);
}

#[tokio::test]
async fn each_part_requires_its_scope() {
    let server = Server::new();
    let (id, key) = server.key("till", &["api.read"], None);
    let (_, reader) = server.key("reader", &["admin.key.list"], None);
    assert_eq!(server.find(&key, "", &key).await.0, 403);
    assert_eq!(server.find(&reader, "", &key).await.0, 200);
    let (status, problem) = server.find(&reader, "?revoke=true", &key).await;
    assert_eq!((status, &problem["required_scopes"]), (403, &json!(["admin.key.update"])));
    assert!(server.store.get(id).unwrap().active);
}

#[tokio::test]
async fn malformed_requests_are_named() {
    let server = Server::new();
    let root = server.root.as_str();
    assert_eq!(server.find(root, "?revoke=yes", "").await.0, 422);
    assert_eq!(server.find(root, "?dry_run=true", "").await.0, 422);
    let (status, problem) = server.ask(root, "", "application/json", b"{}".to_vec()).await;
    assert_eq!(status, 415);
    assert!(problem["detail"].as_str().unwrap().contains("text/plain"), "{problem}");
    let text = |length| vec![0xff; length];
    assert_eq!(server.ask(root, "", "text/plain", text(1 << 20)).await.0, 200);
    assert_eq!(server.ask(root, "", "text/plain", text((1 << 20) + 1)).await.0, 413);
}
