//! Operation of a server: metrics, readiness, draining, limits, certificate renewal, the service manager,
//! and floods of bad keys.

use portcullis_testkit::{
    WORKSPACE, needs,
    serving::{Home, Serving, free_address, id_of, runs, text},
};
use serde_json::Value;
use std::{
    cell::Cell,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

const WATCHDOG: Duration = Duration::from_secs(20);

/// Sends a request by plain HTTP on its own connection. Returns status, head and body.
fn ask(address: &str, path: &str, headers: &[String]) -> (u16, String, String) {
    send(address, &format!("GET {path}"), headers, "")
}

/// Sends a key in the login form of the portal.
fn log_in(address: &str, key: &str, from: &str) -> (u16, String, String) {
    let form = format!("key={key}");
    let mut headers = vec![forwarded_for(from), format!("content-length: {}", form.len())];
    headers.push("sec-fetch-site: same-origin".into());
    headers.push("content-type: application/x-www-form-urlencoded".into());
    send(address, "POST /login", &headers, &form)
}

fn send(address: &str, what: &str, headers: &[String], body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let headers = headers.iter().flat_map(|header| [header.as_str(), "\r\n"]).collect::<String>();
    let request =
        format!("{what} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    (status, head.to_lowercase(), body.to_owned())
}

fn with_key(key: &str) -> String {
    format!("authorization: {}", portcullis_testkit::basic(key.as_bytes()))
}

fn forwarded_for(hops: &str) -> String {
    format!("x-forwarded-for: {hops}")
}

/// A store with a root key.
fn home() -> (Home, String) {
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    (home, root)
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WATCHDOG, "{what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn metrics_report_results_and_states_and_no_key() {
    let (home, root) = home();
    let metrics = free_address();
    let inactive = home.key("inactive", "api.read");
    home.done(&["key", "revoke", &id_of(&inactive)]);
    let brief = ["key", "create", "--name", "brief", "--scope", "api.read", "--expires-in", "1s"];
    home.done(&brief);
    let server = home.serve(&["--behind-proxy", "--metrics-listen", &metrics]);
    let whoami = |headers: &[String]| ask(server.address(), "/v1/whoami", headers).0;
    assert_eq!(whoami(&[with_key(&root)]), 200);
    assert_eq!(whoami(&[with_key(&root)]), 200);
    assert_eq!(whoami(&[]), 401);
    assert_eq!(whoami(&[with_key(&inactive)]), 401);
    assert_eq!(whoami(&[with_key("pcl_nonsense")]), 401);
    assert_eq!(whoami(&["authorization: Basic !".into()]), 401);
    assert_eq!(whoami(&[with_key(&root), with_key(&root)]), 401);
    assert_eq!(ask(server.address(), "/healthz", &[]).0, 200);

    let expired = "portcullis_keys{state=\"expired\"} 1\n";
    eventually("one has expired", || ask(&metrics, "/metrics", &[]).2.contains(expired));
    let (status, head, told) = ask(&metrics, "/metrics", &[]);
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    for line in [
        "portcullis_auth_requests_total{result=\"valid\"} 2",
        "portcullis_auth_requests_total{result=\"missing\"} 1",
        "portcullis_auth_requests_total{result=\"inactive\"} 1",
        "portcullis_auth_requests_total{result=\"unknown\"} 1",
        "portcullis_auth_requests_total{result=\"malformed\"} 1",
        "portcullis_auth_requests_total{result=\"ambiguous\"} 1",
        "portcullis_auth_requests_total{result=\"expired\"} 0",
        "portcullis_auth_duration_seconds_count 6",
        "portcullis_auth_duration_seconds_bucket{le=\"+Inf\"} 6",
        "portcullis_keys{state=\"active\"} 1",
        "portcullis_keys{state=\"inactive\"} 1",
        "portcullis_keys_expiring{within=\"7d\"} 0",
        "portcullis_keys_expiring{within=\"30d\"} 0",
        "portcullis_auth_limited_total 0",
        concat!("portcullis_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(told.lines().any(|told| told == line), "{line} is not in:\n{told}");
    }
    // A server with a local store has no metrics of replicas.
    assert!(!told.contains("portcullis_gate") && !told.contains("portcullis_replica"), "{told}");
    for key in [&root, &inactive] {
        let id = key.split('_').nth(1).unwrap();
        assert!(!told.contains(id), "{told}");
    }
    // The listeners are separate: neither serves the routes of the other.
    assert_eq!(ask(&metrics, "/v1/whoami", &[with_key(&root)]).0, 404);
    assert_eq!(ask(server.address(), "/metrics", &[]).0, 404);
    assert!(server.stop().success());
}

#[test]
fn networks_of_a_key_are_compared_with_the_address_that_a_trusted_proxy_reports() {
    let (home, _) = home();
    let create = ["key", "create", "--name", "till", "--scope", "api.read", "--network"];
    let key = home.done(&[&create[..], &["192.0.2.0/24,2001:db8::/32"]].concat());
    let shown = home.done(&["key", "show", &id_of(&key)]);
    assert!(shown.contains("192.0.2.0/24 2001:db8::/32"), "{shown}");
    let server = home.serve(&["--behind-proxy", "--trusted-proxy", "127.0.0.1"]);
    let whoami =
        |from: &str| ask(server.address(), "/v1/whoami", &[with_key(&key), forwarded_for(from)]).0;
    let authz = |from: &str| {
        ask(server.address(), "/authz?scope=api.read", &[with_key(&key), forwarded_for(from)]).0
    };
    for (from, status) in
        [("192.0.2.7", 200), ("198.51.100.7", 401), ("192.0.2.7, 198.51.100.7", 401), ("here", 401)]
    {
        assert_eq!((whoami(from), authz(from)), (status, status), "{from}");
    }
    assert!(home.log().contains("network"), "{}", home.log());
    home.done(&["key", "update", &id_of(&key), "--network", "198.51.100.7"]);
    assert_eq!((whoami("192.0.2.7"), whoami("198.51.100.7")), (401, 200));
    home.done(&["key", "update", &id_of(&key), "--any-network"]);
    assert_eq!((whoami("192.0.2.7"), whoami("here")), (200, 200));
    assert!(server.stop().success());
}

#[test]
fn key_beyond_its_rate_gets_429_and_is_no_bad_key() {
    let (home, _) = home();
    let create = ["key", "create", "--name", "till", "--scope", "api.read", "--rate", "2/1h"];
    let key = home.done(&create);
    let shown = home.done(&["key", "show", &id_of(&key)]);
    assert!(shown.contains("2/3600s"), "{shown}");
    let metrics = free_address();
    let server =
        home.serve(&["--behind-proxy", "--max-bad-keys", "1", "--metrics-listen", &metrics]);
    let whoami = || ask(server.address(), "/v1/whoami", &[with_key(&key)]);
    // The guard and the handler count one request together.
    assert_eq!((whoami().0, whoami().0), (200, 200));
    for _ in 0..3 {
        let (status, head, body) = whoami();
        assert_eq!(status, 429);
        assert!(
            head.contains("retry-after: 1") && head.contains("ratelimit: \"perkey\";r=0;t=1"),
            "{head}"
        );
        assert!(body.contains("urn:portcullis:rate-limited"), "{body}");
    }
    let counted = "portcullis_auth_requests_total{result=\"rate_limited\"} 3";
    let told = ask(&metrics, "/metrics", &[]).2;
    assert!(told.contains(counted) && told.contains("portcullis_auth_limited_total 0"), "{told}");
    home.done(&["key", "update", &id_of(&key), "--no-rate"]);
    assert_eq!((whoami().0, whoami().0, whoami().0), (200, 200, 200));
    assert!(server.stop().success());
}

#[test]
fn other_credentials_are_accepted_only_if_the_server_is_started_with_them() {
    let (home, root) = home();
    let bearer = format!("authorization: Bearer {root}");
    let own = format!("X-API-Key: {root}");
    let server = home.serve(&["--behind-proxy"]);
    let whoami =
        |server: &Serving, headers: &[String]| ask(server.address(), "/v1/whoami", headers).0;
    assert_eq!(whoami(&server, std::slice::from_ref(&bearer)), 401);
    assert_eq!(whoami(&server, std::slice::from_ref(&own)), 401);
    assert_eq!(whoami(&server, &[own.clone(), with_key(&root)]), 200);
    // The log tells the operator that the key itself is valid.
    assert!(home.log().contains("bearer_not_accepted"), "{}", home.log());
    assert!(server.stop().success());

    let server = home.serve(&["--behind-proxy", "--accept-bearer", "--key-header", "X-API-Key"]);
    assert_eq!(whoami(&server, std::slice::from_ref(&bearer)), 200);
    assert_eq!(whoami(&server, std::slice::from_ref(&own)), 200);
    for two in [[bearer, own.clone()], [own.clone(), with_key(&root)], [own.clone(), own]] {
        assert_eq!(whoami(&server, &two), 401);
    }
    let (_, _, document) = ask(server.address(), "/openapi.json", &[]);
    for scheme in [r#""scheme":"bearer""#, r#""name":"x-api-key""#] {
        assert!(document.contains(scheme), "{scheme}: {document}");
    }
    assert!(server.stop().success());
    let said = home.fails(2, &["serve", "--key-header", "Cookie"]);
    assert!(said.contains("such as X-API-Key"), "{said}");
}

#[test]
fn bad_keys_are_rate_limited_and_valid_keys_are_not() {
    let (home, root) = home();
    let inactive = home.key("inactive", "api.read");
    home.done(&["key", "revoke", &id_of(&inactive)]);
    let metrics = free_address();
    let options =
        ["--behind-proxy", "--trusted-proxy", "127.0.0.0/8", "--metrics-listen", &metrics];
    let server = home.serve(&options);
    let limited_count = Cell::new(0);
    let from = |source: &str, key: &str| {
        let answer = ask(server.address(), "/v1/whoami", &[with_key(key), forwarded_for(source)]);
        limited_count.set(limited_count.get() + u32::from(answer.0 == 429));
        answer
    };
    // After the burst, one bad key is accepted each second.
    let is_limited = |source: &str, key: &str| (0..5).any(|_| from(source, key).0 == 429);
    let (flood, neighbour) = ("203.0.113.9", "203.0.113.10");
    let answers: Vec<_> = (0..100).map(|_| from(flood, "pcl_nonsense")).collect();
    assert_eq!(answers[0].0, 401);
    let (_, head, body) = answers.into_iter().rfind(|answer| answer.0 == 429).unwrap();
    let wait = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!(wait.parse::<u64>().unwrap() >= 1, "{wait}");
    assert!(head.contains("application/problem+json") && body.contains("\"message\""), "{body}");

    // The same source: a valid key passes, and an inactive key counts as a bad one.
    for _ in 0..20 {
        assert_eq!(from(flood, &root).0, 200);
    }
    assert!(is_limited(flood, &inactive));
    // A request without a key is not a bad key: clients request the challenge that way.
    assert_eq!(ask(server.address(), "/v1/whoami", &[forwarded_for(flood)]).0, 401);
    // Addresses that the client wrote itself neither help it nor count against those addresses.
    assert!(is_limited(&format!("{neighbour}, {flood}"), "pcl_nonsense"));
    assert_eq!(from(neighbour, "pcl_nonsense").0, 401);
    // An auth request of a proxy is never limited.
    let authz = ["/authz?scope=api.read", "/authz"].map(|path| {
        ask(server.address(), path, &[with_key("pcl_nonsense"), forwarded_for(flood)]).0
    });
    assert!(!authz.contains(&429), "{authz:?}");

    let (_, _, told) = ask(&metrics, "/metrics", &[]);
    let limited = told.lines().find_map(|l| l.strip_prefix("portcullis_auth_limited_total "));
    assert_eq!(limited.unwrap().parse::<u32>().unwrap(), limited_count.get(), "{told}");
    assert!(server.stop().success());
    assert!(home.log().contains("too many bad keys"), "{}", home.log());
}

#[test]
fn bad_key_at_login_counts_against_the_same_limit() {
    let (home, root) = home();
    let metrics = free_address();
    let options = ["--behind-proxy", "--trusted-proxy", "127.0.0.0/8", "--max-bad-keys", "5"];
    let server = home.serve(&[&options[..], &["--metrics-listen", &metrics]].concat());
    let (flood, neighbour) = ("203.0.113.9", "203.0.113.10");
    let answers: Vec<_> =
        (0..50).map(|_| log_in(server.address(), "pcl_nonsense", flood)).collect();
    assert!(answers[..5].iter().all(|(status, ..)| *status == 401));
    let limited: Vec<_> = answers.iter().filter(|(status, ..)| *status == 429).collect();
    // The response is a page.
    let (_, head, page) = limited[0];
    assert!(head.contains("content-type: text/html") && head.contains("retry-after: 1"), "{head}");
    assert!(page.contains("too many invalid keys") && page.contains("name=\"key\""), "{page}");

    // Header and login share a limit. A valid key passes, and other sources are not limited.
    let bad = [with_key("pcl_nonsense"), forwarded_for(flood)];
    // One bad key is accepted each second.
    let passed = (0..5).take_while(|_| ask(server.address(), "/v1/whoami", &bad).0 != 429).count();
    assert!(passed < 5);
    assert_eq!(log_in(server.address(), &root, flood).0, 303);
    assert_eq!(log_in(server.address(), "pcl_nonsense", neighbour).0, 401);

    let (_, _, told) = ask(&metrics, "/metrics", &[]);
    for line in [
        format!("portcullis_auth_requests_total{{result=\"unknown\"}} {}", 52 + passed),
        "portcullis_auth_requests_total{result=\"missing\"} 0".into(),
        "portcullis_auth_requests_total{result=\"valid\"} 1".into(),
        format!("portcullis_auth_limited_total {}", limited.len() + 1),
    ] {
        assert!(told.lines().any(|told| told == line), "{line} is not in:\n{told}");
    }
    assert!(server.stop().success());
    let why = format!("refused a caller reason=\"unknown\" peer={flood}");
    assert!(home.log().contains(&why), "{}", home.log());
}

#[test]
fn flood_of_bad_keys_writes_few_log_lines_and_no_file() {
    const EACH: usize = 100;
    /// Log lines of one kind in a second.
    const LINES: usize = 5;
    let (home, _) = home();
    // The limit is not reached, so that each key reaches its handler.
    let options = ["--behind-proxy", "--trusted-proxy", "127.0.0.0/8", "--max-bad-keys", "100000"];
    let server = home.serve(&options);
    let start = Instant::now();
    let before = files(&home.data());
    for _ in 0..EACH {
        let bad = [with_key("pcl_nonsense"), forwarded_for("203.0.113.9")];
        assert_eq!(ask(server.address(), "/v1/whoami", &bad).0, 401);
        assert_eq!(ask(server.address(), "/authz?scope=api.read", &bad).0, 401);
        assert_eq!(log_in(server.address(), "pcl_nonsense", "203.0.113.9").0, 401);
    }
    let after = files(&home.data());
    let written = after.iter().filter(|file| !before.contains(file)).map(|(path, _)| path);
    let written: Vec<_> = written.collect();
    assert!(written.is_empty() && after.len() == before.len(), "{written:?}");
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 2;
    let warned = || -> Vec<String> {
        home.log().lines().filter(|line| !line.contains(" INFO ")).map(str::to_owned).collect()
    };
    let lines = warned();
    assert!((1..=LINES * seconds).contains(&lines.len()), "{seconds} s: {lines:#?}");
    assert!(lines.iter().all(|line| line.contains("refused a caller reason=\"unknown\"")));

    // Suppressed lines are counted.
    sleep(Duration::from_secs(1));
    log_in(server.address(), "pcl_nonsense", "203.0.113.9");
    let lines = warned();
    let suppressed = |line: &String| -> usize { line.rsplit('=').next().unwrap().parse().unwrap() };
    assert_eq!(
        lines.len() + lines.iter().map(suppressed).sum::<usize>(),
        3 * EACH + 1,
        "{lines:#?}"
    );
    assert!(server.stop().success());
}

/// Returns the files of a store's directory with their contents.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else if entry.is_file() {
            let bytes = fs::read(&entry).unwrap();
            found.push((entry, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn audit_log_records_the_address_from_a_trusted_proxy_only() {
    let (home, _) = home();
    let clerk = home.key("clerk", "api.read");
    let hops = forwarded_for("198.51.100.1, 203.0.113.9");
    for trusted in [true, false] {
        let proxy: &[&str] = if trusted { &["--trusted-proxy", "127.0.0.1"] } else { &[] };
        let server = home.serve(&[&["--behind-proxy"], proxy].concat());
        // The key lacks the scope, so the refusal is written to the audit log.
        let (status, ..) = ask(server.address(), "/v1/keys", &[with_key(&clerk), hops.clone()]);
        assert_eq!(status, 403);
        assert!(server.stop().success());
        // A separate process releases every lock when it ends.
        let audit = home.done(&["--json", "audit"]);
        let last: Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
        assert_eq!(last["actor"], id_of(&clerk));
        assert_eq!(last["source"], if trusted { "203.0.113.9" } else { "127.0.0.1" });
    }
}

#[test]
fn draining_server_is_not_ready_and_still_serves() {
    let (home, root) = home();
    let server = home.serve(&["--behind-proxy", "--drain-delay", "2s"]);
    assert_eq!(ask(server.address(), "/readyz", &[]).0, 200);
    let start = Instant::now();
    server.signal("TERM");
    assert!(server.wait().success());
    assert!(start.elapsed() >= Duration::from_secs(2));

    let server = home.serve(&["--behind-proxy", "--drain-delay", "1h"]);
    server.signal("TERM");
    eventually("the server is not ready", || ask(server.address(), "/readyz", &[]).0 == 503);
    assert_eq!(ask(server.address(), "/v1/whoami", &[with_key(&root)]).0, 200);
    assert_eq!(ask(server.address(), "/healthz", &[]).0, 200);
    // A second signal ends the drain delay.
    server.signal("TERM");
    assert!(server.wait().success());
}

#[test]
fn bad_key_with_a_session_gets_401() {
    let (home, _) = home();
    let server = home.serve(&["--behind-proxy", "--max-bad-keys", "1"]);
    let bad = with_key("pcl_nonsense");
    let page = |headers: &[String]| ask(server.address(), "/keys/new", headers).0;
    eventually("the flood is slowed", || page(std::slice::from_ref(&bad)) == 429);
    for _ in 0..20 {
        let answer = page(&[bad.clone(), "cookie: __Host-portcullis=00".into()]);
        assert_ne!(answer, 429);
    }
    let cookie = "cookie: a=b; __Host-portcullis-8443=00".to_owned();
    assert_eq!(ask(server.address(), "/v1/keys", &[bad, cookie]).0, 401);
}

#[test]
fn connection_beyond_the_limit_is_closed_until_another_ends() {
    let (home, root) = home();
    let metrics = free_address();
    let options = [
        "--behind-proxy",
        "--trusted-proxy",
        "127.0.0.1",
        "--max-connections",
        "2",
        "--metrics-listen",
        &metrics,
    ];
    let server = home.serve(&options);
    let request = format!("GET /v1/whoami HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n", with_key(&root));
    let keep = || {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 12];
        // A connection that was closed at once may look like either.
        stream.read_exact(&mut first).map(|()| (stream, text(&first)))
    };
    let (first, second) = (keep().unwrap(), keep().unwrap());
    assert_eq!((first.1.as_str(), second.1.as_str()), ("HTTP/1.1 200", "HTTP/1.1 200"));
    assert!(keep().is_err());
    drop(first);
    eventually("room comes back", || keep().is_ok());
    let (_, _, told) = ask(&metrics, "/metrics", &[]);
    assert!(!told.contains("portcullis_connections_refused_total 0"), "{told}");
    drop(second);
}

/// Returns a server with its self-signed certificate.
fn certificate() -> (Home, Serving) {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&[]);
    (home, server)
}

#[needs("curl")]
#[test]
fn sighup_reloads_the_certificate_and_keeps_the_old_one_on_error() {
    let (old, _server) = certificate();
    let (new, _other) = certificate();
    let (home, _) = home();
    let (cert, key) = (home.room().join("cert.pem"), home.room().join("key.pem"));
    let install = |from: &Path, name: &str, to: &Path| {
        fs::copy(from.join("tls").join(name), to).unwrap();
    };
    install(&old.data(), "cert.pem", &cert);
    install(&old.data(), "key.pem", &key);
    let paths = [cert.to_str().unwrap(), key.to_str().unwrap()];
    let server = home.serve(&["--tls-cert", paths[0], "--tls-key", paths[1]]);
    let is_trusted_by = |home: &Home| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "20", "--cacert"]).arg(home.data().join("tls/cert.pem"));
        runs(curl.arg(format!("{}/healthz", server.url)))
    };
    assert!(is_trusted_by(&old) && !is_trusted_by(&new));

    // The new certificate with the old key.
    install(&new.data(), "cert.pem", &cert);
    server.signal("HUP");
    eventually("the error is logged", || home.log().contains("the old certificate stays"));
    assert!(is_trusted_by(&old));
    install(&new.data(), "key.pem", &key);
    server.signal("HUP");
    eventually("the new one is served", || is_trusted_by(&new));
    assert!(!is_trusted_by(&old));
    fs::write(&cert, "not a certificate").unwrap();
    server.signal("HUP");
    eventually("the error is logged again", || {
        home.log().matches("the old certificate stays").count() == 2
    });
    assert!(is_trusted_by(&new));
    assert!(server.stop().success());
}

