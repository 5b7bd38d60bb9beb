//! Stale forms, whose key changed after they were opened, and incomplete forms.

use super::{Browser, Fields, Reply, text_of};
use axum::http::StatusCode;
use portcullis::{Change, Expiry, Grant, KeyId, Record, Scope, Store, Timestamp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// The midnight at the end of 2099-01-31 and of 2099-02-28.
const JANUARY: u64 = 4_073_587_200;
const FEBRUARY: u64 = 4_076_006_400;

/// A key, and an open form of it.
struct Scene {
    browser: Browser,
    id: KeyId,
    here: String,
    form: Fields,
}

impl Scene {
    async fn over(store: Store, scopes: &[&str]) -> Self {
        let mut browser = Browser::over(store);
        let root = browser.root.clone();
        browser.log_in(&root).await;
        let (id, _) = browser.key(scopes);
        let here = format!("/keys/{id}");
        let form = browser.open(&here).await;
        Self { browser, id, here, form }
    }

    async fn with(scopes: &[&str]) -> Self {
        Self::over(portcullis_testkit::builder().in_memory().unwrap(), scopes).await
    }

    async fn new() -> Self {
        Self::with(&["api.read"]).await
    }

    /// Changes the key as another user, while the form is open.
    fn change_concurrently(&self, change: Change) {
        self.browser.store.update(self.id, change).unwrap();
    }

    fn record(&self) -> Record {
        self.browser.store.get(self.id).unwrap().as_ref().clone()
    }

    fn grant(&self, names: &[&str]) -> Grant {
        portcullis_testkit::scopes(&self.browser.store, names)
    }

    async fn save(&self, form: &Fields) -> Reply {
        self.browser.submit(&self.here, form).await
    }

    /// Saves the form and asserts that there is no conflict.
    async fn save_without_conflict(&self, form: &Fields) {
        let reply = self.save(form).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text);
    }

    /// Saves a form whose value of this field conflicts with a concurrent change. Asserts that the
    /// page shows both values and selects none, and that saving it unedited changes nothing.
    /// Returns the form of that page.
    async fn save_with_conflict(&self, form: &Fields, field: &str, values: [&str; 2]) -> Fields {
        let before = self.record();
        let mut page = self.save(form).await;
        assert_eq!(page.status, StatusCode::CONFLICT);
        for _ in 0..2 {
            page.assert_contains("Somebody else changed this");
            for value in values {
                page.assert_contains(&format!("<bdi>{value}</bdi>"));
            }
            let form = page.form(&self.here);
            assert_eq!(form.value(&format!("keep_{field}")), None);
            page = self.save(&form).await;
            assert_eq!(page.status, StatusCode::CONFLICT);
            assert_eq!(self.record(), before);
        }
        page.form(&self.here)
    }
}

fn named(name: &str) -> Change {
    Change::default().with_name(name)
}

fn ending(seconds: u64) -> Change {
    Change::default().with_expiry(Expiry::At(Timestamp::from_secs(seconds)))
}

#[tokio::test]
async fn stale_form_that_renames_a_revoked_key_does_not_reactivate_it() {
    let scene = Scene::new().await;
    scene.change_concurrently(Change::deactivate());
    scene.save_without_conflict(&scene.form.clone().with("name", "renamed")).await;
    assert_eq!((scene.record().name.as_str(), scene.record().active), ("renamed", false));
    let page = scene.browser.get(&format!("{}?saved=1&meanwhile=1", scene.here)).await;
    page.assert_contains(
        "Somebody else changed this key while your form was open; those changes stay.",
    );
    scene.save_without_conflict(&page.form(&scene.here)).await;
    assert!(!scene.record().active);
}

