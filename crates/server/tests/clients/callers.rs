//! The client matrix: common HTTP clients send a key in their usual ways to a running server. The tables
//! say which requests are accepted.
//!
//! A client that is not installed fails its test in CI; elsewhere the test is ignored. `.ci/run` installs
//! all of them. reqwest is built without TLS, so its server runs as behind a proxy.

use portcullis_testkit::{
    WORKSPACE, needs,
    serving::{Home, Serving, text},
};
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A server with a self-signed certificate, and a key of it.
struct Server {
    home: Home,
    serving: Serving,
    key: String,
}

impl Server {
    fn start() -> Self {
        let home = Home::new();
        home.done(&["init", "--scopes=financial-data"]);
        let key = home.key("clients", "api.read");
        let serving = home.serve(&[]);
        Self { home, serving, key }
    }

    fn url(&self) -> String {
        format!("{}/v1/whoami", self.serving.url)
    }

    /// Returns the address with this user before its `@`.
    fn url_of(&self, user: &str) -> String {
        self.url().replace("://", &format!("://{user}@"))
    }

    /// Writes a file like `~/.netrc`.
    fn netrc(&self, after_login: &str) -> PathBuf {
        let file = self.home.room().join(format!("netrc{}", after_login.len()));
        fs::write(&file, format!("machine 127.0.0.1 login {}{after_login}\n", self.key)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// Runs a client that prints a line for each case: its name, and a status or an exception.
    #[track_caller]
    fn expect(&self, client: &mut Command, expected: &[(&str, &str)]) {
        let output = client
            .env("URL", self.url())
            .env("KEY", &self.key)
            .env("NETRC", self.netrc(" password \"\""))
            .output()
            .unwrap();
        let said = text(&output.stdout);
        let found: Vec<_> = said.lines().filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(found, expected, "{}", text(&output.stderr));
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/scripts").join(name)
}

#[needs("curl", "setsid")]
#[test]
fn curl() {
    let server = Server::start();
    let key = &server.key;
    let basic = |text: &str| portcullis_testkit::base64(text.as_bytes());
    let header = |value: &str| vec!["-H".to_owned(), format!("Authorization: {value}")];
    let user = |user: &str| vec!["-u".to_owned(), user.to_owned()];
    let with_colon = format!("Basic {}", basic(&format!("{key}:")));
    let netrc = |file: PathBuf| vec!["--netrc-file".into(), file.to_str().unwrap().to_owned()];

    let cases = [
        ("no key", vec![], 401),
        ("-u KEY:", user(&format!("{key}:")), 200),
        (
            "-u KEY: over HTTP/1.1",
            [user(&format!("{key}:")), vec!["--http1.1".into()]].concat(),
            200,
        ),
        ("-u KEY: --anyauth", [user(&format!("{key}:")), vec!["--anyauth".into()]].concat(), 200),
        ("-u KEY:x", user(&format!("{key}:x")), 401),
        ("-u KEY::", user(&format!("{key}::")), 401),
        ("-u :KEY", user(&format!(":{key}")), 401),
        ("netrc", netrc(server.netrc(" password \"\"")), 200),
        ("netrc without a password", netrc(server.netrc("")), 200),
        ("netrc with a password", netrc(server.netrc(" password x")), 401),
        ("header", header(&with_colon), 200),
        ("header without a colon", header(&format!("Basic {}", basic(key))), 200),
        ("header in small letters", header(&with_colon.replace("Basic", "basic")), 200),
        ("header with two spaces", header(&with_colon.replace(' ', "  ")), 200),
        ("header with a tab", header(&with_colon.replace(' ', "\t")), 401),
        ("header without padding", header(with_colon.trim_end_matches('=')), 200),
        ("header with too much padding", header(&format!("{with_colon}====")), 401),
        ("header twice", [header(&with_colon), header(&with_colon)].concat(), 401),
        ("header with two values", header(&format!("{with_colon}, {with_colon}")), 401),
        ("header with the bare key", header(key), 401),
        ("bearer", header(&format!("Bearer {key}")), 401),
        ("Basic alone", header("Basic"), 401),
        ("header of 100 kB", header(&format!("Basic {}", "QUFB".repeat(25_000))), 401),
    ];
    let ask = |arguments: &[String], url: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"]);
        text(&curl.args(arguments).arg(url).output().unwrap().stdout)
    };
    for (way, arguments, status) in cases {
        // Over HTTP/2 a header list of 100 kB is refused before it is a request.
        let arguments = if way.ends_with("kB") {
            [arguments, vec!["--http1.1".into()]].concat()
        } else {
            arguments
        };
        assert_eq!(ask(&arguments, &server.url()), status.to_string(), "{way}");
    }
    assert_eq!(ask(&[], &server.url_of(key)), "200", "https://KEY@…");
    assert_eq!(ask(&[], &server.url_of(&format!("{key}:"))), "200", "https://KEY:@…");
    assert_eq!(ask(&[], &server.url_of(&format!("{key}:x"))), "401", "https://KEY:x@…");

    // curl prompts for the password of `-u KEY`, and nothing is typed. Without a terminal it reads
    // standard input.
    let mut child = Command::new("setsid")
        .args(["-w", "curl", "-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"])
        .args(["-u", key, &server.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "200", "-u KEY, then Enter");
}

#[needs("wget")]
#[test]
fn wget() {
    let server = Server::start();
    let key = &server.key;
    let user = format!("--user={key}");
    let token = portcullis_testkit::base64(format!("{key}:").as_bytes());
    let header = format!("--header=Authorization: Basic {token}");
    let cases: &[(&str, &[&str], bool)] = &[
        ("no key", &[], false),
        ("--user --password= after the challenge", &[&user, "--password="], true),
        ("--user --password= at once", &[&user, "--password=", "--auth-no-challenge"], true),
        ("--user --password=x", &[&user, "--password=x"], false),
        ("--header", &[&header], true),
    ];
    let ask = |arguments: &[&str], url: &str| {
        let mut wget = Command::new("wget");
        wget.args(["-q", "--no-config", "--no-netrc", "--no-check-certificate", "-O", "/dev/null"]);
        wget.args(["--tries=1", "--timeout=20"]).args(arguments).arg(url);
        // 6: the server asked for authentication.
        match wget.output().unwrap().status.code() {
            Some(0) => true,
            Some(6) => false,
            other => panic!("wget ended with {other:?}"),
        }
    };
    for (way, arguments, accepted) in cases {
        assert_eq!(ask(arguments, &server.url()), *accepted, "{way}");
    }
    assert!(ask(&[], &server.url_of(&format!("{key}:"))), "https://KEY:@…");
}

#[needs("python3")]
#[test]
fn python_urllib() {
    Server::start().expect(
        Command::new("python3").arg(script("urllib_client.py")),
        &[
            ("no-key", "401"),
            ("handler-after-challenge", "200"),
            ("handler-at-once", "200"),
            ("header", "200"),
            ("header-without-colon", "200"),
            ("header-with-password", "401"),
            ("key-as-password", "401"),
        ],
    );
}

/// The Python of the virtual environment that `.ci/run` creates.
fn python() -> Command {
    Command::new(Path::new(WORKSPACE).join("target/clients-venv/bin/python"))
}

#[needs("Python's requests: target/clients-venv/bin/python -c 'import requests'")]
#[test]
fn python_requests() {
    Server::start().expect(
        python().arg(script("requests_client.py")),
        &[
            ("no-key", "401"),
            ("pair", "200"),
            ("basic-auth", "200"),
            // It sends the password "None".
            ("pair-with-none", "401"),
            ("pair-with-password", "401"),
            ("key-as-password", "401"),
            ("bare-string", "TypeError"),
            ("address-with-colon", "200"),
            // It sends no credentials.
            ("address-without-colon", "401"),
            ("header", "200"),
            ("bearer", "401"),
            ("session", "200"),
            ("netrc", "200"),
        ],
    );
}

#[needs("Python's httpx: target/clients-venv/bin/python -c 'import httpx'")]
#[test]
fn python_httpx() {
    Server::start().expect(
        python().arg(script("httpx_client.py")),
        &[
            ("no-key", "401"),
            ("pair", "200"),
            ("basic-auth", "200"),
            ("pair-with-password", "401"),
            ("pair-with-none", "TypeError"),
            ("key-as-password", "401"),
            // With an empty password in netrc it sends no credentials.
            ("netrc", "401"),
            ("address-with-colon", "200"),
            ("address-without-colon", "200"),
            ("header", "200"),
            ("header-twice", "401"),
            ("client", "200"),
        ],
    );
}

#[needs("node")]
#[test]
fn node_fetch_and_request() {
    let mut node = Command::new("node");
    node.arg("--no-warnings").arg(script("node_client.mjs"));
    Server::start().expect(
        node.env("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
        &[
            ("fetch-no-key", "401"),
            ("fetch-btoa-with-colon", "200"),
            ("fetch-btoa-without-colon", "200"),
            ("fetch-btoa-with-password", "401"),
            ("fetch-buffer", "200"),
            ("fetch-base64url-without-padding", "200"),
            ("fetch-append-twice", "401"),
            // fetch refuses an address with a user.
            ("fetch-address", "TypeError"),
            ("request-auth", "200"),
            ("request-auth-with-colon", "200"),
            ("request-auth-with-password", "401"),
            ("request-auth-key-as-password", "401"),
            ("request-address", "200"),
            ("request-header", "200"),
            ("request-header-twice", "401"),
        ],
    );
}

#[needs("java")]
#[test]
fn java_http_client() {
    let mut java = Command::new("java");
    java.args(["-Djdk.internal.httpclient.disableHostnameVerification=true", "-Xshare:auto"]);
    Server::start().expect(
        java.arg(script("JavaClient.java")),
        &[
            ("no-key", "401"),
            ("authenticator", "200"),
            ("authenticator-http1", "200"),
            // It fails after three attempts.
            ("authenticator-with-password", "IOException"),
            ("header", "200"),
            ("header-without-colon", "200"),
            ("set-header", "200"),
            ("header-twice", "401"),
            ("connection", "200"),
        ],
    );
}

#[test]
fn reqwest() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let key = home.key("clients", "api.read");
    let serving = home.serve(&["--behind-proxy"]);
    let url = format!("{}/v1/whoami", serving.url);
    let client = reqwest::blocking::Client::new();
    let status =
        |request: reqwest::blocking::RequestBuilder| request.send().unwrap().status().as_u16();
    let (get, nothing) = (|| client.get(&url), None::<&str>);
    assert_eq!(status(get()), 401);
    assert_eq!(status(get().basic_auth(&key, nothing)), 200);
    assert_eq!(status(get().basic_auth(&key, Some(""))), 200);
    assert_eq!(status(get().basic_auth(&key, Some("password"))), 401);
    assert_eq!(status(get().basic_auth("", Some(&key))), 401);
    assert_eq!(status(client.get(url.replace("://", &format!("://{key}@")))), 200);
    // `header` adds a line, so two are sent; a second one is refused.
    let twice = get().basic_auth(&key, nothing).basic_auth(&key, nothing);
    assert_eq!(status(twice), 401);
}
