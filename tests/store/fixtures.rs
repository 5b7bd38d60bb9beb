//! Compatibility: this version opens the stores that older versions wrote, with all their content.
//!
//! `tests/fixtures/v1` was written once, by the first version of format 1, and never changes. `v2` also has
//! scopes with descriptions, added and hidden ones. In `v3` the entries of the audit log have the owners of
//! their keys. A new format gets a directory of its own:
//!
//! ```text
//! PORTCULLIS_WRITE_FIXTURE=tests/fixtures/v4 cargo test --test store fixtures::
//! PORTCULLIS_WRITE_CUT_FIXTURE=tests/fixtures/v4-cut cargo test --test store fixtures::
//! ```
//!
//! The second command writes a store whose audit log was pruned.

use portcullis::{
    Actor, Change, Expiry, Grant, KeyId, NewKey, Offline, Record, Refusal, Store, Timestamp,
    audit::{Act, Attempt, AuditEntry},
    scope::catalogue,
};
use portcullis_testkit::{copy, issue, new_key, records, room, scopes, surgery::age};
use std::{fmt::Write, fs, path::Path};

/// The database file. Its unused end is zeros, which a fixture omits.
const DB: &str = "ledger/sled/db";

#[test]
fn store_of_format_1_opens_with_all_its_content() {
    if let Some(target) = std::env::var_os("PORTCULLIS_WRITE_FIXTURE") {
        write_fixture(Path::new(&target));
    }
    let store = open_fixture("v1", 7, &["api.read", "ledger.close"]);
    assert_eq!(store.audit_range(0, usize::MAX).unwrap().start.after, 0);
}

#[test]
fn store_with_described_and_hidden_scopes_opens_with_all_its_content() {
    let store = open_fixture("v2", 7, &["api.read", "ledger.close", "ledger.added"]);
    assert!(store.scopes(["ledger.hidden"]).is_err());
}

#[test]
fn store_with_owners_in_its_audit_log_opens_with_all_its_content() {
    let store = open_fixture("v3", 7, &["api.read", "ledger.close", "ledger.added"]);
    let owners =
        store.audit(0, 1000).unwrap().into_iter().filter_map(|entry| entry.owner.flatten());
    assert!(owners.count() > 0);
}

#[test]
fn store_of_format_1_with_a_pruned_audit_log_opens() {
    if let Some(target) = std::env::var_os("PORTCULLIS_WRITE_CUT_FIXTURE") {
        write_cut_fixture(Path::new(&target));
    }
    let store = open_fixture("v1-cut", 3, &["api.read"]);
    // Entries 1 to 5 were pruned. The remaining entries follow them and verify.
    let range = store.audit_range(0, usize::MAX).unwrap();
    assert_eq!(range.start.after, 5);
    let mut chain = Offline::new().audit_verifier(&range.start).unwrap();
    let entries: Vec<_> =
        range.entries.iter().map(|(_, frame)| chain.verify(frame).unwrap()).collect();
    chain.verify_end(&range.end).unwrap();
    assert_eq!(entries.first().map(|entry| entry.sequence), Some(6));
    assert!(matches!(entries[1].act, Act::Prune { through: 5, .. }));
}

/// Opens a copy of a fixture. Asserts that it has the expected content, that its keys authenticate as
/// expected, and that it accepts a new key with these scopes.
fn open_fixture(name: &str, keys: usize, scopes: &[&str]) -> Store {
    let fixture = Path::new("tests/fixtures").join(name);
    let text = |name: &str| fs::read_to_string(fixture.join(name)).unwrap();
    let dir = room();
    let home = dir.path().join("keys");
    copy(&fixture.join("store"), &home);
    let db = fs::File::options().write(true).open(home.join(DB)).unwrap();
    db.set_len(text("db.len").trim().parse().unwrap()).unwrap();

    let store = Store::builder().open_existing(&home).unwrap();
    let expected = text("expected.txt");
    let entries = expected.lines().filter(|line| line.starts_with("entry ")).count();
    let names = expected.lines().filter(|line| line.starts_with("scope ")).count();
    assert_eq!(describe(&store, names, entries), expected);

    let keys_text = text("keys.txt");
    let mut tried = 0;
    for line in keys_text.lines().filter(|line| !line.starts_with('#')) {
        let (key, expected) = line.split_once(' ').unwrap();
        let found = store.authenticate_key(key.as_bytes());
        assert_eq!(found.as_ref().err().map_or("ok", Refusal::code), expected);
        tried += 1;
    }
    assert_eq!(tried, keys);

    // The store also accepts changes.
    let (id, key) = issue(&store, new_key(&store, "newer", scopes));
    drop(store);
    let store = Store::builder().open_existing(&home).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap().id(), id);
    store
}

