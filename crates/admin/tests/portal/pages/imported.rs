//! Keys of other systems in the portal.

use super::Browser;
use axum::http::StatusCode;
use portcullis::{Actor, Expiry, ImportOptions, ImportedSecret, NewKey};

#[tokio::test]
async fn imported_key_is_marked_listed_and_not_deleted() {
    let (_dir, home) = portcullis_testkit::home();
    let mut browser = Browser::over(portcullis_testkit::builder().open(&home).unwrap());
    let new = NewKey::new("partner", browser.store.scopes(["api.read"]).unwrap(), Expiry::Never);
    let text = ImportedSecret::Plaintext("sk_live_0123456789abcdef".to_owned().into());
    let acting = browser.store.acting_as(Actor::Host);
    acting.import(vec![(new, text)], ImportOptions::default()).unwrap();
    let key = browser.store.records().find(|record| record.name == "partner").unwrap();
    let root = browser.root.clone();
    browser.log_in(&root).await;
    let listed = browser.get("/?status=imported").await;
    listed.assert_contains("partner");
    listed.assert_contains(">imported</span>");
    let hint = browser.store.prefix().hint(key.id);
    assert!(!listed.text.contains(&hint), "no beginning of its text is known");
    let here = format!("/keys/{}", key.id);
    browser.get(&here).await.assert_contains("its strength is unknown");
    browser.store.revoke(key.id).unwrap();
    let page = browser.get(&here).await;
    page.assert_contains("An imported key cannot be deleted");
    assert!(!page.text.contains("Delete…"));
    assert_eq!(browser.get(&format!("{here}/delete")).await.status, StatusCode::CONFLICT);
    assert!(browser.store.get(key.id).is_ok());
}
