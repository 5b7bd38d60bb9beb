//! The responses of the API and the portal while a change is not durable yet, and while the store
//! cannot authenticate keys.

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use portcullis::{
    Actor, Error, Grant, KeyId, Refusal, Store,
    list::ListQuery,
    testing::{Script, planned_changes, remember_requests, scripted_store, set_available},
};
use portcullis_testkit::new_key;
use std::{thread, time::Duration};
use tower::ServiceExt;

/// Issues a key with a commit that succeeds.
fn issue(store: &Store, script: &Script) -> (KeyId, String) {
    script.verdict(true);
    let issued = store.issue(new_key(store, "k", &["api.read"])).unwrap();
    script.begun();
    (issued.record.id, issued.secret.reveal(str::to_owned))
}

/// Runs `work` on a new thread.
fn spawn<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let store = store.clone();
    thread::spawn(move || work(&store))
}

fn refusal(store: &Store, key: &str) -> Option<Refusal> {
    store.authenticate_key(key.as_bytes()).err()
}

fn respond(app: Router, request: Request<Body>) -> axum::response::Response {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(app.oneshot(request)).unwrap()
}

/// Sends a request of a local user to the Administration API.
fn send(
    store: &Store,
    request: axum::http::request::Builder,
    body: &str,
) -> (u16, serde_json::Value) {
    let request = request
        .extension(portcullis_admin::LocalUser::new(0))
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()));
    let response = respond(portcullis_admin::router(store.clone()), request.unwrap());
    let status = response.status().as_u16();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[test]
fn revocation_with_metadata_takes_effect_while_another_change_of_the_key_is_queued() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script);
    let patch = |tag: Option<&'static str>, body: &'static str| {
        spawn(&store, move |store| {
            let mut request = Request::patch(format!("/v1/keys/{id}"));
            if let Some(tag) = tag {
                request = request.header("if-match", tag);
            }
            send(store, request, body)
        })
    };
    let first = patch(None, r#"{"metadata":{"shift":"night"}}"#);
    script.begun();
    let revocation = patch(None, r#"{"active":false,"metadata":{"reason":"leaked"}}"#);
    while planned_changes(&store) < 3 {
        assert!(!revocation.is_finished(), "{:?}", revocation.join());
        thread::yield_now();
    }
    assert_eq!(refusal(&store, &key), Some(Refusal::Inactive));
    let (status, _) =
        patch(Some("\"1\""), r#"{"active":true,"metadata":{"reason":null}}"#).join().unwrap();
    assert_eq!(status, 412, "the entity tag is stale");
    script.verdict(true);
    script.verdict(true);
    assert_eq!(first.join().unwrap().0, 200);
    let (status, record) = revocation.join().unwrap();
    assert_eq!((status, &record["active"]), (200, &false.into()));
    assert_eq!(record["metadata"], serde_json::json!({"shift": "night", "reason": "leaked"}));
}

#[test]
fn idempotent_request_above_the_limit_returns_429_and_a_repeated_one_returns_its_key() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let post = |idempotency_key: &str| {
        let request = Request::post("/v1/keys").header("idempotency-key", idempotency_key);
        send(&store, request, r#"{"name":"till","scopes":[]}"#).0
    };
    assert_eq!(post("first"), 201);
    remember_requests(&store, Actor::Local(0), 9_999);
    assert_eq!([post("second"), post("first")], [429, 200]);
    assert_eq!(store.list(&ListQuery::default()).unwrap().records.len(), 1);
}

/// Verifies a key through the Administration API.
fn verify(store: &Store, key: &str) -> (u16, serde_json::Value) {
    send(store, Request::post("/v1/verify"), &format!(r#"{{"key":"{key}"}}"#))
}

#[test]
fn verify_reports_a_key_as_inactive_only_after_the_revocation_is_durable() {
    let (store, script) = scripted_store();
    let (revoked, revoked_key) = issue(&store, &script);
    let (failed, failed_key) = issue(&store, &script);
    let (later, later_key) = issue(&store, &script);
    let start_verify = |key: &str| {
        let key = key.to_owned();
        spawn(&store, move |store| verify(store, &key))
    };
    let revocation = spawn(&store, move |store| store.revoke(revoked));
    script.begun();
    let waiting = start_verify(&revoked_key);
    thread::sleep(Duration::from_millis(200));
    assert!(!waiting.is_finished());
    let other = start_verify(&failed_key).join().unwrap().1;
    assert_eq!(other["code"], "VALID", "verifying another key does not wait");
    script.verdict(true);
    revocation.join().unwrap().unwrap();
    let (status, result) = waiting.join().unwrap();
    assert_eq!(
        (status, &result["code"], &result["key"]["active"]),
        (200, &"INACTIVE".into(), &false.into())
    );

    // A revocation that may not be durable is not reported: neither the failed one nor a later one.
    script.verdict(false);
    assert!(matches!(store.revoke(failed), Err(Error::NotDurable(_))));
    assert!(matches!(store.revoke(later), Err(Error::Poisoned(_))));
    for key in [&failed_key, &later_key] {
        assert_eq!(refusal(&store, key), Some(Refusal::Inactive));
        assert_eq!(start_verify(key).join().unwrap().0, 503);
    }
    assert_eq!(start_verify(&revoked_key).join().unwrap().1["code"], "INACTIVE");
}

/// Sends a request to the portal. Returns the status and the cookie that the response sets.
fn send_to_portal(app: &Router, method_and_path: &str, cookie: &str, form: &str) -> (u16, String) {
    let (method, path) = method_and_path.split_once(' ').unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("cookie", cookie)
        .body(Body::from(form.to_owned()));
    let response = respond(app.clone(), request.unwrap());
    let cookie = response.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap());
    let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default();
    (response.status().as_u16(), cookie.to_owned())
}

#[test]
fn unavailable_store_returns_503_to_a_login_and_keeps_sessions() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let root = new_key(&store, "root", &[]).with_grant(Grant::All);
    let form = store.issue(root).unwrap().secret.reveal(|key| format!("key={key}"));
    let app = portcullis_admin::Portal::new(store.clone()).router();
    let (status, cookie) = send_to_portal(&app, "POST /login", "", &form);
    assert_eq!(status, 303);
    set_available(&store, false);
    assert_eq!(send_to_portal(&app, "POST /login", "", &form), (503, String::new()));
    assert_eq!(send_to_portal(&app, "GET /", &cookie, ""), (503, String::new()));
    set_available(&store, true);
    assert_eq!(send_to_portal(&app, "GET /", &cookie, "").0, 200);
}
