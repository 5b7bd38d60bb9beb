//! Truncated requests to a running server, over HTTP/1.1, HTTP/2 and the control socket: they change
//! nothing.

use portcullis_testkit::serving::{Home, Serving, id_of, text};
use portcullis_testkit::{
    frames::{CANCEL, Frames, INTERNAL_ERROR, NO_ERROR},
    needs,
};
use serde_json::Value;
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const WINDOW: u32 = 65_535;

/// A server with a root key, an active key, an inactive key and a portal session.
struct Fixture {
    home: Home,
    server: Serving,
    root: String,
    active: String,
    inactive: String,
    cookie: String,
}

/// A request that changes something if its body is complete.
struct Act {
    what: (&'static str, String),
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Fixture {
    fn new() -> Self {
        let home = Home::new();
        let root = home.done(&["init", "--scopes=financial-data"]);
        let active = id_of(&home.key("active", "api.read"));
        let inactive = id_of(&home.key("inactive", "api.read"));
        home.done(&["key", "revoke", &inactive]);
        let server = home.serve(&["--behind-proxy"]);
        let mut fixture = Self { home, server, root, active, inactive, cookie: String::new() };
        fixture.cookie = fixture.log_in();
        fixture
    }

    fn log_in(&self) -> String {
        let act = self.form("/login", format!("key={}", self.root));
        let answer = self.send(&act);
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    fn json(&self, method: &'static str, path: String, body: &str) -> Act {
        let key = ("authorization", portcullis_testkit::basic(self.root.as_bytes()));
        let headers = vec![key, ("content-type", JSON.into())];
        Act { what: (method, path), body: body.into(), headers }
    }

    fn form(&self, path: &str, body: String) -> Act {
        let mut headers =
            vec![("content-type", FORM.into()), ("sec-fetch-site", "same-origin".to_owned())];
        if !self.cookie.is_empty() {
            headers.push(("cookie", self.cookie.clone()));
        }
        Act { what: ("POST", path.into()), body, headers }
    }

    /// The hidden fields of a page's form: its one-time token, and what it was opened with.
    fn hidden(&self, path: &str) -> String {
        let page = self.send(&Act { what: ("GET", path.into()), ..self.form("", String::new()) });
        let fields = page.split(r#"<input type="hidden""#).skip(1).map(|field| {
            let value = |name: &str| {
                let (_, rest) = field.split_once(&format!(r#"{name}=""#)).unwrap();
                rest.split('"').next().unwrap().to_owned()
            };
            format!("{}={}&", value("name"), value("value"))
        });
        fields.collect::<Vec<_>>().concat()
    }

    /// Returns a request for every route that changes something. An empty body is truncated before its
    /// first byte.
    fn acts(&self) -> Vec<Act> {
        let (active, inactive) = (&self.active, &self.inactive);
        let rotate = format!("/v1/keys/{active}/rotate");
        let (key, form) = (format!("/keys/{active}"), format!("/keys/{active}/rotate"));
        let delete = format!("/keys/{inactive}/delete");
        let new = r#"{"name":"new","scopes":["api.read"]}"#;
        let name = "name=changed&scope=api.write&active=yes&expires=";
        let hidden = |path: &str| self.hidden(path);
        vec![
            self.json("POST", rotate.clone(), ""),
            self.json("POST", rotate, r#"{"grace_seconds":3600}"#),
            self.json("POST", "/v1/keys".into(), new),
            self.json("PATCH", format!("/v1/keys/{active}"), r#"{"active":false}"#),
            self.json("DELETE", format!("/v1/keys/{inactive}"), ""),
            self.json("DELETE", format!("/v1/keys/{inactive}"), "{}"),
            self.form("/keys", hidden("/keys/new") + name),
            self.form(&key, hidden(&key) + name),
            self.form(&format!("/keys/{active}/deactivate"), String::new()),
            self.form(&delete, hidden(&delete)),
            self.form(&form, hidden(&form) + "grace=0"),
            self.form("/login", format!("key={}", self.root)),
            self.form("/logout", String::new()),
        ]
    }

    /// Sends a complete request and returns the response.
    fn send(&self, act: &Act) -> String {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        let length = format!("content-length: {}\r\nconnection: close\r\n", act.body.len());
        stream.write_all((act.head(&length) + &act.body).as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        text(&answer)
    }

    /// Returns the keys, the audit log, and whether the session is valid.
    fn state(&self) -> (Value, Value, bool) {
        let read = |path: &str| {
            let answer = self.send(&self.json("GET", path.into(), ""));
            serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
        };
        let mut keys = read("/v1/keys");
        for key in keys["keys"].as_array_mut().unwrap() {
            key.as_object_mut().unwrap().remove("last_used_at");
        }
        let pages = Act { what: ("GET", "/".into()), ..self.form("", String::new()) };
        (keys, read("/v1/audit"), self.send(&pages).starts_with("HTTP/1.1 200"))
    }
}

impl Act {
    fn head(&self, framing: &str) -> String {
        let (method, path) = &self.what;
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers = headers.collect::<Vec<_>>().concat();
        format!("{method} {path} HTTP/1.1\r\nhost: here\r\n{headers}{framing}\r\n")
    }

    fn chunk(&self) -> String {
        if self.body.is_empty() {
            String::new()
        } else {
            format!("{:x}\r\n{}\r\n", self.body.len(), self.body)
        }
    }

    /// Returns this request, truncated in each way that HTTP/1.1 has.
    fn truncations(&self) -> Vec<(&'static str, String)> {
        let long = format!("content-length: {}\r\n", self.body.len() + 7);
        let chunked = "transfer-encoding: chunked\r\n";
        let expects = format!("expect: 100-continue\r\n{long}");
        vec![
            ("Content-Length not reached", self.head(&long) + &self.body),
            ("no byte of the body", self.head(&long)),
            ("last chunk missing", self.head(chunked) + &self.chunk()),
            ("chunk size malformed", self.head(chunked) + &self.chunk() + "zz\r\n"),
            ("closed before 100 Continue", self.head(&expects)),
        ]
    }
}

/// Sends a truncated request and reads the response.
fn send_truncated<S: Read + Write>(
    mut stream: S,
    request: &str,
    end: impl FnOnce(&S) -> io::Result<()>,
) {
    stream.write_all(request.as_bytes()).unwrap();
    end(&stream).unwrap();
    let mut answer = Vec::new();
    // A reset counts as a refusal.
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    let last = answer.rsplit("HTTP/1.1 ").next().unwrap();
    assert!(answer.is_empty() || last.starts_with('4') || last.starts_with("100"), "{answer}");
}

#[test]
fn request_truncated_in_its_body_changes_nothing_over_http_1() {
    let fixture = Fixture::new();
    let acts = fixture.acts();
    let before = fixture.state();
    for act in &acts {
        for (how, request) in act.truncations() {
            let stream = TcpStream::connect(fixture.server.address()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            send_truncated(stream, &request, |stream| stream.shutdown(Shutdown::Write));
            assert!(fixture.state() == before, "{:?}: {how}", act.what);
        }
    }
}

#[test]
fn request_truncated_in_its_body_changes_nothing_over_http_2() {
    let fixture = Fixture::new();
    let acts = fixture.acts();
    let before = fixture.state();
    for act in &acts {
        let (method, path) = (act.what.0, act.what.1.as_str());
        let long = (act.body.len() + 7).to_string();
        let mut headers: Vec<_> = act.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut frames = Frames::connect(fixture.server.address(), WINDOW).unwrap();
        let mut id = 1;
        for code in [CANCEL, NO_ERROR, INTERNAL_ERROR] {
            frames.request(id, (method, path), &headers, false).unwrap();
            frames.data(id, act.body.as_bytes(), false).unwrap();
            // After the ping the handler waits for more of the body.
            frames.ping().unwrap();
            frames.reset(id, code).unwrap();
            frames.ping().unwrap();
            assert!(fixture.state() == before, "{:?}: reset with {code}", act.what);
            id += 2;
        }
        headers.push(("content-length", &long));
        frames.request(id, (method, path), &headers, false).unwrap();
        frames.data(id, act.body.as_bytes(), true).unwrap();
        let _ = frames.ping();
        assert!(fixture.state() == before, "{:?}: less than content-length", act.what);
        let mut frames = Frames::connect(fixture.server.address(), WINDOW).unwrap();
        frames.request(1, (method, path), &headers, false).unwrap();
        frames.data(1, act.body.as_bytes(), false).unwrap();
        frames.ping().unwrap();
        drop(frames);
        assert!(fixture.state() == before, "{:?}: connection closed", act.what);
    }
}

#[test]
fn request_truncated_in_its_body_changes_nothing_over_the_control_socket() {
    let fixture = Fixture::new();
    let old = format!("/v1/keys/{}/rotate", fixture.active);
    let acts = [
        fixture.json("POST", old, ""),
        fixture.json("POST", "/v1/audit/cut".into(), r#"{"before":"2999-01-01T00:00:00Z"}"#),
    ];
    let before = fixture.state();
    for act in &acts {
        for (how, request) in act.truncations() {
            let stream = UnixStream::connect(fixture.home.data().join("control.sock")).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            send_truncated(stream, &request, |stream| stream.shutdown(Shutdown::Write));
            assert!(fixture.state() == before, "{:?}: {how}", act.what);
        }
    }
}

/// The counterpart: without it the tests above would prove nothing.
#[test]
fn complete_request_takes_effect() {
    for n in 0.. {
        let fixture = Fixture::new();
        let (mut acts, before) = (fixture.acts(), fixture.state());
        if n == acts.len() {
            break;
        }
        let act = acts.swap_remove(n);
        let answer = fixture.send(&act);
        let is_done = answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.1 303");
        assert!(is_done, "{:?}: {answer}", act.what);
        assert!(fixture.state() != before, "{:?}", act.what);
    }
}

/// Returns the status of the response to a request by plain HTTP/1.1. The client does not close its half:
/// the server could take that as a disconnect before it responds.
fn status(fixture: &Fixture, request: &str) -> String {
    let mut stream = TcpStream::connect(fixture.server.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    text(&answer).get(9..12).unwrap_or_default().to_owned()
}

#[test]
fn ambiguous_http_1_head_is_refused() {
    let fixture = Fixture::new();
    let end = "connection: close\r\n\r\n";
    for (head, expected) in [
        ("host: here\r\n", "200"),
        ("", "400"),
        ("host: here\r\nhost: here\r\n", "400"),
        ("host: here\r\nhost: there\r\n", "400"),
        ("host: here\r\ntransfer-encoding: gzip, chunked\r\n", "400"),
        ("host: here\r\ntransfer-encoding: identity\r\n", "400"),
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\n{head}{end}");
        assert_eq!(status(&fixture, &request), expected, "{head}");
    }
}

#[needs("curl")]
#[test]
fn refused_body_always_gets_a_response_over_http_1_and_http_2() {
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    let reader = home.key("reader", "api.read");
    let server = home.serve(&[]);
    let dir = home.room();
    let wrong = "pcl_00000000000_00000000000000000000000000000000000000";
    for size in [2_000, 60_000] {
        std::fs::write(dir.join("body"), "x".repeat(size)).unwrap();
        for version in ["--http1.1", "--http2"] {
            for (key, method, path, kind, expected) in [
                (wrong, "POST", "/v1/keys", JSON, "401"),
                (reader.as_str(), "POST", "/v1/keys", JSON, "403"),
                (root.as_str(), "POST", "/v1/nothing", JSON, "404"),
                (root.as_str(), "PUT", "/v1/keys", JSON, "405"),
                (root.as_str(), "POST", "/v1/keys", "text/plain", "415"),
            ] {
                for _ in 0..10 {
                    let output = std::process::Command::new("curl")
                        .args(["-sk", version, "-X", method, "-u", &format!("{key}:")])
                        .args(["-H", &format!("content-type: {kind}"), "--data-binary", "@body"])
                        .args(["-o", "/dev/null", "-w", "%{http_code}"])
                        .arg(format!("{}{path}", server.url))
                        .current_dir(&dir)
                        .output()
                        .unwrap();
                    let case = format!("{version} {size} {expected}: {output:?}");
                    assert!(output.status.success(), "{case}");
                    assert_eq!(text(&output.stdout), expected, "{case}");
                }
            }
        }
    }
}

#[needs("curl")]
#[test]
fn client_that_expects_100_continue_is_refused_without_it() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&[]);
    std::fs::write(home.room().join("body"), "x".repeat(60_000)).unwrap();
    for version in ["--http1.1", "--http2"] {
        for _ in 0..5 {
            let output = std::process::Command::new("curl")
                .args(["-skv", version, "-u", "nobody:", "-H", "expect: 100-continue"])
                .args(["-H", "content-type: application/json", "--data-binary", "@body"])
                .args(["-o", "/dev/null", "-w", "%{http_code}"])
                .arg(format!("{}/v1/keys", server.url))
                .current_dir(home.room())
                .output()
                .unwrap();
            let case = format!("{version}: {}", text(&output.stderr));
            assert!(output.status.success(), "{case}");
            assert_eq!(text(&output.stdout), "401", "{case}");
            assert!(!text(&output.stderr).contains("100 Continue"), "{case}");
        }
    }
}

#[test]
fn every_response_has_the_security_headers() {
    let fixture = Fixture::new();
    for path in ["/v1/keys", "/nothing", "/healthz", "/login", "/authz?scope=api.read"] {
        let answer = fixture.send(&Act {
            what: ("GET", path.into()),
            body: String::new(),
            headers: Vec::new(),
        });
        for header in [
            "x-content-type-options: nosniff",
            "frame-ancestors 'none'",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.contains(header), "{path}: {answer}");
        }
        assert!(!answer.contains("strict-transport-security"), "{answer}");
        let is_page = answer.contains("content-type: text/html");
        assert_eq!(answer.contains("permissions-policy:"), is_page, "{answer}");
    }
}

#[test]
fn hsts_is_sent_if_configured_and_zero_connections_are_refused() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&["--behind-proxy", "--hsts", "31536000"]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /login HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(text(&answer).contains("strict-transport-security: max-age=31536000\r\n"));
    let none = home.command(&["serve", "--max-connections", "0"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).contains("0 is not in 1.."), "{}", text(&none.stderr));
}
