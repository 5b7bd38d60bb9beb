//! Clients that hold requests and connections of a running server: other clients are still served.

use portcullis_testkit::frames::Frames;
use portcullis_testkit::serving::{Home, Serving, free_address, id_of, text};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    thread::{self, sleep},
    time::{Duration, Instant},
};

const WATCHDOG: Duration = Duration::from_mins(1);
const WINDOW: u32 = 65_535;
const ATTACKER: &str = "127.0.0.2";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");

struct Fixture {
    home: Home,
    server: Serving,
    metrics: String,
    root: String,
}

impl Fixture {
    fn new(arguments: &[&str]) -> Self {
        let home = Home::new();
        let root = home.done(&["init", "--scopes=financial-data"]);
        let metrics = free_address();
        let all = ["--behind-proxy", "--metrics-listen", &metrics];
        let server = home.serve(&[&all, arguments].concat());
        Self { home, server, metrics, root }
    }

    fn basic(&self) -> String {
        portcullis_testkit::basic(self.root.as_bytes())
    }

    /// Connects from this address.
    fn connect(&self, from: &str) -> TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
            socket.connect(self.server.address().parse().unwrap()).await.unwrap()
        });
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        stream
    }

    /// Sends one request from this address. Returns the response.
    fn ask(&self, from: &str, what: &str, headers: &str, body: &str) -> String {
        let mut stream = self.connect(from);
        let length = body.len();
        let request = format!(
            "{what} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        text(&answer)
    }

    /// A valid client authenticates, an administrator revokes, and the probes answer.
    #[track_caller]
    fn serves_others(&self) {
        let headers =
            format!("authorization: {}\r\ncontent-type: application/json\r\n", self.basic());
        let key = id_of(&self.home.key("some", "api.read"));
        for (what, body) in [
            ("GET /v1/whoami", ""),
            (&format!("PATCH /v1/keys/{key}"), r#"{"active":false}"#),
            ("GET /healthz", ""),
            ("GET /readyz", ""),
        ] {
            let answer = self.ask("127.0.0.1", what, &headers, body);
            assert!(answer.starts_with("HTTP/1.1 200"), "{what}: {answer}");
        }
    }

    /// Returns how often this limit was reached.
    fn count(&self, kind: &str) -> u64 {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = text(&answer);
        let name = format!("portcullis_overload_total{{kind=\"{kind}\"}} ");
        let line = answer.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{kind} in {answer}")).parse().unwrap()
    }

    #[track_caller]
    fn assert_reported(&self, kind: &str) {
        assert!(self.count(kind) > 0, "{kind}");
        assert!(self.home.log().contains(kind), "{}", self.home.log());
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WATCHDOG, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// Reads until the server closes. Returns false on a timeout.
fn is_closed(mut stream: impl Read) -> bool {
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn logins_without_a_body_do_not_starve_valid_keys_and_probes() {
    let fixture = Fixture::new(&[]);
    let mut connections = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut frames = Frames::over(fixture.connect(ATTACKER), WINDOW).unwrap();
        for stream in 0..64 {
            frames.request(stream * 2 + 1, ("POST", "/login"), &[FORM, ORIGIN], false).unwrap();
        }
        frames.ping().unwrap();
        connections.push(frames);
    }
    // Requests beyond the limit are refused at once.
    for frames in connections.iter_mut().skip(1) {
        refused += u32::from(frames.status(1).unwrap() == 503);
    }
    assert!(refused >= 18, "{refused}");
    fixture.serves_others();
    // Another address can log in meanwhile.
    let headers = format!("{}: {}\r\n{}: {}\r\n", FORM.0, FORM.1, ORIGIN.0, ORIGIN.1);
    let answer =
        fixture.ask("127.0.0.3", "POST /login", &headers, &format!("key={}", fixture.root));
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    fixture.assert_reported("source_requests");
    drop(connections);
    eventually("the attacker may send requests again", || {
        fixture.ask(ATTACKER, "POST /login", &headers, "key=x").starts_with("HTTP/1.1 401")
    });
}

#[test]
fn requests_of_one_key_do_not_starve_other_keys() {
    let fixture = Fixture::new(&[]);
    let greedy =
        portcullis_testkit::basic(fixture.home.key("greedy", "admin.key.create").as_bytes());
    let headers = [("authorization", greedy.as_str()), ("content-type", "application/json")];
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut frames = Frames::over(fixture.connect(ATTACKER), WINDOW).unwrap();
        for stream in 0..64 {
            frames.request(stream * 2 + 1, ("POST", "/v1/keys"), &headers, false).unwrap();
        }
        frames.ping().unwrap();
        connections.push(frames);
    }
    for frames in connections.iter_mut().skip(2) {
        assert_eq!(frames.status(127).unwrap(), 503);
    }
    fixture.serves_others();
    fixture.assert_reported("key_bodies");
}

#[test]
fn one_source_has_at_most_half_of_the_connections() {
    let fixture = Fixture::new(&["--max-connections", "8"]);
    let held: Vec<_> = (0..4).map(|_| fixture.connect(ATTACKER)).collect();
    assert!(is_closed(fixture.connect(ATTACKER)));
    fixture.serves_others();
    fixture.assert_reported("source_connections");
    drop(held);
}

#[test]
fn metrics_listener_and_control_socket_have_separate_limits() {
    let fixture = Fixture::new(&[]);
    let socket = fixture.home.data().join("control.sock");
    let connect = || std::os::unix::net::UnixStream::connect(&socket);
    let local: Vec<_> = (0..80).map(|_| connect().unwrap()).collect();
    eventually("connections are refused", || fixture.count("control_connections") > 0);
    drop(local);
    let held: Vec<_> = (0..80).map(|_| TcpStream::connect(&fixture.metrics).unwrap()).collect();
    eventually("connections are refused", || fixture.home.log().contains("metrics_connections"));
    drop(held);
    eventually("the metrics are served again", || {
        let mut stream = TcpStream::connect(&fixture.metrics).unwrap();
        let asked = stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n");
        let mut first = [0; 5];
        asked.is_ok() && stream.read_exact(&mut first).is_ok()
    });
    assert!(fixture.count("metrics_connections") > 0);
    fixture.serves_others();
}

#[test]
fn pipelining_client_that_never_reads_is_disconnected() {
    let fixture = Fixture::new(&[]);
    let request = format!(
        "GET /v1/keys?page_size=200 HTTP/1.1\r\nhost: here\r\nauthorization: {}\r\n\r\n",
        fixture.basic()
    );
    let pipelined = request.repeat(64);
    let mut stream = fixture.connect(ATTACKER);
    stream.set_write_timeout(Some(WATCHDOG)).unwrap();
    // Writes without reading until the server ends the connection.
    while stream.write_all(pipelined.as_bytes()).is_ok() {}
    fixture.serves_others();
    fixture.assert_reported("unread_answers");
}

#[test]
fn http_2_client_that_grants_no_window_is_disconnected() {
    let fixture = Fixture::new(&[]);
    let basic = fixture.basic();
    let open = |window| {
        let mut frames = Frames::over(fixture.connect(ATTACKER), window).unwrap();
        for stream in 0..64 {
            let headers = [("authorization", basic.as_str())];
            frames.request(stream * 2 + 1, ("GET", "/v1/keys"), &headers, true).unwrap();
        }
        frames
    };
    // Each client answers pings, so that neither connection looks dead.
    let connections = [open(0), open(1)].map(|mut frames| {
        thread::spawn(move || {
            loop {
                if let Err(error) = frames.next_frame() {
                    break error;
                }
            }
        })
    });
    fixture.serves_others();
    for connection in connections {
        let ended = connection.join().unwrap();
        assert_ne!(ended.kind(), io::ErrorKind::WouldBlock, "{ended}");
    }
    assert_eq!(fixture.count("unread_answers"), 2);
}

#[test]
fn http_2_client_that_reads_slowly_is_served() {
    let fixture = Fixture::new(&[]);
    let basic = fixture.basic();
    let mut frames = Frames::over(fixture.connect(ATTACKER), 7).unwrap();
    let headers = [("authorization", basic.as_str())];
    frames.request(1, ("GET", "/v1/keys"), &headers, true).unwrap();
    let mut length = 0;
    loop {
        let (kind, flags, _, payload) = frames.next_frame().unwrap();
        if kind == 0 {
            length += payload.len();
            if flags & 1 == 1 {
                break;
            }
            frames.window(1, u32::try_from(payload.len()).unwrap().max(1)).unwrap();
        }
    }
    assert!(length > 100, "{length}");
}
