//! Leaked keys: `key revoke --leaked`, reports of a secret-scanning service, and keys over plain HTTP.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use portcullis_testkit::{
    base64, basic,
    serving::{Home, free_address, id_of, text},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

const WATCHDOG: Duration = Duration::from_secs(20);

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

/// Sends the beginning of a request by plain HTTP, and returns the response.
fn ask_in_the_clear(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("GET /v1/whoami HTTP/1.1\r\nhost: {address}\r\n{head}\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn wait_until_inactive(home: &Home, key: &str) {
    let start = Instant::now();
    while home.verify(key, &[]) == 0 {
        assert!(start.elapsed() < WATCHDOG, "{}", home.log());
    }
}

fn header_with(key: &str) -> String {
    format!("authorization: {}\r\n", basic(key.as_bytes()))
}

#[test]
fn key_over_plain_http_is_revoked_after_the_response_to_any_request() {
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    let keys: Vec<String> = (0..3).map(|n| home.key(&format!("Till {n}"), "api.read")).collect();
    let server = home.serve(&["--revoke-exposed"]);
    let usual = ask_in_the_clear(server.address(), "");
    assert!(usual.starts_with("HTTP/1.1 403 ") && usual.contains("plain-http"), "{usual}");
    let heads = [
        header_with(&keys[0]),
        format!("authorization: Bearer {}\r\n", keys[1]),
        header_with(&root),
    ];
    for head in &heads {
        assert_eq!(ask_in_the_clear(server.address(), head), usual);
    }
    wait_until_inactive(&home, &keys[0]);
    wait_until_inactive(&home, &keys[1]);
    assert_eq!(home.verify(&keys[2], &[]), 0);
    assert!(home.done(&["audit"]).contains("plain-http"));
    // The last root key is only reported.
    let start = Instant::now();
    while !home.log().contains("the last root key was sent over plain HTTP") {
        assert!(start.elapsed() < WATCHDOG, "{}", home.log());
    }
    assert_eq!(home.verify(&root, &[]), 0);
    assert!(!portcullis::Secret::occurs_in(&home.log()));
}

#[test]
fn key_over_plain_http_stays_active_without_the_option_and_a_proxy_never_revokes() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("Till", "api.read");
    let server = home.serve(&[]);
    ask_in_the_clear(server.address(), &header_with(&key));
    server.stop();
    assert_eq!(home.verify(&key, &[]), 0);
    let server = home.serve(&["--behind-proxy"]);
    let head = format!("{}connection: close\r\nx-forwarded-proto: http\r\n", header_with(&key));
    assert!(ask_in_the_clear(server.address(), &head).contains("plain-http"));
    server.stop();
    assert_eq!(home.verify(&key, &[]), 0);
    home.fails(2, &["serve", "--behind-proxy", "--revoke-exposed"]);
}

#[test]
fn signed_report_revokes_a_key_on_a_running_server() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("Till", "api.read");
    let scanner = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let der: PublicKeyX509Der<'_> = scanner.public_key().as_der().unwrap();
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(der.as_ref()));
    let file = home.room().join("scanning.json");
    let keys = serde_json::json!({"public_keys": [{"key_identifier": "1a2b", "key": pem, "is_current": true}]});
    fs::write(&file, keys.to_string()).unwrap();
    let path = file.to_str().unwrap();

    let metrics = free_address();
    let options = ["--behind-proxy", "--metrics-listen", &metrics, "--leak-keys", path];
    let server = home.serve(&options);
    let body = serde_json::json!([{"token": key, "type": "key", "url": "https://example.com/\n", "source": "commit"}]);
    let body = body.to_string();
    let signature = base64(scanner.sign(&SystemRandom::new(), body.as_bytes()).unwrap().as_ref());
    let send = |identifier: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let request = format!(
            "POST /v1/leaks HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\
             github-public-key-identifier: {identifier}\r\ngithub-public-key-signature: {signature}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(send("unknown").starts_with("HTTP/1.1 503 "));
    assert_eq!(home.verify(&key, &[]), 0);
    assert!(send("1a2b").starts_with("HTTP/1.1 204 "));
    assert_eq!(home.verify(&key, &[]), 3);
    let log = home.log();
    assert!(
        log.contains("a reported leaked key was revoked") && log.contains(r"example.com/\\n"),
        "{log}"
    );
    assert!(!portcullis::Secret::occurs_in(&log));

    let mut stream = TcpStream::connect(&metrics).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    for line in [
        r#"portcullis_leak_reports_total{result="accepted"} 1"#,
        r#"portcullis_leak_reports_total{result="unknown_identifier"} 1"#,
        r#"portcullis_leaked_keys_total{result="revoked"} 1"#,
        r#"portcullis_exposed_keys_total{result="revoked"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    drop(server);
    fs::write(&file, "{}").unwrap();
    assert!(home.fails(2, &["serve", "--leak-keys", path]).contains("scanning.json"));
    home.fails(2, &["serve", "--leak-feedback"]);
}
