//! Declared keys: a file names keys that must exist, and `apply` creates the missing ones.

use portcullis_testkit::serving::{Home, id_of, text};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};

/// A store, and a file of declared keys with these texts as secrets.
struct Declared {
    home: Home,
}

impl Declared {
    fn new() -> Self {
        let home = Home::new();
        home.done(&["init", "--scopes", "financial-data"]);
        Self { home }
    }

    /// Generates a key, and writes its text to a secret file of this name.
    fn secret(&self, name: &str) -> String {
        let secret = self.home.done(&["key", "generate"]);
        self.write_secret(name, &secret);
        secret
    }

    fn write_secret(&self, name: &str, secret: &str) {
        let path = self.home.room().join(name);
        fs::write(&path, format!("{secret}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn write(&self, file: &str) {
        fs::write(self.home.room().join("keys.toml"), file).unwrap();
    }

    /// Runs `apply` with these options. Returns its exit code, its plan and its messages.
    fn apply(&self, options: &[&str]) -> (i32, Vec<Value>, String) {
        let arguments = [&["apply", "keys.toml", "--json"], options].concat();
        let output = self.home.command(&arguments).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let plan = json["plan"].as_array().cloned().unwrap_or_default();
        (output.status.code().unwrap(), plan, text(&output.stderr))
    }

    /// Returns the actions of the plan, in its order.
    fn actions(&self, options: &[&str]) -> (i32, Vec<String>) {
        let (code, plan, said) = self.apply(options);
        let action = |step: &Value| step["action"].as_str().unwrap().to_owned();
        assert!(matches!(code, 0 | 4), "{said}");
        (code, plan.iter().map(action).collect())
    }

    fn expect(&self, options: &[&str], code: i32, actions: &[&str]) {
        assert_eq!(self.actions(options), (code, actions.iter().map(|a| (*a).into()).collect()));
    }

    fn audit(&self) -> String {
        self.home.done(&["audit", "--json"])
    }
}

const NIGHTLY: &str = "[keys.nightly]\nscopes = [\"api.read\"]\nsecret_file = \"nightly\"\n";

#[test]
fn declared_key_is_created_once_and_a_second_run_writes_no_audit_entry() {
    for server in [false, true] {
        let declared = Declared::new();
        let running = server.then(|| declared.home.serve(&[]));
        let secret = declared.secret("nightly");
        declared.write(
            "[keys.nightly]\nname = \"Nightly export\"\nowner = \"account-17\"\n\
             scopes = [\"api.write\", \"api.read\"]\nsecret_file = \"nightly\"\nexpires_at = 2099-01-31\n\
             networks = [\"192.0.2.7\", \"127.0.0.0/8\"]\nrate = { requests = 100, seconds = 60 }\n\
             metadata = { team = \"till\" }\n",
        );
        let before = declared.audit();
        declared.expect(&[], 4, &["create"]);
        assert_eq!(declared.audit(), before, "a plan changes nothing");
        assert_eq!(declared.home.verify(&secret, &[]), 3);
        declared.expect(&["--yes"], 0, &["create"]);
        let address = ["--address", "127.0.0.1", "--scope", "api.write"];
        assert_eq!(declared.home.verify(&secret, &address), 0);
        let shown = declared.home.done(&["key", "show", &id_of(&secret)]);
        assert!(shown.contains("metadata declared") && shown.contains("nightly"), "{shown}");
        assert!(shown.contains("2099-02-01T00:00:00Z"), "{shown}");
        let applied = declared.audit();
        assert!(applied.len() > before.len());
        for options in [&[][..], &["--yes"], &["--yes", "--prune"]] {
            declared.expect(options, 0, &["unchanged"]);
        }
        assert_eq!(declared.audit(), applied, "a second run changes nothing");
        drop(running);
    }
}

#[test]
fn secret_can_be_in_an_environment_variable() {
    let declared = Declared::new();
    let secret = declared.home.done(&["key", "generate"]);
    declared.write("[keys.nightly]\nscopes = []\nsecret_env = \"NIGHTLY_KEY\"\n");
    let (code, _, said) = declared.apply(&["--yes"]);
    assert!(code == 2 && said.contains("line 3") && said.contains("NIGHTLY_KEY"), "{said}");
    let mut command = declared.home.command(&["apply", "keys.toml", "--yes"]);
    let output = command.env("NIGHTLY_KEY", &secret).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains(&secret) && !text(&output.stderr).contains(&secret));
    assert_eq!(declared.home.verify(&secret, &[]), 0);
}

#[test]
fn drift_of_each_field_is_reported_and_left_alone() {
    let declared = Declared::new();
    let secret = declared.secret("nightly");
    declared.write(NIGHTLY);
    declared.expect(&["--yes"], 0, &["create"]);
    let id = id_of(&secret);
    for (field, there, back) in [
        ("name", &["--name", "Other"][..], &["--name", "nightly"][..]),
        ("owner", &["--owner", "shop"], &["--no-owner"]),
        ("scopes", &["--scope", "api.read,api.write"], &["--scope", "api.read"]),
        ("active", &["--active", "no"], &["--active", "yes"]),
        ("expires_at", &["--expires-at", "2099-01-31"], &["--never-expires"]),
        ("networks", &["--network", "192.0.2.0/24"], &["--any-network"]),
        ("rate", &["--rate", "5/1s"], &["--no-rate"]),
        ("metadata.team", &["--meta", "team=till"], &["--no-meta", "team"]),
        ("metadata.declared", &["--no-meta", "declared"], &["--meta", "declared=nightly"]),
    ] {
        let update = |options: &[&str]| {
            declared.home.done(&[&["key", "update", &id], options].concat());
        };
        update(there);
        let before = declared.audit();
        for options in [&[][..], &["--yes", "--prune"]] {
            let (code, plan, said) = declared.apply(options);
            let differences = plan[0]["differences"].as_array().unwrap();
            let fields: Vec<_> =
                differences.iter().map(|one| one["field"].as_str().unwrap()).collect();
            assert_eq!((code, fields), (4, vec![field]), "{said}");
            assert_ne!(differences[0]["file"], differences[0]["store"]);
        }
        let shown = declared.home.command(&["apply", "keys.toml"]).output().unwrap();
        let shown = text(&shown.stdout);
        assert!(
            shown.contains(&format!("{field}: ")) && shown.contains(" in the store"),
            "{shown}"
        );
        assert_eq!(declared.audit(), before, "{field}");
        update(back);
        declared.expect(&["--yes"], 0, &["unchanged"]);
    }
}

#[test]
fn deactivated_key_stays_inactive_and_a_deleted_key_is_not_recreated() {
    for server in [false, true] {
        let declared = Declared::new();
        let running = server.then(|| declared.home.serve(&[]));
        let secret = declared.secret("nightly");
        declared.write(NIGHTLY);
        declared.expect(&["--yes"], 0, &["create"]);
        declared.home.done(&["key", "revoke", &id_of(&secret)]);
        declared.expect(&["--yes"], 4, &["drift"]);
        assert_eq!(declared.home.verify(&secret, &[]), 3);
        declared.home.done(&["key", "delete", &id_of(&secret), "--yes"]);
        // Another entry is applied all the same.
        declared.secret("other");
        declared.write(&format!("{NIGHTLY}[keys.other]\nscopes = []\nsecret_file = \"other\"\n"));
        let (code, plan, said) = declared.apply(&["--yes"]);
        assert_eq!(
            (code, &plan[0]["action"], &plan[1]["action"]),
            (4, &"conflict".into(), &"create".into())
        );
        assert!(plan[0]["reason"].as_str().unwrap().contains("was deleted"), "{said}");
        assert_eq!(declared.home.verify(&secret, &[]), 3);
        drop(running);
    }
}

#[test]
fn changed_secret_is_a_new_key_and_the_old_one_is_deactivated_only_by_prune() {
    let declared = Declared::new();
    let old = declared.secret("nightly");
    declared.write(NIGHTLY);
    declared.expect(&["--yes"], 0, &["create"]);
    let new = declared.secret("nightly");
    declared.expect(&["--yes"], 4, &["create", "superseded"]);
    assert_eq!((declared.home.verify(&old, &[]), declared.home.verify(&new, &[])), (0, 0));
    declared.expect(&["--prune"], 4, &["unchanged", "superseded"]);
    let plan = declared.home.command(&["apply", "keys.toml", "--prune"]).output().unwrap();
    let said = text(&plan.stderr);
    assert!(said.contains("--yes creates 0 keys and deactivates 1 key"), "{said}");
    assert_eq!(declared.home.verify(&old, &[]), 0, "a plan changes nothing");
    declared.expect(&["--yes", "--prune"], 0, &["unchanged", "superseded"]);
    assert_eq!((declared.home.verify(&old, &[]), declared.home.verify(&new, &[])), (3, 0));
    declared.expect(&["--yes", "--prune"], 0, &["unchanged"]);
}

#[test]
fn successor_of_a_rotated_key_is_never_pruned() {
    let declared = Declared::new();
    let old = declared.secret("nightly");
    declared.write(NIGHTLY);
    declared.expect(&["--yes"], 0, &["create"]);
    let new = declared.home.done(&["key", "rotate", &id_of(&old)]);
    declared.expect(&["--yes", "--prune"], 4, &["drift"]);
    assert_eq!(declared.home.verify(&new, &[]), 0);
    // The file gets the new secret.
    declared.write_secret("nightly", &new);
    declared.expect(&["--yes", "--prune"], 0, &["unchanged"]);
}

#[test]
fn conflicting_entries_create_nothing_and_keep_the_old_key() {
    let declared = Declared::new();
    let old = declared.secret("nightly");
    declared.write(NIGHTLY);
    declared.expect(&["--yes"], 0, &["create"]);
    let both = declared.secret("nightly");
    declared.write(&format!("{NIGHTLY}[keys.other]\nscopes = []\nsecret_file = \"nightly\"\n"));
    declared.expect(&["--yes", "--prune"], 4, &["conflict", "conflict"]);
    assert_eq!((declared.home.verify(&both, &[]), declared.home.verify(&old, &[])), (3, 0));
}

#[test]
fn prune_deactivates_keys_whose_entry_is_gone_and_refuses_an_empty_file() {
    for server in [false, true] {
        let declared = Declared::new();
        let running = server.then(|| declared.home.serve(&[]));
        let gone = declared.secret("nightly");
        let kept = declared.secret("other");
        let by_hand = declared.home.key("till", "api.read");
        let other = "[keys.other]\nscopes = []\nsecret_file = \"other\"\n";
        declared.write(&format!("{NIGHTLY}{other}"));
        declared.expect(&["--yes"], 0, &["create", "create"]);
        declared.write("# empty\n");
        let (code, _, said) = declared.apply(&["--yes", "--prune"]);
        assert!(code == 2 && said.contains("declares no key"), "{said}");
        declared.write(other);
        declared.expect(&["--yes"], 4, &["unchanged", "undeclared"]);
        assert_eq!(declared.home.verify(&gone, &[]), 0);
        declared.expect(&["--yes", "--prune"], 0, &["unchanged", "undeclared"]);
        let verify = |key: &str| declared.home.verify(key, &[]);
        assert_eq!((verify(&gone), verify(&kept), verify(&by_hand)), (3, 0, 0));
        // The key was deactivated, not deleted.
        declared.home.done(&["key", "show", &id_of(&gone)]);
        declared.expect(&["--yes", "--prune"], 0, &["unchanged"]);
        drop(running);
    }
}

#[test]
fn invalid_file_names_the_line_and_changes_nothing() {
    let declared = Declared::new();
    let secret = declared.secret("nightly");
    let foreign = declared.home.done(&["key", "generate", "--prefix", "acme"]);
    declared.write_secret("foreign", &foreign);
    declared.write_secret("weak", "no key at all");
    let before = declared.audit();
    for (file, line, why) in [
        (&format!("{NIGHTLY}colour = 1\n")[..], 4, "unknown field"),
        (&format!("{NIGHTLY}\n[people]\n"), 5, "unknown field"),
        (&format!("{NIGHTLY}name = 1\n"), 4, "must be a text"),
        (&format!("{NIGHTLY}name = \n"), 4, "value"),
        (&format!("{NIGHTLY}secret_env = \"A\"\n"), 3, "not both"),
        (&format!("{NIGHTLY}rate = \"100/60s\"\n"), 4, "requests = 100"),
        (&format!("{NIGHTLY}networks = [\"here\"]\n"), 4, "an address or a range"),
        (&format!("{NIGHTLY}expires_at = \"soon\"\n"), 4, "2030-01-31"),
        (&format!("{NIGHTLY}expires_at = 2020-01-31\n"), 1, "must be in the future"),
        (&format!("{NIGHTLY}owner = \"\"\n"), 1, "owner: must be"),
        (&format!("{NIGHTLY}metadata.declared = \"x\"\n"), 4, "reserved"),
        (&format!("{NIGHTLY}[keys.\"a b\"]\n"), 4, "the name of an entry"),
        (&format!("{NIGHTLY}[keys.b]\nscopes = []\n"), 4, "secret_file or secret_env is missing"),
        (&NIGHTLY.replace("api.read", "*"), 2, "root key"),
        (&NIGHTLY.replace("api.read", "api.unknown"), 1, "api.unknown"),
        (&NIGHTLY.replace("scopes", "#"), 1, "scopes is missing"),
        (&NIGHTLY.replace("\"nightly\"", "\"absent\""), 3, "reading the secret file"),
        (&NIGHTLY.replace("\"nightly\"", "\"weak\""), 3, "not the text of a key"),
        (&NIGHTLY.replace("\"nightly\"", "\"foreign\""), 3, "key generate --prefix pcl"),
        (&format!("{NIGHTLY}name = \"{secret}\"\n"), 4, "has the text of a key"),
    ] {
        // A valid entry before the invalid one is not applied.
        declared.write(file);
        let (code, plan, said) = declared.apply(&["--yes"]);
        assert!(matches!(code, 1 | 2) && plan.is_empty(), "{file}: {code} {said}");
        assert!(said.contains(&format!("keys.toml: line {line}: ")), "{file}: {said}");
        assert!(said.contains(why), "{file}: {said}");
        assert!(![&secret, &foreign].iter().any(|key| said.contains(key.as_str())), "{said}");
        assert!(!said.contains("no key at all"), "{said}");
    }
    assert_eq!(declared.audit(), before);
    assert_eq!(declared.home.verify(&secret, &[]), 3);
}

#[test]
fn secret_file_that_others_can_read_is_refused() {
    let declared = Declared::new();
    let secret = declared.secret("nightly");
    declared.write(NIGHTLY);
    let path = declared.home.room().join("nightly");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, said) = declared.apply(&["--yes"]);
    assert!(code == 1 && said.contains("line 3") && said.contains("everybody can read"), "{said}");
    assert_eq!(declared.home.verify(&secret, &[]), 3);
}

#[test]
fn generated_key_has_the_form_of_the_store_and_needs_no_store() {
    let home = Home::new();
    let key = home.done(&["key", "generate"]);
    assert!(key.starts_with("pcl_") && portcullis::Secret::is_well_formed(&key));
    assert_ne!(home.done(&["key", "generate"]), key);
    assert!(!home.data().exists());
    let json = home.done(&["key", "generate", "--prefix", "acme", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let key = json["key"].as_str().unwrap();
    assert!(key.starts_with("acme_") && json["id"] == id_of(key));
    assert!(home.fails(2, &["key", "generate", "--prefix", "A"]).contains("--prefix"));
}
