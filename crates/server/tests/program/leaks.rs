//! Leaked keys: `key revoke --leaked`, reports of a secret-scanning service, and keys over plain HTTP.

use portcullis_testkit::serving::{Home, id_of, text};
use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
};

/// Runs a command with this standard input.
fn run_with_input(home: &Home, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = home.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn leaked_text_of_any_length_is_searched_with_and_without_a_server() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let keys: Vec<String> = (0..3).map(|n| home.key(&format!("Till {n}"), "api.read")).collect();
    // The second key is at the border of the first two requests.
    let mut dump = format!("first={}\n", keys[0]).into_bytes();
    dump.resize(48 * 1024 - 20, b'.');
    dump.extend_from_slice(keys[1].as_bytes());
    dump.resize(300_000, 0xff);
    dump.extend_from_slice(keys[2].as_bytes());
    let file = home.room().join("dump");
    fs::write(&file, &dump).unwrap();
    let path = file.to_str().unwrap();

    let shown = home.done(&["key", "revoke", "--leaked", path, "--dry-run"]);
    for key in &keys {
        assert!(shown.contains(&id_of(key)) && !shown.contains(key.as_str()), "{shown}");
        assert_eq!(home.verify(key, &[]), 0);
    }
    let shown = home.done(&["--json", "key", "revoke", "--leaked", path, "--dry-run"]);
    assert_eq!(shown.matches("\"outcome\":\"found\"").count(), 3, "{shown}");

    let server = home.serve(&[]);
    let output = run_with_input(&home, &["key", "revoke", "--leaked", "-"], &dump[..100_000]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("  revoked").count(), 2, "{said}");
    assert_eq!(home.verify(&keys[1], &[]), 3);
    drop(server);
    home.done(&["key", "revoke", "--leaked", path]);
    assert_eq!(home.verify(&keys[2], &[]), 3);
}

#[test]
fn leaked_last_root_key_is_named_with_its_remedy_and_another_secret_is_no_key() {
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("Till", "api.read");
    let forged = format!("{}{}", &key[..15], &root[15..]);
    let output = run_with_input(&home, &["key", "revoke", "--leaked", "-"], root.as_bytes());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let remedy = format!("portcullis key rotate {}", id_of(&root));
    assert!(said.contains(&remedy), "{said}");
    let output = run_with_input(&home, &["key", "revoke", "--leaked", "-"], forged.as_bytes());
    assert!(text(&output.stderr).contains("no key of this store was found"));
    assert_eq!(home.verify(&key, &[]), 0);
    home.fails(2, &["key", "revoke", "--leaked", "-", &id_of(&key)]);
    home.fails(2, &["key", "revoke"]);
}
