//! The valid clients during an attack: a client with a valid key, an administrator who revokes, a probe.
//! Also measures memory and connections of the server.

use super::wire::{Http, Target, Tls, ask, request};
use portcullis_testkit::basic;
use std::{
    fs, io,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ADMINISTRATOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const PROBE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
/// The time between two requests of one witness.
const PAUSE: Duration = Duration::from_millis(5);
/// A client opens a new connection after this many requests.
const REQUESTS_PER_CONNECTION: usize = 20;

/// The measurements of one valid client.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long each request took, its connection included where it needed one.
    pub(crate) took: Vec<Duration>,
    /// Each request with an unexpected response.
    pub(crate) failed: Vec<String>,
}

impl Seen {
    /// The latency that 99 of 100 requests stay below.
    pub(crate) fn p99(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get(took.len() * 99 / 100).copied().unwrap_or_default()
    }

    fn add(&mut self, what: &str, start: Instant, outcome: io::Result<u16>, expected: &[u16]) {
        self.took.push(start.elapsed());
        match outcome {
            Ok(status) if expected.contains(&status) => {}
            Ok(status) => self.failed.push(format!("{what}: {status} for {expected:?}")),
            Err(error) => self.failed.push(format!("{what}: {error}")),
        }
    }
}

/// One keep-alive connection that is opened when it is needed.
struct Connection<'t> {
    target: &'t Target,
    from: Ipv4Addr,
    open: Option<Tls>,
    requests: usize,
}

impl<'t> Connection<'t> {
    fn new(target: &'t Target, from: Ipv4Addr) -> Self {
        Self { target, from, open: None, requests: 0 }
    }

    fn ask(&mut self, what: &str, key: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => self.target.tls(self.from, Http::One)?,
        };
        let mut headers = String::from("content-type: application/json\r\n");
        if !key.is_empty() {
            let key = basic(key.as_bytes());
            headers.extend(["authorization: ", &key, "\r\n"]);
        }
        let answer = ask(&mut stream, &request(what, &headers, body))?;
        self.requests += 1;
        if answer.is_reusable && !self.requests.is_multiple_of(REQUESTS_PER_CONNECTION) {
            self.open = Some(stream);
        }
        Ok((answer.status, answer.body))
    }
}

/// A client that authenticates again and again until the end.
pub(crate) fn client(target: &Target, key: &str, over: &AtomicBool) -> Seen {
    let (mut seen, mut connection) = (Seen::default(), Connection::new(target, CLIENT));
    while !over.load(Relaxed) {
        let start = Instant::now();
        let outcome = connection.ask("GET /v1/whoami", key, "");
        seen.add("a valid client", start, outcome.map(|(status, _)| status), &[200]);
        sleep(PAUSE);
    }
    seen
}

/// An administrator who creates a key, uses it, revokes it and checks that it is refused.
pub(crate) fn administrator(target: &Target, key: &str, over: &AtomicBool) -> Seen {
    let (mut seen, mut connection) = (Seen::default(), Connection::new(target, ADMINISTRATOR));
    while !over.load(Relaxed) {
        let mut step = |what: &str, key: &str, body: &str, expected: &[u16]| {
            let start = Instant::now();
            let outcome = connection.ask(what, key, body);
            let body = outcome.as_ref().map_or_else(|_| Vec::new(), |(_, body)| body.clone());
            seen.add(what, start, outcome.map(|(status, _)| status), expected);
            serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null)
        };
        let new = step("POST /v1/keys", key, r#"{"name":"brief","scopes":["api.read"]}"#, &[201]);
        if let (Some(id), Some(secret)) = (new["id"].as_str(), new["key"].as_str()) {
            step("GET /v1/whoami", secret, "", &[200]);
            step(&format!("PATCH /v1/keys/{id}"), key, r#"{"active":false}"#, &[200]);
            // Too many refused keys from one address are answered with 429, which refuses as well.
            step("GET /v1/whoami", secret, "", &[401, 429]);
        }
        sleep(10 * PAUSE);
    }
    seen
}

/// A probe of readiness.
pub(crate) fn probe(target: &Target, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !over.load(Relaxed) {
        let start = Instant::now();
        let outcome = Connection::new(target, PROBE).ask("GET /readyz", "", "");
        seen.add("/readyz", start, outcome.map(|(status, _)| status), &[200]);
        sleep(20 * PAUSE);
    }
    seen
}

/// The greatest resident memory of a process so far, in MiB.
pub(crate) fn peak_mib(id: u32) -> u64 {
    status(id, "VmHWM:") / 1024
}

fn status(id: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many TCP connections a process has on this local port. One that it has closed belongs to the
/// kernel alone, which may wait for the client for a while; it has no inode.
pub(crate) fn connections(port: u16) -> usize {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let lines: String = tables.into_iter().flatten().collect();
    let local = format!(":{port:04X}");
    let is_held = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |place: usize| fields.get(place).copied().unwrap_or_default();
        let is_listening = field(3) == "0A";
        field(1).ends_with(&local) && !is_listening && field(9) != "0"
    };
    lines.lines().filter(is_held).count()
}
