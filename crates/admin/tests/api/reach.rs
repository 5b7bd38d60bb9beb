//! The reach of a key: what it created, what replaced it, what it did, and revoking either group.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis::{Actor, Change, Grant, KeyId, Store};
use portcullis_admin::router;
use portcullis_testkit::{basic, home, issue, new_key};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

const ADMINISTRATOR: [&str; 5] =
    ["admin.key.create", "admin.key.list", "admin.key.update", "admin.key.delete", "api.read"];

async fn ask(
    store: &Store,
    key: &[u8],
    method: &str,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", basic(key))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()));
    let response = router(store.clone()).oneshot(request.unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn reach(store: &Store, key: &[u8], id: KeyId) -> Value {
    let path = format!("/v1/keys/{id}/reach");
    let (status, reach) = ask(store, key, "GET", &path, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{reach}");
    reach
}

async fn revoke(store: &Store, key: &[u8], id: KeyId, group: &str) -> Value {
    let path = format!("/v1/keys/{id}/reach/revoke");
    let (status, done) = ask(store, key, "POST", &path, json!({"group": group})).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    done
}

/// Returns the ids of the keys in a group, sorted.
fn ids(group: &Value) -> Vec<String> {
    let keys = group["keys"].as_array().unwrap().iter();
    sorted(keys.map(|key| key["id"].as_str().unwrap().to_owned()))
}

fn sorted<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.sort();
    items
}

fn texts(list: &Value) -> Vec<String> {
    sorted(list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()))
}

/// A store in which a leaked administrator key did all that such a key can do.
struct Incident {
    _dir: tempfile::TempDir,
    store: Store,
    root: Vec<u8>,
    leaked: KeyId,
    /// The keys that lead back to the leaked key, without the deleted one.
    created: Vec<KeyId>,
    deleted: KeyId,
    successor: KeyId,
    /// Keys that do not.
    others: Vec<KeyId>,
}

impl Incident {
    fn new() -> Self {
        let (dir, home) = home();
        let store = portcullis_testkit::builder().open(home).unwrap();
        let (root_id, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
        let (leaked, _) = issue(&store, new_key(&store, "leaked", &ADMINISTRATOR));
        let (bystander, _) = issue(&store, new_key(&store, "bystander", &["api.read"]));
        let new = |name: &str| new_key(&store, name, &ADMINISTRATOR);
        let acting = |id| store.acting_as(Actor::Key(id));
        let made = |maker, name| acting(maker).issue(new(name)).unwrap().record.id;
        let child = made(leaked, "child");
        let grandchild = made(child, "grandchild");
        // The only trace of this key's creator is in the audit log.
        let deleted = made(leaked, "deleted");
        let orphan = made(deleted, "orphan");
        acting(leaked).revoke(deleted).unwrap();
        acting(leaked).delete(deleted).unwrap();
        // The actor of a rotation gets the new secret.
        let taken = acting(leaked).rotate(bystander, Duration::ZERO).unwrap().record.id;
        // The operator gives the holder a new key, which creates another one.
        let successor = acting(root_id).rotate(leaked, Duration::from_hours(1)).unwrap().record.id;
        let innocent = made(successor, "innocent");
        Self {
            _dir: dir,
            store,
            root,
            leaked,
            created: vec![child, grandchild, orphan, taken],
            deleted,
            successor,
            others: vec![bystander, innocent, root_id],
        }
    }

    fn active(&self, ids: &[KeyId]) -> usize {
        ids.iter().filter(|id| self.store.get(**id).unwrap().active).count()
    }
}

#[tokio::test]
async fn reach_has_every_key_that_leads_back_to_the_leaked_one_and_its_successors_apart() {
    let incident = Incident::new();
    let Incident { store, root, leaked, created, deleted, successor, .. } = &incident;
    let reach = reach(store, root, *leaked).await;
    assert_eq!(reach["key"]["id"], leaked.to_string());
    assert_eq!(reach["key"]["created_by"], "host");
    assert_eq!(reach["key"]["scopes"].as_array().unwrap().len(), ADMINISTRATOR.len());
    assert_eq!(ids(&reach["created"]), sorted(created));
    assert_eq!((&reach["created"]["count"], &reach["created"]["active"]), (&json!(4), &json!(4)));
    assert_eq!(reach["deleted"], json!([deleted.to_string()]));
    assert_eq!(ids(&reach["successors"]), sorted([successor]));
    let acts = reach["acts"]["entries"].as_array().unwrap();
    let words: Vec<&str> = acts.iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    assert_eq!(words, ["rotate", "delete", "update", "create", "create"]);
    assert!(acts.iter().all(|entry| entry["actor"] == leaked.to_string()));
    let changes = reach["changes"]["entries"].as_array().unwrap();
    let words: Vec<&str> = changes.iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    assert_eq!(words, ["rotate", "create"]);
    assert_eq!(
        (&reach["acts"]["is_complete"], &reach["changes"]["is_complete"]),
        (&json!(true), &json!(true))
    );
}

#[tokio::test]
async fn each_group_is_revoked_by_itself() {
    let incident = Incident::new();
    let Incident { store, root, leaked, created, successor, others, .. } = &incident;
    // The bystander was rotated, and so is inactive.
    assert_eq!((incident.active(created), incident.active(others)), (4, 2));
    let done = revoke(store, root, *leaked, "created").await;
    assert_eq!((texts(&done["revoked"]), &done["not_revoked"]), (sorted(created), &json!([])));
    assert_eq!((incident.active(created), incident.active(others)), (0, 2));
    assert_eq!(incident.active(&[*leaked, *successor]), 2);
    let done = revoke(store, root, *leaked, "successors").await;
    assert_eq!(texts(&done["revoked"]), sorted([successor]));
    assert_eq!(incident.active(&[*leaked, *successor]), 1);
    // Nothing is left to revoke.
    let newest = store.audit(0, 1000).unwrap().len();
    assert_eq!(revoke(store, root, *leaked, "created").await["revoked"], json!([]));
    assert_eq!(store.audit(0, 1000).unwrap().len(), newest);
    for (body, status) in [
        (json!({"group": "all"}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"group": "created", "other": 1}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let path = format!("/v1/keys/{leaked}/reach/revoke");
        assert_eq!(ask(store, root, "POST", &path, body).await.0, status);
    }
}

#[tokio::test]
async fn key_in_the_group_that_revokes_the_group_revokes_itself_last() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let (leaked, _) = issue(&store, new_key(&store, "leaked", &ADMINISTRATOR));
    let acting = store.acting_as(Actor::Key(leaked));
    let made = |name| acting.issue(new_key(&store, name, &ADMINISTRATOR)).unwrap();
    let (first, own, last) = (made("a").record.id, made("own"), made("b").record.id);
    let own_id = own.record.id;
    let own = own.secret.reveal(|text| text.as_bytes().to_vec());
    let done = revoke(&store, &own, leaked, "created").await;
    assert_eq!(texts(&done["revoked"]), sorted([first, own_id, last]));
    assert_eq!(done["revoked"][2], own_id.to_string());
    assert_eq!(done["not_revoked"], json!([]));
}

#[tokio::test]
async fn key_whose_creator_was_rotated_into_existence_and_deleted_is_found() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let (_, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
    let (leaked, _) = issue(&store, new_key(&store, "leaked", &ADMINISTRATOR));
    let (taken, _) = issue(&store, new_key(&store, "taken", &ADMINISTRATOR));
    let acting = store.acting_as(Actor::Key(leaked));
    let rotated = acting.rotate(taken, Duration::ZERO).unwrap().record.id;
    let orphan = store.acting_as(Actor::Key(rotated));
    let orphan = orphan.issue(new_key(&store, "orphan", &["api.read"])).unwrap().record.id;
    acting.revoke(rotated).unwrap();
    acting.delete(rotated).unwrap();
    let found = reach(&store, &root, leaked).await;
    assert_eq!(ids(&found["created"]), sorted([orphan]));
    assert_eq!(found["deleted"], json!([rotated.to_string()]));
}

#[tokio::test]
async fn key_that_cannot_be_revoked_is_reported_with_the_reason() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let (old, _) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
    let new = store.rotate(old, Duration::ZERO).unwrap();
    let (id, root) = (new.record.id, new.secret.reveal(|text| text.as_bytes().to_vec()));
    let done = revoke(&store, &root, old, "successors").await;
    assert_eq!(done["revoked"], json!([]));
    let [refused] = &done["not_revoked"].as_array().unwrap()[..] else { panic!("{done}") };
    assert_eq!(refused["id"], id.to_string());
    assert!(refused["reason"].as_str().unwrap().contains("last active root key"), "{done}");
}

#[tokio::test]
async fn key_that_was_handed_to_another_owner_leads_an_owner_no_further() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let (_, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
    let shop = |name: &str| new_key(&store, name, &ADMINISTRATOR).with_owner("shop");
    let (_, clerk) = issue(&store, shop("clerk"));
    let (leaked, _) = issue(&store, shop("leaked"));
    let made = |maker, name: &str| {
        store
            .acting_as(Actor::Key(maker))
            .issue(new_key(&store, name, &["api.read", "admin.key.create"]))
            .unwrap()
            .record
            .id
    };
    let (kept, handed) = (made(leaked, "kept"), made(leaked, "handed"));
    store.update(handed, Change::default().with_owner("bank")).unwrap();
    let foreign = made(handed, "foreign");
    let returned = made(handed, "returned");
    store.update(returned, Change::default().with_owner("shop")).unwrap();
    assert_eq!(
        ids(&reach(&store, &root, leaked).await["created"]),
        sorted([kept, handed, foreign, returned])
    );
    let seen = reach(&store, &clerk, leaked).await;
    assert_eq!(ids(&seen["created"]), sorted([kept]));
    // As if it were deleted: the clerk knows its id from before.
    assert_eq!(seen["deleted"], json!([handed.to_string()]));
    assert!(!seen.to_string().contains(&foreign.to_string()) && !seen.to_string().contains("bank"));
    assert_eq!(
        revoke(&store, &clerk, leaked, "created").await["revoked"],
        json!([kept.to_string()])
    );
    assert!(store.get(handed).unwrap().active && store.get(foreign).unwrap().active);
}

#[tokio::test]
async fn reach_has_the_newest_entries_and_the_audit_log_has_the_rest() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let (id, key) = issue(&store, new_key(&store, "busy", &ADMINISTRATOR));
    let (other, _) = issue(&store, new_key(&store, "other", &["api.read"]));
    let acting = store.acting_as(Actor::Key(id));
    for n in 0..101 {
        acting.update(other, Change::default().with_name(n.to_string())).unwrap();
    }
    let found = reach(&store, &key, id).await;
    let acts = found["acts"]["entries"].as_array().unwrap();
    assert_eq!((acts.len(), &found["acts"]["is_complete"]), (100, &json!(false)));
    assert_eq!((&acts[0]["sequence"], &acts[99]["sequence"]), (&json!(104), &json!(5)));
    assert_eq!(found["changes"]["is_complete"], true);
    let path = format!("/v1/audit?limit=1000&actor={id}");
    let (_, all) = ask(&store, &key, "GET", &path, Value::Null).await;
    let all = all["entries"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["sequence"]), (101, &json!(4)));
    assert_eq!(all[100], acts[0]);
}
