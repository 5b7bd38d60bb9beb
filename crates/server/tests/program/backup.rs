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

/// Runs a command that must succeed. Returns its standard error.
fn run_ok(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// Runs a command that must fail with this code. Returns its standard error.
fn fails(home: &Home, code: i32, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn verify_code(home: &Home, data: &Path, key: &str) -> i32 {
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
fn backup_of_a_running_server_restores_without_a_revoked_key() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let kept = home.key("kept", "api.read");
    let revoked = home.key("gone", "api.read");
    let server = home.serve(&[]);
    let said = run_ok(&home, &["backup", "keys.backup"]);
    assert_eq!(said, "backed up 3 keys as of change 4\n");
    let file = home.room().join("keys.backup");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let verified = home.done(&["backup", "--verify", "keys.backup"]);
    assert!(verified.starts_with("3 keys as of change 4, taken 2"), "{verified}");
    assert!(verified.ends_with("complete and unaltered"), "{verified}");
    let same = home.command(&["backup", "-"]).output().unwrap();
    assert!(same.stdout.starts_with(b"PCLBKUP\x01"), "{}", text(&same.stderr));

    // The server still runs, so it could revoke further keys.
    home.done(&["key", "revoke", &id_of(&revoked)]);
    let restore = ["restore", "keys.backup", "--data", "new", "--old-data", "data"];
    let said = fails(&home, 5, &restore);
    assert!(said.contains("already open"), "{said}");
    assert!(server.stop().success());

    let said = run_ok(&home, &restore);
    assert_eq!(said, "restored 3 keys into new\n");
    assert_eq!(verify_code(&home, &new(&home), &kept), 0);
    assert_eq!(verify_code(&home, &new(&home), &revoked), 3);
    let said = fails(&home, 1, &restore);
    assert!(said.contains("already holds a store"), "{said}");
    assert_eq!(names_in(&home.room()).iter().filter(|name| name.contains("part")).count(), 0);
}

#[test]
fn restore_requires_evidence_of_later_revocations() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let revoked = home.key("gone", "api.read");
    home.done(&["backup", "keys.backup"]);
    home.done(&["key", "revoke", &id_of(&revoked)]);
    let late = home.key("late", "api.read");
    home.done(&["audit", "--export", "audit.jsonl"]);

    let said = fails(&home, 2, &["restore", "keys.backup", "--data", "new"]);
    assert!(said.contains("--without-later-denials"), "{said}");
    assert!(!new(&home).exists());

    let made =
        home.done(&["--json", "restore", "keys.backup", "--data", "new", "--audit", "audit.jsonl"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&made["keys"], &made["sequence"]), (&2.into(), &6.into()));
    let effects: Vec<_> = made["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["key"].as_str().unwrap(), change["fate"].as_str().unwrap()))
        .collect();
    assert_eq!(effects, [(&*id_of(&revoked), "kept"), (&*id_of(&late), "lost")]);
    assert!(made["unknown"]["from"].is_string());
    assert_eq!(verify_code(&home, &new(&home), &revoked), 3);

    // A truncated export is refused.
    let export = fs::read_to_string(home.room().join("audit.jsonl")).unwrap();
    let lines: Vec<&str> = export.lines().collect();
    fs::write(home.room().join("truncated.jsonl"), lines[..lines.len() - 1].join("\n")).unwrap();
    let said = fails(
        &home,
        1,
        &["restore", "keys.backup", "--data", "other", "--audit", "truncated.jsonl"],
    );
    assert!(said.contains("it was truncated"), "{said}");

    let said =
        run_ok(&home, &["restore", "keys.backup", "--data", "risky", "--without-later-denials"]);
    assert!(said.contains("ARE VALID AGAIN"), "{said}");
    assert_eq!(verify_code(&home, &home.room().join("risky"), &revoked), 0);
}

#[test]
fn damaged_backup_is_refused_and_creates_no_store() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
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
fn backup_replaces_an_older_backup_and_no_other_file() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    fs::write(home.room().join("thesis.txt"), "years of work").unwrap();
    let said = fails(&home, 2, &["backup", "thesis.txt"]);
    assert!(said.contains("is not a backup"), "{said}");
    assert_eq!(fs::read(home.room().join("thesis.txt")).unwrap(), b"years of work");
    home.done(&["backup", "keys.backup"]);
    home.key("another", "api.read");
    let said = fails(&home, 2, &["backup", "keys.backup"]);
    assert!(said.contains("already holds a backup") && said.contains("--force"), "{said}");
    assert!(home.done(&["backup", "--verify", "keys.backup"]).starts_with("1 key as"));
    let said = run_ok(&home, &["backup", "--force", "keys.backup"]);
    assert!(said.contains("2 keys"), "{said}");
    let said = fails(&home, 1, &["backup", "nowhere/keys.backup"]);
    assert!(said.starts_with("error: creating nowhere/"), "{said}");
}

#[test]
fn killed_restore_leaves_no_store_and_can_be_repeated() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
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
        // The restore has begun when it is killed; how far it got does not matter.
        thread::sleep(Duration::from_millis(100));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(pipe);
        assert!(!new(&home).join("ledger").exists(), "{part}");
    }
    let said = fails(&home, 1, &["key", "list", "--data", "new"]);
    assert!(said.contains("no store in"), "{said}");
    fs::write(home.room().join("keys.backup"), &backup).unwrap();
    let said = run_ok(&home, &["restore", "keys.backup", "--data", "new", "--old-data", "data"]);
    assert!(said.contains("restored 6 keys"), "{said}");
    assert_eq!(names_in(&new(&home)), ["ledger", "lock"]);
}

