//! The policy: who shows and sets it, and what it does to the creation of keys.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis::{Expiry, Grant, NewKey, Store};
use portcullis_admin::router;
use portcullis_testkit::{basic, home, issue, new_key};
use serde_json::{Value, json};
use tower::ServiceExt;

async fn ask(
    store: &Store,
    key: &str,
    method: &str,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", basic(key.as_bytes()))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()));
    let response = router(store.clone()).oneshot(request.unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

fn with_root() -> (tempfile::TempDir, Store, String) {
    let (dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let root = store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap();
    let root = root.secret.reveal(ToOwned::to_owned);
    (dir, store, root)
}

#[tokio::test]
async fn root_key_sets_the_policy_and_an_administrator_with_an_owner_only_reads_it() {
    let (_dir, store, root) = with_root();
    let owned = new_key(&store, "a", &["admin.key.list", "admin.key.create"]).with_owner("lib");
    let (_, owned) = issue(&store, owned);
    let owned = String::from_utf8(owned).unwrap();
    let wanted = json!({"max_lifetime_seconds": 86400, "admin_expiry_required": true});
    let (status, _) = ask(&store, &owned, "PUT", "/v1/policy", wanted.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let none = json!({"expiry_required": false, "admin_expiry_required": false, "deactivate_unused": false});
    assert_eq!(ask(&store, &owned, "GET", "/v1/policy", Value::Null).await, (StatusCode::OK, none));
    let set = json!({
        "max_lifetime_seconds": 86400,
        "expiry_required": false,
        "admin_expiry_required": true,
        "deactivate_unused": false,
    });
    assert_eq!(
        ask(&store, &root, "PUT", "/v1/policy", wanted).await,
        (StatusCode::OK, set.clone())
    );
    assert_eq!(
        ask(&store, &owned, "GET", "/v1/policy", Value::Null).await,
        (StatusCode::OK, set.clone())
    );
    let (_, log) = ask(&store, &root, "GET", "/v1/audit", Value::Null).await;
    let last = log["entries"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["act"], &last["policy"]), (&json!("set_policy"), &set));
    let bad = json!({"max_lifetime_seconds": 1, "default_lifetime_seconds": 2});
    let (status, _) = ask(&store, &root, "PUT", "/v1/policy", bad).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (_, scopes) = ask(&store, &root, "GET", "/v1/scopes?hidden=true", Value::Null).await;
    assert!(!scopes.to_string().contains("portcullis.policy"), "{scopes}");
}

#[tokio::test]
async fn absent_expiry_becomes_the_default_and_null_means_never() {
    let (_dir, store, root) = with_root();
    let policy = json!({"default_lifetime_seconds": 86400, "expiry_required": true});
    ask(&store, &root, "PUT", "/v1/policy", policy).await;
    let absent = json!({"name": "a", "scopes": ["api.read"]});
    let (status, issued) = ask(&store, &root, "POST", "/v1/keys", absent).await;
    assert_eq!(status, StatusCode::CREATED);
    assert!(issued["expires_at"].is_string(), "{issued}");
    let never = json!({"name": "a", "scopes": ["api.read"], "expires_at": null});
    let (status, problem) = ask(&store, &root, "POST", "/v1/keys", never).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["pointer"], "/expires_at");
}

#[tokio::test]
async fn unused_keys_are_listed_for_administrators_of_all_owners() {
    let (_dir, store, root) = with_root();
    let owned = new_key(&store, "a", &["admin.key.list"]).with_owner("lib");
    let owned = String::from_utf8(issue(&store, owned).1).unwrap();
    let reader =
        String::from_utf8(issue(&store, new_key(&store, "b", &["admin.key.list"])).1).unwrap();
    let unused = "/v1/policy/unused";
    let (status, _) = ask(&store, &owned, "GET", unused, Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let none =
        json!({"total": 0, "next": [], "blocked": "the policy does not deactivate unused keys"});
    assert_eq!(ask(&store, &reader, "GET", unused, Value::Null).await, (StatusCode::OK, none));
    for (bad, pointer) in [
        (json!({"deactivate_unused": true}), "/unused_after_seconds"),
        (json!({"unused_after_seconds": 3600}), "/policy"),
    ] {
        let (status, problem) = ask(&store, &root, "PUT", "/v1/policy", bad).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let set = json!({"unused_after_seconds": 86400, "deactivate_unused": true});
    let (status, shown) = ask(&store, &root, "PUT", "/v1/policy", set).await;
    assert_eq!((status, &shown["unused_after_seconds"]), (StatusCode::OK, &json!(86400)));
    // Nothing is known about the time before the policy.
    let none = json!({"total": 0, "next": []});
    assert_eq!(ask(&store, &reader, "GET", unused, Value::Null).await, (StatusCode::OK, none));
}