#[tokio::test]
async fn corrected_stale_form_does_not_reactivate_a_revoked_key() {
    for (field, wrong) in [("name", ""), ("expires", "tomorrow"), ("expires", "9999-12-31")] {
        let scene = Scene::new().await;
        scene.change_concurrently(Change::deactivate());
        let page = scene.save(&scene.form.clone().with(field, wrong)).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        let corrected = page.form(&scene.here).with(field, if field == "name" { "x" } else { "" });
        // The page shows that the key is inactive.
        assert_eq!(corrected.value("active"), Some("no"));
        scene.save_without_conflict(&corrected).await;
        assert!(!scene.record().active, "{field}");
    }
}

#[tokio::test]
async fn unedited_field_is_not_written() {
    let scene = Scene::with(&["api.read", "api.write"]).await;
    scene.change_concurrently(
        named("theirs")
            .with_grant(scene.grant(&["api.read"]))
            .with_expiry(Expiry::At(Timestamp::from_secs(JANUARY))),
    );
    scene.save_without_conflict(&scene.form.clone().with("active", "no")).await;
    let record = scene.record();
    assert_eq!((record.name.as_str(), record.active), ("theirs", false));
    assert_eq!(record.grant, scene.grant(&["api.read"]));
    assert_eq!(record.expiry, Expiry::At(Timestamp::from_secs(JANUARY)));
}

#[tokio::test]
async fn form_without_the_active_field_does_not_change_it() {
    for active in [true, false] {
        let scene = Scene::new().await;
        scene.change_concurrently(Change::default().with_active(active));
        let form = scene.browser.open(&scene.here).await;
        for form in [&form, &scene.form] {
            scene
                .save_without_conflict(&form.clone().without("active").with("name", "renamed"))
                .await;
            assert_eq!(scene.record().active, active);
        }
    }
}

#[tokio::test]
async fn name_conflict_shows_both_values_and_selects_none() {
    for (choice, name) in [("now", "theirs"), ("mine", "mine")] {
        let scene = Scene::new().await;
        scene.change_concurrently(named("theirs"));
        let mine = scene.form.clone().with("name", "mine");
        let page = scene.save_with_conflict(&mine, "name", ["theirs", "mine"]).await;
        // A change after that page is compared again.
        scene.change_concurrently(Change::deactivate());
        scene.save_without_conflict(&page.with("keep_name", choice)).await;
        assert_eq!((scene.record().name.as_str(), scene.record().active), (name, false));
    }
    // The same change by both is no conflict.
    let scene = Scene::new().await;
    scene.change_concurrently(named("same"));
    scene.save_without_conflict(&scene.form.clone().with("name", "same")).await;
}

#[tokio::test]
async fn change_after_the_choice_is_a_new_conflict() {
    let scene = Scene::new().await;
    scene.change_concurrently(named("theirs"));
    let mine = scene.form.clone().with("name", "mine");
    let page = scene.save_with_conflict(&mine, "name", ["theirs", "mine"]).await;
    scene.change_concurrently(named("newer"));
    scene.save_with_conflict(&page.with("keep_name", "mine"), "name", ["newer", "mine"]).await;
}

#[tokio::test]
async fn expiry_conflict_shows_both_values_and_selects_none() {
    for (choice, expiry) in [("now", JANUARY), ("mine", FEBRUARY)] {
        let scene = Scene::new().await;
        scene.change_concurrently(ending(JANUARY));
        let mine = scene.form.clone().with("expires", "2099-02-28");
        let page = scene.save_with_conflict(&mine, "expires", ["2099-01-31", "2099-02-28"]).await;
        scene.save_without_conflict(&page.with("keep_expires", choice)).await;
        assert_eq!(scene.record().expiry, Expiry::At(Timestamp::from_secs(expiry)));
    }
    // Removing an expiry that another user moved earlier is a conflict, too.
    let scene = Scene::new().await;
    scene.change_concurrently(ending(FEBRUARY));
    let form = scene.browser.open(&scene.here).await;
    scene.change_concurrently(ending(JANUARY));
    scene.save_with_conflict(&form.with("expires", ""), "expires", ["2099-01-31", "never"]).await;
}

