//! Lists with filters, acts on many keys, and batches of new keys.

use super::http::Server;
use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use portcullis::{Change, KeyId};
use portcullis_testkit::{basic, issue, new_key};
use serde_json::{Value, json};

/// A server with three keys of two owners.
fn server() -> (Server, Vec<(KeyId, String)>) {
    let server = Server::new();
    let key = |name: &str, owner: &str| {
        let new = new_key(&server.store, name, &["api.read", "api.write"]).with_owner(owner);
        let (id, key) = issue(&server.store, new);
        (id, String::from_utf8(key).unwrap())
    };
    let keys = vec![key("Till b", "shop"), key("till A", "shop"), key("Vault", "bank")];
    server.store.authenticate_key(keys[1].1.as_bytes()).unwrap();
    server.store.revoke(keys[2].0).unwrap();
    (server, keys)
}

fn names(list: &Value) -> Vec<&str> {
    list["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn list_has_filters_orders_and_a_total() {
    let (server, keys) = server();
    for (query, expected) in [
        ("sort=name", vec!["root", "till A", "Till b", "Vault"]),
        ("sort=-name&active=true&total=true", vec!["Till b", "till A", "root"]),
        ("owner=shop&used=true", vec!["till A"]),
        ("used=false&sort=created_at&owner=bank", vec!["Vault"]),
        ("created_by=host&owner=shop&sort=name", vec!["till A", "Till b"]),
        ("created_by=key_00000000007", vec![]),
        ("expired=true", vec![]),
        ("replaced=true", vec![]),
        ("expires_within_seconds=86400", vec![]),
        ("created_until=2000-01-01T00:00:00Z", vec![]),
        ("unused_since=2000-01-01T00:00:00Z", vec![]),
        ("unused_since=2999-01-01T00:00:00Z&active=false", vec!["Vault"]),
        ("created_from=2000-01-01T00:00:00Z&q=vault", vec!["Vault"]),
    ] {
        let listed = server.get(&server.root, &format!("/v1/keys?{query}")).await;
        assert_eq!(listed.status, StatusCode::OK, "{query}");
        assert_eq!(names(&listed.json()), expected, "{query}");
        let total = listed.json().get("total").cloned();
        assert_eq!(total, query.contains("total").then(|| json!(expected.len())), "{query}");
        // A search has the same names in its body.
        let fields: serde_json::Map<String, Value> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| {
                (name.to_owned(), serde_json::from_str(value).unwrap_or(json!(value)))
            })
            .collect();
        let found = server.post(&server.root, "/v1/keys:search", Value::Object(fields)).await;
        let without_uses = |list: Value| {
            let mut list = list;
            for key in list["keys"].as_array_mut().unwrap() {
                key.as_object_mut().unwrap().remove("last_used_at");
            }
            list
        };
        assert_eq!(without_uses(found.json()), without_uses(listed.json()), "{query}");
    }
    for (query, named) in [
        ("sort=owner", "sort: must be created_at"),
        ("created_by=somebody", "created_by: must be the id"),
        ("unused_since=yesterday", "unused_since: must be a time"),
        ("expires_within_seconds=soon", "expires_within_seconds: must be a number"),
        ("used=maybe", "used: must be true or false"),
        ("colour=red", "colour: is not known; the known ones are active, created_by"),
    ] {
        let refused = server.get(&server.root, &format!("/v1/keys?{query}")).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{detail}");
    }
    // A whole key is searched for in a body only, and not repeated.
    let (id, key) = &keys[0];
    let refused = server.get(&server.root, &format!("/v1/keys?q={key}")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let text = String::from_utf8(refused.bytes).unwrap();
    assert!(text.contains("keys:search") && !text.contains(&key[20..]), "{text}");
    let found = server.post(&server.root, "/v1/keys:search", json!({"q": key})).await.json();
    assert_eq!(found["keys"][0]["id"], id.to_string());
    assert_eq!(found["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bulk_act_is_counted_done_in_parts_and_left_alone_where_a_key_changed() {
    let (server, keys) = server();
    let root = &server.root;
    let body = json!({"act": "revoke", "filter": {"owner": "shop", "active": true}});
    let counted = server.post(root, "/v1/bulk", body).await.json();
    assert_eq!((&counted["count"], &counted["unknown_ids"]), (&json!(2), &json!([])));
    assert!(server.store.get(keys[0].0).unwrap().active, "nothing is changed by a count");
    server.store.update(keys[0].0, Change::default().with_name("Changed")).unwrap();
    let path = format!("/v1/bulk/{}", counted["token"].as_str().unwrap());
    // Another caller cannot use the token.
    let (_, other) = server.key(&["admin.key.list", "admin.key.update", "api.read", "api.write"]);
    let refused = server.request(&other, Method::POST, &path, None).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    for _ in 0..2 {
        let report = server.request(root, Method::POST, &path, None).await.json();
        assert_eq!((&report["done"], &report["remaining"]), (&json!(1), &json!(0)));
        let left_alone = &report["left_alone"][0];
        assert_eq!(left_alone["id"], keys[0].0.to_string());
        assert!(left_alone["detail"].as_str().unwrap().contains("changed meanwhile"));
    }
    assert!(server.store.authenticate_key(keys[1].1.as_bytes()).is_err());
    assert!(server.store.authenticate_key(keys[0].1.as_bytes()).is_ok());
}

#[tokio::test]
async fn each_bulk_act_has_its_fields_and_needs_its_scope() {
    let (server, keys) = server();
    let ids = json!([keys[0].0.to_string(), keys[1].0.to_string(), "key_00000000007", "not an id"]);
    let run = async |mut body: Value| {
        body["ids"] = ids.clone();
        let counted = server.post(&server.root, "/v1/bulk", body).await.json();
        assert_eq!(counted["unknown_ids"], json!(["key_00000000007", "(not an id)"]));
        let path = format!("/v1/bulk/{}", counted["token"].as_str().unwrap());
        server.request(&server.root, Method::POST, &path, None).await.json()
    };
    let record = || server.store.get(keys[0].0).unwrap();
    assert_eq!(run(json!({"act": "remove_scopes", "scopes": ["api.write"]})).await["done"], 2);
    assert_eq!(portcullis_testkit::scopes(&server.store, &["api.read"]), record().grant);
    assert_eq!(run(json!({"act": "set_expiry", "expires_at": "2099-01-31"})).await["done"], 2);
    assert_ne!(record().expiry, portcullis::Expiry::Never);
    assert_eq!(run(json!({"act": "set_expiry", "expires_at": null})).await["done"], 2);
    assert_eq!(run(json!({"act": "set_owner", "owner": "bank"})).await["done"], 2);
    assert_eq!(record().owner.as_deref(), Some("bank"));
    let report = run(json!({"act": "delete"})).await;
    assert_eq!((&report["done"], &report["left_alone_count"]), (&json!(0), &json!(2)));
    for (body, named) in [
        (json!({"filter": {}}), "act: is required"),
        (json!({"act": "rename", "filter": {}}), "act: must be revoke"),
        (json!({"act": "revoke", "owner": "x", "filter": {}}), "takes none of the others"),
        (json!({"act": "set_owner", "filter": {}}), "owner for set_owner"),
        (json!({"act": "revoke"}), "give either filter or ids"),
        (json!({"act": "revoke", "filter": {}, "ids": []}), "give either filter or ids"),
        (json!({"act": "revoke", "filter": {"sort": "name"}}), "filter/sort: is not known"),
        (json!({"act": "revoke", "filter": {"active": "maybe"}}), "filter/active: must be true"),
        (json!({"act": "remove_scopes", "scopes": ["api.raed"], "filter": {}}), "unknown scope"),
    ] {
        let refused = server.post(&server.root, "/v1/bulk", body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{detail}");
    }
    let (_, lister) = server.key(&["admin.key.list", "admin.key.delete"]);
    let count = async |act: &str| {
        server.post(&lister, "/v1/bulk", json!({"act": act, "filter": {}})).await.status
    };
    assert_eq!(count("revoke").await, StatusCode::FORBIDDEN);
    assert_eq!(count("delete").await, StatusCode::OK);
    let unknown = format!("/v1/bulk/{}", "0".repeat(32));
    let refused = server.request(&server.root, Method::POST, &unknown, None).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
}

async fn batch(server: &Server, lines: &str, content_type: &str) -> (StatusCode, String) {
    let request = Request::post("/v1/keys:batch")
        .header("authorization", basic(server.root.as_bytes()))
        .header("content-type", content_type);
    let reply = server.send(request.body(Body::from(lines.to_owned())).unwrap()).await;
    (reply.status, String::from_utf8(reply.bytes).unwrap())
}

#[tokio::test]
async fn batch_creates_all_keys_or_none() {
    let server = Server::new();
    let lines = "application/x-ndjson";
    let good = r#"{"name":"Till 4","scopes":["api.read"],"owner":"shop"}"#;
    let (status, text) = batch(&server, &format!("{good}\n\n{good}\n"), lines).await;
    assert_eq!(status, StatusCode::CREATED);
    let keys: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(keys.len(), 2);
    for key in &keys {
        let secret = key["key"].as_str().unwrap();
        let principal = server.store.authenticate_key(secret.as_bytes()).unwrap();
        assert_eq!(key["id"], principal.id().to_string());
    }
    let before = server.store.count();
    for (body, named) in [
        (format!("{good}\n{{\"name\":\"\",\"scopes\":[]}}\n"), "line 2: name: must be"),
        (format!("{good}\n{{\"name\":\"a\"}}\n"), "line 2: scopes: is required"),
        (format!("{good}\n\nno JSON\n"), "line 3: the body is not JSON"),
        (format!("{good}\n{{\"name\":\"a\",\"scopes\":[\"*\"]}}\n"), "line 2: a root key"),
        ("\n".to_owned(), "no line with a key"),
        (format!("{good}\n").repeat(501), "at most 500 keys"),
    ] {
        let (status, text) = batch(&server, &body, lines).await;
        assert!(status.is_client_error() && text.contains(named), "{status} {text}");
        assert_eq!(server.store.count(), before, "{named}");
    }
    let (status, _) = batch(&server, good, "application/json").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
