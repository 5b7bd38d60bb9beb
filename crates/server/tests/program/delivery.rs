//! Delivery of a new key's text: the caller receives it, or the command reports the key and the remedy.

use portcullis_testkit::serving::{Home, id_of, text};
use portcullis_testkit::{
    needs,
    scripted::{Scripted, answer, new_key, next_request},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Output, Stdio},
};

const CREATE: [&str; 6] = ["key", "create", "--name", "till", "--scope", "api.read"];

/// Gives a command its standard output.
type Prepare = Box<dyn Fn(&mut Command)>;

/// Standard outputs that cannot deliver a key; a command detects them before it changes anything.
fn undeliverable_outputs() -> Vec<(&'static str, Prepare)> {
    let closed = |command: &mut Command| {
        let (program, arguments) = (command.get_program().to_owned(), command.get_args());
        let arguments: Vec<_> = arguments.map(ToOwned::to_owned).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" >&-"]).arg(program).args(arguments).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
        *command = shell;
    };
    let unread = |command: &mut Command| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
    };
    let read_only = |command: &mut Command| {
        command.stdout(File::open("/dev/zero").unwrap());
    };
    vec![
        ("closed", Box::new(closed)),
        ("a pipe without a reader", Box::new(unread)),
        ("a device opened for reading", Box::new(read_only)),
    ]
}

fn output(mut command: Command, prepare: impl Fn(&mut Command)) -> Output {
    prepare(&mut command);
    command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

fn to_full_device(command: &mut Command) {
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
}

/// Returns the key ids in a text, in order.
fn ids_in(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("key_"))
        .collect()
}

fn listed(home: &Home) -> Vec<Value> {
    let list: Value = serde_json::from_str(&home.done(&["--json", "key", "list"])).unwrap();
    list["keys"].as_array().unwrap().clone()
}

fn verify(home: &Home, key: &str) -> i32 {
    let mut command = home.command(&["verify"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{key}").unwrap();
    child.wait().unwrap().code().unwrap()
}

#[test]
fn no_key_is_created_if_standard_output_cannot_take_it() {
    let home = Home::new();
    for (what, prepare) in undeliverable_outputs() {
        for arguments in
            [&["init", "--scopes=financial-data"][..], &["serve", "--listen", "127.0.0.1:0"]]
        {
            let done = output(home.command(arguments), &prepare);
            let said = text(&done.stderr);
            assert_eq!(done.status.code(), Some(1), "{what}, {arguments:?}: {said}");
            assert!(said.contains("nothing was changed"), "{what}, {arguments:?}: {said}");
            assert!(!home.data().exists(), "{what}, {arguments:?}");
        }
    }
    home.done(&["init", "--scopes=financial-data"]);
    let old = home.key("old", "api.read");
    let rotate = ["key", "rotate", &id_of(&old)];
    let root = ["key", "create", "--name", "second", "--root"];
    for served in [false, true] {
        let server = served.then(|| home.serve(&[]));
        let before = listed(&home);
        for (what, prepare) in undeliverable_outputs() {
            for arguments in [&CREATE[..], &root, &rotate] {
                for json in [&[][..], &["--json"]] {
                    let done = output(home.command(&[json, arguments].concat()), &prepare);
                    let said = text(&done.stderr);
                    assert_eq!(done.status.code(), Some(1), "{what}, {arguments:?}: {said}");
                    assert!(said.contains("nothing was changed"), "{what}: {said}");
                }
            }
        }
        assert_eq!(listed(&home), before, "served: {served}");
        drop(server);
    }
    assert_eq!(verify(&home, &old), 0);
}

#[test]
fn undelivered_new_key_is_revoked() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    for served in [false, true] {
        let server = served.then(|| home.serve(&[]));
        for options in [&[][..], &["--json"]] {
            let done = output(home.command(&[&CREATE[..], options].concat()), to_full_device);
            let said = text(&done.stderr);
            assert_eq!(done.status.code(), Some(1), "{said}");
            assert!(said.contains("it was revoked"), "{said}");
            let shown = home.done(&["--json", "key", "show", ids_in(&said)[0]]);
            let key: Value = serde_json::from_str(&shown).unwrap();
            assert_eq!((&key["name"], &key["active"]), (&json!("till"), &json!(false)));
        }
        drop(server);
    }
    let root = ["key", "create", "--name", "second", "--root"];
    let done = output(home.command(&root), to_full_device);
    assert!(text(&done.stderr).contains("it was revoked"), "{}", text(&done.stderr));
    let active = listed(&home).into_iter().filter(|key| key["active"] == true).count();
    assert_eq!(active, 1, "only the first root key is active");
}

#[test]
fn undelivered_rotated_key_is_named_with_a_working_remedy() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    for (served, grace) in [(false, "0s"), (true, "0s"), (false, "1h"), (true, "1h")] {
        let server = served.then(|| home.serve(&[]));
        let old = home.key("old", "api.read");
        let rotate = ["key", "rotate", &id_of(&old), "--grace", grace];
        let done = output(home.command(&rotate), to_full_device);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert_eq!(verify(&home, &old), if grace == "0s" { 3 } else { 0 });
        let (_, remedy) = said.trim().rsplit_once("portcullis ").unwrap();
        let new = home.done(&remedy.split_whitespace().collect::<Vec<_>>());
        assert_eq!(verify(&home, &new), 0, "{remedy}");
        drop(server);
    }
}

