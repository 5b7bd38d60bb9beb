//! The pages that find leaked keys, and revoke them after a confirmation.

use super::Browser;
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use portcullis::Grant;
use portcullis_testkit::{basic, issue, new_key};

impl Browser {
    /// Submits a text as a browser does.
    async fn search(&self, text: &str) -> super::Reply {
        let body = format!(
            "--b\r\ncontent-disposition: form-data; name=\"text\"\r\n\r\n{text}\r\n--b\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"\"\r\n\r\n\r\n--b--\r\n"
        );
        let request = Request::post("/keys/leaked")
            .header("cookie", &self.cookie)
            .header("content-type", "multipart/form-data; boundary=b")
            .header("sec-fetch-site", "same-origin");
        self.send(request.body(Body::from(body)).unwrap()).await
    }
}

#[tokio::test]
async fn leaked_keys_are_shown_without_their_text_and_revoked_after_the_confirmation() {
    let browser = Browser::logged_in().await;
    browser.get("/").await.assert_contains("/keys/leaked");
    browser.get("/keys/leaked").await.assert_contains("multipart/form-data");
    let (one, plain) = browser.key(&["api.read"]);
    let (two, encoded) = browser.key(&["api.write"]);
    let forged = format!("{}{}", &plain[..15], &encoded[15..]);
    let text = format!("{plain}\nAuthorization: {}\n{forged}", basic(encoded.as_bytes()));
    let found = browser.search(&text).await;
    assert_eq!((found.status, found.keys()), (StatusCode::OK, vec![]));
    assert!(!found.text.contains(&basic(encoded.as_bytes())[6..40]));
    for words in ["Revoke 2 keys", &one.to_string(), &two.to_string(), "api.write"] {
        found.assert_contains(words);
    }
    assert!(browser.record(one).active && browser.record(two).active);

    let form = found.form("/keys/leaked/revoke");
    let done = browser.submit("/keys/leaked/revoke", &form).await;
    done.assert_contains("They are refused from now on.");
    assert!(!browser.record(one).active && !browser.record(two).active);
    let again = browser.search(&text).await;
    assert!(again.text.contains("Inactive") && !again.text.contains("/keys/leaked/revoke"));
}

#[tokio::test]
async fn confirmation_revokes_with_the_rights_of_the_user() {
    let mut browser = Browser::logged_in().await;
    let (own, key) = {
        let new = new_key(&browser.store, "shop", &["admin.key.list", "admin.key.update"]);
        let (id, key) = issue(&browser.store, new.with_owner("shop"));
        (id, String::from_utf8(key).unwrap())
    };
    let (foreign, foreign_key) = browser.key(&["api.read"]);
    browser.log_in(&key).await;
    let found = browser.search(&format!("{key} {foreign_key}")).await;
    assert!(found.text.contains(&own.to_string()) && !found.text.contains(&foreign.to_string()));
    found.assert_contains("You are logged in with one of these keys");
    let fields = [("id", &*foreign.to_string()), ("end", "1")];
    let absent = browser.post("/keys/leaked/revoke", &fields).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    assert!(!absent.text.contains(&foreign.to_string()) && browser.record(foreign).active);
    let fields = [("id", &*foreign.to_string()), ("id", &*own.to_string()), ("end", "1")];
    let done = browser.post("/keys/leaked/revoke", &fields).await;
    assert!(done.text.contains(&own.to_string()) && !done.text.contains(&foreign.to_string()));
    assert!(browser.record(foreign).active && !browser.record(own).active);

    let (_, reader) = browser.key(&["admin.key.list"]);
    browser.log_in(&reader).await;
    let found = browser.search(&foreign_key).await;
    assert!(
        found.text.contains(&foreign.to_string()) && !found.text.contains("/keys/leaked/revoke")
    );
    let refused = browser.post("/keys/leaked/revoke", &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(browser.record(foreign).active);
}

#[tokio::test]
async fn last_root_key_is_reported_and_stays_valid() {
    let browser = Browser::logged_in().await;
    let found = browser.search(&browser.root).await;
    let form = found.form("/keys/leaked/revoke");
    let done = browser.submit("/keys/leaked/revoke", &form).await;
    done.assert_contains(&format!("portcullis key rotate {}", browser.root_id));
    assert_eq!(browser.record(browser.root_id).grant, Grant::All);
    assert!(browser.record(browser.root_id).active);
}
