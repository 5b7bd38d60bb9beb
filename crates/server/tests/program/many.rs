//! Commands for many keys: filters, batches and bulk acts.

use portcullis_testkit::serving::{Home, id_of, text};
use serde_json::Value;
use std::{fs, io::Write, os::unix::fs::PermissionsExt, process::Stdio};

/// A store with three keys that were created from a file.
fn home() -> (Home, Vec<Value>) {
    let home = Home::new();
    home.done(&["init", "--scopes", "financial-data"]);
    let (from, to) = (home.room().join("new.jsonl"), home.room().join("made.jsonl"));
    let line = |name: &str, owner: &str| {
        format!(
            "{{\"name\":\"{name}\",\"scopes\":[\"api.read\",\"api.write\"],\"owner\":\"{owner}\"}}\n"
        )
    };
    fs::write(&from, [line("a", "shop"), line("b", "shop"), line("c", "bank")].concat()).unwrap();
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    home.done(&["key", "create", "--from", from, "--to", to]);
    let text = fs::read_to_string(to).unwrap();
    let keys = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (home, keys)
}

fn secret(key: &Value) -> &str {
    key["key"].as_str().unwrap()
}

#[test]
fn keys_of_a_file_are_created_and_delivered_to_a_private_file() {
    let (home, keys) = home();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| home.verify(secret(key), &["--scope", "api.read"]) == 0));
    let made = home.room().join("made.jsonl");
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    // An existing file is not overwritten, and nothing is created then.
    let count = home.done(&["key", "list", "--json"]).matches("key_").count();
    let (from, to) = (home.room().join("new.jsonl"), made.to_str().unwrap().to_owned());
    let arguments = ["key", "create", "--from", from.to_str().unwrap(), "--to", &to];
    assert!(home.fails(1, &arguments).contains("creating"));
    fs::write(&from, "{\"name\":\"x\",\"scopes\":[]}\n{\"name\":\"\",\"scopes\":[]}\n").unwrap();
    let to = home.room().join("other.jsonl");
    let arguments =
        ["key", "create", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
    let refused = home.fails(2, &arguments);
    assert!(
        refused.contains("line 2: name") && refused.contains("no key was created"),
        "{refused}"
    );
    assert_eq!(home.done(&["key", "list", "--json"]).matches("key_").count(), count);
}

