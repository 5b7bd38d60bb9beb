//! Backup, restore and export on the command line, beside a running server and without one.

use portcullis_testkit::{
    needs,
    serving::{Home, id_of, text},
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::Duration,
};

fn run(home: &Home, arguments: &[&str]) -> Output {
    home.command(arguments).output().unwrap()
}

/// Runs what must succeed; gives what it says on standard error.
fn says(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// Runs what must fail with this code; gives what it says.
fn fails(home: &Home, code: i32, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn verdict(home: &Home, data: &Path, key: &str) -> i32 {
    let mut command = home.command(&["verify"]);
    command.env("PORTCULLIS_DATA", data).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{key}").unwrap();
    child.wait().unwrap().code().unwrap()
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn new(home: &Home) -> PathBuf {
    home.room().join("new")
}

#[test]
fn a_backup_goes_through_a_running_server_and_a_restore_revives_nothing() {
    let home = Home::new();
    home.done(&["init"]);
    let kept = home.key("kept", "api.read");
    let gone = home.key("gone", "api.read");
    let server = home.serve(&[]);
    let said = says(&home, &["backup", "keys.backup"]);
    assert_eq!(said, "backed up 3 keys as of change 4\n");
    let file = home.room().join("keys.backup");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let verified = home.done(&["backup", "--verify", "keys.backup"]);
    assert!(verified.starts_with("3 keys as of change 4, taken 2"), "{verified}");
    assert!(verified.ends_with("each byte as it was written"), "{verified}");
    let same = home.command(&["backup", "-"]).output().unwrap();
    assert!(same.stdout.starts_with(b"PCLBKUP\x01"), "{}", text(&same.stderr));

    // The server still runs: what it may still take away would not be known.
    home.done(&["key", "revoke", &id_of(&gone)]);
    let restore = ["restore", "keys.backup", "--data", "new", "--old-data", "data"];
    let said = fails(&home, 5, &restore);
    assert!(said.contains("already open"), "{said}");
    assert!(server.stop().success());

    let said = says(&home, &restore);
    assert_eq!(said, "restored 3 keys into new\n");
    assert_eq!(verdict(&home, &new(&home), &kept), 0);
    assert_eq!(verdict(&home, &new(&home), &gone), 3);
    let said = fails(&home, 1, &restore);
    assert!(said.contains("already holds a store"), "{said}");
    assert_eq!(names_in(&home.room()).iter().filter(|name| name.contains("part")).count(), 0);
}

#[test]
fn a_restore_asks_where_later_denials_are() {
    let home = Home::new();
    home.done(&["init"]);
    let gone = home.key("gone", "api.read");
    home.done(&["backup", "keys.backup"]);
    home.done(&["key", "revoke", &id_of(&gone)]);
    let late = home.key("late", "api.read");
    home.done(&["audit", "--export", "trail.jsonl"]);

    let said = fails(&home, 2, &["restore", "keys.backup", "--data", "new"]);
    assert!(said.contains("--without-later-denials"), "{said}");
    assert!(!new(&home).exists());

    let made =
        home.done(&["--json", "restore", "keys.backup", "--data", "new", "--audit", "trail.jsonl"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&made["keys"], &made["sequence"]), (&2.into(), &6.into()));
    let fates: Vec<_> = made["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["key"].as_str().unwrap(), change["fate"].as_str().unwrap()))
        .collect();
    assert_eq!(fates, [(&*id_of(&gone), "kept"), (&*id_of(&late), "lost")]);
    assert!(made["unknown"]["from"].is_string());
    assert_eq!(verdict(&home, &new(&home), &gone), 3);

    // An export whose tail was cut is none.
    let trail = fs::read_to_string(home.room().join("trail.jsonl")).unwrap();
    let lines: Vec<&str> = trail.lines().collect();
    fs::write(home.room().join("cut.jsonl"), lines[..lines.len() - 1].join("\n")).unwrap();
    let said =
        fails(&home, 1, &["restore", "keys.backup", "--data", "other", "--audit", "cut.jsonl"]);
    assert!(said.contains("it was truncated"), "{said}");

    let said =
        says(&home, &["restore", "keys.backup", "--data", "risky", "--without-later-denials"]);
    assert!(said.contains("WORK AGAIN"), "{said}");
    assert_eq!(verdict(&home, &home.room().join("risky"), &gone), 0);
}

#[test]
fn a_damaged_backup_is_named_and_keeps_nobody_busy() {
    let home = Home::new();
    home.done(&["init"]);
    home.done(&["backup", "keys.backup"]);
    let file = home.room().join("keys.backup");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let said = fails(&home, 1, &["backup", "--verify", "keys.backup"]);
    assert!(said.starts_with("error: the backup cannot be used"), "{said}");
    let said =
        fails(&home, 1, &["restore", "keys.backup", "--data", "new", "--without-later-denials"]);
    assert!(said.starts_with("error: the backup cannot be used"), "{said}");
    assert!(!new(&home).join("ledger").exists());
}

#[test]
fn a_backup_replaces_an_older_one_and_nothing_else() {
    let home = Home::new();
    home.done(&["init"]);
    fs::write(home.room().join("thesis.txt"), "years of work").unwrap();
    let said = fails(&home, 2, &["backup", "thesis.txt"]);
    assert!(said.contains("is no backup"), "{said}");
    assert_eq!(fs::read(home.room().join("thesis.txt")).unwrap(), b"years of work");
    home.done(&["backup", "keys.backup"]);
    home.key("another", "api.read");
    let said = says(&home, &["backup", "keys.backup"]);
    assert!(said.contains("2 keys"), "{said}");
    let said = fails(&home, 1, &["backup", "nowhere/keys.backup"]);
    assert!(said.starts_with("error: creating nowhere/"), "{said}");
}

#[test]
fn a_restore_that_is_killed_leaves_no_store_and_no_obstacle() {
    let home = Home::new();
    home.done(&["init"]);
    for _ in 0..5 {
        home.key("a", "api.read");
    }
    let backup = home.command(&["backup", "-"]).output().unwrap().stdout;
    for part in [0, 9, backup.len() / 2, backup.len() - 1] {
        let arguments = ["restore", "-", "--data", "new", "--without-later-denials"];
        let mut command = home.command(&arguments);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&backup[..part]).unwrap();
        // Where in its work it is killed does not matter, and this lets it begin.
        thread::sleep(Duration::from_millis(100));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(pipe);
        assert!(!new(&home).join("ledger").exists(), "{part}");
    }
    let said = fails(&home, 1, &["key", "list", "--data", "new"]);
    assert!(said.contains("no store in"), "{said}");
    fs::write(home.room().join("keys.backup"), &backup).unwrap();
    let said = says(&home, &["restore", "keys.backup", "--data", "new", "--old-data", "data"]);
    assert!(said.contains("restored 6 keys"), "{said}");
    assert_eq!(names_in(&new(&home)), ["ledger", "lock"]);
}

#[test]
fn an_export_is_a_key_a_line_as_the_api_says_it() {
    let home = Home::new();
    home.done(&["init"]);
    let key = home.key("till", "api.read");
    let export = home.done(&["export"]);
    let lines: Vec<Value> =
        export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let shown: Value =
        serde_json::from_str(&home.done(&["--json", "key", "show", &id_of(&key)])).unwrap();
    assert_eq!(lines[0], shown);
    let secret = key.rsplit('_').next().unwrap();
    assert!(!export.contains(secret));
    let help = home.done(&["export", "--help"]);
    assert!(help.contains("no backup"), "{help}");
}

#[needs("curl")]
#[test]
fn a_backup_is_not_to_be_had_from_outside() {
    let home = Home::new();
    let server = home.serve(&[]);
    let root = server.said.lines().find(|line| line.contains("pcl_")).unwrap();
    let root = root.split_whitespace().find(|word| word.starts_with("pcl_")).unwrap();
    let port = server.address().rsplit(':').next().unwrap().to_owned();
    let answer = std::process::Command::new("curl")
        .args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", "-u", &format!("{root}:")])
        .arg(format!("https://127.0.0.1:{port}/v1/backup"))
        .output();
    assert_eq!(text(&answer.unwrap().stdout), "404");
}

#[test]
fn backup_to_a_pipe_or_a_link_writes_there_and_replaces_neither() {
    let home = Home::new();
    home.done(&["init"]);
    let pipe = home.room().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    says(&home, &["backup", "pipe"]);
    let through_the_pipe = reader.join().unwrap();
    assert!(through_the_pipe.starts_with(b"PCLBKUP\x01"));
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::metadata(&pipe).unwrap().file_type()));
    fs::write(home.room().join("from-the-pipe"), through_the_pipe).unwrap();
    says(&home, &["backup", "--verify", "from-the-pipe"]);
    // Nobody reads it: the command ends all the same.
    let said = fails(&home, 1, &["backup", "pipe"]);
    assert!(said.contains("nobody reads the pipe") && said.contains("start its reader"), "{said}");

    says(&home, &["backup", "real"]);
    std::os::unix::fs::symlink("real", home.room().join("link")).unwrap();
    home.key("later", "api.read");
    says(&home, &["backup", "link"]);
    assert!(fs::symlink_metadata(home.room().join("link")).unwrap().is_symlink());
    assert!(home.done(&["backup", "--verify", "real"]).starts_with("2 keys"));
    std::os::unix::fs::symlink("nowhere", home.room().join("dangling")).unwrap();
    let said = fails(&home, 1, &["backup", "dangling"]);
    assert!(said.contains("is a link to a file that cannot be found"), "{said}");
    let said = fails(&home, 2, &["backup", "."]);
    assert!(said.contains("is a directory; name a file in it"), "{said}");
    says(&home, &["backup", "/dev/null"]);
}

#[test]
fn failed_restore_leaves_no_directory_behind() {
    let home = Home::new();
    home.done(&["init"]);
    home.key("kept", "api.read");
    says(&home, &["backup", "keys.backup"]);
    let whole = fs::read(home.room().join("keys.backup")).unwrap();
    let before = names_in(&home.room());
    // Damage that is found at the beginning, in the middle and at the end of reading.
    for (place, length) in [(10, whole.len()), (whole.len() / 2, whole.len()), (0, whole.len() - 9)]
    {
        let mut damaged = whole[..length].to_vec();
        if place > 0 {
            damaged[place] ^= 1;
        }
        fs::write(home.room().join("keys.backup"), damaged).unwrap();
        let anchor = home.room().join("anchor");
        for more in [&[][..], &["--anchor", anchor.to_str().unwrap()]] {
            let restore = ["restore", "keys.backup", "--data", "new", "--without-later-denials"];
            fails(&home, 1, &[&restore, more].concat());
            assert_eq!(names_in(&home.room()), before, "damage at {place}");
        }
    }
    // A directory that was there stays, with nothing in it but the lock.
    fs::create_dir(new(&home)).unwrap();
    fs::set_permissions(new(&home), fs::Permissions::from_mode(0o700)).unwrap();
    fails(&home, 1, &["restore", "keys.backup", "--data", "new", "--without-later-denials"]);
    assert_eq!(names_in(&new(&home)), ["lock"]);
    fs::write(home.room().join("keys.backup"), whole).unwrap();
    says(&home, &["restore", "keys.backup", "--data", "new", "--without-later-denials"]);
}
