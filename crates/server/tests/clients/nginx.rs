//! The shipped configuration in a real nginx: the responses to the client, the requests that reach the
//! backend, and the logs of nginx.

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
    process::{Child, Command, Stdio},
};

/// nginx, Portcullis and the backend.
struct Site {
    home: Home,
    portcullis: Serving,
    nginx: Child,
    address: SocketAddr,
}

impl Drop for Site {
    fn drop(&mut self) {
        // On SIGTERM the master ends its workers; on SIGKILL it would not.
        let _ = Command::new("kill").arg(self.nginx.id().to_string()).status();
        let _ = self.nginx.wait();
    }
}

impl Site {
    fn open(options: &[&str]) -> Self {
        // Debian installs it in a directory that is not on every user's PATH.
        let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(|name| runs(name));
        let program = found.unwrap();
        let (home, portcullis) = serve_behind_proxy(options);
        let dir = home.room();

        let (backend, file) = (echo(), dir.join("nginx.conf"));
        let log = || fs::read_to_string(dir.join("start.log")).unwrap_or_default();
        let start = |address: SocketAddr| {
            let text = configuration(&dir, address, portcullis.address(), backend);
            fs::write(&file, text).unwrap();
            Command::new(program)
                .arg("-e")
                .arg(dir.join("error.log"))
                .arg("-p")
                .arg(&dir)
                .arg("-c")
                .arg(&file)
                .args(["-g", "daemon off;"])
                .stderr(fs::File::create(dir.join("start.log")).unwrap())
                .spawn()
                .unwrap()
        };
        let (nginx, address) = start_proxy(start, log);
        Self { home, portcullis, nginx, address }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.home.room().join(file)).unwrap_or_default()
    }

    fn key(&self, arguments: &[&str]) -> String {
        self.home.done(&[&["key", "create"], arguments].concat())
    }

    /// Sends a request with curl. Returns status, lower-case head and body.
    fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String, String) {
        let output = Command::new("curl")
            .args(["-skg", "--max-time", "20", "-i", "--http1.1"])
            .args(arguments)
            .arg(format!("https://{}{path}", self.address))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a response");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }
}

fn runs(program: &str) -> bool {
    let status = Command::new(program).arg("-v").stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Returns the shipped file with the addresses and the paths of the test.
fn configuration(dir: &Path, address: SocketAddr, portcullis: &str, backend: SocketAddr) -> String {
    write_certificate(dir, "localhost");
    let dir = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};"))
        .join(" ");
    let replacements = [
        ("listen 443 ssl;", format!("listen {address} ssl;")),
        ("server 127.0.0.1:8443;", format!("server {portcullis};")),
        ("server 127.0.0.1:9000;", format!("server {backend};")),
        ("/etc/nginx/tls/", format!("{dir}/")),
        ("/var/log/nginx/", format!("{dir}/")),
        ("/run/nginx.pid", format!("{dir}/nginx.pid")),
        ("worker_processes auto;", "worker_processes 1;".into()),
        ("http {\n", format!("http {{\n{temporary}\n")),
    ];
    adapt(include_str!("../../../../deploy/nginx.conf"), &replacements)
}

fn count(head: &str, header: &str) -> usize {
    head.lines().filter(|line| line.starts_with(&format!("{header}:"))).count()
}

