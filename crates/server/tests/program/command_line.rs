//! The arguments and the output of commands: closed readers, full disks, terminals.

use portcullis_testkit::serving::{Home, free_address, id_of, text};
use portcullis_testkit::{
    needs,
    scripted::{Scripted, answer, new_key},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

/// A store with a root key, a second key and an entry for each.
fn home_with_key() -> (Home, String) {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("till", "api.read");
    (home, key)
}

fn with_output(mut command: Command, output: impl Into<Stdio>, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads no input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn unread() -> io::PipeWriter {
    io::pipe().unwrap().1
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn closed_reader_does_not_change_the_exit_code() {
    let (home, key) = home_with_key();
    let id = id_of(&key);
    let show = ["key", "show", &id];
    let printing: [&[&str]; 13] = [
        &["--help"],
        &["key", "create", "--help"],
        &["--version"],
        &["export"],
        &["key", "list"],
        &["--json", "key", "list"],
        &show,
        &["scopes"],
        &["audit"],
        &["--json", "audit"],
        &["audit", "--export", "-"],
        &["audit", "--verify"],
        &["doctor"],
    ];
    for arguments in printing {
        let done = with_output(home.command(arguments), unread(), "");
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", text(&done.stderr));
        assert_eq!(text(&done.stderr), "", "{arguments:?}");
    }
    let update = ["key", "update", &id, "--name", "renamed"];
    let done = with_output(home.command(&update), unread(), "");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(home.done(&["key", "show", &id]).contains("renamed"));
    // An exit code that reports a result stays.
    for (presented, arguments, code) in [
        (key.as_str(), &["verify"][..], 0),
        (key.as_str(), &["verify", "--scope", "api.write"], 4),
        ("nonsense", &["verify"], 3),
        ("nonsense", &["--json", "verify"], 3),
    ] {
        let done = with_output(home.command(arguments), unread(), presented);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", text(&done.stderr));
    }
    // A truncated backup is a failure.
    let done = with_output(home.command(&["backup", "-"]), unread(), "");
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
}

#[test]
fn failed_output_is_reported_with_the_completed_change() {
    let (home, key) = home_with_key();
    let id = id_of(&key);
    let show = ["key", "show", &id];
    let printing: [&[&str]; 11] = [
        &["--help"],
        &["--version"],
        &["export"],
        &["key", "list"],
        &show,
        &["scopes"],
        &["audit"],
        &["audit", "--export", "-"],
        &["audit", "--verify"],
        &["doctor"],
        &["backup", "-"],
    ];
    for arguments in printing {
        let done = with_output(home.command(arguments), full(), "");
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {}", text(&done.stderr));
    }
    // A verification result that was not written is a failure.
    assert_eq!(with_output(home.command(&["verify"]), full(), &key).status.code(), Some(1));

    let update = ["key", "update", &id, "--name", "renamed"];
    let revoke = ["--json", "key", "revoke", &id];
    for (arguments, said) in [(&update[..], "was changed"), (&revoke, "was revoked")] {
        let done = with_output(home.command(arguments), full(), "");
        assert_eq!(done.status.code(), Some(1), "{arguments:?}");
        assert!(text(&done.stderr).contains(said), "{arguments:?}: {}", text(&done.stderr));
    }
    let shown = home.done(&["key", "show", &id]);
    assert!(shown.contains("renamed") && shown.contains("inactive since"), "{shown}");
}

#[test]
fn blocked_output_is_waited_for() {
    let (home, _) = home_with_key();
    let (mut reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(count) = (&writer).write(&[0; 4096]) {
        filled += count;
    }
    let expected = home.done(&["export"]);
    let mut child = home.command(&["export"]).stdout(OwnedFd::from(writer)).spawn().unwrap();
    // A command that does not wait fails within this time. One that waits passes, however long it is.
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    }
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    let done = child.wait_with_output().unwrap();
    let all = reading.join().unwrap();
    assert!(done.status.success());
    assert_eq!(text(&all[filled..]).trim(), expected);
}

#[test]
fn control_characters_in_a_name_are_escaped() {
    let hostile = "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{7f}";
    let mut key = new_key();
    for member in ["name", "owner", "hint", "created_by"] {
        key[member] = hostile.into();
    }
    key["scopes"] = json!([hostile]);
    key["metadata"] = json!({hostile: hostile});
    let id = "key_8fK2mQ9xZ1a";
    let verdict = json!({"valid": false, "code": hostile, "key": key});
    let entry = json!({
        "sequence": 1, "at": hostile, "actor": hostile, "source": hostile, "act": hostile,
        "key": hostile, "replaced_by": hostile, "refused": null
    });
    for (arguments, status, body) in [
        (&["key", "show", id][..], "200 OK", &key),
        (&["key", "revoke", id], "200 OK", &key),
        (&["key", "create", "--name", "a", "--no-scopes"], "201 Created", &key),
        (&["key", "list"], "200 OK", &json!({"keys": [key], "next_page_token": null})),
        (&["scopes"], "200 OK", &json!({"scopes": [{"name": hostile, "description": hostile}]})),
        (&["audit"], "200 OK", &json!({"entries": [entry], "next_after": null})),
        (&["verify"], "200 OK", &verdict),
        (&["key", "show", id], "404 Not Found", &json!({"detail": hostile})),
    ] {
        let home = Home::new();
        let server = Scripted::new(&home.data());
        let mut command = home.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stream, _) = server.request();
        answer(&mut stream, status, body);
        let done = child.wait_with_output().unwrap();
        let printed = text(&done.stdout) + &text(&done.stderr);
        let drives = |c: &char| *c != '\n' && (c.is_control() || *c == '\u{202e}');
        let found: Vec<char> = printed.chars().filter(drives).collect();
        assert!(found.is_empty(), "{arguments:?}: {found:?} in {printed}");
        assert!(printed.contains("\\u{1b}]0;owned"), "{arguments:?}: {printed}");
    }
}

/// Returns the environment variables in a help text.
fn variables(help: &str) -> BTreeSet<String> {
    let named = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    named.map(str::to_owned).collect()
}

#[test]
fn empty_environment_variable_counts_as_absent() {
    let home = Home::new();
    let help = home.done(&["serve", "--help"]);
    let names = variables(&help);
    for name in ["PORTCULLIS_DATA", "PORTCULLIS_PEPPER_FILE", "PORTCULLIS_PUBLIC_ORIGIN"] {
        assert!(names.contains(name), "{name} in {help}");
    }
    let with_empty = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.envs(names.iter().map(|name| (name, "")));
        command.env("TMPDIR", "").env("NOTIFY_SOCKET", "");
        command
    };
    let made = with_empty(&["init", "--scopes=financial-data"]).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(home.room().join("portcullis-data/ledger").exists());
    let listed = with_empty(&["key", "list"]).output().unwrap();
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    let checked = with_empty(&["doctor"]).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let names_here = fs::read_dir(home.room()).unwrap().count();
    assert_eq!(names_here, 1, "nothing is left in the current directory");
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let server = home.serve_with(&["--data", "portcullis-data"], &empty);
    assert!(server.stop().success());
}

#[test]
fn key_without_a_scope_is_created_on_explicit_request_only() {
    let (home, _) = home_with_key();
    let fails = |arguments: &[&str]| {
        let done = home.command(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        text(&done.stderr)
    };
    let create = ["key", "create", "--name", "a"];
    assert!(fails(&create).contains("--scope"));
    fails(&[&create[..], &["--no-scopes", "--scope", "api.read"]].concat());
    fails(&[&create[..], &["--no-scopes", "--root"]].concat());
    fails(&[&create[..], &["--scope", ""]].concat());
    let key = home.done(&[&create[..], &["--no-scopes"]].concat());
    let scopes = |key: &str| -> Value {
        let shown = home.done(&["--json", "key", "show", &id_of(key)]);
        serde_json::from_str::<Value>(&shown).unwrap()["scopes"].clone()
    };
    assert_eq!(scopes(&key), json!([]));
    let other = home.key("b", "api.read");
    home.done(&["key", "update", &id_of(&other), "--no-scopes"]);
    assert_eq!(scopes(&other), json!([]));
}

#[test]
fn invalid_option_value_is_refused_with_the_reason() {
    let (home, _) = home_with_key();
    let before = home.done(&["--json", "key", "list"]);
    let create = ["key", "create", "--name", "a", "--scope", "api.read"];
    for (arguments, reason) in [
        (["serve", "--listen", "localhost:8443"], "names are not resolved"),
        (["serve", "--listen", "127.0.0.1:65536"], "0 to 65535"),
        (["serve", "--metrics-listen", "9090"], "no port"),
        (["serve", "--drain-delay", "5"], "a number and s, m, h, d or w"),
        (["serve", "--drain-delay", "2d"], "at most 1d"),
        (["serve", "--public-origin", "https://*.example.com"], "wildcard"),
        (["serve", "--public-origin", "https://a.example#b"], "fragment"),
        (["serve", "--public-origin", "https://a.example:65536"], "port"),
        (["serve", "--log-level", "loud"], "--log-level"),
        (["audit", "--prune", "--before=9999-12-31T23:59:59Z"], "not after"),
    ] {
        let done = home.command(&arguments).output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    for (expiry, reason) in [
        (["--expires-at", "9999-12-31T23:59:59Z"], "not after 9999-12-30"),
        (["--expires-at", "2030-02-30"], "a date, a time and a zone"),
        (["--expires-at", "1969-12-31T23:59:59Z"], "before 1970"),
        (["--expires-in", "+1d"], "such as 90d"),
        (["--expires-in", "7102w"], "at most 7101w"),
    ] {
        let done = home.command(&[&create[..], &expiry].concat()).output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{expiry:?}: {said}");
        assert!(said.contains(reason), "{expiry:?}: {said}");
    }
    assert_eq!(home.done(&["--json", "key", "list"]), before);
}

#[test]
fn same_address_for_api_and_metrics_is_refused() {
    let home = Home::new();
    let address = free_address();
    let serve = ["serve", "--listen", &address, "--metrics-listen", &address];
    let done = home.command(&serve).output().unwrap();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("--metrics-listen"), "{said}");
    assert!(!home.data().exists());
}

#[test]
fn locked_store_without_a_socket_hints_at_a_starting_server() {
    let (home, _) = home_with_key();
    let lock = File::options().read(true).write(true).open(home.data().join("lock")).unwrap();
    lock.lock().unwrap();
    let done = home.command(&["key", "list"]).output().unwrap();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(5), "{said}");
    assert!(said.contains("already open") && said.contains("is starting"), "{said}");
}

#[test]
fn past_expiry_is_refused_on_create_and_expires_a_key_on_update() {
    let (home, key) = home_with_key();
    let before = home.done(&["--json", "key", "list"]);
    let past = ["--expires-at", "2020-01-01T00:00:00Z"];
    let create = ["key", "create", "--name", "a", "--scope", "api.read"];
    let done = home.command(&[&create[..], &past].concat()).output().unwrap();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("expires_at: must be in the future"), "{said}");
    assert_eq!(home.done(&["--json", "key", "list"]), before);
    home.done(&[&["key", "update", &id_of(&key)][..], &past].concat());
    let done = with_output(home.command(&["verify"]), Stdio::piped(), &key);
    assert_eq!(done.status.code(), Some(3), "{}", text(&done.stdout));
}

