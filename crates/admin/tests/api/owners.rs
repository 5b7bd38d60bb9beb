//! The boundary between owners: an administrator key with an owner gets the same answers about the keys of
//! other owners as about keys that do not exist.

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use portcullis::{Actor, Change, Expiry, Grant, KeyId, NewKey, Store};
use portcullis_admin::{Portal, router};
use portcullis_testkit::{basic, home, issue, new_key};
use tower::ServiceExt;

const ADMINISTRATOR: [&str; 6] = [
    "admin.key.create",
    "admin.key.list",
    "admin.key.update",
    "admin.key.delete",
    "admin.key.verify",
    "api.read",
];

/// A store with keys of two owners and of none, and the administrator key of one owner.
struct Fixture {
    _dir: tempfile::TempDir,
    app: Router,
    store: Store,
    /// The administrator key of the shop.
    clerk: String,
    clerk_id: KeyId,
    /// Keys of the bank: active, inactive, replaced.
    others: Vec<(KeyId, String)>,
    operator: KeyId,
    cookie: String,
}

impl Fixture {
    async fn new() -> Self {
        let (dir, home) = home();
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let text = |key: Vec<u8>| String::from_utf8(key).unwrap();
        let root = NewKey::new("root", Grant::All, Expiry::Never);
        let (operator, _) = issue(&store, root);
        let clerk = new_key(&store, "clerk", &ADMINISTRATOR).with_owner("shop");
        let (clerk_id, clerk) = issue(&store, clerk);
        let bank = |name: &str| {
            let new = new_key(&store, name, &["api.read"]).with_owner("bank");
            let (id, key) = issue(&store, new);
            (id, text(key))
        };
        let others = vec![bank("vault one"), bank("vault two"), bank("vault three")];
        let operate = store.acting_as(Actor::Key(operator));
        operate.update(others[1].0, Change::deactivate()).unwrap();
        let rotated = operate.rotate(others[2].0, std::time::Duration::ZERO).unwrap();
        let rotated = (rotated.record.id, rotated.secret.reveal(str::to_owned));
        // The operator also changed a key of the shop.
        operate.update(clerk_id, Change::default().with_name("clerk of the shop")).unwrap();
        let others = [others, vec![rotated]].concat();
        let portal = Portal::new(store.clone());
        let app = router(store.clone()).merge(portal.router());
        let clerk = text(clerk);
        let mut fixture = Self {
            _dir: dir,
            app,
            store,
            clerk,
            clerk_id,
            others,
            operator,
            cookie: String::new(),
        };
        fixture.cookie = fixture.log_in().await;
        fixture
    }

