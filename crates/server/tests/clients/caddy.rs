//! The shipped Caddyfile in a real Caddy: the responses to the client and the requests that reach the
//! backend.

use super::{
    echo::echo,
    proxied::{adapt, serve_behind_proxy, start_proxy, write_certificate},
};
use portcullis_testkit::{
    needs,
    serving::{Home, Serving},
};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command},
};

/// Caddy, Portcullis and the backend.
struct Site {
    home: Home,
    portcullis: Serving,
    caddy: Child,
    port: u16,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.caddy.kill();
        let _ = self.caddy.wait();
    }
}

impl Site {
    fn open() -> Self {
        let (home, portcullis) = serve_behind_proxy(&[]);
        let dir = home.room();

        let (backend, file) = (echo(), dir.join("Caddyfile"));
        let log = || fs::read_to_string(dir.join("caddy.log")).unwrap_or_default();
        let start = |address: SocketAddr| {
            let text = configuration(&dir, address.port(), portcullis.address(), backend);
            fs::write(&file, text).unwrap();
            Command::new("caddy")
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(&file)
                .env("XDG_DATA_HOME", &dir)
                .env("XDG_CONFIG_HOME", &dir)
                .env("HOME", &dir)
                .stderr(fs::File::create(dir.join("caddy.log")).unwrap())
                .spawn()
                .unwrap()
        };
        let (caddy, address) = start_proxy(start, log);
        Self { home, portcullis, caddy, port: address.port() }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.room().join("caddy.log")).unwrap_or_default()
    }

    fn key(&self, arguments: &[&str]) -> String {
        self.home.done(&[&["key", "create"], arguments].concat())
    }

    /// Sends a request with curl. Returns status and body.
    fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let output = Command::new("curl")
            .args(["-skg", "--max-time", "20", "-w", "\n%{http_code}", "--resolve"])
            .arg(format!("example.com:{}:127.0.0.1", self.port))
            .args(arguments)
            .arg(format!("https://example.com:{}{path}", self.port))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').expect("a response");
        (status.parse().unwrap(), body.to_owned())
    }
}

/// Returns the shipped file with the addresses and the certificate of the test.
fn configuration(dir: &Path, port: u16, portcullis: &str, backend: SocketAddr) -> String {
    write_certificate(dir, "example.com");
    let dir = dir.display();
    let replacements = [
        ("admin off\n", "admin off\n\tauto_https disable_redirects\n".to_owned()),
        (
            "\nexample.com {\n",
            format!("\nexample.com:{port} {{\n\ttls {dir}/cert.pem {dir}/key.pem\n"),
        ),
        ("127.0.0.1:8443 {", format!("{portcullis} {{")),
        ("127.0.0.1:9000", backend.to_string()),
    ];
    adapt(include_str!("../../../../deploy/Caddyfile"), &replacements)
}

/// Converts header names to variable names, as CGI and WSGI backends do.
fn folded(head: &str) -> Vec<String> {
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.to_uppercase());
    let fold = |name: String| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    head.lines().skip(1).filter_map(name).map(fold).collect()
}

#[needs("caddy", "curl")]
#[test]
fn caddy_gives_the_documented_responses_and_forwards_no_spoofed_header() {
    let mut site = Site::open();
    let key = site.key(&["--name", "bare", "--scope", "api.read"]);
    let owned = site.key(&["--name", "owned", "--scope", "api.read", "--owner", "shop 17"]);
    let (user, owned_user) = (format!("{key}:"), format!("{owned}:"));

    let (status, upstream) = site.curl("/data/ledgers?x=1", &["-u", &owned_user, "--http1.1"]);
    assert_eq!(status, 200, "{upstream}\n{}", site.log());
    assert!(upstream.starts_with("GET /ledgers?x=1 HTTP/1.1"), "{upstream}");
    for line in ["X-Auth-Key-Id: key_", "X-Auth-Scopes: api.read\r", "X-Auth-Owner: shop%2017\r"] {
        assert!(upstream.contains(line), "{line}: {upstream}");
    }

    // Each hyphen is replaced by every character that a header name may contain, over HTTP/1.1 and HTTP/2.
    let mut spoofed = Vec::new();
    for first in "-_.!#$%&'*+^`|~".chars() {
        for second in "-_.!#$%&'*+^`|~".chars() {
            spoofed.push(format!("X{first}Auth{second}Owner: spoofed"));
            spoofed.push(format!("x{first}aUTH{second}key{first}id: spoofed"));
        }
    }
    spoofed.push("X-API-Key: spoofed".into());
    let spoofed: Vec<&str> = spoofed.iter().flat_map(|line| ["-H", line]).collect();
    for version in ["--http1.1", "--http2"] {
        let (status, upstream) =
            site.curl("/data/ledgers", &[&["-u", &user, version][..], &spoofed].concat());
        assert_eq!(status, 200, "{upstream}");
        assert!(!upstream.contains("spoofed"), "{upstream}");
        let names = folded(&upstream);
        for (name, count) in [("X_AUTH_KEY_ID", 1), ("AUTHORIZATION", 0), ("X_API_KEY", 0)] {
            assert_eq!(names.iter().filter(|found| *found == name).count(), count, "{upstream}");
        }
    }
    let (status, body) = site.curl("/data/ledgers", &[]);
    assert_eq!(status, 401);
    assert!(body.contains("urn:portcullis:invalid-key"), "{body}");
    let (status, body) = site.curl("/data/ledgers", &["-u", &user, "-d", "x=1"]);
    assert_eq!(status, 403);
    assert!(body.contains(r#""required_scopes":["api.write"]"#), "{body}");
    assert_eq!(site.curl("/elsewhere", &["-u", &user]).0, 404);

    // Portcullis hangs; then it is dead.
    let unavailable = |site: &Site| {
        let (status, body) = site.curl("/data/ledgers", &["-u", &user]);
        assert_eq!(status, 503, "{body}");
        assert!(body.contains(r#""message":"authentication is unavailable"#), "{body}");
    };
    site.portcullis.signal("STOP");
    unavailable(&site);
    site.portcullis.kill();
    unavailable(&site);

    for key in [&key, &owned] {
        let said = site.log();
        assert!(!said.contains(key.as_str()), "{said}");
        assert!(!said.contains(&portcullis_testkit::base64(key.as_bytes())), "{said}");
    }
}