#[tokio::test]
async fn concurrently_removed_scope_is_restored_only_by_choice() {
    let both = ["api.read", "api.write"];
    let mine = ["admin.account.list", "api.read", "api.write"];
    for (choice, scopes) in [("now", &both[..1]), ("mine", &mine)] {
        let scene = Scene::with(&both).await;
        scene.change_concurrently(Change::default().with_grant(scene.grant(&both[..1])));
        let form = scene.form.clone().with_scopes(&mine);
        let values = ["api.read", "admin.account.list, api.read, api.write"];
        let page = scene.save_with_conflict(&form, "scopes", values).await;
        scene.save_without_conflict(&page.with("keep_scopes", choice)).await;
        assert_eq!(scene.record().grant, scene.grant(scopes));
    }
    // Removing scopes needs no choice and restores no removed scope.
    let scene = Scene::with(&mine).await;
    scene.change_concurrently(Change::default().with_grant(scene.grant(&both)));
    scene
        .save_without_conflict(&scene.form.clone().with_scopes(&["admin.account.list", "api.read"]))
        .await;
    assert_eq!(scene.record().grant, scene.grant(&["api.read"]));
}

#[tokio::test]
async fn second_revocation_is_not_undone_by_reactivating_after_the_first() {
    for (choice, active) in [("now", false), ("mine", true)] {
        let scene = Scene::new().await;
        scene.change_concurrently(Change::deactivate());
        let form = scene.browser.open(&scene.here).await;
        let first = scene.record().inactive_since;
        while scene.record().inactive_since == first {
            scene.change_concurrently(Change::activate());
            scene.change_concurrently(Change::deactivate());
        }
        let page =
            scene.save_with_conflict(&form.with("active", "yes"), "active", ["No", "Yes"]).await;
        scene.save_without_conflict(&page.with("keep_active", choice)).await;
        assert_eq!(scene.record().active, active);
    }
}

#[tokio::test]
async fn revocation_or_expiry_is_applied_although_another_field_conflicts() {
    let scene = Scene::new().await;
    scene.change_concurrently(named("theirs"));
    let mine = scene.form.clone().with("name", "mine").with("active", "no");
    let page = scene.save(&mine).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.assert_contains("The key is inactive now; nothing else was saved yet.");
    assert_eq!((scene.record().name.as_str(), scene.record().active), ("theirs", false));

    let scene = Scene::new().await;
    scene.change_concurrently(
        named("theirs").with_expiry(Expiry::At(Timestamp::from_secs(JANUARY))),
    );
    let mine = scene.form.clone().with("name", "mine").with("expires", "2026-01-01");
    let page = scene.save(&mine).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.assert_contains("The key has expired now; nothing else was saved yet.");
    assert_eq!(scene.record().expiry, Expiry::At(Timestamp::from_secs(1_767_312_000)));
    scene.browser.get(&scene.here).await.assert_contains("Expired");
}

#[tokio::test]
async fn revocation_is_applied_despite_constant_concurrent_changes() {
    let scene = Scene::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [0, 1].map(|writer| {
        let (stop, store, id) = (Arc::clone(&stop), scene.browser.store.clone(), scene.id);
        thread::spawn(move || {
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                store.update(id, named(&format!("{writer}, {round}"))).unwrap();
            }
        })
    });
    let form = scene.form.clone().with("active", "no").with("expires", "2099-01-31");
    let saved = scene.save(&form).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(!scene.record().active, "{}", saved.text);
}

