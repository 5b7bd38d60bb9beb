//! Networks and rate in the form of a key.

use super::Browser;
use axum::http::StatusCode;
use portcullis::Change;

fn networks(texts: &[&str]) -> portcullis::Networks {
    texts.iter().map(|text| text.parse::<portcullis::Network>().unwrap()).collect()
}

#[tokio::test]
async fn networks_are_created_changed_and_removed_in_the_form() {
    // A store in memory has no audit log.
    let (_dir, home) = portcullis_testkit::home();
    let mut browser = Browser::over(portcullis_testkit::builder().open(&home).unwrap());
    let root = browser.root.clone();
    browser.log_in(&root).await;
    let new = browser.open_new().await.with("name", "till");
    let new = new.with("networks", " 192.0.2.7/24\r\n\r\n2001:db8::/32, ::1 ");
    assert_eq!(browser.submit("/keys", &new).await.status, StatusCode::CREATED);
    let key = browser.store.records().find(|record| record.name == "till").unwrap();
    assert_eq!(key.networks, networks(&["192.0.2.0/24", "2001:db8::/32", "::1"]));

    let here = format!("/keys/{}", key.id);
    let now = || browser.store.get(key.id).unwrap().networks.clone();
    let form = browser.open(&here).await;
    assert_eq!(form.value("networks"), Some("192.0.2.0/24\n::1/128\n2001:db8::/32"));
    let form = form.with("networks", "10.0.0.0/8\r\nhere");
    let wrong = browser.submit(&here, &form).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.assert_contains("One of these lines is no network");
    assert_eq!(now(), key.networks);
    let form = form.with("networks", "10.0.0.0/8\r\n");
    assert_eq!(browser.submit(&here, &form).await.status, StatusCode::SEE_OTHER);
    assert_eq!(now(), networks(&["10.0.0.0/8"]));
    browser
        .get(&here)
        .await
        .assert_contains("Networks: 192.0.2.0/24, ::1/128, 2001:db8::/32 → 10.0.0.0/8");

    // Another field leaves the networks, and a stale form of them is a conflict.
    let stale = browser.open(&here).await;
    browser.store.update(key.id, Change::default().with_networks(networks(&["::1"]))).unwrap();
    let renamed = stale.clone().with("name", "till 4");
    assert_eq!(browser.submit(&here, &renamed).await.status, StatusCode::SEE_OTHER);
    assert_eq!(now(), networks(&["::1"]));
    let stale = stale.with("networks", "");
    let conflict = browser.submit(&here, &stale).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    conflict.assert_contains("<bdi>every network</bdi>");
    let decided = conflict.form(&here).with("keep_networks", "mine");
    assert_eq!(browser.submit(&here, &decided).await.status, StatusCode::SEE_OTHER);
    assert!(now().is_any());
}

#[tokio::test]
async fn rate_is_created_changed_and_removed_in_the_form() {
    let (_dir, home) = portcullis_testkit::home();
    let mut browser = Browser::over(portcullis_testkit::builder().open(&home).unwrap());
    let root = browser.root.clone();
    browser.log_in(&root).await;
    let new = browser.open_new().await.with("name", "till").with("rate", " 100/1m ");
    assert_eq!(browser.submit("/keys", &new).await.status, StatusCode::CREATED);
    let key = browser.store.records().find(|record| record.name == "till").unwrap();
    let rate = |text: &str| Some(text.parse::<portcullis::Rate>().unwrap());
    assert_eq!(key.rate, rate("100/60s"));
    let here = format!("/keys/{}", key.id);
    let now = || browser.store.get(key.id).unwrap().rate;
    let form = browser.open(&here).await;
    assert_eq!(form.value("rate"), Some("100/60s"));
    let wrong = browser.submit(&here, &form.clone().with("rate", "fast")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.assert_contains("This is not a rate");
    let changed = browser.submit(&here, &form.with("rate", "5000/1h")).await;
    assert_eq!((changed.status, now()), (StatusCode::SEE_OTHER, rate("5000/3600s")));
    let stale = browser.open(&here).await;
    browser.store.update(key.id, Change::default().without_rate()).unwrap();
    browser.get(&here).await.assert_contains("Rate: 5000/3600s → no limit");
    let conflict = browser.submit(&here, &stale.with("rate", "1/1s")).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    conflict.assert_contains("<bdi>no limit</bdi>");
    let decided = conflict.form(&here).with("keep_rate", "mine");
    assert_eq!(browser.submit(&here, &decided).await.status, StatusCode::SEE_OTHER);
    assert_eq!(now(), rate("1/1s"));
}