    async fn log_in(&self) -> String {
        let request = Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        let request = request.body(Body::from(format!("key={}", self.clerk))).unwrap();
        let reply = self.app.clone().oneshot(request).await.unwrap();
        let cookie = reply.headers()["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Sends a request as the clerk. Returns the status and the body.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", basic(self.clerk.as_bytes()))
            .header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Asks for a page of the portal, or submits a form.
    async fn page(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("cookie", &self.cookie)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> (u16, String) {
        let reply = self.app.clone().oneshot(request).await.unwrap();
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes().to_vec();
        (status, String::from_utf8(bytes).unwrap())
    }

    /// Fails if a text names a key of the bank, the bank or the operator.
    #[track_caller]
    fn assert_names_no_other(&self, place: &str, text: &str) {
        let ids = self.others.iter().map(|(id, _)| *id).chain([self.operator]);
        for id in ids {
            let hint = id.to_string().replace("key_", "");
            assert!(!text.contains(&hint), "{place} names {id}: {text}");
        }
        for word in ["bank", "vault"] {
            assert!(!text.contains(word), "{place} names {word}: {text}");
        }
    }
}

#[tokio::test]
async fn every_route_answers_about_a_key_of_another_owner_as_about_one_that_does_not_exist() {
    let fixture = Fixture::new().await;
    let absent: KeyId = "key_00000000007".parse().unwrap();
    let before = fixture.store.audit(0, 1000).unwrap();
    for (other, secret) in &fixture.others {
        let of = |id: KeyId| -> Vec<(&'static str, String, String)> {
            let path = format!("/v1/keys/{id}");
            vec![
                ("GET", path.clone(), String::new()),
                ("PATCH", path.clone(), r#"{"active":false}"#.into()),
                ("PATCH", path.clone(), r#"{"active":true}"#.into()),
                ("PATCH", path.clone(), r#"{"name":"mine"}"#.into()),
                ("PATCH", path.clone(), r#"{"owner":"shop"}"#.into()),
                ("PATCH", path.clone(), r#"{"scopes":[]}"#.into()),
                ("POST", format!("{path}/rotate"), String::new()),
                ("DELETE", path, String::new()),
                ("GET", format!("/v1/keys?q={id}"), String::new()),
                ("GET", format!("/v1/audit?key={id}"), String::new()),
                ("POST", "/v1/keys:search".into(), format!(r#"{{"q":"{id}","total":true}}"#)),
                ("GET", format!("/v1/keys?created_by={id}&total=true"), String::new()),
                ("GET", format!("/v1/audit?actor={id}"), String::new()),
                ("GET", format!("/v1/keys/{id}/reach"), String::new()),
                ("POST", format!("/v1/keys/{id}/reach/revoke"), r#"{"group":"created"}"#.into()),
                ("POST", format!("/v1/keys/{id}/reach/revoke"), r#"{"group":"successors"}"#.into()),
            ]
        };
        for ((method, path, body), (_, unknown, _)) in of(*other).into_iter().zip(of(absent)) {
            let (found, expected) = (
                fixture.ask(method, &path, &body).await,
                fixture.ask(method, &unknown, &body).await,
            );
            let found = (found.0, found.1.replace(&other.to_string(), &absent.to_string()));
            assert_eq!(found, expected, "{method} {path} {body}");
        }
        let count = |id: KeyId| format!(r#"{{"act":"revoke","ids":["{id}"]}}"#);
        let (status, found) = fixture.ask("POST", "/v1/bulk", &count(*other)).await;
        let expected = format!(r#""count":0,"unknown_ids":["{other}"]"#);
        assert!(status == 200 && found.contains(&expected), "{found}");
        let verify = |key: &str| format!(r#"{{"key":"{key}","scopes":["api.read"]}}"#);
        let found = fixture.ask("POST", "/v1/verify", &verify(secret)).await;
        let expected = fixture.ask("POST", "/v1/verify", &verify("pcl_unknown")).await;
        assert_eq!(found, expected);
        let form = "name=x&active=yes&end=1";
        for (method, suffix, body) in [
            ("GET", "", ""),
            ("POST", "", form),
            ("GET", "/rotate", ""),
            ("POST", "/rotate", form),
            ("GET", "/delete", ""),
            ("POST", "/delete", form),
            ("POST", "/deactivate", ""),
            ("GET", "/reach", ""),
            ("POST", "/reach/created", ""),
            ("POST", "/reach/successors", ""),
        ] {
            let path = |id: KeyId| format!("/keys/{id}{suffix}");
            let found = fixture.page(method, &path(*other), body).await;
            let expected = fixture.page(method, &path(absent), body).await;
            let found = (found.0, found.1.replace(&other.to_string(), &absent.to_string()));
            assert_eq!(found, expected, "{method} {}", path(*other));
        }
    }
    // None of this was an act, and nothing was changed.
    assert_eq!(fixture.store.audit(0, 1000).unwrap(), before);
}

#[tokio::test]
async fn no_list_and_no_page_names_another_owner_or_the_operator() {
    let fixture = Fixture::new().await;
    let clerk = fixture.clerk_id;
    for path in [
        "/v1/keys".to_owned(),
        "/v1/keys?owner=bank".to_owned(),
        "/v1/keys?q=vault".to_owned(),
        "/v1/keys?sort=name&total=true".to_owned(),
        "/v1/keys?sort=last_used_at&owner=bank&total=true".to_owned(),
        format!("/v1/keys/{clerk}"),
        format!("/v1/keys/{clerk}/reach"),
        "/v1/owners".to_owned(),
        "/v1/owners?after=a".to_owned(),
        "/v1/audit".to_owned(),
        format!("/v1/audit?key={}", fixture.others[0].0),
        "/v1/whoami".to_owned(),
        "/v1/scopes".to_owned(),
    ] {
        let (status, text) = fixture.ask("GET", &path, "").await;
        assert_eq!(status, 200, "{path}: {text}");
        let answer = text.replace("owner=bank", "").replace("\"q\":\"vault\"", "");
        fixture.assert_names_no_other(&path, &answer);
    }
    let (_, owners) = fixture.ask("GET", "/v1/owners", "").await;
    assert!(owners.contains(r#""owner":"shop","active":1"#), "{owners}");
    let (_, log) = fixture.ask("GET", "/v1/audit", "").await;
    assert!(log.contains(r#""actor":"operator""#) && !log.contains("host"), "{log}");
    for path in
        ["/", "/keys/new", "/audit", &format!("/keys/{clerk}"), &format!("/keys/{clerk}/reach")]
    {
        let (status, text) = fixture.page("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {text}");
        fixture.assert_names_no_other(path, &text);
    }
    let all = fixture.ask("POST", "/v1/bulk", r#"{"act":"revoke","filter":{}}"#).await;
    assert!(all.1.contains(r#""count":1"#), "only its own key: {all:?}");
    for form in ["act=revoke&end=1", "act=revoke&owner=bank&end=1", "act=delete&q=vault&end=1"] {
        let (status, text) = fixture.page("POST", "/bulk", form).await;
        assert_eq!(status, 200, "{text}");
        let text = text.replace("owner=bank", "").replace("q=vault", "");
        fixture.assert_names_no_other(form, &text);
    }
    // What concerns the whole store is refused, and the refusal is recorded.
    let before = fixture.store.audit(0, 1000).unwrap().len();
    let (status, text) = fixture.ask("GET", "/v1/audit/export", "").await;
    assert!(status == 403 && text.contains("has an owner"), "{status} {text}");
    assert_eq!(fixture.store.audit(0, 1000).unwrap().len(), before + 1);
}

#[tokio::test]
async fn key_with_the_scope_for_owners_creates_and_hands_over_for_every_owner() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let scopes = [&ADMINISTRATOR[..], &["admin.key.owner"]].concat();
    let (plain, _) = issue(&store, new_key(&store, "plain", &ADMINISTRATOR));
    let (broker, _) = issue(&store, new_key(&store, "broker", &scopes));
    let (bound, _) = issue(&store, new_key(&store, "bound", &scopes).with_owner("shop"));
    let new = |owner: &str| new_key(&store, "x", &["api.read"]).with_owner(owner);
    let acting = |id| store.acting_as(Actor::Key(id));
    assert!(acting(plain).issue(new("bank")).is_err());
    // The scope of a key with an owner gives it no other owner.
    assert!(acting(bound).issue(new("bank")).is_err());
    let issued = acting(broker).issue(new("bank")).unwrap().record;
    assert_eq!(issued.owner.as_deref(), Some("bank"));
    let rotated = acting(broker).rotate(issued.id, std::time::Duration::ZERO).unwrap().record;
    let handed = acting(broker).update(rotated.id, Change::default().with_owner("shop")).unwrap();
    assert_eq!(handed.owner.as_deref(), Some("shop"));
    // From now on it is a key of the shop, and its entries of before stay with the bank.
    assert!(acting(bound).get(rotated.id).is_ok() && acting(bound).get(issued.id).is_err());
    let (entries, _) = acting(bound).audit(0, 1000).unwrap();
    assert!(entries.iter().all(|entry| entry.key != Some(rotated.id)), "{entries:?}");
    acting(bound).update(rotated.id, Change::deactivate()).unwrap();
    let (entries, _) = acting(bound).audit(0, 1000).unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.key == Some(rotated.id)).count(), 1);
}