/// Describes the content of a store, with one line for each item.
fn describe(store: &Store, names: usize, entries: usize) -> String {
    let mut text = format!("prefix {}\n", store.prefix().as_str());
    for entry in store.catalogue().entries().iter().take(names) {
        write!(text, "scope {}", entry.scope.as_str()).unwrap();
        if entry.scope.as_str().starts_with("ledger.") && !entry.description.is_empty() {
            write!(text, " {:?} offered={}", entry.description, entry.offered).unwrap();
        }
        text.push('\n');
    }
    for record in records(store) {
        writeln!(text, "{}", record_line(&record)).unwrap();
    }
    for entry in store.audit(0, entries).unwrap() {
        writeln!(text, "{}", entry_line(&entry)).unwrap();
    }
    text
}

/// Formats each field explicitly, so that a new field of `Record` does not change the fixture.
fn record_line(record: &Record) -> String {
    let Record { id, name, grant, active, expiry, owner, metadata, revision, .. } = record;
    format!(
        "record {id} {name:?} {} active={active} {expiry:?} owner={owner:?} metadata={metadata:?} \
         created={:?} {} updated={:?} {} inactive_since={:?} replaces={:?} replaced_by={:?} revision={revision}",
        grant_text(grant),
        record.created_at,
        record.created_by,
        record.updated_at,
        record.updated_by,
        record.inactive_since,
        record.replaces,
        record.replaced_by,
    )
}

fn grant_text(grant: &Grant) -> String {
    match grant {
        Grant::All => "all".into(),
        Grant::Scopes(set) => {
            let names: Vec<&str> = set.iter().map(portcullis::Scope::as_str).collect();
            format!("[{}]", names.join(" "))
        }
    }
}

fn change_text(change: &Change) -> String {
    let Change { name, grant, active, expiry, owner, metadata, .. } = change;
    let grant = grant.as_ref().map(grant_text);
    format!("{{{name:?} {grant:?} {active:?} {expiry:?} {owner:?} {metadata:?}}}")
}

fn entry_line(entry: &AuditEntry) -> String {
    let AuditEntry { sequence, at, actor, source, act, key, before, after, .. } = entry;
    format!(
        "entry {sequence} {at:?} {actor} {source:?} {act:?} {key:?} {} {}",
        change_text(before),
        change_text(after)
    )
}

