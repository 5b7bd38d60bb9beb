//! Rates of keys in the API, forward authentication and the portal.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use http_body_util::BodyExt;
use portcullis::{Grant, Rate, Store, testing::pass_time};
use portcullis_admin::{Portal, router};
use portcullis_testkit::{basic, builder, home, issue, new_key};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

struct Server {
    store: Store,
    router: Router,
    root: String,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    json: Value,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Reply {
    /// Asserts that the header fields agree on the time to wait. Some of the 1800 s may have passed.
    fn assert_limited(&self) {
        let wait = self.header("retry-after");
        assert!((1700..=1800).contains(&wait.parse::<u32>().unwrap()), "{wait}");
        assert_eq!(self.header("ratelimit"), format!(r#""perkey";r=0;t={wait}"#));
        assert_eq!(self.header("ratelimit-policy"), r#""perkey";q=2;w=3600"#);
    }
}

impl Server {
    fn over(store: Store) -> Self {
        let (_, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
        let router = router(store.clone()).merge(Portal::new(store.clone()).router());
        Self { store, router, root: String::from_utf8(root).unwrap() }
    }

    fn new() -> Self {
        Self::over(builder().in_memory().unwrap())
    }

    /// Issues a key with these scopes that may make two requests an hour.
    fn limited(&self, names: &[&str]) -> String {
        let rate = Rate::new(2, 3600).unwrap();
        let new = new_key(&self.store, "limited", names).with_rate(rate);
        String::from_utf8(issue(&self.store, new).1).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let reply = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let bytes = reply.into_body().collect().await.unwrap().to_bytes().to_vec();
        Reply { status, headers, json: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    async fn ask(&self, key: &str, what: &str, body: &Value) -> Reply {
        let (method, path) = what.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", basic(key.as_bytes()))
            .header("content-type", "application/json")
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) });
        self.send(request.unwrap()).await
    }

    async fn get(&self, key: &str, path: &str) -> Reply {
        self.ask(key, &format!("GET {path}"), &Value::Null).await
    }
}

#[tokio::test]
async fn rate_is_set_shown_and_removed() {
    // A store in memory has no audit log.
    let (_dir, home) = home();
    let server = Server::over(builder().open(&home).unwrap());
    let rate = json!({"requests": 100, "seconds": 60});
    let new = json!({"name": "till", "scopes": ["api.read"], "rate": rate});
    let made = server.ask(&server.root, "POST /v1/keys", &new).await;
    assert_eq!((made.status, &made.json["rate"]), (201, &rate));
    let key = format!("PATCH /v1/keys/{}", made.json["id"].as_str().unwrap());
    let change = async |body: Value| server.ask(&server.root, &key, &body).await;
    assert_eq!(change(json!({"name": "till 4"})).await.json["rate"], rate);
    let other = json!({"requests": 5, "seconds": 3600});
    assert_eq!(change(json!({"rate": other})).await.json["rate"], other);
    assert_eq!(change(json!({"rate": null})).await.json["rate"], Value::Null);
    let wrong = change(json!({"rate": {"requests": 0, "seconds": 60}})).await;
    assert_eq!((wrong.status, &wrong.json["errors"][0]["pointer"]), (422, &json!("/rate")));
    let audit = server.get(&server.root, "/v1/audit").await.json;
    let entries = audit["entries"].as_array().unwrap().iter();
    let changes: Vec<_> = entries.filter_map(|entry| entry["after"].get("rate")).collect();
    assert_eq!(changes, [&rate, &other, &Value::Null]);
}

#[tokio::test]
async fn request_beyond_the_rate_gets_429_with_the_time_to_wait() {
    let server = Server::new();
    let key = server.limited(&[]);
    // Without the scope the request is counted as well.
    assert_eq!(server.get(&key, "/v1/keys").await.status, 403);
    assert_eq!(server.get(&key, "/v1/whoami").await.status, 200);
    for path in ["/v1/whoami", "/v1/keys"] {
        let limited = server.get(&key, path).await;
        assert_eq!(limited.status, 429, "the rate comes before the scope");
        limited.assert_limited();
        assert_eq!(limited.header("www-authenticate"), "");
        assert_eq!(limited.json["type"], "urn:portcullis:rate-limited");
    }
    assert_eq!(server.get(&server.root, "/v1/whoami").await.status, 200);
    pass_time(&server.store, Duration::from_mins(30));
    assert_eq!(server.get(&key, "/v1/whoami").await.status, 200);
    assert_eq!(server.get(&key, "/v1/whoami").await.status, 429);
}

#[tokio::test]
async fn forward_auth_answers_403_with_a_reason_and_429_only_if_asked() {
    let server = Server::new();
    let key = server.limited(&["api.read"]);
    for path in ["/authz?scope=api.read&limited=429", "/authz/scope/api.read/data?limited=429"] {
        let accepted = server.get(&key, path).await;
        assert_eq!((accepted.status, accepted.header("x-auth-reason")), (200, ""));
    }
    for (path, status) in [
        ("/authz?scope=api.read", 403),
        ("/authz?scope=api.read&limited=429", 429),
        ("/authz/scope/api.read/data?scope=x&limited=429", 403),
    ] {
        let limited = server.get(&key, path).await;
        assert_eq!(limited.status, status, "{path}");
        assert_eq!(limited.json["status"], status);
        assert_eq!(limited.header("x-auth-reason"), "rate-limited");
        limited.assert_limited();
    }
    let weak = server.limited(&["api.write"]);
    let lacks = server.get(&weak, "/authz?scope=api.read").await;
    assert_eq!((lacks.status, lacks.header("x-auth-reason")), (403, ""));
}

#[tokio::test]
async fn verify_counts_no_request_of_the_presented_key() {
    let server = Server::new();
    let key = server.limited(&["api.read"]);
    for _ in 0..5 {
        let verdict = server.ask(&server.root, "POST /v1/verify", &json!({"key": key})).await;
        assert_eq!(verdict.json["code"], "VALID");
    }
    let whoami = async || server.get(&key, "/v1/whoami").await.status;
    assert_eq!((whoami().await, whoami().await, whoami().await), (200, 200, 429));
    let verdict = server.ask(&server.root, "POST /v1/verify", &json!({"key": key})).await;
    assert_eq!(verdict.json["code"], "VALID");
}

#[tokio::test]
async fn login_is_one_request_and_the_pages_of_the_session_are_none() {
    let server = Server::new();
    let key = server.limited(&["admin.key.list"]);
    let log_in = async || {
        let request = Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(format!("key={key}")));
        server.send(request.unwrap()).await
    };
    let first = log_in().await;
    assert_eq!((first.status, log_in().await.status), (303, 303));
    let limited = log_in().await;
    assert_eq!(limited.status, 429);
    assert!(limited.headers.contains_key("retry-after"));
    let cookie = first.header("set-cookie").split(';').next().unwrap();
    for _ in 0..5 {
        let page = Request::get("/").header("cookie", cookie).body(Body::empty()).unwrap();
        assert_eq!(server.send(page).await.status, 200);
    }
}
