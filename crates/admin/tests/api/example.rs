//! The example `business_accounts`: the commands that it prints, and the scope of each route.

#[path = "../../examples/business_accounts.rs"]
mod business_accounts;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use business_accounts::{Platform, app, commands, first_key};
use http_body_util::BodyExt;
use portcullis::Store;
use portcullis_testkit::{basic, issue, new_key};
use std::process::Command;
use tower::ServiceExt;

/// A request for each documented scope: scope, method, path, body.
const ROUTES: [(&str, &str, &str, &str); 8] = [
    ("api.read", "GET", "/data/accounts/acct-1/ledgers", ""),
    ("api.write", "POST", "/data/accounts/acct-1/ledgers/2026", r#"{"text":"a","cents":1}"#),
    ("admin.account.create", "POST", "/admin/accounts", r#"{"name":"Florist"}"#),
    ("admin.account.list", "GET", "/admin/accounts", ""),
    ("admin.account.update", "PATCH", "/admin/accounts/acct-1", r#"{"name":"Baker"}"#),
    ("admin.connection.health", "GET", "/admin/accounts/acct-1/connections", ""),
    ("admin.connection.disconnect", "DELETE", "/admin/accounts/acct-1/connections/bank", ""),
    ("admin.embed.token", "POST", "/admin/accounts/acct-1/embed-tokens", ""),
];

async fn request(
    app: &Router,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> (StatusCode, String, String) {
    let mut builder = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        builder = builder.header("authorization", basic(key.as_bytes()));
    }
    let request = builder.header("content-type", "application/json");
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let location = response.headers().get("location");
    let location = location.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, location, String::from_utf8(body.to_vec()).unwrap())
}

fn key(store: &Store, owner: Option<&str>, names: &[&str]) -> String {
    let mut new = new_key(store, "some", names);
    new.owner = owner.map(str::to_owned);
    String::from_utf8(issue(store, new).1).unwrap()
}

#[tokio::test]
async fn every_printed_command_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let store = portcullis_testkit::builder().open(dir.path().join("keys")).unwrap();
    let root = first_key(&store).unwrap().unwrap();
    assert!(first_key(&store).unwrap().is_none());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app(&Platform::new(store));
    let server = tokio::spawn(async move {
        let app = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
        axum::serve(listener, app).await.unwrap();
    });
    let mut outputs = Vec::new();
    for line in commands(address, &root).lines().filter(|line| line.starts_with("curl")) {
        let script = format!("{line} --fail-with-body -sS -w '%{{http_code}}'");
        let run = move || Command::new("sh").args(["-c", &script]).output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{line}: {stdout}");
        outputs.push(stdout);
    }
    server.abort();
    let statuses: Vec<_> = outputs.iter().map(|stdout| &stdout[stdout.len() - 3..]).collect();
    let expected = ["201", "200", "201", "200", "201", "200", "200", "200", "204", "201"];
    assert_eq!(statuses, expected, "{outputs:?}");
    assert!(outputs[3].contains("Rent") && outputs[3].contains("Bread"), "{outputs:?}");
    assert!(outputs[7].contains(r#""healthy":false"#), "{outputs:?}");
}

#[tokio::test]
async fn every_documented_scope_grants_access_to_its_route_only() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    for (granted, ..) in ROUTES {
        let app = app(&Platform::new(store.clone()));
        let key = key(&store, None, &[granted]);
        for (required, method, path, body) in ROUTES {
            let (status, _, text) = request(&app, method, path, &key, body).await;
            let is_granted = granted == required;
            assert_eq!(status.is_success(), is_granted, "{granted} at {path}: {status} {text}");
            assert!(is_granted || status == StatusCode::FORBIDDEN, "{granted} at {path}: {status}");
            assert_eq!(request(&app, method, path, "", body).await.0, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn key_administration_works_below_its_path() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let root = first_key(&store).unwrap().unwrap();
    let app = app(&Platform::new(store));
    let new_key = r#"{"name":"reader","scopes":["api.read"]}"#;
    let (status, location, text) =
        request(&app, "POST", "/keys-admin/v1/keys", &root, new_key).await;
    assert_eq!(status, StatusCode::CREATED, "{text}");
    assert!(location.starts_with("/keys-admin/v1/keys/key_"), "{location}");
    let created: serde_json::Value = serde_json::from_str(&text).unwrap();
    let created_key = created["key"].as_str().unwrap();
    assert_eq!(request(&app, "GET", &location, &root, "").await.0, StatusCode::OK);
    let ledgers = "/data/accounts/acct-1/ledgers";
    assert_eq!(request(&app, "GET", ledgers, created_key, "").await.0, StatusCode::OK);
    let revoked = request(&app, "PATCH", &location, &root, r#"{"active":false}"#).await;
    assert_eq!(revoked.0, StatusCode::OK);
    assert_eq!(request(&app, "GET", ledgers, created_key, "").await.0, StatusCode::UNAUTHORIZED);
    let missing = request(&app, "GET", "/keys-admin/nothing", &root, "").await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn key_with_an_owner_has_access_to_that_account_only() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let root = first_key(&store).unwrap().unwrap();
    let app = app(&Platform::new(store.clone()));
    request(&app, "POST", "/admin/accounts", &root, r#"{"name":"Florist"}"#).await;
    let bakery = key(&store, Some("acct-1"), &["api.read", "api.write"]);
    for (account, allowed) in [("acct-1", true), ("acct-2", false)] {
        let path = format!("/data/accounts/{account}/ledgers");
        assert_eq!(request(&app, "GET", &path, &bakery, "").await.0.is_success(), allowed);
        let entry = r#"{"text":"a","cents":1}"#;
        let (status, ..) = request(&app, "POST", &format!("{path}/2026"), &bakery, entry).await;
        assert_eq!(status.is_success(), allowed);
    }
    request(&app, "PATCH", "/admin/accounts/acct-1", &root, r#"{"active":false}"#).await;
    let (status, ..) = request(&app, "GET", "/data/accounts/acct-1/ledgers", &bakery, "").await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn embed_token_shows_its_account_without_a_key() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let root = first_key(&store).unwrap().unwrap();
    let app = app(&Platform::new(store));
    let (_, _, text) =
        request(&app, "POST", "/admin/accounts/acct-1/embed-tokens", &root, "").await;
    let created: serde_json::Value = serde_json::from_str(&text).unwrap();
    let path = format!("/embed/{}", created["token"].as_str().unwrap());
    assert_eq!(request(&app, "GET", &path, "", "").await.2, r#"{"2026":-120000}"#);
    assert_eq!(request(&app, "GET", "/embed/0", "", "").await.0, StatusCode::NOT_FOUND);
}
