//! The program, as users and scripts run it.

use portcullis_testkit::{
    needs,
    serving::{Home, id_of, text},
};
use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Command,
    time::{Duration, Instant},
};

/// The keys in a text.
fn keys_in(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| portcullis::Secret::is_well_formed(word))
        .collect()
}

/// Sends a request with curl and returns status and body. The key is passed in a file.
fn curl(key: &str, arguments: &[&str]) -> (u16, String) {
    let mut config = tempfile::NamedTempFile::new().unwrap();
    write!(config, "user = \"{key}:\"").unwrap();
    let output = Command::new("curl")
        .args(["-sk", "--max-time", "20", "-w", "\n%{http_code}", "-K"])
        .arg(config.path())
        .args(arguments)
        .output()
        .unwrap();
    let said = text(&output.stdout);
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

const JSON: [&str; 2] = ["-H", "content-type: application/json"];

#[needs("curl")]
#[test]
fn first_start_issues_a_key_and_refuses_it_once_revoked() {
    let home = Home::new();
    let server = home.serve(&[]);
    let printed = keys_in(&server.said);
    let root = printed.first().unwrap().to_string();
    assert!(printed.iter().all(|key| *key == root));
    assert!(server.said.contains(&format!("curl -k -u {root}: {}/v1/keys", server.url)));

    let keys = format!("{}/v1/keys", server.url);
    let body = r#"{"name":"Nightly export","scopes":["api.read"]}"#;
    let (status, made) = curl(&root, &[&JSON[..], &["-d", body, &keys]].concat());
    assert_eq!(status, 201, "{made}");
    let key = keys_in(&made).first().unwrap().to_string();
    let whoami = format!("{}/v1/whoami", server.url);
    assert_eq!(curl(&key, &[&whoami]).0, 200);

    let one = format!("{keys}/{}", id_of(&key));
    let patch = |body| curl(&root, &[&JSON[..], &["-X", "PATCH", "-d", body, &one]].concat()).0;
    assert_eq!(patch(r#"{"active":false}"#), 200);
    let (status, refused) = curl(&key, &[&whoami]);
    assert_eq!(status, 401);
    assert!(refused.contains(r#""message":"Invalid username/account key""#), "{refused}");
    assert_eq!(patch(r#"{"active":true}"#), 200);
    assert_eq!(curl(&key, &[&whoami]).0, 200);

    // The same by local commands, through the control socket.
    home.done(&["key", "revoke", &id_of(&key)]);
    assert_eq!(curl(&key, &[&whoami]).0, 401);
    home.done(&["key", "update", &id_of(&key), "--active", "yes"]);
    assert_eq!(curl(&key, &[&whoami]).0, 200);
    let made = home.done(&["key", "create", "--name", "by socket", "--scope", "api.read"]);
    assert_eq!(curl(made.trim(), &[&whoami]).0, 200);
    let list = home.done(&["key", "list"]);
    assert!(list.contains("by socket") && list.contains("LAST USED"), "{list}");
    assert!(home.done(&["key", "show", &id_of(&key)]).contains("last used  20"));
    assert_eq!(home.verify(&key, &[]), 0);

    // A second server is refused with the reason.
    let second = home.fails(5, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(second.contains("already open"), "{second}");

    assert!(server.stop().success());
    assert!(!home.data().join("control.sock").exists());
    assert!(home.done(&["key", "list"]).contains("Nightly export"));
    assert_eq!(keys_in(&home.log()), Vec::<&str>::new());
}

#[needs("curl")]
#[test]
fn plain_http_is_refused_and_not_redirected() {
    let home = Home::new();
    let server = home.serve(&[]);
    let root = keys_in(&server.said).first().unwrap().to_string();
    let whoami = format!("http://127.0.0.1:{}/v1/whoami", server.port());
    let (status, body) = curl(&root, &[&whoami]);
    assert_eq!(status, 403);
    assert!(body.contains("\"message\""), "{body}");
    let large = "x".repeat(100_000);
    assert_eq!(curl(&root, &["-d", &large, &whoami]).0, 403);
    // The port still speaks TLS.
    assert_eq!(curl(&root, &[&format!("{}/v1/whoami", server.url)]).0, 200);
    assert!(server.stop().success());

    let server = home.serve(&["--behind-proxy"]);
    assert!(server.url.starts_with("http://"));
    let whoami = format!("{}/v1/whoami", server.url);
    assert_eq!(curl(&root, &[&whoami]).0, 200);
    assert_eq!(curl(&root, &["-H", "X-Forwarded-Proto: https", &whoami]).0, 200);
    assert_eq!(curl(&root, &["-H", "X-Forwarded-Proto: http", &whoami]).0, 403);
}

#[test]
fn public_address_requires_tls_or_a_proxy() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let said = home.fails(2, &["serve", "--listen", "0.0.0.0:0"]);
    assert!(said.contains("--tls-cert") && said.contains("--behind-proxy"), "{said}");
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let said = home.fails(2, &["serve", "--behind-proxy", "--listen", listen]);
        assert!(said.contains("--trusted-proxy"), "{said}");
    }
}

#[needs("curl")]
#[test]
fn public_origin_is_validated_and_the_portal_is_served() {
    let home = Home::new();
    for origin in ["keys.example.com", "http://keys.example.com", "https://keys.example.com/keys"] {
        let said = home.fails(2, &["serve", "--public-origin", origin]);
        assert!(said.contains("such as https://keys.example.com"), "{said}");
    }
    let server = home.serve(&["--public-origin", "https://keys.example.com"]);
    let (status, page) = curl("", &[&format!("{}/login", server.url)]);
    assert_eq!(status, 200);
    assert!(page.contains("Admin key"), "{page}");
    let foreign =
        ["-X", "POST", "-H", &format!("origin: {}", server.url), &format!("{}/login", server.url)];
    assert_eq!(curl("", &foreign).0, 403);
    assert!(server.stop().success());
}

#[test]
fn serve_creates_a_store_for_development_only() {
    let home = Home::new();
    let anchor = home.room().join("anchor");
    for options in [vec!["--behind-proxy"], vec!["--anchor", anchor.to_str().unwrap()]] {
        let said = home.fails(1, &[&["serve", "--listen", "127.0.0.1:0"], &options[..]].concat());
        assert!(said.contains("init"), "{said}");
        assert!(!home.data().exists());
    }
    fs::create_dir(home.data()).unwrap();
    let said = home.fails(1, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("init"), "{said}");
}

#[test]
fn init_prints_the_root_key_once_and_refuses_a_second_time() {
    let home = Home::new();
    let output =
        home.command(&["init", "--prefix", "acme", "--scope", "ledger.close"]).output().unwrap();
    assert!(output.status.success());
    let key = text(&output.stdout);
    assert!(key.starts_with("acme_") && key.lines().count() == 1, "{key}");
    assert_eq!(keys_in(&text(&output.stderr)), Vec::<&str>::new());
    assert_eq!(home.verify(key.trim(), &["--scope", "ledger.close"]), 0);
    let mode = fs::metadata(home.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let said = home.fails(1, &["init", "--scopes=financial-data"]);
    assert!(said.contains("already holds a store"), "{said}");
    assert!(home.done(&["scopes"]).contains("ledger.close"));
}

#[test]
fn scopes_are_added_and_hidden_with_and_without_a_running_server() {
    let home = Home::new();
    home.done(&["init"]);
    let first = home.done(&["scopes"]);
    assert!(
        first.lines().count() == 6 && first.lines().all(|l| l.starts_with("admin.key.")),
        "{first}"
    );
    home.fails(2, &["scopes", "add", "Ledger", "x"]);
    home.done(&["scopes", "add", "ledger.read", "read the ledger"]);
    let root = home.done(&["key", "create", "--root", "--name", "r"]);
    let server = home.serve(&[]);
    home.done(&["scopes", "add", "ledger.close", "close a year"]);
    let listed = home.done(&["scopes"]);
    let close = listed.lines().find(|line| line.starts_with("ledger.close")).unwrap();
    assert!(close.ends_with("  close a year") && listed.contains("ledger.read"), "{listed}");
    let key = home.key("a", "ledger.close");
    home.done(&["scopes", "hide", "ledger.close"]);
    assert!(!home.done(&["scopes", "list"]).contains("ledger.close"));
    assert!(home.done(&["scopes", "--hidden"]).contains("ledger.close"));
    let unknown = home.fails(2, &["key", "create", "--name", "b", "--scope", "ledger.close"]);
    assert!(unknown.contains("unknown scope ledger.close"), "{unknown}");
    assert_eq!(home.verify(&key, &["--scope", "ledger.close"]), 0);
    home.fails(1, &["scopes", "hide", "admin.key.list"]);
    home.fails(1, &["scopes", "hide", "ledger.open"]);
    drop((server, root));
    home.done(&["scopes", "add", "ledger.close", "close a year for good"]);
    assert!(home.done(&["scopes"]).contains("close a year for good"));
    let log = home.done(&["audit", "--json"]);
    assert!(log.contains(r#""act":"add_scope""#) && log.contains(r#""act":"hide_scope""#), "{log}");
}

#[test]
fn key_file_is_new_and_private_and_removed_without_a_store() {
    let home = Home::new();
    let file = home.room().join("root.key");
    let path = file.to_str().unwrap();
    fs::write(&file, "mine").unwrap();
    home.fails(1, &["init", "--key-file", path]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(!home.data().exists());
    fs::remove_file(&file).unwrap();

    assert_eq!(home.done(&["init", "--key-file", path]), "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&file).unwrap();
    assert_eq!(home.verify(key.trim(), &[]), 0);

    let other = home.room().join("other.key");
    home.fails(1, &["init", "--key-file", other.to_str().unwrap()]);
    assert!(!other.exists());
}

#[test]
fn only_the_secret_is_on_standard_output() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let create =
        ["key", "create", "--name", "till", "--scope", "api.read,api.write", "--meta", "floor=2"];
    let output = home
        .command(&[&create[..], &["--expires-in", "90d", "--owner", "shop"]].concat())
        .output()
        .unwrap();
    let (key, prose) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(keys_in(&key), [key.trim()]);
    assert!(prose.contains("till") && keys_in(&prose).is_empty(), "{prose}");

    let id = id_of(&key);
    let shown = home.done(&["key", "show", &id]);
    assert!(shown.contains("api.read api.write") && shown.contains("shop"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&home.done(&["--json", "key", "create", "--name", "b", "--root"]))
            .unwrap();
    assert!(portcullis::Secret::is_well_formed(json["key"].as_str().unwrap()));
    assert_eq!(json["scopes"], serde_json::json!(["*"]));
    let list: serde_json::Value =
        serde_json::from_str(&home.done(&["key", "list", "--json"])).unwrap();
    assert_eq!(list["keys"].as_array().unwrap().len(), 3);
    assert_eq!(list["next_page_token"], serde_json::Value::Null);
}

#[test]
fn verify_distinguishes_valid_refused_and_missing_scope() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.done(&["key", "create", "--name", "a", "--scope", "api.read"]);
    let key = key.trim();
    assert_eq!(home.verify(key, &[]), 0);
    assert_eq!(home.verify(key, &["--scope", "api.read"]), 0);
    assert_eq!(home.verify(key, &["--scope", "api.read", "--scope", "api.write"]), 4);
    assert_eq!(home.verify(key, &["--scope", "api.raed"]), 2);
    assert_eq!(home.verify("", &[]), 3);
    assert_eq!(home.verify(&key[..40], &[]), 3);
    home.done(&["key", "revoke", &id_of(key)]);
    assert_eq!(home.verify(key, &[]), 3);
    home.done(&["key", "update", &id_of(key), "--active", "yes"]);
    assert_eq!(home.verify(key, &[]), 0);
}

#[test]
fn invalid_input_is_named_with_its_exit_code() {
    let home = Home::new();
    let absent = home.fails(1, &["key", "list"]);
    assert!(absent.contains("no store in") && absent.contains("init"), "{absent}");
    let root = home.done(&["init", "--scopes=financial-data"]);
    let glued = format!("x{}", root.trim());
    let before = home.done(&["key", "list", "--json"]);
    let long = "x".repeat(129);
    for (code, arguments, named) in [
        (2, vec!["key", "create", "--name", "a", "--scope", "api.raed"], "api.raed"),
        (2, vec!["key", "create", "--name", "", "--scope", "api.read"], "name"),
        (2, vec!["key", "create", "--name", &long, "--scope", "api.read"], "name"),
        (2, vec!["key", "create", "--name", "a"], "--scope"),
        (
            2,
            vec!["key", "create", "--name", "a", "--scope", "api.read", "--expires-at", "soon"],
            "--expires-at",
        ),
        (
            2,
            vec!["key", "create", "--name", "a", "--scope", "api.read", "--expires-in", "soon"],
            "90d",
        ),
        (2, vec!["key", "show", "nonsense"], "key_"),
        (2, vec!["key", "update", "key_00000000000"], "required"),
        (2, vec!["key", "delete", "key_00000000000"], "--yes"),
        (1, vec!["key", "show", "key_00000000000"], "no key key_00000000000"),
        (1, vec!["key", "revoke", &id_of(&root)], "last active root key"),
        (1, vec!["key", "delete", &id_of(&root), "--yes"], "active"),
        (2, vec!["verify", root.trim()], "standard input"),
        (2, vec!["key", "show", &glued], "standard input"),
        (2, vec!["key", "update", "root", "--name", root.trim()], "standard input"),
        (2, vec!["key", "create", "--no-scopes", "--name", root.trim()], "standard input"),
        (2, vec!["nonsense"], "nonsense"),
    ] {
        let said = home.fails(code, &arguments);
        assert!(said.contains(named), "{arguments:?}: {said}");
        assert!(keys_in(&said).is_empty(), "{said}");
    }
    assert_eq!(home.done(&["key", "list", "--json"]), before);
}

#[test]
fn file_as_data_directory_is_refused() {
    let home = Home::new();
    fs::write(home.data(), "not a store").unwrap();
    for arguments in [
        vec!["init", "--scopes=financial-data"],
        vec!["key", "list"],
        vec!["serve", "--listen", "127.0.0.1:0"],
    ] {
        let said = home.fails(1, &arguments);
        assert!(said.contains("cannot be a data directory"), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read_to_string(home.data()).unwrap(), "not a store");
}

#[test]
fn readable_pepper_file_is_refused() {
    let home = Home::new();
    let file = home.room().join("pepper");
    let path = file.to_str().unwrap();
    fs::write(&file, "a pepper of 24 characters\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = home.fails(1, &["--pepper-file", path, "init", "--scopes=financial-data"]);
    assert!(said.contains("chmod 600"), "{said}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    home.done(&["--pepper-file", path, "init", "--scopes=financial-data"]);
    let said = home.fails(1, &["key", "list"]);
    assert!(said.contains("pepper"), "{said}");
    home.done(&["key", "list", "--pepper-file", path]);
}

#[test]
fn socket_of_a_dead_server_is_replaced() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let socket = home.data().join("control.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    // Nothing listens on the socket, so a command opens the store itself.
    home.done(&["key", "list"]);
    let server = home.serve(&[]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    home.done(&["key", "list"]);
    assert!(server.stop().success());
}

#[test]
fn killed_server_keeps_every_acknowledged_change() {
    let home = Home::new();
    let server = home.serve(&[]);
    let kept = home.done(&["key", "create", "--name", "kept", "--scope", "api.read"]);
    let revoked = home.done(&["key", "create", "--name", "revoked", "--scope", "api.read"]);
    home.done(&["key", "revoke", &id_of(&revoked)]);
    drop(server);
    assert_eq!(home.verify(kept.trim(), &[]), 0);
    assert_eq!(home.verify(revoked.trim(), &[]), 3);
    assert!(home.serve(&[]).stop().success());
}

#[test]
fn idle_client_does_not_delay_shutdown() {
    let home = Home::new();
    let server = home.serve(&[]);
    let idle = std::net::TcpStream::connect(format!("127.0.0.1:{}", server.port())).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    assert!(server.stop().success());
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(idle);
}

#[test]
fn server_writes_no_core_image() {
    let home = Home::new();
    let server = home.serve(&[]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let numbers: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
}

#[needs("curl")]
#[test]
fn oversized_body_gets_413_over_http_1_and_2() {
    let home = Home::new();
    let server = home.serve(&[]);
    let root = keys_in(&server.said).first().unwrap().to_string();
    let body = home.room().join("body");
    fs::write(&body, format!(r#"{{"name":"{}","scopes":[]}}"#, "x".repeat(66_000))).unwrap();
    let (data, keys) = (format!("@{}", body.display()), format!("{}/v1/keys", server.url));
    for version in ["--http1.1", "--http2"] {
        let (status, said) =
            curl(&root, &[&JSON[..], &[version, "--data-binary", &data, &keys]].concat());
        assert_eq!(status, 413, "{version}: {said}");
        assert!(said.contains("65536 bytes"), "{said}");
    }
    assert_eq!(home.done(&["key", "list", "--json"]).matches("\"id\":").count(), 1);
}

#[test]
fn rotate_prints_the_new_key_and_expires_the_old_one() {
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    let old = home.done(&["key", "create", "--name", "till", "--scope", "api.read"]);
    let (root, old) = (keys_in(&root)[0].to_owned(), old.trim().to_owned());
    let new = home.done(&["key", "rotate", &id_of(&old), "--grace", "1h"]);
    assert_eq!(keys_in(&new), [new.trim()]);
    assert_eq!((home.verify(&old, &[]), home.verify(new.trim(), &[])), (0, 0));
    assert!(home.fails(1, &["key", "rotate", &id_of(&old)]).contains("replaced already"));
    let newer = home.done(&["key", "rotate", &id_of(&new)]);
    assert_eq!((home.verify(new.trim(), &[]), home.verify(newer.trim(), &[])), (3, 0));
    // A local command rotates even the last root key.
    let next = home.done(&["key", "rotate", &id_of(&root)]);
    assert_eq!((home.verify(&root, &[]), home.verify(next.trim(), &[])), (3, 0));
}

#[test]
fn audit_log_is_printed_and_verified() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.done(&["key", "create", "--name", "till", "--scope", "api.read"]);
    let new = home.done(&["key", "rotate", &id_of(&key)]);
    let printed = home.done(&["audit"]);
    let last = printed.lines().last().unwrap();
    for part in ["4  ", "rotate", &id_of(&key), &id_of(new.trim()), "local:"] {
        assert!(last.contains(part), "{part} in {printed}");
    }
    assert_eq!(home.done(&["audit", "--after", "2", "--json"]).lines().count(), 2);
    assert_eq!(home.done(&["audit", "--key", &id_of(&key)]).lines().count(), 2);
    assert_eq!(home.done(&["audit", "--verify"]), "4 entries, all intact");
    home.fails(2, &["audit", "--key", "nonsense"]);
}

#[test]
fn key_is_named_by_id_beginning_or_unique_name() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("Till 4", "api.read");
    let id = id_of(&key);
    let shown = home.done(&["key", "show", &id]);
    for named in ["Till 4", &key[..15], &format!("{}_", &key[..15])] {
        assert_eq!(home.done(&["key", "show", named]), shown, "{named}");
    }
    assert!(home.fails(2, &["key", "show", "till 4"]).contains("no key has this id or name"));
    let other = id_of(&home.key("Till 4", "api.read"));
    let said = home.fails(2, &["key", "revoke", "Till 4"]);
    assert!(said.contains("2 keys have this name") && said.contains(&id) && said.contains(&other));
    assert!(home.done(&["audit", "--key", &key[..15]]).contains("create"));
}

#[test]
fn whole_key_in_place_of_an_id_revokes_it_and_is_not_repeated() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("leaked", "api.read");
    let output = home.command(&["key", "revoke", &key]).output().unwrap();
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("the shell's history keeps it") && said.contains("is inactive"),
        "{said}"
    );
    assert!(keys_in(&said).is_empty(), "{said}");
    assert_eq!(home.verify(&key, &[]), 3);
}

#[test]
fn deletion_shows_the_key_and_needs_a_confirmation() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let id = id_of(&home.key("old", "api.read"));
    home.done(&["key", "revoke", "old"]);
    let said = home.fails(2, &["key", "delete", "old"]);
    assert!(said.contains(&format!("deleting {id} (old) cannot be undone")), "{said}");
    assert!(said.contains("--yes"), "{said}");
    home.done(&["key", "delete", "old", "--yes"]);
    home.fails(1, &["key", "show", &id]);
}

#[test]
fn list_is_sorted_and_limited() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    for (name, expiry) in [("b", "2031-01-31"), ("c", "2030-01-31"), ("a", "2032-01-31")] {
        home.done(&["key", "create", "--name", name, "--no-scopes", "--expires-at", expiry]);
    }
    let names = |arguments: &[&str]| {
        let list = home.done(&[&["key", "list", "--json"], arguments].concat());
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let keys = list["keys"].as_array().unwrap().iter();
        keys.map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&[]), "a c b root");
    assert_eq!(names(&["--limit", "2"]), "a c");
    assert_eq!(names(&["--sort", "name"]), "a b c root");
    assert_eq!(names(&["--sort", "expires", "--limit", "3"]), "c b a");
    // The midnight at the end of the date.
    assert!(home.done(&["key", "show", "c"]).contains("2030-02-01T00:00:00Z"));
    let table = home.done(&["key", "list"]);
    assert!(table.lines().nth(1).unwrap().ends_with("now"), "{table}");
}

#[test]
fn help_groups_commands_by_subject_and_suggests_the_complete_command() {
    let home = Home::new();
    let help = home.done(&["--help"]);
    for part in ["Keys:\n  key ", "Server:\n  init ", "Options of the store:\n", "\nExit codes: "] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert_eq!(help.contains("--etcd"), cfg!(feature = "cluster"), "{help}");
    let said = home.fails(2, &[]);
    assert!(said.contains("portcullis serve") && said.lines().count() < 10, "{said}");
    let said = home.fails(2, &["create", "--name", "a"]);
    assert!(said.contains("portcullis key create"), "{said}");
}

#[test]
fn completions_and_manual_pages_are_written() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.done(&["completions", shell]).contains("revoke"), "{shell}");
    }
    home.done(&["man", "pages"]);
    for page in ["portcullis.1", "portcullis-key-revoke.1"] {
        let text = fs::read_to_string(home.room().join("pages").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
}
