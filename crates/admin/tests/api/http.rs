//! The Administration API: requests and responses of each route, mostly over a store in memory.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis::{Actor, Grant, KeyId, Store};
use portcullis_admin::{LocalUser, router};
use portcullis_testkit::{basic, issue, new_key};
use serde_json::{Value, json};
use tower::ServiceExt;

/// The router of a store with a root key.
pub(super) struct Server {
    pub(super) router: Router,
    pub(super) store: Store,
    pub(super) root: String,
    pub(super) root_id: KeyId,
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Vec<u8>,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Server {
    pub(super) fn new() -> Self {
        Self::over(portcullis_testkit::builder().in_memory().unwrap())
    }

    pub(super) fn over(store: Store) -> Self {
        let root = new_key(&store, "root", &[]).with_grant(Grant::All);
        let (root_id, root) = issue(&store, root);
        let root = String::from_utf8(root).unwrap();
        Self { router: router(store.clone()), store, root, root_id }
    }

    /// Issues a key with these scopes.
    pub(super) fn key(&self, names: &[&str]) -> (KeyId, String) {
        let (id, key) = issue(&self.store, new_key(&self.store, "some", names));
        (id, String::from_utf8(key).unwrap())
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let reply = Reply { status: parts.status, headers: parts.headers, bytes };
        assert_eq!(reply.header("cache-control"), "no-store");
        if !reply.status.is_success() {
            assert_eq!(reply.header("content-type"), "application/problem+json");
            assert!(!reply.json()["message"].as_str().unwrap().is_empty());
        }
        reply
    }

    pub(super) async fn request(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", basic(key.as_bytes()));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    pub(super) async fn get(&self, key: &str, path: &str) -> Reply {
        self.request(key, Method::GET, path, None).await
    }

    /// Lists all keys without `last_used_at`, which the requests of a test change.
    pub(super) async fn keys(&self) -> Value {
        let mut list = self.get(&self.root, "/v1/keys").await.json();
        for key in list["keys"].as_array_mut().unwrap() {
            key.as_object_mut().unwrap().remove("last_used_at").unwrap();
        }
        list
    }

    pub(super) async fn post(&self, key: &str, path: &str, body: Value) -> Reply {
        self.request(key, Method::POST, path, Some(body)).await
    }

    pub(super) async fn patch(&self, key: &str, id: KeyId, body: Value) -> Reply {
        self.request(key, Method::PATCH, &format!("/v1/keys/{id}"), Some(body)).await
    }
}

#[tokio::test]
async fn every_401_has_the_same_bytes() {
    let server = Server::new();
    let (inactive, inactive_key) = server.key(&["api.read"]);
    server.store.revoke(inactive).unwrap();
    let expired = new_key(&server.store, "old", &["api.read"])
        .with_expiry(portcullis::Expiry::At(portcullis::Timestamp::from_secs(1)));
    let (_, expired_key) = issue(&server.store, expired);
    let last = if server.root.ends_with('x') { "y" } else { "x" };
    let unknown = format!("{}{last}", &server.root[..server.root.len() - 1]);
    let root = basic(server.root.as_bytes());
    let cases: Vec<Vec<Vec<u8>>> = vec![
        vec![],
        vec![basic(inactive_key.as_bytes()).into()],
        vec![basic(&expired_key).into()],
        vec![basic(unknown.as_bytes()).into()],
        vec![basic(b"").into()],
        vec![b"Basic".to_vec()],
        vec![b"Basic \xff\xfe\x80".to_vec()],
        vec![format!("Bearer {}", server.root).into()],
        vec![root.clone().into(), root.clone().into()],
        vec![vec![b'a'; 4000]],
    ];
    let mut first: Option<Reply> = None;
    for path in ["/v1/whoami", "/v1/keys", "/v1/keys/key_00000000000", "/v1/scopes"] {
        for values in &cases {
            let mut request = Request::builder().uri(path);
            for value in values {
                request = request.header("authorization", value.as_slice());
            }
            let reply = server.send(request.body(Body::empty()).unwrap()).await;
            let first = first.get_or_insert_with(|| Reply {
                status: StatusCode::UNAUTHORIZED,
                headers: reply.headers.clone(),
                bytes: reply.bytes.clone(),
            });
            assert_eq!(reply.status, first.status, "{path}");
            assert_eq!(reply.headers, first.headers, "{path}");
            assert_eq!(reply.bytes, first.bytes, "{path}");
        }
    }
    let first = first.unwrap();
    assert_eq!(first.json()["message"], "Invalid username/account key");
    assert_eq!(first.header("www-authenticate"), r#"Basic realm="Portcullis", charset="UTF-8""#);
}

#[tokio::test]
async fn key_can_be_created_revoked_reactivated_and_deleted() {
    let server = Server::new();
    let body = json!({"name": "Nightly export", "scopes": ["api.read"], "metadata": {"team": "a"}});
    let created = server.post(&server.root, "/v1/keys", body).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let (json, location) = (created.json(), created.header("location").to_owned());
    let (key, id) = (json["key"].as_str().unwrap(), json["id"].as_str().unwrap());
    assert_eq!(location, format!("/v1/keys/{id}"));
    assert_eq!(json["scopes"], json!(["api.read"]));
    assert_eq!(json["created_by"], server.root_id.to_string());
    assert_eq!((&json["expires_at"], &json["owner"]), (&Value::Null, &Value::Null));
    assert_eq!(json["last_used_at"], Value::Null);
    let id: KeyId = id.parse().unwrap();

    let whoami = server.get(key, "/v1/whoami").await;
    assert_eq!(whoami.status, StatusCode::OK);
    assert_eq!(whoami.json()["name"], "Nightly export");
    assert!(whoami.json().get("key").is_none());

    let off = server.patch(&server.root, id, json!({"active": false})).await;
    assert_eq!(off.status, StatusCode::OK);
    assert!(off.json()["last_used_at"].as_str().unwrap().ends_with(":00Z"));
    assert!(off.json()["inactive_since"].is_string());
    assert_eq!(server.get(key, "/v1/whoami").await.status, StatusCode::UNAUTHORIZED);
    server.patch(&server.root, id, json!({"active": true})).await;
    assert_eq!(server.get(key, "/v1/whoami").await.status, StatusCode::OK);

    let early = server.request(&server.root, Method::DELETE, &location, None).await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    server.patch(&server.root, id, json!({"active": false})).await;
    let gone = server.request(&server.root, Method::DELETE, &location, None).await;
    assert_eq!((gone.status, gone.bytes.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(server.get(&server.root, &location).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn patch_changes_only_its_fields_and_null_removes_a_value() {
    let server = Server::new();
    let created = server
        .post(
            &server.root,
            "/v1/keys",
            json!({"name": "a", "scopes": ["api.read"], "owner": "shop", "active": false,
                "expires_at": "2030-01-31T12:00:00+01:00", "metadata": {"x": "1", "y": "2"}}),
        )
        .await;
    assert_eq!(created.status, StatusCode::CREATED);
    let json = created.json();
    assert_eq!(
        (&json["expires_at"], &json["active"]),
        (&json!("2030-01-31T11:00:00Z"), &json!(false))
    );
    let id: KeyId = json["id"].as_str().unwrap().parse().unwrap();

    let same = server.patch(&server.root, id, json!({})).await;
    assert_eq!(same.header("etag"), created.header("etag"));
    let merged = server
        .patch(&server.root, id, json!({"metadata": {"x": null, "z": "3"}, "name": "b"}))
        .await
        .json();
    assert_eq!(merged["metadata"], json!({"y": "2", "z": "3"}));
    assert_eq!((&merged["name"], &merged["owner"]), (&json!("b"), &json!("shop")));
    let bare = json!({"owner": null, "expires_at": null, "metadata": null});
    let bare = server.patch(&server.root, id, bare).await.json();
    assert_eq!(bare["metadata"], json!({}));
    assert_eq!((&bare["owner"], &bare["expires_at"]), (&Value::Null, &Value::Null));
    assert_eq!(bare["scopes"], json!(["api.read"]));

    let request = Request::patch(format!("/v1/keys/{id}"))
        .header("authorization", basic(server.root.as_bytes()))
        .header("content-type", "application/merge-patch+json")
        .body(Body::from(r#"{"active":true}"#))
        .unwrap();
    assert_eq!(server.send(request).await.json()["active"], true);
}

#[tokio::test]
async fn patch_with_a_stale_entity_tag_returns_412() {
    let server = Server::new();
    let (id, _) = server.key(&["api.read"]);
    let path = format!("/v1/keys/{id}");
    let read = server.get(&server.root, &path).await;
    let with = |tag: &str, name: &str| {
        Request::patch(&path)
            .header("authorization", basic(server.root.as_bytes()))
            .header("content-type", "application/json")
            .header("if-match", tag)
            .body(Body::from(json!({"name": name}).to_string()))
            .unwrap()
    };
    let tag = read.header("etag");
    let changed = server.send(with(tag, "first")).await;
    assert_eq!(changed.status, StatusCode::OK);
    let current = changed.header("etag").trim_matches('"');
    let respelled =
        [format!("\"0{current}\""), format!("\"+{current}\""), format!("W/\"{current}\"")];
    for other in respelled {
        let refused = server.send(with(&other, "second")).await;
        assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED, "{other}");
    }
    for (tag, status) in [
        (tag, StatusCode::PRECONDITION_FAILED),
        ("W/\"1\"", StatusCode::PRECONDITION_FAILED),
        ("\"x\"", StatusCode::PRECONDITION_FAILED),
        ("\"1\", \"2\"", StatusCode::BAD_REQUEST),
        ("*", StatusCode::OK),
    ] {
        assert_eq!(server.send(with(tag, "second")).await.status, status, "{tag}");
    }
}

#[tokio::test]
async fn key_cannot_grant_more_than_its_own_rights() {
    let server = Server::new();
    let all =
        ["admin.key.create", "admin.key.update", "admin.key.delete", "admin.key.list", "api.read"];
    let (clerk_id, clerk) = server.key(&all);
    let (stronger, _) = server.key(&["api.write"]);
    server.store.revoke(stronger).unwrap();
    let create = |body: Value| server.post(&clerk, "/v1/keys", body);
    for (body, status) in [
        (json!({"name": "a", "scopes": ["api.read"]}), StatusCode::CREATED),
        (json!({"name": "a", "scopes": []}), StatusCode::CREATED),
        (json!({"name": "a", "scopes": ["api.write"]}), StatusCode::FORBIDDEN),
        (json!({"name": "a", "scopes": ["*"]}), StatusCode::FORBIDDEN),
        (json!({"name": "a", "scopes": ["api.read"], "owner": "boss"}), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(create(body.clone()).await.status, status, "{body}");
    }
    for (id, body) in [
        (clerk_id, json!({"scopes": ["*"]})),
        (clerk_id, json!({"scopes": ["api.read", "api.write", "admin.key.update"]})),
        (stronger, json!({"active": true})),
        (stronger, json!({"expires_at": "2090-01-01T00:00:00Z", "active": true})),
    ] {
        let reply = server.patch(&clerk, id, body.clone()).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{body}");
        assert!(!reply.headers.contains_key("www-authenticate"));
    }
    // A root key cannot create a root key over the network.
    let root = server.post(&server.root, "/v1/keys", json!({"name": "a", "scopes": ["*"]})).await;
    assert_eq!(root.status, StatusCode::FORBIDDEN);
    // A key that expires cannot create a key without expiry.
    let (short_id, short) = server.key(&all);
    server.patch(&server.root, short_id, json!({"expires_at": "2090-01-01T00:00:00Z"})).await;
    let longer =
        server.post(&short, "/v1/keys", json!({"name": "a", "scopes": ["api.read"]})).await;
    assert_eq!(longer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_route_checks_its_scope_before_the_request() {
    let server = Server::new();
    let (own, weak) = server.key(&["api.read"]);
    let other = format!("/v1/keys/{}", server.root_id);
    for (method, path, scope) in [
        (Method::GET, "/v1/keys?colour=red", "admin.key.list"),
        (Method::GET, "/v1/keys/nonsense", "admin.key.list"),
        (Method::GET, &other, "admin.key.list"),
        (Method::GET, "/v1/scopes", "admin.key.list"),
        (Method::POST, "/v1/keys", "admin.key.create"),
        (Method::POST, "/v1/verify", "admin.key.verify"),
        (Method::PATCH, &other, "admin.key.update"),
        (Method::POST, &format!("{other}/rotate"), "admin.key.update"),
        (Method::DELETE, &other, "admin.key.delete"),
    ] {
        let reply = server.request(&weak, method.clone(), path, None).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(reply.json()["required_scopes"], json!([scope]), "{method} {path}");
    }
    // Without the scope a key may revoke itself, but not change itself in another way.
    for body in
        [json!({"name": "x"}), json!({"active": true}), json!({"active": false, "name": "x"})]
    {
        assert_eq!(server.patch(&weak, own, body).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(server.patch(&weak, own, json!({"active": false})).await.status, StatusCode::OK);
    assert_eq!(server.get(&weak, "/v1/whoami").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn any_key_revokes_itself_and_the_last_root_key_does_not() {
    let server = Server::new();
    let (id, key) = server.key(&[]);
    let revoke = async |key: &str| server.request(key, Method::DELETE, "/v1/whoami", None).await;
    let revoked = revoke(&key).await;
    assert_eq!(revoked.status, StatusCode::OK);
    let record = server.store.get(id).unwrap();
    assert_eq!((record.active, record.updated_by), (false, Actor::Key(id)));
    assert_eq!(revoked.json()["active"], false);
    assert_eq!(revoked.header("etag"), format!("\"{}\"", record.revision));
    // From then on it is any invalid key.
    assert_eq!(revoke(&key).await.status, StatusCode::UNAUTHORIZED);

    let last = revoke(&server.root).await;
    assert_eq!(last.status, StatusCode::CONFLICT);
    assert_eq!(last.json()["type"], "urn:portcullis:last-root-key");
    assert_eq!(server.get(&server.root, "/v1/whoami").await.status, StatusCode::OK);
    let (second, second_key) =
        issue(&server.store, new_key(&server.store, "root 2", &[]).with_grant(Grant::All));
    assert_eq!(revoke(&String::from_utf8(second_key).unwrap()).await.status, StatusCode::OK);
    assert!(!server.store.get(second).unwrap().active);

    let local = Request::delete("/v1/whoami").extension(LocalUser::new(1000));
    let local = server.send(local.body(Body::empty()).unwrap()).await;
    assert_eq!(local.status, StatusCode::NOT_FOUND);
    let foreign = Request::delete("/v1/whoami")
        .header("authorization", basic(server.root.as_bytes()))
        .header("origin", "https://other.example");
    let foreign = server.send(foreign.body(Body::empty()).unwrap()).await;
    assert_eq!(foreign.json()["type"], "urn:portcullis:foreign-origin");
}

#[tokio::test]
async fn root_key_adds_and_hides_scopes_and_no_other_key_does() {
    let server = Server::new();
    let (_, weak) =
        server.key(&["api.read", "admin.key.create", "admin.key.list", "admin.key.update"]);
    let path = "/v1/scopes/ledger.close";
    let body = json!({"description": "close a year"});
    let put = async |key: &str, path: &str, body: &Value| {
        server.request(key, Method::PUT, path, Some(body.clone())).await
    };
    let hide = async |key: &str, path: &str| server.request(key, Method::DELETE, path, None).await;
    let names = async |query: &str| {
        let list = server.get(&server.root, &format!("/v1/scopes{query}")).await.json();
        let scopes = list["scopes"].as_array().unwrap().clone();
        scopes.into_iter().filter(|scope| scope["name"] == "ledger.close").collect::<Vec<_>>()
    };
    assert_eq!(put(&weak, path, &body).await.status, StatusCode::FORBIDDEN);
    assert_eq!(hide(&weak, path).await.status, StatusCode::FORBIDDEN);
    assert!(names("?hidden=true").await.is_empty());

    let added = put(&server.root, path, &body).await;
    assert_eq!(added.status, StatusCode::OK);
    let expected = json!({"name": "ledger.close", "plane": "data", "description": "close a year", "hidden": false});
    assert_eq!(added.json(), expected);
    assert_eq!(names("").await, [expected]);
    let document = server.get(&server.root, "/openapi.json").await.json();
    let offered =
        &document["components"]["schemas"]["NewKey"]["properties"]["scopes"]["items"]["enum"];
    assert!(offered.as_array().unwrap().contains(&json!("ledger.close")), "{offered}");

    assert_eq!(hide(&server.root, path).await.status, StatusCode::NO_CONTENT);
    assert!(names("").await.is_empty());
    assert_eq!(names("?hidden=true").await[0]["hidden"], true);
    assert_eq!(put(&server.root, path, &body).await.status, StatusCode::OK);
    assert_eq!(names("").await.len(), 1);

    for (path, body) in [
        ("/v1/scopes/Ledger", body.clone()),
        (path, json!({"description": ""})),
        (path, json!({"description": "two\nlines"})),
        (path, json!({"description": null})),
        (path, json!({})),
        (path, json!({"description": "x", "offered": true})),
    ] {
        let refused = put(&server.root, path, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}");
    }
    assert_eq!(hide(&server.root, "/v1/scopes/x.y").await.status, StatusCode::NOT_FOUND);
    let kept = hide(&server.root, "/v1/scopes/admin.key.list").await;
    assert_eq!(
        (kept.status, &kept.json()["type"]),
        (StatusCode::CONFLICT, &json!("urn:portcullis:key-management-scope"))
    );
    assert_eq!(
        server.get(&server.root, "/v1/scopes?hidden=x").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn key_is_rotated_once_and_the_old_key_expires() {
    let server = Server::new();
    let (id, key) = server.key(&["api.read"]);
    let path = format!("/v1/keys/{id}/rotate");
    let created = server.post(&server.root, &path, json!({"grace_seconds": 3600})).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let json = created.json();
    let (new, secret) = (json["id"].as_str().unwrap(), json["key"].as_str().unwrap());
    assert_eq!(created.header("location"), format!("/v1/keys/{new}"));
    assert_eq!(json["replaces"], id.to_string());
    assert_eq!(server.get(&server.root, created.header("location")).await.json()["id"], *new);
    assert_eq!(server.get(secret, "/v1/whoami").await.json()["id"], *new);
    let old = server.get(&key, "/v1/whoami").await.json();
    assert_eq!(old["replaced_by"], *new);
    assert!(old["expires_at"].is_string());
    let again = server.post(&server.root, &path, json!({})).await;
    assert_eq!(again.status, StatusCode::CONFLICT);

    // Without a body there is no grace period.
    let path = format!("/v1/keys/{new}/rotate");
    let at_once = server.request(&server.root, Method::POST, &path, None).await;
    assert_eq!(at_once.status, StatusCode::CREATED);
    assert_eq!(server.get(secret, "/v1/whoami").await.status, StatusCode::UNAUTHORIZED);
    for body in [
        json!({"grace_seconds": -1}),
        json!({"grace_seconds": "1h"}),
        json!({"grace_seconds": 366 * 86_400 + 1}),
        json!({"grace": 1}),
    ] {
        let (id, _) = server.key(&["api.read"]);
        let path = format!("/v1/keys/{id}/rotate");
        let reply = server.post(&server.root, &path, body.clone()).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    }
}

#[tokio::test]
async fn key_whose_successor_was_deleted_can_be_rotated_again() {
    let server = Server::new();
    let (id, _) = server.key(&["api.read"]);
    let path = format!("/v1/keys/{id}/rotate");
    let rotate = || server.post(&server.root, &path, json!({"grace_seconds": 3600}));
    let successor: KeyId = rotate().await.json()["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(rotate().await.status, StatusCode::CONFLICT);
    server.store.revoke(successor).unwrap();
    assert_eq!(rotate().await.status, StatusCode::CONFLICT, "the successor may be reactivated");
    server.store.delete(successor).unwrap();
    let again = rotate().await;
    assert_eq!(again.status, StatusCode::CREATED);
    let old = server.store.get(id).unwrap();
    assert_eq!(old.replaced_by.map(|id| id.to_string()).as_deref(), again.json()["id"].as_str());
}

#[tokio::test]
async fn past_expiry_is_refused_on_create_and_expires_a_key_on_update() {
    let server = Server::new();
    let past = "2020-01-31T12:00:00Z";
    let body = json!({"name": "a", "scopes": [], "expires_at": past});
    let refused = server.post(&server.root, "/v1/keys", body).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.json()["errors"][0]["pointer"], "/expires_at");
    let (id, key) = server.key(&["api.read"]);
    let ended = server.patch(&server.root, id, json!({"expires_at": past})).await;
    assert_eq!((ended.status, &ended.json()["expires_at"]), (StatusCode::OK, &past.into()));
    let refusal = server.store.authenticate_key(key.as_bytes()).unwrap_err();
    assert_eq!(refusal, portcullis::Refusal::Expired);
}

#[tokio::test]
async fn expiry_after_2499_is_refused_and_the_error_names_the_range() {
    let server = Server::new();
    let create = |end: &str| {
        let body = json!({"name": "a", "scopes": [], "expires_at": end});
        server.post(&server.root, "/v1/keys", body)
    };
    for end in [
        "9999-12-31T23:59:59Z",
        "9999-12-30T22:00:01Z",
        "10000-01-01T00:00:00Z",
        "2500-06-01T00:00:00Z",
    ] {
        let refused = create(end).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{end}");
        let error = refused.json()["errors"][0].clone();
        assert_eq!(error["pointer"], "/expires_at");
        assert!(error["detail"].as_str().unwrap().contains("2499"), "{error}");
    }
    for (end, printed) in [
        ("2499-12-31T23:59:59Z", "2499-12-31T23:59:59Z"),
        ("2499-12-31T23:59:59-02:00", "2500-01-01T01:59:59Z"),
        ("2100-12-31T23:59:60Z", "2100-12-31T23:59:59Z"),
    ] {
        let created = create(end).await;
        if printed.starts_with("2500") {
            assert_eq!(created.status, StatusCode::UNPROCESSABLE_ENTITY, "{end}");
        } else {
            assert_eq!(created.json()["expires_at"], printed, "{end}");
        }
    }
}

#[tokio::test]
async fn search_ignores_letter_case_and_unicode_normalization() {
    let server = Server::new();
    let names = ["ΟΔΟΣ", "İstanbul", "Straße", "Zoe\u{308}"];
    for name in names {
        issue(&server.store, new_key(&server.store, name, &[]));
    }
    for (query, name) in [
        ("%CE%BF%CE%B4%CE%BF%CF%82", "ΟΔΟΣ"), // οδος
        ("istanbul", "İstanbul"),
        ("STRASSE", "Straße"),
        ("zo%C3%AB", "Zoe\u{308}"), // zoë, composed
    ] {
        let found = server.get(&server.root, &format!("/v1/keys?q={query}")).await.json();
        let found: Vec<_> =
            found["keys"].as_array().unwrap().iter().map(|key| &key["name"]).collect();
        assert_eq!(found, [name], "{query}");
    }
    // A renamed key is found by its new name.
    let listed = server.get(&server.root, "/v1/keys?q=istanbul").await.json();
    let id = listed["keys"][0]["id"].as_str().unwrap().parse().unwrap();
    server.patch(&server.root, id, json!({"name": "GROẞ"})).await;
    let renamed = server.get(&server.root, "/v1/keys?q=gross").await.json();
    assert_eq!(renamed["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn page_token_is_refused_with_another_filter() {
    let server = Server::new();
    for _ in 0..3 {
        server.key(&["api.read"]);
    }
    let first = server.get(&server.root, "/v1/keys?page_size=1&active=true&q=SOME").await.json();
    let token = first["next_page_token"].as_str().unwrap();
    let next = |filter: &str| {
        let path = format!("/v1/keys?page_size=2&{filter}page_token={token}");
        let server = &server;
        async move { server.get(&server.root, &path).await }
    };
    assert_eq!(next("active=true&q=some&").await.status, StatusCode::OK);
    for other in [
        "",
        "active=true&",
        "active=false&q=some&",
        "active=true&q=so&",
        "active=true&q=some&scope=api.read&",
    ] {
        let refused = next(other).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{other}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("other filters"), "{other}");
    }
}

#[tokio::test]
async fn last_root_key_cannot_be_revoked_narrowed_or_expired() {
    let server = Server::new();
    for body in [
        json!({"active": false}),
        json!({"scopes": ["api.read"]}),
        json!({"expires_at": "2090-01-01T00:00:00Z"}),
    ] {
        let reply = server.patch(&server.root, server.root_id, body.clone()).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{body}");
    }
    assert_eq!(server.get(&server.root, "/v1/whoami").await.status, StatusCode::OK);
}

#[tokio::test]
async fn invalid_input_is_reported_by_field_and_changes_nothing() {
    let server = Server::new();
    let before = server.keys().await;
    let long = "x".repeat(1 << 20);
    for (body, pointers) in [
        (json!({"name": "a", "scopes": ["api.raed"]}), vec!["/scopes"]),
        (json!({"name": "a", "scopes": ["*", "api.read"]}), vec!["/scopes"]),
        (json!({"name": "", "scopes": []}), vec!["/name"]),
        (json!({"name": "x".repeat(129), "scopes": []}), vec!["/name"]),
        (json!({"name": "a", "scopes": [], "colour": 1}), vec!["/colour"]),
        (json!({"scopes": "api.read"}), vec!["/name", "/scopes"]),
        (
            json!({"name": null, "scopes": [1], "active": "yes"}),
            vec!["/name", "/active", "/scopes"],
        ),
        (json!({"name": "a", "scopes": [], "expires_at": "soon"}), vec!["/expires_at"]),
        (
            json!({"name": "a", "scopes": [], "expires_at": "2600-01-01T00:00:00Z"}),
            vec!["/expires_at"],
        ),
        (json!({"name": "a", "scopes": [], "metadata": {"a": 1}}), vec!["/metadata"]),
        (json!({"name": "a", "scopes": [], "owner": ""}), vec!["/owner"]),
        (json!([]), vec![""]),
    ] {
        let reply = server.post(&server.root, "/v1/keys", body.clone()).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let json = reply.json();
        let errors = json["errors"].as_array().unwrap();
        for pointer in pointers {
            assert!(errors.iter().any(|e| e["pointer"] == pointer), "{pointer} in {json}");
        }
    }
    let huge = server.post(&server.root, "/v1/keys", json!({"name": long, "scopes": []})).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    let unknown =
        server.post(&server.root, "/v1/keys", json!({"name": "a", "scopes": ["x.y"]})).await;
    let detail = unknown.json()["detail"].to_string();
    assert!(detail.contains("x.y") && detail.contains("api.read"), "{detail}");

    for (kind, body, status) in [
        ("application/json", "{\"name\":", StatusCode::BAD_REQUEST),
        ("application/json", "", StatusCode::BAD_REQUEST),
        ("application/json", "{\"name\":\"\\ud800\"}", StatusCode::BAD_REQUEST),
        ("application/x-www-form-urlencoded", "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        for method in ["POST", "PATCH"] {
            let path = if method == "POST" {
                "/v1/keys".into()
            } else {
                format!("/v1/keys/{}", server.root_id)
            };
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("authorization", basic(server.root.as_bytes()))
                .header("content-type", kind)
                .body(Body::from(body))
                .unwrap();
            let reply = server.send(request).await;
            assert_eq!(reply.status, status, "{method} {kind} {body}");
            if method == "PATCH" && status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                assert!(reply.header("accept-patch").contains("application/merge-patch+json"));
            }
        }
    }
    for query in [
        "colour=red",
        "active=maybe",
        "scope=x.y",
        "page_size=0",
        "page_size=201",
        "page_size=x",
        "page_token=%00",
        "q=a&q=b",
    ] {
        let reply = server.get(&server.root, &format!("/v1/keys?{query}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        let name = query.split('=').next().unwrap();
        assert_eq!(reply.json()["errors"][0]["parameter"], name, "{query}");
    }
    for id in ["nonsense", "key_00000000000", "%ff", "pcl_00000000000"] {
        let reply = server.get(&server.root, &format!("/v1/keys/{id}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{id}");
    }
    assert_eq!(server.get(&server.root, "/nothing").await.status, StatusCode::NOT_FOUND);
    let reply = server.request(&server.root, Method::PUT, "/v1/keys", None).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(reply.header("allow").contains("POST"));
    assert_eq!(server.keys().await, before);
}

#[tokio::test]
async fn response_never_repeats_a_key_that_was_sent_in_the_wrong_field() {
    let server = Server::new();
    let (id, key) = server.key(&["api.read"]);
    let tail = key.rsplit('_').next().unwrap();
    let bodies = [
        json!({"name": "a", "scopes": [key]}),
        json!({"name": "a", "scopes": [], key.as_str(): 1}),
        json!({"name": "a", "scopes": [], "expires_at": key}),
        json!({"name": "a", "scopes": key}),
        json!({"name": "a", "scopes": [], "active": key}),
    ];
    for body in bodies {
        for reply in [
            server.post(&server.root, "/v1/keys", body.clone()).await,
            server.patch(&server.root, id, body.clone()).await,
        ] {
            assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            assert!(!String::from_utf8_lossy(&reply.bytes).contains(tail));
        }
    }
    for path in [
        format!("/v1/keys/{key}"),
        format!("/v1/keys?{key}=1"),
        format!("/v1/keys?scope={key}"),
        format!("/{key}"),
    ] {
        let reply = server.get(&server.root, &path).await;
        assert!(reply.status.is_client_error());
        assert!(!String::from_utf8_lossy(&reply.bytes).contains(tail), "{path}");
    }
}

#[tokio::test]
async fn list_has_pages_and_filters_and_no_secret() {
    let server = Server::new();
    for n in 0..5 {
        let (id, _) = server.key(&["api.read"]);
        if n == 0 {
            server.store.revoke(id).unwrap();
        }
    }
    let mut seen = Vec::new();
    let mut path = "/v1/keys?page_size=4".to_owned();
    loop {
        let page = server.get(&server.root, &path).await.json();
        seen.extend(page["keys"].as_array().unwrap().iter().map(|key| {
            assert!(key.get("key").is_none());
            key["id"].as_str().unwrap().to_owned()
        }));
        let Some(token) = page["next_page_token"].as_str() else { break };
        path = format!("/v1/keys?page_size=4&page_token={token}");
    }
    assert_eq!(seen.len(), 6);
    for (query, count) in [
        ("active=false", 1),
        ("active=true", 5),
        ("scope=api.read", 5),
        ("q=root", 1),
        ("active=&q=", 6),
    ] {
        let page = server.get(&server.root, &format!("/v1/keys?{query}")).await.json();
        let found = page["keys"].as_array().unwrap().len();
        assert!(found == count || query.starts_with("scope") && found == 6, "{query}: {found}");
    }
}

#[tokio::test]
async fn verify_returns_the_reason_only_to_keys_with_the_scope() {
    let server = Server::new();
    let (_, verifier) = server.key(&["admin.key.verify"]);
    let (id, key) = server.key(&["api.read"]);
    let verify = |body: Value| server.post(&verifier, "/v1/verify", body);
    let valid = verify(json!({"key": key, "scopes": ["api.read"]})).await.json();
    assert_eq!((&valid["valid"], &valid["code"]), (&json!(true), &json!("VALID")));
    assert_eq!(valid["key"]["id"], id.to_string());
    let weak = verify(json!({"key": key, "scopes": ["api.write"]})).await.json();
    assert_eq!((&weak["valid"], &weak["code"]), (&json!(false), &json!("INSUFFICIENT_SCOPE")));
    server.store.revoke(id).unwrap();
    let inactive = verify(json!({"key": key})).await.json();
    assert_eq!(
        (&inactive["code"], &inactive["key"]["id"]),
        (&json!("INACTIVE"), &json!(id.to_string()))
    );
    let unknown = verify(json!({"key": "nonsense"})).await.json();
    assert_eq!((&unknown["code"], &unknown["key"]), (&json!("UNKNOWN"), &Value::Null));
    assert_eq!(verify(json!({})).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let weak = server.post(&key, "/v1/verify", json!({"key": key})).await;
    assert_eq!(weak.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn local_user_has_root_rights_and_can_create_a_root_key() {
    let server = Server::new();
    let mut request = Request::post("/v1/keys")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"name":"spare","scopes":["*"]}"#))
        .unwrap();
    request.extensions_mut().insert(LocalUser::new(7));
    let created = server.send(request).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.json()["scopes"], json!(["*"]));
    let id: KeyId = created.json()["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(server.store.get(id).unwrap().created_by, Actor::Local(7));
}

#[tokio::test]
async fn cross_site_request_is_refused() {
    let server = Server::new();
    for (name, value, allowed) in [
        ("sec-fetch-site", "cross-site", false),
        ("origin", "https://elsewhere.example", false),
        ("sec-fetch-site", "none", true),
    ] {
        let request = Request::post("/v1/keys")
            .header("authorization", basic(server.root.as_bytes()))
            .header("content-type", "application/json")
            .header(name, value)
            .body(Body::from(r#"{"name":"a","scopes":[]}"#))
            .unwrap();
        let status = server.send(request).await.status;
        let expected = if allowed { StatusCode::CREATED } else { StatusCode::FORBIDDEN };
        assert_eq!(status, expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn health_checks_need_no_key() {
    let server = Server::new();
    for path in ["/healthz", "/readyz"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(server.send(request).await.status, StatusCode::OK);
    }
}

#[test]
fn refusal_is_recorded_with_key_and_address() {
    let (_dir, home) = portcullis_testkit::home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let (id, key) = issue(&store, new_key(&store, "weak", &["api.read"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = Request::get("/v1/keys")
        .header("authorization", basic(&key))
        .extension(axum::extract::ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 7], 9))))
        .body(Body::empty())
        .unwrap();
    let response = runtime.block_on(router(store.clone()).oneshot(request)).unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let last = store.audit(0, 100).unwrap().pop().unwrap();
    assert_eq!((last.act.as_str(), last.actor), ("refuse", Actor::Key(id)));
    assert_eq!(last.source, Some([192, 0, 2, 7].into()));
}

#[tokio::test]
async fn audit_log_can_be_read_by_page_and_by_key() {
    let (_dir, home) = portcullis_testkit::home();
    let server = Server::over(portcullis_testkit::builder().open(home).unwrap());
    let (id, weak) = server.key(&["api.read"]);
    server.patch(&server.root, id, json!({"owner": "shop", "name": "till"})).await;
    server.get(&weak, "/v1/keys").await;
    let path = format!("/v1/keys/{id}/rotate");
    let new = server.post(&server.root, &path, json!({})).await.json()["id"].clone();

    let all = server.get(&server.root, "/v1/audit").await.json();
    assert_eq!(all["next_after"], Value::Null);
    let entries = all["entries"].as_array().unwrap();
    let acts: Vec<_> = entries.iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["extend_catalogue", "create", "create", "update", "refuse", "rotate"]);
    let update = &entries[3];
    assert_eq!((&update["sequence"], &update["key"]), (&json!(4), &json!(id.to_string())));
    assert_eq!(update["actor"], server.root_id.to_string());
    assert_eq!(update["before"], json!({"owner": null, "name": "some"}));
    assert_eq!(update["after"], json!({"owner": "shop", "name": "till"}));
    assert_eq!(entries[4]["refused"]["attempt"], "list");
    assert_eq!((&entries[5]["key"], &entries[5]["replaced_by"]), (&json!(id.to_string()), &new));

    let page = server.get(&server.root, "/v1/audit?after=1&limit=2").await.json();
    assert_eq!((&page["entries"][1]["sequence"], &page["next_after"]), (&json!(3), &json!(3)));
    let page = server.get(&server.root, &format!("/v1/audit?key={id}")).await.json();
    assert_eq!((page["entries"].as_array().unwrap().len(), &page["next_after"]), (3, &Value::Null));
    let path = format!("/v1/audit?key={}", new.as_str().unwrap());
    let page = server.get(&server.root, &path).await.json();
    assert_eq!(page["entries"][0]["sequence"], 6);
    for query in ["limit=0", "limit=1001", "after=x", "key=pcl_", "colour=red", "after=1&after=2"] {
        let reply = server.get(&server.root, &format!("/v1/audit?{query}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
    assert_eq!(server.get(&weak, "/v1/audit").await.status, StatusCode::UNAUTHORIZED);
    let (_, weak) = server.key(&["admin.key.update"]);
    assert_eq!(server.get(&weak, "/v1/audit").await.status, StatusCode::FORBIDDEN);
}

impl Server {
    async fn post_idempotent(
        &self,
        key: &str,
        path: &str,
        idempotency_key: &str,
        body: &Value,
    ) -> Reply {
        let request = Request::post(path)
            .header("authorization", basic(key.as_bytes()))
            .header("content-type", "application/json")
            .header("idempotency-key", idempotency_key)
            .body(Body::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }
}

#[tokio::test]
async fn repeated_idempotent_request_issues_one_key() {
    let (_dir, home) = portcullis_testkit::home();
    let mut server = Server::over(portcullis_testkit::builder().open(&home).unwrap());
    let (root, body) = (server.root.clone(), json!({"name": "till", "scopes": ["api.read"]}));
    let created = server.post_idempotent(&root, "/v1/keys", "a-1", &body).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let id = created.json()["id"].clone();
    let replayed_id = |reply: Reply| {
        assert_eq!((reply.status, reply.header("idempotency-replayed")), (StatusCode::OK, "true"));
        let json = reply.json();
        assert_eq!(json.as_object().unwrap().get("key"), Some(&Value::Null));
        json["id"].clone()
    };
    assert_eq!(replayed_id(server.post_idempotent(&root, "/v1/keys", "a-1", &body).await), id);
    let other = json!({"name": "other", "scopes": ["api.read"]});
    let refused = server.post_idempotent(&root, "/v1/keys", "a-1", &other).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.json()["errors"][0]["parameter"], "Idempotency-Key");
    assert_eq!(
        server.post_idempotent(&root, "/v1/keys", "", &body).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );

    // An idempotency key is separate for each actor and each route.
    let (_, clerk) = server.key(&["admin.key.create", "admin.key.update", "api.read"]);
    let of_clerk = server.post_idempotent(&clerk, "/v1/keys", "a-1", &body).await;
    assert_eq!(of_clerk.status, StatusCode::CREATED);
    let path = format!("/v1/keys/{}/rotate", id.as_str().unwrap());
    let rotated = server.post_idempotent(&root, &path, "a-1", &json!({})).await;
    assert_eq!(rotated.status, StatusCode::CREATED);
    let new = rotated.json()["id"].clone();
    assert_eq!(replayed_id(server.post_idempotent(&root, &path, "a-1", &json!({})).await), new);
    assert_eq!(
        server.post_idempotent(&root, &path, "a-2", &json!({})).await.status,
        StatusCode::CONFLICT
    );

    // The idempotency key is in the transaction of the change, so it survives a restart.
    server.router = Router::new();
    server.store = portcullis_testkit::builder().in_memory().unwrap();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    server.router = router(store.clone());
    server.store = store;
    assert_eq!(replayed_id(server.post_idempotent(&root, "/v1/keys", "a-1", &body).await), id);
    assert_eq!(replayed_id(server.post_idempotent(&root, &path, "a-1", &json!({})).await), new);
    let keys = server.get(&root, "/v1/keys").await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 5);
    // Callers without the scope are not told that the request was already executed.
    let (weak_id, weak) = server.key(&["admin.key.create", "api.read"]);
    let created = server.post_idempotent(&weak, "/v1/keys", "b", &body).await;
    assert_eq!(created.status, StatusCode::CREATED);
    server.patch(&root, weak_id, json!({"scopes": []})).await;
    let created = server.post_idempotent(&weak, "/v1/keys", "b", &body).await;
    assert_eq!(created.status, StatusCode::FORBIDDEN);
}

/// The ways to escalate rights, each over HTTP. A refused request changes no key and is recorded in
/// the audit log.
mod escalation_is_refused {
    use super::*;
    use portcullis::{Expiry, Timestamp};

    const HELD: [&str; 5] =
        ["admin.key.create", "admin.key.update", "admin.key.list", "api.read", "admin.key.delete"];

    struct Fixture {
        _dir: tempfile::TempDir,
        server: Server,
        clerk_id: KeyId,
        clerk: String,
    }

    impl Fixture {
        /// Creates a clerk key that lacks `api.write`, expires in 2096 and belongs to `shop`.
        fn new() -> Self {
            let (dir, home) = portcullis_testkit::home();
            let server = Server::over(portcullis_testkit::builder().open(home).unwrap());
            let new = new_key(&server.store, "clerk", &HELD)
                .with_expiry(until(4_000_000_000))
                .with_owner("shop");
            let (clerk_id, clerk) = issue(&server.store, new);
            Self { _dir: dir, server, clerk_id, clerk: String::from_utf8(clerk).unwrap() }
        }

        fn target(&self, scopes: &[&str], expiry: Expiry, owner: &str, active: bool) -> KeyId {
            let new = new_key(&self.server.store, "target", scopes);
            let new = new.with_expiry(expiry).with_owner(owner).with_active(active);
            issue(&self.server.store, new).0
        }

        /// Asserts that the clerk may not do this.
        async fn assert_refused(&self, method: Method, path: &str, body: Value) {
            let keys = self.server.keys().await;
            let before = self.server.store.audit(0, 1000).unwrap().len();
            let reply = self.server.request(&self.clerk, method, path, Some(body.clone())).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path} {body}");
            assert!(!reply.headers.contains_key("www-authenticate"));
            assert_eq!(self.server.keys().await, keys);
            // A repeated refusal for the same reason is counted, without a new entry.
            let entries = self.server.store.audit(0, 1000).unwrap();
            assert!((before..=before + 1).contains(&entries.len()), "{entries:?}");
            let last = entries.iter().rfind(|entry| entry.act.as_str() == "refuse").unwrap();
            assert_eq!(last.actor, Actor::Key(self.clerk_id));
        }

        async fn assert_change_refused(&self, id: KeyId, body: Value) {
            self.assert_refused(Method::PATCH, &format!("/v1/keys/{id}"), body).await;
        }

        /// Asserts that the key does not exist for the clerk, and stays as it is.
        async fn assert_absent(&self, method: Method, path: &str, body: Value) {
            let keys = self.server.keys().await;
            let reply = self.server.request(&self.clerk, method, path, Some(body)).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(self.server.keys().await, keys);
        }

        async fn assert_rotation_refused(&self, id: KeyId) {
            self.assert_refused(Method::POST, &format!("/v1/keys/{id}/rotate"), json!({})).await;
        }
    }

    fn until(secs: u64) -> Expiry {
        Expiry::At(Timestamp::from_secs(secs))
    }

    const SOON: &str = "2050-01-01T00:00:00Z";

    #[tokio::test]
    async fn by_creating_a_key() {
        let fixture = Fixture::new();
        for scopes in [json!(["api.read", "api.write"]), json!(["*"])] {
            let body = json!({"name": "a", "scopes": scopes, "expires_at": SOON});
            fixture.assert_refused(Method::POST, "/v1/keys", body).await;
        }
    }

    #[tokio::test]
    async fn by_creating_a_key_that_expires_later() {
        let fixture = Fixture::new();
        for end in [Value::Null, json!("2099-01-01T00:00:00Z")] {
            let body = json!({"name": "a", "scopes": ["api.read"], "expires_at": end});
            fixture.assert_refused(Method::POST, "/v1/keys", body).await;
        }
    }

    #[tokio::test]
    async fn by_setting_another_owner() {
        let fixture = Fixture::new();
        let body =
            json!({"name": "a", "scopes": ["api.read"], "expires_at": SOON, "owner": "rival"});
        fixture.assert_refused(Method::POST, "/v1/keys", body).await;
        let own = fixture.target(&["api.read"], until(3_000_000_000), "shop", true);
        fixture.assert_change_refused(own, json!({"owner": "rival"})).await;
        let foreign = fixture.target(&["api.read"], until(3_000_000_000), "rival", true);
        let path = format!("/v1/keys/{foreign}");
        fixture.assert_absent(Method::PATCH, &path, json!({"owner": "shop"})).await;
    }

    #[tokio::test]
    async fn by_adding_scopes() {
        let fixture = Fixture::new();
        let target = fixture.target(&["api.read"], until(3_000_000_000), "shop", true);
        for id in [target, fixture.clerk_id] {
            fixture.assert_change_refused(id, json!({"scopes": ["api.read", "api.write"]})).await;
            fixture.assert_change_refused(id, json!({"scopes": ["*"]})).await;
        }
    }

    #[tokio::test]
    async fn by_rotating_a_stronger_key() {
        let fixture = Fixture::new();
        let end = until(3_000_000_000);
        fixture.assert_rotation_refused(fixture.target(&["api.write"], end, "shop", true)).await;
        fixture
            .assert_rotation_refused(fixture.target(&["api.read"], Expiry::Never, "shop", true))
            .await;
        let foreign = fixture.target(&["api.read"], end, "rival", true);
        for id in [foreign, fixture.server.root_id] {
            fixture.assert_absent(Method::POST, &format!("/v1/keys/{id}/rotate"), json!({})).await;
        }
        let own = fixture.target(&["api.read"], end, "shop", true);
        let path = format!("/v1/keys/{own}/rotate");
        let created = fixture.server.post(&fixture.clerk, &path, json!({})).await;
        assert_eq!(created.status, StatusCode::CREATED);
        // A root key cannot be rotated over the network either: the response would contain its secret.
        let path = format!("/v1/keys/{}/rotate", fixture.server.root_id);
        let created = fixture.server.post(&fixture.server.root, &path, json!({})).await;
        assert_eq!(created.status, StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn by_reactivating_a_stronger_key() {
        let fixture = Fixture::new();
        let target = fixture.target(&["api.write"], until(3_000_000_000), "shop", false);
        fixture.assert_change_refused(target, json!({"active": true})).await;
    }

    #[tokio::test]
    async fn by_extending_the_expiry_of_a_stronger_key_or_its_own() {
        let fixture = Fixture::new();
        let target = fixture.target(&["api.write"], until(3_000_000_000), "shop", true);
        fixture.assert_change_refused(target, json!({"expires_at": "2080-01-01T00:00:00Z"})).await;
        fixture.assert_change_refused(fixture.clerk_id, json!({"expires_at": null})).await;
    }
}

/// A page ends with the item that reaches this size.
const PAGE_BYTES: usize = 128 << 10;

#[tokio::test]
async fn pages_end_at_the_size_limit_and_omit_nothing() {
    let (_dir, home) = portcullis_testkit::home();
    let server = Server::over(portcullis_testkit::builder().open(home).unwrap());
    let before = server.store.count().active;
    for n in 0..150 {
        let metadata = (0..5).map(|entry| (entry.to_string(), format!("{n:0240}"))).collect();
        issue(&server.store, new_key(&server.store, "long", &[]).with_metadata(metadata));
    }
    let (mut keys, mut pages, mut token) = (0, 0, String::new());
    loop {
        let path = format!("/v1/keys?page_size=200{token}");
        let page = server.get(&server.root, &path).await.json();
        assert!(page.to_string().len() < PAGE_BYTES + (8 << 10));
        (keys, pages) = (keys + page["keys"].as_array().unwrap().len(), pages + 1);
        let Some(next) = page["next_page_token"].as_str() else { break };
        token = format!("&page_token={next}");
    }
    assert_eq!(keys, before + 150);
    assert!(pages > 1);
    let (mut entries, mut pages, mut after) = (0, 0, 0);
    loop {
        let path = format!("/v1/audit?limit=1000&after={after}");
        let page = server.get(&server.root, &path).await.json();
        assert!(page.to_string().len() < PAGE_BYTES + (16 << 10));
        (entries, pages) = (entries + page["entries"].as_array().unwrap().len(), pages + 1);
        let Some(next) = page["next_after"].as_u64() else { break };
        after = next;
    }
    assert_eq!(entries, server.store.audit(0, 1000).unwrap().len());
    assert!(pages > 1);
}