#[test]
fn undelivered_root_key_is_named_with_a_working_remedy() {
    for arguments in [
        &["init", "--scopes=financial-data"][..],
        &["--json", "init", "--scopes=financial-data"],
        &["serve", "--listen", "127.0.0.1:0"],
    ] {
        let home = Home::new();
        let done = output(home.command(arguments), to_full_device);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("the store was created"), "{arguments:?}: {said}");
        let (_, remedy) = said.trim().rsplit_once("portcullis ").unwrap();
        let root = home.done(&remedy.split_whitespace().collect::<Vec<_>>());
        assert_eq!(verify(&home, &root), 0, "{arguments:?}: {remedy}");
    }
}

#[needs("the right to mount: unshare -rm mount -t tmpfs none /tmp")]
#[test]
fn no_store_is_created_if_the_key_file_has_no_space() {
    let home = Home::new();
    let small = home.room().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = |then: &str| {
        let mount = format!("mount -t tmpfs -o size=8k none '{}'", small.display());
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &format!("{mount} && {then}")]);
        command
    };
    let fill = format!("head -c 8192 /dev/zero >'{}'/fill; ", small.display());
    let then = "\"$0\" --data \"$1\" init --key-file \"$2\"; code=$?; [ -e \"$2\" ] && exit 99; exit $code";
    let mut command = mounted(&(fill + then));
    command.arg(env!("CARGO_BIN_EXE_portcullis")).arg(home.data()).arg(small.join("root.key"));
    let done = command.output().unwrap();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("root.key"), "{said}");
    assert!(!home.data().exists(), "{said}");
}

#[test]
fn null_device_is_accepted_with_a_warning() {
    let home = Home::new();
    for arguments in [&["init", "--scopes=financial-data"][..], &CREATE] {
        let done = output(home.command(arguments), |command| {
            command.stdout(Stdio::null());
        });
        let said = text(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {said}");
        assert!(said.contains("/dev/null"), "{arguments:?}: {said}");
    }
}

fn start(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(signal: &str, child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
}

#[test]
fn first_signal_does_not_lose_a_key_that_is_being_created() {
    for signal in ["INT", "TERM", "HUP"] {
        let home = Home::new();
        let server = Scripted::new(&home.data());
        let child = start(&home, &CREATE);
        let (mut stream, _) = server.request();
        send(signal, &child);
        answer(&mut stream, "201 Created", &new_key());
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{signal}: {}", text(&done.stderr));
        assert_eq!(text(&done.stdout), "the text of the key\n", "{signal}");
    }
}

#[test]
fn second_signal_ends_a_command_that_waits_for_its_key() {
    let home = Home::new();
    let server = Scripted::new(&home.data());
    let mut child = start(&home, &CREATE);
    let (_stream, _) = server.request();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    send("INT", &child);
    said.read_line(&mut line).unwrap();
    assert!(line.contains("repeat the signal"), "{line}");
    send("INT", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    said.read_to_string(&mut line).unwrap();
    assert!(line.contains("key list"), "{line}");
}

#[test]
fn undelivered_key_that_cannot_be_revoked_is_named() {
    let home = Home::new();
    let server = Scripted::new(&home.data());
    let mut command = home.command(&CREATE);
    to_full_device(&mut command);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let (mut stream, _) = server.request();
    answer(&mut stream, "201 Created", &new_key());
    let second = next_request(&mut stream);
    assert!(second.starts_with("PATCH /v1/keys/key_8fK2mQ9xZ1a"), "{second}");
    assert!(second.contains("\"active\":false"), "{second}");
    drop((stream, server));
    let done = child.wait_with_output().unwrap();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("portcullis key revoke key_8fK2mQ9xZ1a"), "{said}");
    assert!(!said.contains("the text of the key"), "{said}");
}

#[test]
fn server_death_before_its_response_is_reported_as_unknown_outcome() {
    let revoke = ["key", "revoke", "key_8fK2mQ9xZ1a"];
    for arguments in [&CREATE[..], &revoke] {
        let home = Home::new();
        let server = Scripted::new(&home.data());
        let child = start(&home, arguments);
        drop(server.request());
        let done = child.wait_with_output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(5), "{arguments:?}: {said}");
        assert!(said.contains("check whether the change was made"), "{arguments:?}: {said}");
    }
}

#[test]
fn response_of_another_version_names_the_created_key() {
    for (body, named) in [
        (json!({"id": "key_8fK2mQ9xZ1a", "key": "the text of the key"}), "key_8fK2mQ9xZ1a"),
        (json!({"key": "the text of the key"}), "key list"),
    ] {
        let home = Home::new();
        let server = Scripted::new(&home.data());
        let child = start(&home, &CREATE);
        let (mut stream, _) = server.request();
        answer(&mut stream, "201 Created", &body);
        drop((stream, server));
        let done = child.wait_with_output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains(named) && !said.contains("the text of the key"), "{said}");
    }
}
