//! The start of a server: signals while it opens its store, and addresses in use.

use portcullis_testkit::{
    needs,
    serving::{Home, free_address, id_of, runs, text},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

const PEPPER: &str = "a pepper of 24 characters";

/// A store with a pepper that a server reads from a named pipe. The server is opening its store until the
/// test writes the pepper.
struct Opening {
    home: Home,
    pepper: String,
}

impl Opening {
    fn new() -> Self {
        let home = Home::new();
        let file = home.room().join("pepper.file");
        let mut private = OpenOptions::new();
        let mut pepper = private.write(true).create_new(true).mode(0o600).open(&file).unwrap();
        pepper.write_all(PEPPER.as_bytes()).unwrap();
        home.done(&["init", "--pepper-file", file.to_str().unwrap()]);
        let pipe = home.room().join("pepper.pipe").to_str().unwrap().to_owned();
        assert!(runs(Command::new("mkfifo").args(["-m", "600", &pipe])));
        Self { home, pepper: pipe }
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["serve", "--listen", "127.0.0.1:0", "--pepper-file", &self.pepper]
    }

    /// Returns the writing end of the pipe, once the server has opened the other one.
    fn begun(&self) -> File {
        File::options().write(true).open(&self.pepper).unwrap()
    }
}

fn send(signal: &str, process: u32) {
    let sent = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

fn start(command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

#[test]
fn sighup_while_the_store_is_opened_is_ignored() {
    let opening = Opening::new();
    let (mut server, mut output) = start(&mut opening.home.command(&opening.arguments()));
    let mut pepper = opening.begun();
    send("HUP", server.id());
    pepper.write_all(PEPPER.as_bytes()).unwrap();
    drop(pepper);
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    assert!(said.starts_with("listening on "), "{said}");
    send("TERM", server.id());
    assert!(server.wait().unwrap().success());
}

#[test]
fn stop_signal_ends_a_server_that_is_opening_its_store() {
    for signal in ["TERM", "INT"] {
        let opening = Opening::new();
        let (server, mut output) = start(&mut opening.home.command(&opening.arguments()));
        // Held open, so that the server waits for the pepper.
        let _pepper = opening.begun();
        send(signal, server.id());
        let done = server.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{signal}: {}", text(&done.stderr));
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{signal}");
    }
}

/// The process that has no parent in the namespace that `unshare` made.
fn first_process(unshare: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    children.trim().parse().unwrap()
}

#[needs("a namespace for processes: unshare -r --pid --fork --kill-child true")]
#[test]
fn stop_signal_ends_process_1_of_a_container_while_it_opens_its_store() {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["-r", "--pid", "--fork", "--kill-child"]);
        command
    };
    let opening = Opening::new();
    let mut command = unshare();
    command.arg(env!("CARGO_BIN_EXE_portcullis")).args(opening.arguments()).env_clear();
    command.env("PORTCULLIS_DATA", opening.home.data());
    let (server, _output) = start(&mut command);
    let _pepper = opening.begun();
    send("TERM", first_process(server.id()));
    let done = server.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
}

fn says_nothing_on_standard_output(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let done = home.command(arguments).output().unwrap();
    assert_eq!(text(&done.stdout), "", "{arguments:?}");
    (done.status.code(), text(&done.stderr))
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn address_in_use_leaves_no_store_no_root_key_and_no_certificate() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = free_address();
    for [listen, metrics] in [[&taken, &free], [&free, &taken]] {
        let home = Home::new();
        let serve = ["serve", "--listen", listen, "--metrics-listen", metrics];
        let (code, said) = says_nothing_on_standard_output(&home, &serve);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("listening on {taken}")), "{said}");
        assert!(!exists(&home.data()), "{serve:?}");

        // The same with an existing store: nothing new is in its directory.
        home.done(&["init", "--scopes=financial-data"]);
        let (code, said) = says_nothing_on_standard_output(&home, &serve);
        assert_eq!(code, Some(1), "{said}");
        assert!(!exists(&home.data().join("tls")), "{serve:?}");
    }
}

#[test]
fn failed_first_start_can_be_repeated() {
    let home = Home::new();
    let mut command = home.command(&["serve", "--listen", "127.0.0.1:0"]);
    // The first file of sled has 512 KiB.
    let limited = {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -S -f 100; exec \"$0\" \"$@\""]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.env_clear().env("PORTCULLIS_DATA", home.data()).current_dir(home.room());
        shell.output().unwrap()
    };
    assert_eq!(limited.status.code(), Some(1), "{}", text(&limited.stderr));
    assert!(!exists(&home.data().join("control.sock")));
    let (mut server, mut output) = start(&mut command);
    let mut said = String::new();
    while !said.contains("listening on ") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{}", text(&limited.stderr));
    }
    send("TERM", server.id());
    assert!(server.wait().unwrap().success());
}

#[test]
fn second_server_reports_the_open_store_and_not_the_port() {
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&[]);
    let (code, said) =
        says_nothing_on_standard_output(&home, &["serve", "--listen", server.address()]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("already open"), "{said}");
    assert!(home.done(&["key", "show", &id_of(&root)]).contains("root"), "the first one serves");
    assert!(server.stop().success());
}

#[test]
fn unusable_certificate_is_reported_before_the_store_is_opened() {
    let home = Home::new();
    let file = home.room().join("cert.pem");
    fs::write(&file, "not a certificate").unwrap();
    let file = file.to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--tls-cert", file, "--tls-key", file];
    let (code, said) = says_nothing_on_standard_output(&home, &serve);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cert.pem"), "{said}");
    assert!(!exists(&home.data()));
}