#[test]
fn service_manager_is_notified_of_each_state() {
    let (home, _) = home();
    let path = home.room().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(WATCHDOG)).unwrap();
    let told = || {
        let mut part = [0; 256];
        let length = socket.recv(&mut part).unwrap();
        text(&part[..length]).trim_end().to_owned()
    };
    let server = home.serve_with(&["--behind-proxy"], &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(told(), "READY=1");
    server.signal("HUP");
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(), "READY=1");
    server.signal("TERM");
    assert_eq!(told(), "STOPPING=1");
    assert!(server.wait().success());
}

#[test]
fn malformed_network_is_refused_with_the_reason() {
    let (home, _) = home();
    let output = home
        .command(&["serve", "--behind-proxy", "--trusted-proxy", "10.0.0.0/40"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("10.0.0.0/8"), "{}", text(&output.stderr));
}

#[needs("systemd-analyze")]
#[test]
fn systemd_unit_keeps_its_documented_exposure() {
    let unit = Path::new(WORKSPACE).join("deploy/portcullis.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=12"])
        .arg(&unit)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert!(fs::read_to_string(unit).unwrap().contains("says 1.2 "));
}

/// The build stage of the container file copies all that a build reads.
#[test]
fn container_file_copies_every_file_that_the_build_reads() {
    let (from, to) = (Path::new(WORKSPACE), tempfile::tempdir().unwrap());
    let file = fs::read_to_string(from.join("deploy/Containerfile")).unwrap();
    let copies = file.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copies: Vec<_> = copies.filter(|copy| !copy.starts_with("--from")).collect();
    assert_eq!(copies, [". ."]);
    let ignored = fs::read_to_string(from.join(".containerignore")).unwrap();
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_start_matches('/')).collect();
    assert!(ignored.contains(&"target"), "a build's output is larger than its sources");
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_name().unwrap().to_str().unwrap();
        if !ignored.contains(&name) {
            let status = Command::new("cp").arg("-r").arg(&entry).arg(to.path()).status();
            assert!(status.unwrap().success(), "{name}");
        }
    }
    // A target whose source is missing is left out, and then no command builds anything.
    let targets = |of: &Path| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]);
        let output = cargo.current_dir(of).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap().iter();
        let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
        targets.map(|target| target["name"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(targets(to.path()), targets(from));
    let mut sources = ["src", "crates/admin/src", "crates/server/src"]
        .map(|folder| to.path().join(folder))
        .to_vec();
    let mut included = 0;
    while let Some(source) = sources.pop() {
        if source.is_dir() {
            sources.extend(fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path()));
        } else if source.extension().is_some_and(|end| end == "rs") {
            let code = fs::read_to_string(&source).unwrap();
            for part in code.split("include_str!(\"").skip(1) {
                let name = part.split('"').next().unwrap();
                assert!(source.parent().unwrap().join(name).exists(), "{name} is not copied");
                included += 1;
            }
        }
    }
    assert!(included > 3);
}

