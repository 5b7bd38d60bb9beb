//! The page of the policy, and its default lifetime in the form of a new key.

use super::Browser;
use axum::http::StatusCode;
use portcullis::{Expiry, NewKey};
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn root_sets_the_policy_and_sees_the_keys_that_exceed_it() {
    let (_dir, home) = portcullis_testkit::home();
    let mut browser = Browser::over(portcullis_testkit::builder().open(&home).unwrap());
    let scopes = browser.store.scopes(["api.read"]).unwrap();
    browser.store.issue(NewKey::new("lasting", scopes, Expiry::Never)).unwrap();
    let root = browser.root.clone();
    browser.log_in(&root).await;
    let form = browser.open("/policy").await;
    assert_eq!((form.value("other_max"), form.value("other_required")), (Some(""), None));
    let wrong = browser.submit("/policy", &form.clone().with("other_max", "soon")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.assert_contains("A time is a number of days");
    let contradiction = form.clone().with("other_max", "1").with("other_default", "2");
    let wrong = browser.submit("/policy", &contradiction).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.assert_contains("must not exceed the longest lifetime");
    assert_eq!(browser.store.policy().unwrap(), portcullis::Policy::default());
    let form =
        form.with("other_max", "90").with("other_default", "0.5").with("admin_required", "1");
    let saved = browser.submit("/policy", &form).await;
    assert_eq!(saved.status, StatusCode::OK);
    saved.assert_contains("The policy was saved.");
    saved.assert_contains("1 key exceeds");
    let policy = browser.store.policy().unwrap();
    assert_eq!((policy.others.max, policy.others.default), (Some(DAY * 90), Some(DAY / 2)));
    assert!(policy.administrators.required && !policy.others.required);
    let form = browser.open("/policy").await;
    assert_eq!((form.value("other_max"), form.value("other_default")), (Some("90"), Some("0.5")));
    assert_eq!(form.value("admin_required"), Some("1"));
    let contradiction = form.clone().with("deactivate_unused", "1");
    let wrong = browser.submit("/policy", &contradiction).await;
    wrong.assert_contains("To deactivate unused keys, give one.");
    let form = form.with("unused_after", "90").with("deactivate_unused", "1");
    let saved = browser.submit("/policy", &form).await;
    saved.assert_contains("0 keys are unused by the policy.");
    let unused = browser.store.policy().unwrap().unused.unwrap();
    assert_eq!((unused.after, unused.deactivate), (DAY * 90, true));
    let form = browser.open("/policy").await;
    assert_eq!(
        (form.value("unused_after"), form.value("deactivate_unused")),
        (Some("90"), Some("1"))
    );
    browser.get("/?status=exceeding").await.assert_contains("lasting");
    browser.get("/audit").await.assert_contains("Policy set");

    let new = browser.open_new().await.with("name", "short").with_scopes(&["api.read"]);
    browser
        .get("/keys/new")
        .await
        .assert_contains("a lifetime of 0.5 days, and for a key that never expires");
    assert_eq!(browser.submit("/keys", &new).await.status, StatusCode::CREATED);
    let key = browser.store.records().find(|record| record.name == "short").unwrap();
    assert!(matches!(key.expiry, Expiry::At(_)));
    let new = browser.open_new().await.with("name", "long").with_scopes(&["api.read"]);
    let long = browser.submit("/keys", &new.with("expires", "2499-01-31")).await;
    assert_eq!(long.status, StatusCode::UNPROCESSABLE_ENTITY);
    long.assert_contains("The date must be at most 90 days from now, by the policy of the store.");
}

#[tokio::test]
async fn other_users_read_the_policy_and_cannot_set_it() {
    let (_dir, home) = portcullis_testkit::home();
    let mut browser = Browser::over(portcullis_testkit::builder().open(&home).unwrap());
    let key = portcullis_testkit::new_key(&browser.store, "reader", &["admin.key.list"]);
    let (_, key) = portcullis_testkit::issue(&browser.store, key);
    let root = browser.root.clone();
    browser.log_in(&root).await;
    let form = browser.open("/policy").await.with("other_max", "90");
    browser.log_in(&String::from_utf8(key).unwrap()).await;
    browser.get("/policy").await.assert_contains("Only a root key sets the policy.");
    assert_eq!(browser.submit("/policy", &form).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.store.policy().unwrap(), portcullis::Policy::default());
}
