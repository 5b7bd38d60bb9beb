//! What the API and the portal answer while a change is not durable yet, or while the store cannot
//! answer.

use portcullis::{
    Actor, Error, Expiry, Grant, Idempotency, KeyId, ListQuery, Metadata, NewKey, Outcome, Refusal,
    Store,
    testing::{Script, planned_changes, remember_requests, scripted_store, set_available},
};
use std::{thread, time::Duration};

fn new_key(store: &Store, names: &[&str], active: bool) -> NewKey {
    NewKey {
        name: "k".into(),
        grant: Grant::Scopes(store.scopes(names).unwrap()),
        active,
        expiry: Expiry::Never,
        owner: None,
        metadata: Metadata::new(),
    }
}

/// Issues a key with a commit that succeeds.
fn issue(store: &Store, script: &Script, new: NewKey) -> (KeyId, String) {
    script.verdict(true);
    let issued = store.issue(new).unwrap();
    script.begun();
    (issued.record.id, issued.secret.reveal(str::to_owned))
}

/// Starts a change on a thread of its own.
fn spawn<T: Send + 'static>(
    store: &Store,
    change: impl FnOnce(&Store) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let store = store.clone();
    thread::spawn(move || change(&store))
}

fn decision(store: &Store, key: &str) -> Result<(), Refusal> {
    store.authenticate_key(key.as_bytes()).map(|_| ())
}

/// A request of a local user to the Administration API.
fn send(
    store: &Store,
    request: axum::http::request::Builder,
    body: &str,
) -> (u16, serde_json::Value) {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let request = request
        .extension(portcullis_admin::LocalUser::new(0))
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()));
    let app = portcullis_admin::router(store.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = app.oneshot(request.unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    })
}

#[test]
fn revocation_with_a_note_is_applied_while_another_change_of_the_key_is_queued() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let patch = |tag: Option<&'static str>, body: &'static str| {
        spawn(&store, move |store| {
            let mut request = axum::http::Request::patch(format!("/v1/keys/{id}"));
            if let Some(tag) = tag {
                request = request.header("if-match", tag);
            }
            send(store, request, body)
        })
    };
    let first = patch(None, r#"{"metadata":{"shift":"night"}}"#);
    script.begun();
    let revoking = patch(None, r#"{"active":false,"metadata":{"reason":"leaked"}}"#);
    while planned_changes(&store) < 3 {
        assert!(!revoking.is_finished(), "{:?}", revoking.join());
        thread::yield_now();
    }
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
    let (stale, _) =
        patch(Some("\"1\""), r#"{"active":true,"metadata":{"reason":null}}"#).join().unwrap();
    assert_eq!(stale, 412, "its entity tag is an old one");
    script.verdict(true);
    script.verdict(true);
    assert_eq!(first.join().unwrap().0, 200);
    let (status, said) = revoking.join().unwrap();
    assert_eq!((status, &said["active"]), (200, &false.into()));
    assert_eq!(said["metadata"], serde_json::json!({"shift": "night", "reason": "leaked"}));
}

#[test]
fn idempotent_request_beyond_the_bound_of_its_actor_is_429_and_a_repeated_one_is_answered() {
    let store = Store::in_memory().unwrap();
    let post = |name: &str| {
        let request = axum::http::Request::post("/v1/keys").header("idempotency-key", name);
        send(&store, request, r#"{"name":"till","scopes":[]}"#).0
    };
    assert_eq!(post("first"), 201);
    remember_requests(&store, Actor::Local(0), 9_999);
    assert_eq!([post("second"), post("first")], [429, 200]);
    assert_eq!(store.list(&ListQuery::default()).unwrap().records.len(), 1);
    let new = new_key(&store, &["api.read"], true);
    let request = Idempotency { key: b"a", route: "POST /v1/keys", payload: b"{}" };
    let of_host = store.acting_as(Actor::Host, None).issue_once(new, &request);
    assert!(matches!(of_host, Ok(Outcome::Issued(_))), "each actor has a bound of its own");
}

/// What the Administration API says that a key is worth.
fn verify(store: &Store, key: &str) -> (u16, serde_json::Value) {
    send(store, axum::http::Request::post("/v1/verify"), &format!(r#"{{"key":"{key}"}}"#))
}

#[test]
fn a_key_is_reported_inactive_once_that_is_durable() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let (other, other_key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let (third, third_key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let ask = |key: &str| {
        let key = key.to_owned();
        spawn(&store, move |store| verify(store, &key))
    };
    let revoking = spawn(&store, move |store| store.revoke(id));
    script.begun();
    let asking = ask(&key);
    thread::sleep(Duration::from_millis(200));
    assert!(!asking.is_finished());
    assert_eq!(ask(&other_key).join().unwrap().1["code"], "VALID", "no other key waits");
    script.verdict(true);
    revoking.join().unwrap().unwrap();
    let (status, said) = asking.join().unwrap();
    assert_eq!(
        (status, &said["code"], &said["key"]["active"]),
        (200, &"INACTIVE".into(), &false.into())
    );

    // What may never be on disk is not reported: neither the change that failed, nor one after it.
    script.verdict(false);
    assert!(matches!(store.revoke(other), Err(Error::NotDurable(_))));
    assert!(matches!(store.revoke(third), Err(Error::Poisoned(_))));
    for key in [&other_key, &third_key] {
        assert_eq!(decision(&store, key), Err(Refusal::Inactive));
        assert_eq!(ask(key).join().unwrap().0, 503);
    }
    assert_eq!(ask(&key).join().unwrap().1["code"], "INACTIVE");
}

/// What the portal answers: its status, and the cookie that it sets.
fn portal(app: &axum::Router, what: &str, cookie: &str, form: &str) -> (u16, String) {
    use tower::ServiceExt;
    let (method, path) = what.split_once(' ').unwrap();
    let request = axum::http::Request::builder()
        .method(method)
        .uri(path)
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("cookie", cookie)
        .body(axum::body::Body::from(form.to_owned()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(app.clone().oneshot(request.unwrap())).unwrap();
    let cookie = answer.headers().get("set-cookie").map(|set| set.to_str().unwrap());
    let cookie = cookie.and_then(|set| set.split(';').next()).unwrap_or_default();
    (answer.status().as_u16(), cookie.to_owned())
}

#[test]
fn where_no_key_can_be_checked_a_login_is_not_called_wrong_and_a_session_goes_on() {
    let one = Store::in_memory().unwrap();
    let root = one.issue(NewKey { grant: Grant::All, ..new_key(&one, &[], true) }).unwrap();
    let form = root.secret.reveal(|key| format!("key={key}"));
    let app = portcullis_admin::Portal::new(one.clone()).router();
    let (status, cookie) = portal(&app, "POST /login", "", &form);
    assert_eq!(status, 303);
    set_available(&one, false);
    assert_eq!(portal(&app, "POST /login", "", &form), (503, String::new()));
    assert_eq!(portal(&app, "GET /", &cookie, ""), (503, String::new()));
    set_available(&one, true);
    assert_eq!(portal(&app, "GET /", &cookie, "").0, 200);
}