fn write_fixture(target: &Path) {
    let home = target.join("store");
    let closing = ("ledger.close".parse().unwrap(), "close a year".to_owned());
    let builder = || portcullis_testkit::builder().scopes([closing.clone()]);
    let store = builder().create(&home).unwrap();
    let mut keys: Vec<(Vec<u8>, &str)> = Vec::new();
    let mut issue_with_answer = |store: &Store, new: NewKey, answer: &'static str| -> KeyId {
        let (id, key) = issue(store, new);
        keys.push((key, answer));
        id
    };
    let root = new_key(&store, "root", &[]).with_grant(Grant::All);
    issue_with_answer(&store, root, "ok");
    let mut full = new_key(&store, "Nachtläufer ☾", &["api.read", "api.write", "ledger.close"]);
    full.owner = Some("shop-17".into());
    full.metadata = [("floor".into(), "2".into()), ("team".into(), String::new())].into();
    full.expiry = Expiry::At(Timestamp::from_secs(16_000_000_000));
    issue_with_answer(&store, full, "ok");
    let revoked = issue_with_answer(&store, new_key(&store, "off", &["api.read"]), "inactive");
    store.acting_as(Actor::Local(1000)).revoke(revoked).unwrap();
    let mut short = new_key(&store, "short", &["api.read"]);
    short.expiry = Expiry::At(Timestamp::from_secs(1_000_000));
    issue_with_answer(&store, short, "expired");
    issue_with_answer(&store, new_key(&store, "bare", &[]), "ok");
    let gone = issue_with_answer(&store, new_key(&store, "gone", &["api.read"]), "unknown");
    store.revoke(gone).unwrap();
    store.delete(gone).unwrap();
    drop(store);

    // Reopen the store, so that sled leaves a snapshot.
    let store = builder().open_existing(&home).unwrap();
    let held = ["admin.key.create", "admin.key.update", "api.read"];
    let clerk = issue_with_answer(&store, new_key(&store, "clerk", &held), "ok");
    let acting = store.acting_as(Actor::Key(clerk)).with_address("192.0.2.7".parse().unwrap());
    let renamed = Change::default().with_name("off, renamed");
    acting.update(revoked, renamed).unwrap();
    acting.issue(new_key(&store, "thief", &["api.write"])).unwrap_err();
    let acting = store.acting_as(Actor::Key(clerk)).with_address("2001:db8::7".parse().unwrap());
    acting.refuse(Attempt::List, None, "no scope").unwrap();
    let narrowed = Change::default().with_grant(scopes(&store, &["api.read"]));
    store.update(clerk, narrowed.with_owner("desk")).unwrap();
    store.update(clerk, Change::deactivate().without_owner()).unwrap();
    store.update(clerk, Change::activate()).unwrap();
    let own = |name: &str| name.parse::<portcullis::Scope>().unwrap();
    store.add_scope(&own("ledger.added"), "added to the store").unwrap();
    store.add_scope(&own("ledger.hidden"), "added and hidden").unwrap();
    store.acting_as(Actor::Local(1000)).hide_scope(&own("ledger.hidden")).unwrap();
    assert!(store.scopes([catalogue::API_READ.as_str()]).is_ok());
    let names = store.catalogue().entries().len();
    fs::write(target.join("expected.txt"), describe(&store, names, usize::MAX)).unwrap();
    drop(store);
    finish(target, &home, keys);
}

/// Writes a store with entries that are two days old and pruned.
fn write_cut_fixture(target: &Path) {
    let home = target.join("store");
    let store = portcullis_testkit::builder().create(&home).unwrap();
    let [kept, revoked, gone] = ["kept", "off", "gone"]
        .map(|name| issue(&store, new_key(&store, name, &["api.read", "api.write"])));
    store.revoke(revoked.0).unwrap();
    drop(store);
    age(&home, 48);
    let store = portcullis_testkit::builder().open_existing(&home).unwrap();
    store.revoke(gone.0).unwrap();
    let now = Timestamp::from(std::time::SystemTime::now()).as_secs();
    let before = Timestamp::from_secs(now - 30 * 3600);
    store.acting_as(Actor::Local(1000)).prune_audit(before).unwrap().unwrap();
    store.delete(gone.0).unwrap();
    let narrowed = Change::default().with_grant(scopes(&store, &["api.read"]));
    store.update(kept.0, narrowed).unwrap();
    let names = store.catalogue().entries().len();
    fs::write(target.join("expected.txt"), describe(&store, names, usize::MAX)).unwrap();
    drop(store);
    let answers = ["ok", "inactive", "unknown"];
    let keys = [kept.1, revoked.1, gone.1].into_iter().zip(answers);
    finish(target, &home, keys.collect());
}

/// Writes the keys, and removes the files that every opening creates.
fn finish(target: &Path, home: &Path, keys: Vec<(Vec<u8>, &str)>) {
    let mut text =
        "# Test keys of the store beside this file, which exists nowhere else.\n".to_owned();
    for (key, answer) in keys {
        writeln!(text, "{} {answer}", String::from_utf8(key).unwrap()).unwrap();
    }
    fs::write(target.join("keys.txt"), text).unwrap();
    for created_by_every_opening in ["lock", "ledger/reserve"] {
        fs::remove_file(home.join(created_by_every_opening)).unwrap();
    }
    let bytes = fs::read(home.join(DB)).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(target.join("db.len"), format!("{}\n", bytes.len())).unwrap();
    fs::write(home.join(DB), &bytes[..written]).unwrap();
}