#[needs("the right to mount: unshare -rm mount -t tmpfs none /tmp")]
#[test]
fn incomplete_file_on_a_full_disk_is_removed() {
    let (home, _) = home_with_key();
    let small = home.room().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = |then: &str| {
        let mount = format!("mount -t tmpfs -o size=8k none '{}'", small.display());
        let mut command = Command::new("unshare");
        let fill = format!("head -c 8192 /dev/zero >'{}'/fill", small.display());
        command.args(["-rm", "sh", "-c", &format!("{mount} && {fill} && {then}")]);
        command
    };
    for arguments in [&["backup"][..], &["audit", "--export"]] {
        let file = small.join("file");
        let then = "\"$@\"; code=$?; [ $(ls -A \"$0\") = fill ] || exit 99; exit $code";
        let mut command = mounted(then);
        command.arg(&small).arg(env!("CARGO_BIN_EXE_portcullis")).args(arguments).arg(file);
        let done = command.env("PORTCULLIS_DATA", home.data()).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {}", text(&done.stderr));
    }
}

#[test]
fn key_in_an_argument_or_variable_is_refused_and_not_repeated() {
    let (home, key) = home_with_key();
    let around = |text: &str| text.replace("KEY", &key);
    let arguments =
        ["KEY", "x KEY", "a,KEY", "xKEYx", "https://KEY:@host/", "--name=KEY"].map(around);
    for argument in &arguments {
        for command in [&["verify", argument][..], &["key", "list", "--active", argument]] {
            let error = home.fails(2, command);
            assert!(error.contains("passed as an argument"), "{error}");
            assert!(!error.contains(&key[20..]), "the error repeats the key");
        }
    }
    let variable =
        home.command(&["key", "list"]).env("PORTCULLIS_ETCD_SPACE", &key).output().unwrap();
    let error = text(&variable.stderr);
    assert_eq!(variable.status.code(), Some(2), "{error}");
    assert!(error.contains("PORTCULLIS_ETCD_SPACE") && !error.contains(&key[20..]));
}
