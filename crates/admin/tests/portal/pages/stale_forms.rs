//! Forms that are older than the key they show, and forms of which only a part arrived.

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

/// 2099-01-31 and 2099-02-28, at midnight.
const JANUARY: u64 = 4_073_500_800;
const FEBRUARY: u64 = 4_075_920_000;

/// A key, and the form that shows it.
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
        Self::over(Store::in_memory().unwrap(), scopes).await
    }

    async fn new() -> Self {
        Self::with(&["api.read"]).await
    }

    /// What somebody else does meanwhile.
    fn meanwhile(&self, change: Change) {
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

    /// Saves without a conflict.
    async fn saves(&self, form: &Fields) {
        let reply = self.save(form).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text);
    }

    /// Saves a form that conflicts with what somebody else did to this field. The page shows both
    /// values and selects none, and saving it as it is changes nothing. Returns its form.
    async fn conflicts(&self, form: &Fields, field: &str, values: [&str; 2]) -> Fields {
        let before = self.record();
        let mut page = self.save(form).await;
        assert_eq!(page.status, StatusCode::CONFLICT);
        for _ in 0..2 {
            page.says("Somebody else changed this");
            for value in values {
                page.says(&format!("<bdi>{value}</bdi>"));
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
    Change { name: Some(name.into()), ..Change::default() }
}

fn ending(seconds: u64) -> Change {
    Change { expiry: Some(Expiry::At(Timestamp::from_secs(seconds))), ..Change::default() }
}

#[tokio::test]
async fn renaming_from_an_old_form_leaves_a_key_revoked() {
    let scene = Scene::new().await;
    scene.meanwhile(Change::deactivate());
    scene.saves(&scene.form.clone().with("name", "renamed")).await;
    assert_eq!((scene.record().name.as_str(), scene.record().active), ("renamed", false));
    let page = scene.browser.get(&format!("{}?saved=1&meanwhile=1", scene.here)).await;
    page.says("Somebody else changed this key while your form was open; those changes stay.");
    scene.saves(&page.form(&scene.here)).await;
    assert!(!scene.record().active);
}

#[tokio::test]
async fn correcting_a_mistake_in_an_old_form_leaves_a_key_revoked() {
    for (field, wrong) in [("name", ""), ("expires", "tomorrow"), ("expires", "9999-12-31")] {
        let scene = Scene::new().await;
        scene.meanwhile(Change::deactivate());
        let page = scene.save(&scene.form.clone().with(field, wrong)).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        let corrected = page.form(&scene.here).with(field, if field == "name" { "x" } else { "" });
        // The page shows that the key is inactive.
        assert_eq!(corrected.value("active"), Some("no"));
        scene.saves(&corrected).await;
        assert!(!scene.record().active, "{field}");
    }
}

#[tokio::test]
async fn field_that_the_user_left_alone_is_not_written() {
    let scene = Scene::with(&["api.read", "api.write"]).await;
    scene.meanwhile(Change {
        grant: Some(scene.grant(&["api.read"])),
        expiry: Some(Expiry::At(Timestamp::from_secs(JANUARY))),
        ..named("theirs")
    });
    scene.saves(&scene.form.clone().with("active", "no")).await;
    let record = scene.record();
    assert_eq!((record.name.as_str(), record.active), ("theirs", false));
    assert_eq!(record.grant, scene.grant(&["api.read"]));
    assert_eq!(record.expiry, Expiry::At(Timestamp::from_secs(JANUARY)));
}

#[tokio::test]
async fn form_without_active_leaves_it_alone() {
    for active in [true, false] {
        let scene = Scene::new().await;
        scene.meanwhile(Change { active: Some(active), ..Change::default() });
        let form = scene.browser.open(&scene.here).await;
        for form in [&form, &scene.form] {
            scene.saves(&form.clone().without("active").with("name", "renamed")).await;
            assert_eq!(scene.record().active, active);
        }
    }
}

#[tokio::test]
async fn two_names_are_both_shown_and_neither_is_chosen() {
    for (choice, name) in [("now", "theirs"), ("mine", "mine")] {
        let scene = Scene::new().await;
        scene.meanwhile(named("theirs"));
        let mine = scene.form.clone().with("name", "mine");
        let page = scene.conflicts(&mine, "name", ["theirs", "mine"]).await;
        // A change after that page is compared again.
        scene.meanwhile(Change::deactivate());
        scene.saves(&page.with("keep_name", choice)).await;
        assert_eq!((scene.record().name.as_str(), scene.record().active), (name, false));
    }
    // The same change by both is no conflict.
    let scene = Scene::new().await;
    scene.meanwhile(named("same"));
    scene.saves(&scene.form.clone().with("name", "same")).await;
}

#[tokio::test]
async fn value_that_changes_again_after_the_choice_is_asked_about_again() {
    let scene = Scene::new().await;
    scene.meanwhile(named("theirs"));
    let mine = scene.form.clone().with("name", "mine");
    let page = scene.conflicts(&mine, "name", ["theirs", "mine"]).await;
    scene.meanwhile(named("newer"));
    scene.conflicts(&page.with("keep_name", "mine"), "name", ["newer", "mine"]).await;
}

#[tokio::test]
async fn two_expiries_are_both_shown_and_neither_is_chosen() {
    for (choice, expiry) in [("now", JANUARY), ("mine", FEBRUARY)] {
        let scene = Scene::new().await;
        scene.meanwhile(ending(JANUARY));
        let mine = scene.form.clone().with("expires", "2099-02-28");
        let page = scene.conflicts(&mine, "expires", ["2099-01-31", "2099-02-28"]).await;
        scene.saves(&page.with("keep_expires", choice)).await;
        assert_eq!(scene.record().expiry, Expiry::At(Timestamp::from_secs(expiry)));
    }
    // To remove an expiry that somebody else brought forward is a choice, too.
    let scene = Scene::new().await;
    scene.meanwhile(ending(FEBRUARY));
    let form = scene.browser.open(&scene.here).await;
    scene.meanwhile(ending(JANUARY));
    scene.conflicts(&form.with("expires", ""), "expires", ["2099-01-31", "never"]).await;
}

#[tokio::test]
async fn scopes_that_somebody_else_changed_are_widened_only_by_choice() {
    let both = ["api.read", "api.write"];
    let mine = ["admin.account.list", "api.read", "api.write"];
    for (choice, scopes) in [("now", &both[..1]), ("mine", &mine)] {
        let scene = Scene::with(&both).await;
        scene.meanwhile(Change { grant: Some(scene.grant(&both[..1])), ..Change::default() });
        let form = scene.form.clone().with_scopes(&mine);
        let values = ["api.read", "admin.account.list, api.read, api.write"];
        let page = scene.conflicts(&form, "scopes", values).await;
        scene.saves(&page.with("keep_scopes", choice)).await;
        assert_eq!(scene.record().grant, scene.grant(scopes));
    }
    // Removing scopes needs no choice, and brings none back.
    let scene = Scene::with(&mine).await;
    scene.meanwhile(Change { grant: Some(scene.grant(&both)), ..Change::default() });
    scene.saves(&scene.form.clone().with_scopes(&["admin.account.list", "api.read"])).await;
    assert_eq!(scene.record().grant, scene.grant(&["api.read"]));
}

#[tokio::test]
async fn second_revocation_is_not_undone_by_reactivating_after_the_first() {
    for (choice, active) in [("now", false), ("mine", true)] {
        let scene = Scene::new().await;
        scene.meanwhile(Change::deactivate());
        let form = scene.browser.open(&scene.here).await;
        let first = scene.record().inactive_since;
        while scene.record().inactive_since == first {
            scene.meanwhile(Change::activate());
            scene.meanwhile(Change::deactivate());
        }
        let page = scene.conflicts(&form.with("active", "yes"), "active", ["No", "Yes"]).await;
        scene.saves(&page.with("keep_active", choice)).await;
        assert_eq!(scene.record().active, active);
    }
}

#[tokio::test]
async fn denial_is_applied_although_another_field_conflicts() {
    let scene = Scene::new().await;
    scene.meanwhile(named("theirs"));
    let mine = scene.form.clone().with("name", "mine").with("active", "no");
    let page = scene.save(&mine).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.says("The key is inactive now; nothing else was saved yet.");
    assert_eq!((scene.record().name.as_str(), scene.record().active), ("theirs", false));

    let scene = Scene::new().await;
    scene.meanwhile(Change {
        expiry: Some(Expiry::At(Timestamp::from_secs(JANUARY))),
        ..named("theirs")
    });
    let mine = scene.form.clone().with("name", "mine").with("expires", "2026-01-01");
    let page = scene.save(&mine).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    page.says("The key has expired now; nothing else was saved yet.");
    assert_eq!(scene.record().expiry, Expiry::At(Timestamp::from_secs(1_767_225_600)));
    scene.browser.get(&scene.here).await.says("Expired");
}

#[tokio::test]
async fn denial_is_applied_beside_a_busy_writer() {
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
async fn scope_that_no_form_offers_stays_when_others_are_changed() {
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
async fn rotation_that_failed_can_be_sent_again() {
    let scene = Scene::new().await;
    let path = format!("{}/rotate", scene.here);
    let form = scene.browser.open(&path).await;
    scene.meanwhile(Change::deactivate());
    for _ in 0..2 {
        let failed = scene.browser.submit(&path, &form).await;
        assert_eq!(failed.status, StatusCode::CONFLICT);
        failed.says("is inactive; only an active key");
    }
    scene.meanwhile(Change::activate());
    let rotated = scene.browser.submit(&path, &form).await;
    assert_eq!((rotated.status, rotated.keys().len()), (StatusCode::CREATED, 1));
    let again = scene.browser.submit(&path, &form).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    again.says("already revealed");
}

#[tokio::test]
async fn deletion_is_confirmed_for_the_key_as_it_is() {
    let scene = Scene::new().await;
    scene.meanwhile(Change::deactivate());
    let path = format!("{}/delete", scene.here);
    let form = scene.browser.open(&path).await;
    scene.meanwhile(Change::activate());
    let active = scene.browser.submit(&path, &form).await;
    assert_eq!(active.status, StatusCode::CONFLICT);
    active.says("deactivate it before deleting it");
    scene.meanwhile(Change { active: Some(false), ..named("needed again") });
    let changed = scene.browser.submit(&path, &form).await;
    assert_eq!(changed.status, StatusCode::CONFLICT);
    changed.says("<bdi>needed again</bdi>");
    assert_eq!(scene.record().name, "needed again");
    scene.browser.submit(&path, &changed.form(&path)).await.leads_to("/?deleted=1");
}

#[tokio::test]
async fn form_of_which_a_part_is_missing_changes_nothing() {
    let scene = Scene::new().await;
    let browser = &scene.browser;
    let rotate = format!("{}/rotate", scene.here);
    let edited = scene.form.clone().with("name", "renamed");
    let new = browser.open_new().await.with("name", "new").with("expires", "2099-01-31");
    let forms =
        [(&scene.here, edited), (&"/keys".into(), new), (&rotate, browser.open(&rotate).await)];
    let before = (scene.record(), browser.store.count());
    for (path, form) in forms {
        let whole = text_of(&form.pairs());
        for end in 0..whole.len() {
            let reply = browser.post_text(path, &whole[..end]).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", &whole[..end]);
            reply.says("The form was incomplete");
        }
        let twice = format!("{whole}&{}", whole.split('&').next().unwrap());
        assert_eq!(browser.post_text(path, &twice).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!((scene.record(), browser.store.count()), before);
}

#[tokio::test]
async fn form_that_another_key_opened_is_shown_again() {
    let mut scene = Scene::new().await;
    let (_, clerk) = scene.browser.key(&["admin.key.list", "admin.key.update", "api.read"]);
    scene.browser.log_in(&clerk).await;
    let page = scene.save(&scene.form.clone().with("name", "renamed")).await;
    assert_eq!((page.status, &*scene.record().name), (StatusCode::CONFLICT, "some"));
    page.says("logged in with another key");
    scene.saves(&page.form(&scene.here)).await;
    assert_eq!(scene.record().name, "renamed");
}
