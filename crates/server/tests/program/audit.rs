//! The command `audit`: exports, verifies and prunes the audit log, with and without a server.

use portcullis_testkit::{
    serving::{Home, id_of, program, text},
    surgery::{age, entry, flip, operate},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

fn run(home: &Home, code: i32, arguments: &[&str]) -> String {
    let output = home.command(arguments).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

#[test]
fn pruned_log_and_its_exports_verify_together() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    home.key("a", "api.read");
    home.done(&["audit", "--export", "old.jsonl"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(home.room().join("old.jsonl")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(home.done(&["audit", "--verify", "old.jsonl"]), "3 entries, all intact");
    assert!(run(&home, 1, &["audit", "--export", "old.jsonl"]).contains("must not exist"));
    age(&home.data(), 100);
    home.done(&["audit", "--export", "old2.jsonl"]);
    assert!(run(&home, 2, &["audit", "--prune"]).contains("--before or --keep"));
    // The former name of the option.
    assert!(run(&home, 2, &["audit", "--cut"]).contains("--before or --keep"));
    assert!(run(&home, 2, &["audit", "--prune", "--keep", "1h"]).contains("at least a day ago"));
    let said = home.done(&["audit", "--prune", "--keep", "90d"]);
    assert!(said.starts_with("no entry is older than 20") && said.ends_with("; all are kept"));
    let said = home.done(&["audit", "--prune", "--keep", "2d"]);
    assert!(said.starts_with("removed 3 entries, through entry 3; entry 4 records it; "), "{said}");
    assert!(said.contains("the entries since 20") && said.ends_with("Z are kept"), "{said}");
    assert_eq!(home.done(&["audit", "--verify"]), "1 entries, all intact");
    home.done(&["audit", "--export", "new.jsonl"]);
    let joined = home.done(&["audit", "--verify", "old2.jsonl", "new.jsonl"]);
    assert_eq!(joined, "4 entries, all intact");
    let json = home.done(&["--json", "audit", "--verify", "new.jsonl"]);
    assert_eq!(json, r#"{"entries":1,"intact":true}"#);

    let path = home.room().join("old.jsonl");
    let old = fs::read_to_string(&path).unwrap();
    fs::write(&path, old.replace("local:", "local:1")).unwrap();
    assert!(
        run(&home, 4, &["audit", "--verify", "old.jsonl"])
            .contains("old.jsonl: entry 2 does not match")
    );
    fs::write(&path, &old[..old.len() / 2]).unwrap();
    run(&home, 4, &["audit", "--verify", "old.jsonl"]);
    fs::write(&path, [0xff; 9]).unwrap();
    run(&home, 4, &["audit", "--verify", "old.jsonl"]);
    run(&home, 1, &["audit", "--verify", "nowhere.jsonl"]);
}

#[test]
fn running_server_exports_prunes_and_verifies() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    age(&home.data(), 100);
    let server = home.serve(&[]);
    home.key("a", "api.read");
    assert_eq!(home.done(&["audit", "--verify"]), "3 entries, all intact");
    home.done(&["audit", "--export", "old.jsonl"]);
    let said = home.done(&["audit", "--prune", "--keep", "2d"]);
    assert!(said.starts_with("removed 2 entries, through entry 2; entry 4 records it"), "{said}");
    assert_eq!(home.done(&["audit", "--verify"]), "2 entries, all intact");
    let all = home.done(&["audit", "--export", "-"]);
    assert_eq!(all.lines().count(), 4);
    fs::write(home.room().join("new.jsonl"), format!("{all}\n")).unwrap();
    home.done(&["audit", "--verify", "old.jsonl", "new.jsonl"]);
    // `doctor` examines the store of a running server through the server.
    let said = run(&home, 0, &["doctor"]);
    assert!(said.contains("a server has it open and is ready"), "{said}");
    assert!(said.contains("2 entries is intact") && said.ends_with("nothing is wrong\n"), "{said}");
    // Without the control socket it cannot.
    let (socket, moved) = (home.data().join("control.sock"), home.room().join("moved.sock"));
    fs::rename(&socket, &moved).unwrap();
    let said = run(&home, 5, &["doctor"]);
    assert!(said.contains("its contents were not examined"), "{said}");
    let id = server.id().to_string();
    assert!(said.contains(&id), "{said}");
    fs::rename(&moved, &socket).unwrap();
    server.stop();
    let said = run(&home, 0, &["doctor"]);
    assert!(said.ends_with("nothing is wrong\n"), "{said}");
}

#[test]
fn followed_log_has_each_new_entry_until_the_server_stops() {
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    let said = run(&home, 5, &["audit", "--follow"]);
    assert!(said.contains("no server runs in"), "{said}");
    let server = home.serve(&["--behind-proxy"]);
    let mut command = home.command(&["audit", "--follow", "--json", "--after", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["sequence"], 2);
    let mut stream = reqwest::blocking::Client::new()
        .get(format!("{}/v1/audit/stream?after=2", server.url))
        .basic_auth(root, Some(""))
        .send()
        .unwrap();
    assert_eq!(stream.headers()["content-type"], "application/x-ndjson");
    let key = home.key("a", "api.read");
    let entry = next();
    assert_eq!((&entry["sequence"], &entry["key"]), (&json!(3), &json!(id_of(&key))));
    assert!(server.stop().success());
    // The stream is ended, not cut off.
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&rest).unwrap(), entry);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("the server ended the stream"), "{output:?}");
}

#[test]
fn repair_that_proves_no_key_is_no_success() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    home.key("a", "api.read");
    let db = home.data().join("ledger/sled/db");
    let mut bytes = fs::read(&db).unwrap();
    bytes[64..].fill(0x5a);
    fs::write(&db, bytes).unwrap();
    let said = run(&home, 4, &["doctor", "--repair", "new"]);
    assert!(said.contains("does not reach the anchor"), "{said}");
    assert!(said.contains("copied unchanged: 0 keys"), "{said}");
}

#[test]
fn damaged_entry_is_named_and_repair_saves_the_keys() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("a", "api.read");
    operate(&home.data(), |db| flip(db, &entry(3), 30));
    let said = run(&home, 4, &["audit", "--verify"]);
    assert!(said.contains("entry 3 of the audit log is not as it was written"), "{said}");
    let said = run(&home, 4, &["doctor", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["healthy"], &said["findings"][0]["sequence"]), (&json!(false), &json!(3)));
    let said = run(&home, 4, &["doctor", "--repair", "new"]);
    assert!(said.contains(&id_of(&key)) && said.contains("inactive: nothing proves"), "{said}");
    let listed =
        program().args(["--data", "new", "key", "list"]).current_dir(home.room()).output().unwrap();
    assert!(text(&listed.stdout).contains("root"), "{}", text(&listed.stderr));
}
