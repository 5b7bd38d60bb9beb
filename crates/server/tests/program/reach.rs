//! The commands for a leaked key: `key reach` and `key revoke` with its groups.

use portcullis_testkit::serving::{Home, id_of, text};
use serde_json::{Value, json};

#[test]
fn leaked_key_is_revoked_together_with_the_keys_that_it_created() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&["--behind-proxy"]);
    let leaked = home.key("leaked", "admin.key.create,admin.key.list,api.read");
    let response = reqwest::blocking::Client::new()
        .post(format!("{}/v1/keys", server.url))
        .basic_auth(&leaked, Some(""))
        .header("content-type", "application/json")
        .body(r#"{"name":"made by it","scopes":["api.read"]}"#)
        .send()
        .unwrap();
    let made: Value = serde_json::from_str(&response.text().unwrap()).unwrap();
    let made = made["key"].as_str().unwrap();
    let id = id_of(&leaked);
    let successor = home.done(&["key", "rotate", &id, "--grace", "1h"]);

    let shown = home.done(&["key", "reach", &id]);
    for text in
        ["created: 1, 1 active", "made by it", "successors: 1, 1 active", "acts, newest first: 1"]
    {
        assert!(shown.contains(text), "{shown}");
    }
    let reach: Value = serde_json::from_str(&home.done(&["key", "reach", &id, "--json"])).unwrap();
    assert_eq!(reach["created"]["keys"][0]["id"], id_of(made));
    let acts = home.done(&["audit", "--actor", &id]);
    assert!(acts.lines().count() == 1 && acts.contains("create"), "{acts}");

    assert_eq!([&leaked, made, &successor].map(|key| home.verify(key, &[])), [0, 0, 0]);
    let revoked = home.command(&["key", "revoke", &id, "--created"]).output().unwrap();
    assert!(revoked.status.success());
    assert!(text(&revoked.stderr).contains("created: revoked 1 key"), "{revoked:?}");
    assert_eq!([&leaked, made, &successor].map(|key| home.verify(key, &[])), [3, 3, 0]);
    let revoked = home.done(&["key", "revoke", &id, "--created", "--successors", "--json"]);
    let revoked: Value = serde_json::from_str(&revoked).unwrap();
    let none = json!({"revoked": [], "not_revoked": []});
    let one = json!({"revoked": [id_of(&successor)], "not_revoked": []});
    assert_eq!(revoked, json!({"id": id, "groups": {"created": none, "successors": one}}));
    assert_eq!(home.verify(&successor, &[]), 3);
}

#[test]
fn last_root_key_in_a_group_is_reported_and_stays_active() {
    let home = Home::new();
    let old = home.done(&["init"]);
    let new = home.done(&["key", "rotate", &id_of(&old)]);
    let revoked = home.command(&["key", "revoke", &id_of(&old), "--successors"]).output().unwrap();
    assert_eq!(revoked.status.code(), Some(1));
    let said = text(&revoked.stderr);
    assert!(said.contains(&format!("{} is not revoked: ", id_of(&new))), "{said}");
    assert_eq!(home.verify(&new, &[]), 0);
}