#[tokio::test]
async fn scope_outside_the_catalogue_stays_when_other_scopes_change() {
    let (_dir, home) = portcullis_testkit::home();
    let old: Scope = "old.thing".parse().unwrap();
    let read: Scope = "ledger.read".parse().unwrap();
    let scopes = |scopes: &[&Scope]| {
        scopes.iter().map(|scope| ((*scope).clone(), String::new())).collect::<Vec<_>>()
    };
    let store = Store::builder().scopes(scopes(&[&old, &read])).open(&home).unwrap();
    let (id, _) = portcullis_testkit::issue(
        &store,
        portcullis_testkit::new_key(&store, "old", &["old.thing"]),
    );
    drop(store);
    let store = Store::builder().scopes(scopes(&[&read])).open(&home).unwrap();
    let mut browser = Browser::over(store);
    let root = browser.root.clone();
    browser.log_in(&root).await;
    let here = format!("/keys/{id}");
    let form = browser.open(&here).await.with_scopes(&["ledger.read"]);
    assert_eq!(browser.submit(&here, &form).await.status, StatusCode::SEE_OTHER);
    let grant = browser.record(id).grant;
    assert!(grant.allows(&old) && grant.allows(&read));
}

#[tokio::test]
async fn failed_rotation_can_be_submitted_again() {
    let scene = Scene::new().await;
    let path = format!("{}/rotate", scene.here);
    let form = scene.browser.open(&path).await;
    scene.change_concurrently(Change::deactivate());
    for _ in 0..2 {
        let failed = scene.browser.submit(&path, &form).await;
        assert_eq!(failed.status, StatusCode::CONFLICT);
        failed.assert_contains("is inactive; only an active key");
    }
    scene.change_concurrently(Change::activate());
    let rotated = scene.browser.submit(&path, &form).await;
    assert_eq!((rotated.status, rotated.keys().len()), (StatusCode::CREATED, 1));
    let again = scene.browser.submit(&path, &form).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    again.assert_contains("already revealed");
}

#[tokio::test]
async fn deletion_needs_a_confirmation_of_the_current_key() {
    let scene = Scene::new().await;
    scene.change_concurrently(Change::deactivate());
    let path = format!("{}/delete", scene.here);
    let form = scene.browser.open(&path).await;
    scene.change_concurrently(Change::activate());
    let active = scene.browser.submit(&path, &form).await;
    assert_eq!(active.status, StatusCode::CONFLICT);
    active.assert_contains("deactivate it before deleting it");
    scene.change_concurrently(named("needed again").with_active(false));
    let changed = scene.browser.submit(&path, &form).await;
    assert_eq!(changed.status, StatusCode::CONFLICT);
    changed.assert_contains("<bdi>needed again</bdi>");
    assert_eq!(scene.record().name, "needed again");
    scene.browser.submit(&path, &changed.form(&path)).await.assert_redirects_to("/?deleted=1");
}

#[tokio::test]
async fn incomplete_form_is_refused_and_changes_nothing() {
    let scene = Scene::new().await;
    let browser = &scene.browser;
    let rotate = format!("{}/rotate", scene.here);
    let edited = scene.form.clone().with("name", "renamed");
    let new = browser.open_new().await.with("name", "new").with("expires", "2099-01-31");
    let forms =
        [(&scene.here, edited), (&"/keys".into(), new), (&rotate, browser.open(&rotate).await)];
    let before = (scene.record(), browser.store.count());
    for (path, form) in forms {
        let complete = text_of(&form.pairs());
        for end in 0..complete.len() {
            let reply = browser.post_text(path, &complete[..end]).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", &complete[..end]);
            reply.assert_contains("The form was incomplete");
        }
        let twice = format!("{complete}&{}", complete.split('&').next().unwrap());
        assert_eq!(browser.post_text(path, &twice).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!((scene.record(), browser.store.count()), before);
}

#[tokio::test]
async fn form_opened_with_another_key_is_a_conflict() {
    let mut scene = Scene::new().await;
    let (_, clerk) = scene.browser.key(&["admin.key.list", "admin.key.update", "api.read"]);
    scene.browser.log_in(&clerk).await;
    let page = scene.save(&scene.form.clone().with("name", "renamed")).await;
    assert_eq!((page.status, &*scene.record().name), (StatusCode::CONFLICT, "some"));
    page.assert_contains("logged in with another key");
    scene.save_without_conflict(&page.form(&scene.here)).await;
    assert_eq!(scene.record().name, "renamed");
}