#[test]
fn export_prints_one_key_per_line_as_in_the_api() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
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
fn backup_is_not_served_over_https() {
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
fn backup_to_a_pipe_or_a_link_replaces_neither() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let pipe = home.room().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    run_ok(&home, &["backup", "pipe"]);
    let through_the_pipe = reader.join().unwrap();
    assert!(through_the_pipe.starts_with(b"PCLBKUP\x01"));
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::metadata(&pipe).unwrap().file_type()));
    fs::write(home.room().join("from-the-pipe"), through_the_pipe).unwrap();
    run_ok(&home, &["backup", "--verify", "from-the-pipe"]);
    // Without a reader the command fails instead of blocking.
    let said = fails(&home, 1, &["backup", "pipe"]);
    assert!(said.contains("has no reader") && said.contains("start its reader"), "{said}");

    run_ok(&home, &["backup", "real"]);
    std::os::unix::fs::symlink("real", home.room().join("link")).unwrap();
    home.key("later", "api.read");
    assert!(fails(&home, 2, &["backup", "link"]).contains("--force"));
    run_ok(&home, &["backup", "--force", "link"]);
    assert!(fs::symlink_metadata(home.room().join("link")).unwrap().is_symlink());
    assert!(home.done(&["backup", "--verify", "real"]).starts_with("2 keys"));
    std::os::unix::fs::symlink("nowhere", home.room().join("dangling")).unwrap();
    let said = fails(&home, 1, &["backup", "dangling"]);
    assert!(said.contains("is a link to a file that cannot be found"), "{said}");
    let said = fails(&home, 2, &["backup", "."]);
    assert!(said.contains("is a directory; name a file in it"), "{said}");
    run_ok(&home, &["backup", "/dev/null"]);
}

#[test]
fn failed_restore_leaves_no_directory_behind() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    home.key("kept", "api.read");
    run_ok(&home, &["backup", "keys.backup"]);
    let complete = fs::read(home.room().join("keys.backup")).unwrap();
    let before = names_in(&home.room());
    // Damage at the beginning, in the middle and at the end of the backup.
    for (place, length) in
        [(10, complete.len()), (complete.len() / 2, complete.len()), (0, complete.len() - 9)]
    {
        let mut damaged = complete[..length].to_vec();
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
    // An existing directory stays, with only the lock in it.
    fs::create_dir(new(&home)).unwrap();
    fs::set_permissions(new(&home), fs::Permissions::from_mode(0o700)).unwrap();
    fails(&home, 1, &["restore", "keys.backup", "--data", "new", "--without-later-denials"]);
    assert_eq!(names_in(&new(&home)), ["lock"]);
    fs::write(home.room().join("keys.backup"), complete).unwrap();
    run_ok(&home, &["restore", "keys.backup", "--data", "new", "--without-later-denials"]);
}