#[needs("nginx", "curl")]
#[test]
fn nginx_gives_the_documented_responses_and_forwards_no_key() {
    let mut site = Site::open(&[]);
    let read = site.key(&["--name", "Käse export", "--scope", "api.read", "--owner", "shop 17"]);
    let bare = site.key(&["--name", "bare", "--scope", "api.read"]);
    let (read_user, bare_user) = (format!("{read}:"), format!("{bare}:"));

    // A permitted request reaches the backend with the identity of the key and without spoofed headers.
    let spoofed = [
        "-H",
        "X-Auth-Key-Id: spoofed",
        "-H",
        "X-Auth-Key-Name: spoofed",
        "-H",
        "x-auth-scopes: spoofed",
        "-H",
        "X-AUTH-OWNER: spoofed",
        "-H",
        "X_Auth_Owner: spoofed",
        "-H",
        "X.Auth.Owner: spoofed",
        "-H",
        "X_Auth-Owner: spoofed",
        "-H",
        "X-Auth.Owner: spoofed",
        "-H",
        "X~Auth!Owner: spoofed",
        "-H",
        "X-API-Key: spoofed",
    ];
    let (status, _, upstream) =
        site.curl("/data/ledgers?x=1", &[&["-u", &read_user][..], &spoofed].concat());
    assert_eq!(status, 200, "{upstream}");
    assert!(upstream.starts_with("GET /ledgers?x=1 HTTP/1.1"), "{upstream}");
    let upstream_small = upstream.to_lowercase();
    for header in ["authorization", "x-api-key"] {
        assert_eq!(count(&upstream_small, header), 0, "{upstream}");
    }
    assert!(!upstream.contains("spoofed") && !upstream.contains(&read), "{upstream}");
    for line in [
        "X-Auth-Key-Id: key_",
        "X-Auth-Key-Name: K%C3%A4se%20export\r",
        "X-Auth-Scopes: api.read\r",
        "X-Auth-Owner: shop%2017\r",
    ] {
        assert!(upstream.contains(line), "{line}: {upstream}");
    }
    // A header without a value is absent; a spoofed one does not take its place.
    let (status, _, upstream) =
        site.curl("/data/ledgers", &[&["-u", &bare_user][..], &spoofed].concat());
    assert_eq!(status, 200);
    assert!(!upstream.contains("spoofed") && !upstream.contains("Owner"), "{upstream}");

    // A refused request gets the response of Portcullis, byte for byte.
    let unauthorized = r#"{"type":"urn:portcullis:invalid-key","title":"Unauthorized","status":401,"detail":"Send the API key as the Basic user name with an empty password.","message":"Invalid username/account key"}"#;
    for arguments in [&[][..], &["-u", "pcl_nobody:"], &["-u", &format!("{read}:x")]] {
        let (status, head, body) = site.curl("/data/ledgers", arguments);
        assert_eq!((status, body.as_str()), (401, unauthorized), "{arguments:?}");
        assert_eq!(count(&head, "www-authenticate"), 1, "{head}");
        assert!(
            head.contains(r#"www-authenticate: basic realm="portcullis", charset="utf-8""#),
            "{head}"
        );
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    let (status, head, body) = site.curl("/data/ledgers", &["-u", &read_user, "-d", "x=1"]);
    assert_eq!(status, 403, "{body}");
    assert_eq!(count(&head, "www-authenticate"), 0, "{head}");
    assert_eq!(body, forbidden("api.write"));

    // An error of the backend is passed on, and the auth location is internal.
    let (status, _, body) = site.curl("/data/broken", &["-u", &read_user]);
    assert!(status == 500 && body.starts_with("GET /broken"), "{status} {body}");
    assert_eq!(site.curl("/_authz", &["-u", &read_user]).0, 404);
    // A request from a page of another origin, with a forwarded scheme that the client wrote.
    let headers = [
        "-u",
        &read_user,
        "-H",
        "Origin: https://elsewhere.example",
        "-H",
        "X-Forwarded-Proto: http",
    ];
    assert_eq!(site.curl("/data/ledgers", &headers).0, 200);
    // A duplicate header is refused or reduced to one, and not logged.
    let twice = format!("Authorization: {}", portcullis_testkit::basic(read.as_bytes()));
    let (status, _, _) = site.curl("/data/ledgers", &["-H", &twice, "-H", &twice]);
    assert!([400, 401].contains(&status), "{status}");

    // A revoked key is refused at once.
    let id = read_id(&site, &read_user);
    site.home.done(&["key", "revoke", &id]);
    assert_eq!(site.curl("/data/ledgers", &["-u", &read_user]).0, 401);

    // Portcullis is not running.
    site.portcullis.kill();
    for arguments in [&[][..], &["-u", &bare_user]] {
        let (status, head, body) = site.curl("/data/ledgers", arguments);
        assert_eq!(status, 503, "{body}");
        assert!(body.contains(r#""message":"authentication is unavailable"#), "{body}");
        assert!(head.contains("retry-after: 1"), "{head}");
    }

    for log in ["access.log", "error.log", "start.log"] {
        let said = site.read(log);
        for key in [&read, &bare] {
            assert!(!said.contains(key.as_str()), "{log}: {said}");
            assert!(!said.contains(&portcullis_testkit::base64(key.as_bytes())), "{log}: {said}");
        }
    }
    assert!(site.read("access.log").contains(&format!(r#""GET /data/ledgers" 200 {id}"#)));
}

#[needs("nginx", "curl")]
#[test]
fn nginx_passes_other_credentials_to_portcullis_only() {
    let site = Site::open(&["--accept-bearer", "--key-header", "X-API-Key"]);
    let key = site.key(&["--name", "a", "--scope", "api.read"]);
    let own = format!("x-api-key: {key}");
    let bearer = format!("Authorization: Bearer {key}");
    let user = format!("{key}:");
    for credential in [["-H", &own], ["-H", &bearer], ["-u", &user]] {
        let (status, _, upstream) = site.curl("/data/ledgers", &credential);
        assert_eq!(status, 200, "{upstream}");
        assert!(!upstream.contains(&key) && upstream.contains("X-Auth-Key-Id: key_"), "{upstream}");
    }
    for two in [["-H", &own, "-H", &bearer], ["-H", &own, "-u", &user]] {
        assert_eq!(site.curl("/data/ledgers", &two).0, 401, "{two:?}");
    }
}

fn read_id(site: &Site, user: &str) -> String {
    let (_, _, upstream) = site.curl("/data/who", &["-u", user]);
    let line = upstream.lines().find_map(|line| line.strip_prefix("X-Auth-Key-Id: "));
    line.expect(&upstream).to_owned()
}

/// Returns the body of the response to a key that lacks this scope.
fn forbidden(scope: &str) -> String {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (_, key) =
        portcullis_testkit::issue(&store, portcullis_testkit::new_key(&store, "none", &[]));
    let app = portcullis_admin::forward_auth(store);
    let request = axum::http::Request::get(format!("/authz?scope={scope}"))
        .header("authorization", portcullis_testkit::basic(&key));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let answer = tower::ServiceExt::oneshot(app, request).await.unwrap();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    })
}