#[test]
fn bulk_act_asks_for_confirmation_and_names_what_is_left_alone() {
    let (home, keys) = home();
    for server in [false, true] {
        let running = server.then(|| home.serve(&[]));
        let owner = if server { "bank" } else { "shop" };
        let refused = home.fails(2, &["key", "bulk", "revoke", "--owner", owner]);
        assert!(refused.contains("--yes"), "{refused}");
        home.done(&["key", "bulk", "revoke", "--owner", owner, "--yes"]);
        for key in keys.iter().filter(|key| key["owner"] == owner) {
            assert_eq!(home.verify(secret(key), &[]), 3);
        }
        drop(running);
    }
    assert!(home.fails(2, &["key", "bulk", "revoke", "--yes"]).contains("--all"));
    let both = home.fails(2, &["key", "bulk", "revoke", "--all", "--owner", "shop", "--yes"]);
    assert!(both.contains("not several"), "{both}");
    home.done(&["key", "update", &id_of(secret(&keys[0])), "--active", "yes"]);
    let report = home.fails(4, &["key", "bulk", "delete", "--owner", "shop", "--yes"]);
    assert!(report.contains("left alone") && report.contains("is active"), "{report}");
    let list = home.done(&["key", "list", "--owner", "shop"]);
    assert_eq!(list.matches("key_").count(), 1, "{list}");
    home.done(&[
        "key",
        "bulk",
        "set-owner",
        "--to",
        "bank",
        "--id",
        &id_of(secret(&keys[0])),
        "--yes",
    ]);
    home.done(&[
        "key",
        "bulk",
        "remove-scopes",
        "--remove",
        "api.write",
        "--owner",
        "bank",
        "--yes",
    ]);
    home.done(&["key", "bulk", "set-expiry", "--expires-in", "10d", "--owner", "bank", "--yes"]);
    let shown = home.done(&["key", "show", &id_of(secret(&keys[0])), "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["owner"], &shown["scopes"]),
        (&"bank".into(), &serde_json::json!(["api.read"]))
    );
    // The key expires within 30 days, and not within 5.
    let expiring = home.command(&["key", "expiring"]).output().unwrap();
    assert_eq!(expiring.status.code(), Some(4));
    assert!(text(&expiring.stdout).contains(&id_of(secret(&keys[0]))[4..]));
    home.done(&["key", "expiring", "--within", "5d"]);
}

#[test]
fn list_has_filters_and_orders() {
    let (home, keys) = home();
    home.verify(secret(&keys[1]), &[]);
    let ids = |arguments: &[&str]| {
        let list = home.done(&[&["key", "list", "--json"], arguments].concat());
        let list: Value = serde_json::from_str(&list).unwrap();
        let keys = list["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--owner", "shop", "--sort", "name"]), ["a", "b"]);
    assert_eq!(ids(&["--used", "yes"]), ["b"]);
    assert_eq!(ids(&["--used", "no", "--owner", "shop"]), ["a"]);
    assert_eq!(
        ids(&["--sort", "name", "--limit", "1", "--scope", "api.write", "--owner", "bank"]),
        ["c"]
    );
    assert!(ids(&["--unused-for", "1d"]).is_empty() && ids(&["--expired", "yes"]).is_empty());
    assert!(ids(&["--created-by", "host"]).is_empty());
    let mut command = home.command(&["key", "list", "--json", "--search", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(secret(&keys[2]).as_bytes()).unwrap();
    let search = text(&child.wait_with_output().unwrap().stdout);
    assert!(search.contains(r#""name":"c""#) && !search.contains(r#""name":"a""#), "{search}");
}

#[test]
fn keys_of_another_system_are_imported_after_a_dry_run_and_exported_again() {
    let (home, _) = home();
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let rows = format!(
        "{{\"token\":\"{digest}\",\"name\":\"n\",\"tokenable_id\":17,\"abilities\":\"[\\\"*\\\"]\"}}\n\n\
         {{\"token\":\"$2y$10$abcdefghijklmnopqrstuv\",\"name\":\"slow\",\"tokenable_id\":17}}\n"
    );
    let file = home.room().join("tokens.jsonl");
    fs::write(&file, rows).unwrap();
    let file = file.to_str().unwrap();
    let import = ["import", file, "--preset", "sanctum", "--scope", "api.read"];
    for server in [false, true] {
        let running = server.then(|| home.serve(&[]));
        let dry = home.fails(4, &import);
        let line = "line 3: digest: is a salted or slow hash";
        let count =
            if server { "would import 0 keys; 1 present" } else { "would import 1 key; 0 present" };
        assert!(dry.contains(line) && dry.contains(count) && dry.contains("--apply"), "{dry}");
        assert_eq!(home.verify("17|test", &["--scope", "api.read"]), if server { 0 } else { 3 });
        home.fails(4, &[&import[..], &["--apply"]].concat());
        assert_eq!(home.verify("17|test", &["--scope", "api.read"]), 0);
        drop(running);
    }
    let marked = home.done(&["key", "list", "--imported", "yes", "--json"]);
    assert!(
        marked.contains("\"imported\":\"sha256-after-bar\"") && marked.contains("\"owner\":\"17\""),
        "{marked}"
    );
    let export = home.done(&["export", "--digests"]);
    let leaving = export.lines().find(|line| line.contains(digest)).unwrap();
    assert!(leaving.contains("\"algorithm\":\"sha256-after-bar\""), "{leaving}");
    assert_eq!(export.matches("\"algorithm\":\"blake3\"").count(), 4);
}
