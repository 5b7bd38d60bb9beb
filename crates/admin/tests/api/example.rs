//! The accounting platform of `examples/`: each line that it prints, and each scope at its route.

#[path = "../../examples/business_accounts.rs"]
mod business_accounts;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use business_accounts::{Platform, app, first_key, lines};
use http_body_util::BodyExt;
use portcullis::Store;
use portcullis_testkit::{basic, issue, new_key};
use std::process::Command;
use tower::ServiceExt;

/// A route for each documented scope, with a body where it wants one.
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

async fn ask(
    app: &Router,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> (StatusCode, String, String) {
    let mut request = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        request = request.header("authorization", basic(key.as_bytes()));
    }
    let request = request.header("content-type", "application/json");
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
async fn each_line_that_it_prints_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("keys")).unwrap();
    let root = first_key(&store).unwrap().unwrap();
    assert!(first_key(&store).unwrap().is_none());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app(&Platform::new(store));
    let server = tokio::spawn(async move {
        let app = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
        axum::serve(listener, app).await.unwrap();
    });
    let mut answers = Vec::new();
    for line in lines(address, &root).lines().filter(|line| line.starts_with("curl")) {
        let script = format!("{line} --fail-with-body -sS -w '%{{http_code}}'");
        let run = move || Command::new("sh").args(["-c", &script]).output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{line}: {said}");
        answers.push(said);
    }
    server.abort();
    let statuses: Vec<_> = answers.iter().map(|said| &said[said.len() - 3..]).collect();
    let expected = ["201", "200", "201", "200", "201", "200", "200", "200", "204", "201"];
    assert_eq!(statuses, expected, "{answers:?}");
    assert!(answers[3].contains("Rent") && answers[3].contains("Bread"), "{answers:?}");
    assert!(answers[7].contains(r#""healthy":false"#), "{answers:?}");
}

#[tokio::test]
async fn each_documented_scope_opens_its_route_and_no_other() {
    let store = Store::in_memory().unwrap();
    for (held, ..) in ROUTES {
        let app = app(&Platform::new(store.clone()));
        let key = key(&store, None, &[held]);
        for (asked, method, path, body) in ROUTES {
            let (status, _, said) = ask(&app, method, path, &key, body).await;
            assert_eq!(status.is_success(), held == asked, "{held} at {path}: {status} {said}");
            assert!(held == asked || status == StatusCode::FORBIDDEN, "{held} at {path}: {status}");
            assert_eq!(ask(&app, method, path, "", body).await.0, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn the_administration_of_keys_works_under_its_path() {
    let store = Store::in_memory().unwrap();
    let root = first_key(&store).unwrap().unwrap();
    let app = app(&Platform::new(store));
    let asked = r#"{"name":"reader","scopes":["api.read"]}"#;
    let (status, location, said) = ask(&app, "POST", "/keys-admin/v1/keys", &root, asked).await;
    assert_eq!(status, StatusCode::CREATED, "{said}");
    assert!(location.starts_with("/keys-admin/v1/keys/key_"), "{location}");
    let made: serde_json::Value = serde_json::from_str(&said).unwrap();
    let made = made["key"].as_str().unwrap();
    assert_eq!(ask(&app, "GET", &location, &root, "").await.0, StatusCode::OK);
    let ledgers = "/data/accounts/acct-1/ledgers";
    assert_eq!(ask(&app, "GET", ledgers, made, "").await.0, StatusCode::OK);
    let off = ask(&app, "PATCH", &location, &root, r#"{"active":false}"#).await;
    assert_eq!(off.0, StatusCode::OK);
    assert_eq!(ask(&app, "GET", ledgers, made, "").await.0, StatusCode::UNAUTHORIZED);
    let missing = ask(&app, "GET", "/keys-admin/nothing", &root, "").await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_key_with_an_owner_sees_that_account_alone() {
    let store = Store::in_memory().unwrap();
    let root = first_key(&store).unwrap().unwrap();
    let app = app(&Platform::new(store.clone()));
    ask(&app, "POST", "/admin/accounts", &root, r#"{"name":"Florist"}"#).await;
    let bakery = key(&store, Some("acct-1"), &["api.read", "api.write"]);
    for (account, allowed) in [("acct-1", true), ("acct-2", false)] {
        let path = format!("/data/accounts/{account}/ledgers");
        assert_eq!(ask(&app, "GET", &path, &bakery, "").await.0.is_success(), allowed);
        let entry = r#"{"text":"a","cents":1}"#;
        let (status, ..) = ask(&app, "POST", &format!("{path}/2026"), &bakery, entry).await;
        assert_eq!(status.is_success(), allowed);
    }
    ask(&app, "PATCH", "/admin/accounts/acct-1", &root, r#"{"active":false}"#).await;
    let (status, ..) = ask(&app, "GET", "/data/accounts/acct-1/ledgers", &bakery, "").await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn an_embed_token_shows_its_account_without_a_key() {
    let store = Store::in_memory().unwrap();
    let root = first_key(&store).unwrap().unwrap();
    let app = app(&Platform::new(store));
    let (_, _, said) = ask(&app, "POST", "/admin/accounts/acct-1/embed-tokens", &root, "").await;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let path = format!("/embed/{}", said["token"].as_str().unwrap());
    assert_eq!(ask(&app, "GET", &path, "", "").await.2, r#"{"2026":-120000}"#);
    assert_eq!(ask(&app, "GET", "/embed/0", "", "").await.0, StatusCode::NOT_FOUND);
}