/// A certificate of the shape that the server makes, which ends in ten days.
fn due_certificate(key: &rcgen::KeyPair) -> String {
    let params = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Portcullis");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let now = std::time::SystemTime::now();
        params.not_before = (now - Duration::from_hours(387 * 24)).into();
        params.not_after = (now + Duration::from_hours(10 * 24)).into();
        params
    };
    let mut authority_params = params("Portcullis self-signed authority");
    authority_params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    authority_params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let authority = authority_params.self_signed(key).unwrap();
    let mut own = params("Portcullis self-signed certificate");
    let hosts = rcgen::CertificateParams::new(["localhost", "127.0.0.1"].map(String::from));
    own.subject_alt_names = hosts.unwrap().subject_alt_names;
    own.use_authority_key_identifier_extension = true;
    own.signed_by(key, &rcgen::Issuer::from_params(&authority_params, key)).unwrap().pem()
        + &authority.pem()
}

#[needs("curl", "python3", "node")]
#[test]
fn clients_that_trust_the_old_certificate_file_connect_after_a_renewal() {
    let (home, root) = home();
    drop(home.serve(&[]));
    let (file, old) = (home.data().join("tls/cert.pem"), home.room().join("old.pem"));
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(home.data().join("tls/key.pem"), key.serialize_pem()).unwrap();
    fs::write(&file, due_certificate(&key)).unwrap();
    fs::copy(&file, &old).unwrap();

    let server = home.serve(&[]);
    assert_ne!(fs::read(&file).unwrap(), fs::read(&old).unwrap());
    assert!(home.log().contains("renewed the self-signed certificate"), "{}", home.log());
    for trusted in [&old, &file] {
        let url = format!("{}/v1/whoami", server.url);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "-u", &format!("{root}:"), &url, "--cacert"]);
        let output = curl.arg(trusted).output().unwrap();
        assert!(output.status.success(), "curl: {}", text(&output.stderr));

        let get = "import ssl, sys, urllib.request as request
open = lambda url: request.urlopen(url, context=ssl.create_default_context(cafile=sys.argv[2]))
print(open(sys.argv[1] + '/healthz').status)";
        let mut python = Command::new("python3");
        let output = python.args(["-c", get, &server.url]).arg(trusted).output().unwrap();
        assert_eq!(text(&output.stdout), "200\n", "python: {}", text(&output.stderr));

        let get = "require('https').get(process.argv[1] + '/healthz', \
                   { ca: require('fs').readFileSync(process.argv[2]) }, \
                   answer => { console.log(answer.statusCode); process.exit() })";
        let mut node = Command::new("node");
        let output = node.args(["-e", get, &server.url]).arg(trusted).output().unwrap();
        assert_eq!(text(&output.stdout), "200\n", "node: {}", text(&output.stderr));
    }
    assert!(server.stop().success());
}
