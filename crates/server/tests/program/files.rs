//! Unsafe files in the data directory: links, pipes, foreign owners, loose permissions.

use portcullis_testkit::{needs, serving};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

const SENTINEL: &str = "sentinel\n";

/// A directory with a store in it, and a file that no command may change.
struct Home(serving::Home);

impl Home {
    fn empty() -> Self {
        let home = Self(serving::Home::new());
        fs::write(home.sentinel(), SENTINEL).unwrap();
        home
    }

    fn new() -> Self {
        let home = Self::empty();
        home.done(&["init", "--scopes=financial-data"]);
        home
    }

    fn data(&self) -> PathBuf {
        self.0.data()
    }

    fn sentinel(&self) -> PathBuf {
        self.0.room().join("sentinel")
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.0.command(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn done(&self, arguments: &[&str]) {
        let (code, said) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }

    /// Runs a command that must be refused with these words and must not change the file.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let (code, said) = self.run(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {words:?}: {said}");
        assert_eq!(fs::read_to_string(self.sentinel()).unwrap(), SENTINEL, "{arguments:?}");
    }
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Each command that opens the store or its socket.
const COMMANDS: [&[&str]; 3] =
    [&["key", "list"], &["serve", "--listen", "127.0.0.1:0"], &["backup", "kept"]];

#[test]
fn link_in_place_of_a_store_file_is_refused_and_its_target_unchanged() {
    for name in ["lock", "ledger/anchor", "ledger/sled/conf", "ledger/sled/db"] {
        let home = Home::new();
        fs::remove_file(home.data().join(name)).unwrap();
        symlink(home.sentinel(), home.data().join(name)).unwrap();
        for command in COMMANDS {
            home.refuses(command, &["symbolic link", name]);
        }
        assert!(home.data().join(name).is_symlink());
    }
}

#[test]
fn link_in_an_empty_directory_is_refused_before_a_store_is_created() {
    for name in ["lock", "ledger", "ledger.new"] {
        let home = Home::empty();
        fs::create_dir(home.data()).unwrap();
        set(&home.data(), 0o700);
        symlink(home.sentinel(), home.data().join(name)).unwrap();
        home.refuses(&["init"], &["symbolic link", name]);
        assert!(home.data().join(name).is_symlink());
    }
}

#[test]
fn link_in_place_of_a_directory_of_the_store_is_refused() {
    for name in ["ledger", "ledger/sled", "ledger/sled/blobs"] {
        let home = Home::new();
        let away = home.0.room().join("away");
        fs::rename(home.data().join(name), &away).unwrap();
        symlink(&away, home.data().join(name)).unwrap();
        for command in COMMANDS {
            home.refuses(command, &["symbolic link", name]);
        }
    }
}

#[test]
fn link_in_place_of_the_certificates_directory_is_refused() {
    let home = Home::new();
    let away = home.0.room().join("away");
    fs::create_dir(&away).unwrap();
    symlink(&away, home.data().join("tls")).unwrap();
    home.refuses(&["serve", "--listen", "127.0.0.1:0"], &["symbolic link", "tls"]);
    assert_eq!(fs::read_dir(&away).unwrap().count(), 0);
}

#[test]
fn data_directory_may_be_a_symbolic_link() {
    let home = Home::new();
    fs::rename(home.data(), home.0.room().join("elsewhere")).unwrap();
    symlink("elsewhere", home.data()).unwrap();
    home.done(&["key", "list"]);
}

#[test]
fn directory_that_others_can_write_is_refused_with_the_remedy() {
    let home = Home::new();
    let data = home.data();
    let remedy = format!("chmod go-w {}", data.display());
    for open in [0o777, 0o1777, 0o770, 0o707] {
        set(&data, open);
        for command in COMMANDS {
            home.refuses(command, &[&remedy]);
        }
        assert_eq!(mode(&data), open);
    }
    set(&data, 0o700);
    let other = home.0.room().join("other");
    fs::create_dir(&other).unwrap();
    set(&other, 0o777);
    home.refuses(&["init", "--data", "other"], &["chmod go-w"]);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    for name in ["ledger", "ledger/sled"] {
        set(&data.join(name), 0o777);
        home.refuses(&["key", "list"], &["chmod go-w", name]);
        set(&data.join(name), 0o700);
    }
    home.done(&["key", "list"]);
}

#[test]
fn parent_directory_that_others_can_write_is_refused_unless_sticky() {
    let home = Home::new();
    set(&home.0.room(), 0o777);
    home.refuses(&["key", "list"], &["chmod go-w", home.0.room().to_str().unwrap()]);
    home.refuses(&["init", "--data", "other"], &["chmod go-w"]);
    set(&home.0.room(), 0o1777);
    home.done(&["key", "list"]);
    set(&home.0.room(), 0o700);
}

#[test]
fn readable_files_are_closed_and_writable_files_are_refused() {
    let home = Home::new();
    for name in ["lock", "ledger/anchor", "ledger/sled/db", "ledger/sled/conf"] {
        let path = home.data().join(name);
        set(&path, 0o666);
        home.refuses(&["key", "list"], &["chmod go-w", name]);
        set(&path, 0o644);
    }
    for name in ["", "ledger", "ledger/sled"] {
        set(&home.data().join(name), 0o755);
    }
    home.done(&["key", "list"]);
    for name in ["lock", "ledger/anchor", "ledger/sled/db", "ledger/sled/conf"] {
        assert_eq!(mode(&home.data().join(name)), 0o600, "{name}");
    }
    for name in ["", "ledger", "ledger/sled"] {
        assert_eq!(mode(&home.data().join(name)), 0o700, "{name}");
    }
}

#[test]
fn hard_linked_file_is_refused() {
    let home = Home::new();
    fs::remove_file(home.data().join("lock")).unwrap();
    fs::hard_link(home.sentinel(), home.data().join("lock")).unwrap();
    home.refuses(&["key", "list"], &["hard link", "lock"]);
}

#[test]
fn pipe_in_place_of_a_file_is_refused_without_waiting() {
    for name in ["lock", "ledger/anchor"] {
        let home = Home::new();
        fs::remove_file(home.data().join(name)).unwrap();
        pipe(&home.data().join(name));
        home.refuses(&["key", "list"], &["pipe", name]);
        assert_eq!(home.run(&["doctor"]), (Some(4), String::new()));
    }
}

#[needs("root: test $(id -u) = 0")]
#[test]
fn files_of_another_user_are_refused() {
    let home = Home::new();
    for name in ["lock", "ledger/sled/db", "ledger/anchor", "ledger"] {
        let path = home.data().join(name);
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        home.refuses(&["key", "list"], &["another user (12345)", "chown", name]);
        std::os::unix::fs::chown(&path, Some(rustix::process::geteuid().as_raw()), None).unwrap();
    }
    home.done(&["key", "list"]);
}

#[test]
fn anchor_is_no_link_and_its_directory_is_closed_to_others() {
    let home = Home::empty();
    let there = home.0.room().join("there");
    fs::create_dir(&there).unwrap();
    let anchor = there.join("anchor");
    let given = ["--anchor", anchor.to_str().unwrap()];
    symlink(home.sentinel(), &anchor).unwrap();
    home.refuses(&[&given[..], &["init", "--scopes=financial-data"]].concat(), &["anchor"]);
    fs::remove_file(&anchor).unwrap();
    home.done(&[&given[..], &["init", "--scopes=financial-data"]].concat());
    let list = [&given[..], &["key", "list"]].concat();
    home.done(&list);
    set(&there, 0o777);
    home.refuses(&list, &["chmod go-w"]);
    set(&there, 0o755);
    fs::rename(&anchor, there.join("moved")).unwrap();
    symlink("moved", &anchor).unwrap();
    home.refuses(&list, &["symbolic link"]);
}

#[test]
fn doctor_reports_unsafe_files() {
    for name in ["lock", "ledger/sled"] {
        let home = Home::new();
        let away = home.0.room().join("away");
        fs::rename(home.data().join(name), &away).unwrap();
        symlink(&away, home.data().join(name)).unwrap();
        let output = home.0.command(&["doctor", "--json"]).output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(4), "{report}");
        assert!(report.contains("\"unsafe\"") && report.contains("symbolic link"), "{report}");
    }
}

#[test]
fn unusable_pepper_file_is_refused_with_the_reason() {
    let home = Home::empty();
    let file = home.0.room().join("pepper");
    let init = ["--pepper-file", "pepper", "init", "--scopes=financial-data"];
    home.refuses(&init, &["pepper file pepper", "No such file"]);
    fs::create_dir(&file).unwrap();
    home.refuses(&init, &["pepper file pepper", "it is a directory"]);
    fs::remove_dir(&file).unwrap();
    for empty in ["", "\n"] {
        fs::write(&file, empty).unwrap();
        set(&file, 0o600);
        home.refuses(&init, &["pepper file pepper", "is empty"]);
    }
    fs::write(&file, "a pepper of 24 characters\n").unwrap();
    for (mode, words) in [(0o604, "everybody"), (0o644, "everybody"), (0o660, "write")] {
        set(&file, mode);
        home.refuses(&init, &["pepper file pepper", words, "chmod"]);
    }
    set(&file, 0o640);
    symlink("pepper", home.0.room().join("link")).unwrap();
    home.done(&["--pepper-file", "link", "init", "--scopes=financial-data"]);
    home.done(&["--pepper-file", "pepper", "key", "list"]);
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}
