//! Networks of keys in the API, forward authentication and the portal.

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use http_body_util::BodyExt;
use portcullis::{Grant, Network, Networks, Store};
use portcullis_admin::{Portal, router};
use portcullis_testkit::{basic, builder, home, issue, new_key};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use tower::ServiceExt;

const HERE: &str = "192.0.2.7";
const ELSEWHERE: &str = "198.51.100.7";

/// A store with its router, and the text of a root key.
struct Server {
    store: Store,
    router: Router,
    root: String,
}

impl Server {
    fn new() -> Self {
        Self::over(builder().in_memory().unwrap())
    }

    fn over(store: Store) -> Self {
        let (_, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
        let router = router(store.clone()).merge(Portal::new(store.clone()).router());
        Self { store, router, root: String::from_utf8(root).unwrap() }
    }

    /// Issues a key with these scopes that can be used from one network.
    fn bound(&self, names: &[&str]) -> String {
        let new = new_key(&self.store, "bound", names).with_networks(networks(&["192.0.2.0/24"]));
        String::from_utf8(issue(&self.store, new).1).unwrap()
    }

    async fn send(&self, mut request: Request<Body>, from: Option<&str>) -> (u16, String, String) {
        if let Some(from) = from {
            let from: IpAddr = from.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(from, 4711)));
        }
        let reply = self.router.clone().oneshot(request).await.unwrap();
        let status = reply.status().as_u16();
        let cookie = reply.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap());
        let cookie =
            cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes().to_vec();
        (status, String::from_utf8(bytes).unwrap(), cookie)
    }

    /// Sends a request of the API.
    async fn ask(&self, key: &str, what: &str, body: &Value, from: Option<&str>) -> (u16, Value) {
        let (method, path) = what.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", basic(key.as_bytes()))
            .header("content-type", "application/json")
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) });
        let (status, text, _) = self.send(request.unwrap(), from).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
}

#[tokio::test]
async fn networks_are_set_shown_and_removed() {
    // A store in memory has no audit log.
    let (_dir, home) = home();
    let server = Server::over(builder().open(&home).unwrap());
    let asked = ["2001:db8::/32", "192.0.2.7/24", "192.0.2.9"];
    let new = json!({"name": "till", "scopes": ["api.read"], "networks": asked});
    let (status, made) = server.ask(&server.root, "POST /v1/keys", &new, None).await;
    assert_eq!((status, &made["networks"]), (201, &json!(["192.0.2.0/24", "2001:db8::/32"])));
    let key = format!("PATCH /v1/keys/{}", made["id"].as_str().unwrap());
    let change = async |body: Value| server.ask(&server.root, &key, &body, None).await;
    let (status, kept) = change(json!({"name": "till 4"})).await;
    assert_eq!((status, &kept["networks"]), (200, &made["networks"]));
    for (networks, shown) in [
        (json!(["::1"]), json!(["::1/128"])),
        (json!(null), json!([])),
        (json!(["::ffff:10.1.2.3/104"]), json!(["10.0.0.0/8"])),
        (json!([]), json!([])),
    ] {
        assert_eq!(change(json!({"networks": networks})).await.1["networks"], shown);
    }
    let many: Vec<String> = (0..17).map(|last| format!("192.0.2.{last}")).collect();
    for wrong in
        [json!("10.0.0.0/8"), json!(["here"]), json!(["10.0.0.0/33"]), json!([7]), json!(many)]
    {
        let (status, refused) = change(json!({"networks": wrong})).await;
        assert_eq!(
            (status, &refused["errors"][0]["pointer"]),
            (422, &json!("/networks")),
            "{wrong}"
        );
    }
    let (_, audit) = server.ask(&server.root, "GET /v1/audit", &Value::Null, None).await;
    let entries = audit["entries"].as_array().unwrap();
    let changes: Vec<_> =
        entries.iter().map(|entry| &entry["after"]["networks"]).filter(|n| !n.is_null()).collect();
    assert_eq!(changes[0], &made["networks"]);
    assert_eq!(changes[1..], [&json!(["::1/128"]), &json!([]), &json!(["10.0.0.0/8"]), &json!([])]);
}

#[tokio::test]
async fn key_is_refused_from_elsewhere_with_the_same_401_as_an_unknown_key() {
    let server = Server::new();
    let key = server.bound(&["admin.key.list", "api.read"]);
    let ask = async |key: &str, what, from| server.ask(key, what, &Value::Null, from).await;
    let (_, unknown) = ask("pcl_x", "GET /v1/whoami", Some(HERE)).await;
    for what in ["GET /v1/whoami", "GET /v1/keys", "GET /authz?scope=api.read"] {
        assert_eq!(ask(&key, what, Some(HERE)).await.0, 200, "{what}");
        for from in [Some(ELSEWHERE), None] {
            assert_eq!(ask(&key, what, from).await, (401, unknown.clone()), "{what}");
        }
    }
}

#[tokio::test]
async fn verify_tells_that_the_address_is_outside_the_networks() {
    let server = Server::new();
    let key = server.bound(&["api.read"]);
    let verify = async |body: Value| server.ask(&server.root, "POST /v1/verify", &body, None).await;
    for (address, code) in [
        (json!(HERE), "VALID"),
        (json!("::ffff:192.0.2.7"), "VALID"),
        (json!(ELSEWHERE), "NETWORK"),
        (json!(null), "NETWORK"),
    ] {
        let (_, verdict) = verify(json!({"key": key, "address": address})).await;
        assert_eq!((&verdict["code"], &verdict["key"]["name"]), (&json!(code), &json!("bound")));
        assert_eq!(verdict["valid"], json!(code == "VALID"));
    }
    assert_eq!(verify(json!({"key": key})).await.1["code"], "NETWORK");
    assert_eq!(verify(json!({"key": key, "address": "here"})).await.0, 422);
    let lacks = json!({"key": key, "address": HERE, "scopes": ["api.write"]});
    assert_eq!(verify(lacks).await.1["code"], "INSUFFICIENT_SCOPE");
}

#[tokio::test]
async fn session_of_the_portal_ends_when_its_address_leaves_the_networks() {
    let server = Server::new();
    let key = server.bound(&["admin.key.list"]);
    let log_in = async |from| {
        let request = Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(format!("key={key}")));
        server.send(request.unwrap(), from).await
    };
    assert_eq!(log_in(Some(ELSEWHERE)).await.0, 401);
    assert_eq!(log_in(None).await.0, 401);
    let (status, _, cookie) = log_in(Some(HERE)).await;
    assert_eq!(status, 303);
    let page = async |from| {
        let request = Request::get("/").header("cookie", &cookie).body(Body::empty());
        server.send(request.unwrap(), Some(from)).await.0
    };
    assert_eq!(page(HERE).await, 200);
    assert_eq!(page(ELSEWHERE).await, 303, "the session has ended");
    assert_eq!(page(HERE).await, 303, "and stays ended");
}

#[tokio::test]
async fn maker_with_networks_cannot_grant_wider_ones_through_the_api() {
    let server = Server::new();
    let maker = server.bound(&["admin.key.create", "admin.key.update", "api.read"]);
    let create = async |networks: Value| {
        let new = json!({"name": "made", "scopes": ["api.read"], "networks": networks});
        server.ask(&maker, "POST /v1/keys", &new, Some(HERE)).await
    };
    for wider in [json!(null), json!(["192.0.0.0/16"])] {
        let (status, refused) = create(wider).await;
        assert_eq!(status, 403);
        assert!(refused["detail"].as_str().unwrap().contains("at most its own networks"));
    }
    assert_eq!(create(json!(["192.0.2.128/25"])).await.0, 201);
}
