//! Real etcd nodes on 127.0.0.1, .2 and .3, for tests that freeze, kill and restart them.

use super::{check_needs, room};
use std::{
    collections::{BTreeSet, hash_map::RandomState},
    fs,
    hash::{BuildHasher, Hasher},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a node may take to start on a busy host.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// The timeout of etcdctl for a command that must succeed.
const COMMAND_TIMEOUT: &str = "30s";
/// The timeout of etcdctl for a node that may be dead or frozen.
const PROBE_TIMEOUT: &str = "3s";

/// An etcd cluster in its own directory. Dropping it kills its nodes.
pub struct Etcd {
    room: tempfile::TempDir,
    nodes: Vec<Node>,
    tls: Option<Tls>,
}

/// The files of a private certificate authority for nodes and clients.
#[derive(Clone)]
pub struct Tls {
    pub ca: PathBuf,
    pub server: (PathBuf, PathBuf),
    pub client: (PathBuf, PathBuf),
}

struct Node {
    client: String,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Etcd {
    /// Starts this many nodes and waits until they respond. A test that calls this needs
    /// `#[needs("etcd", "etcdctl")]`.
    pub fn start(nodes: usize) -> Self {
        Self::start_in(room(), nodes, None)
    }

    /// Starts nodes that accept clients by TLS only, with a certificate of the authority.
    pub fn start_with(nodes: usize, tls: Tls) -> Self {
        Self::start_in(room(), nodes, Some(tls))
    }

    /// Starts nodes that reach each other through relays: `relay` maps the address of a node to the URL of
    /// its relay.
    pub fn start_apart(nodes: usize, relay: impl FnMut(&str) -> String) -> Self {
        Self::start_by(room(), nodes, None, relay)
    }

    /// Starts nodes with their data in this directory.
    pub fn start_in(room: tempfile::TempDir, nodes: usize, tls: Option<Tls>) -> Self {
        Self::start_by(room, nodes, tls, |address| format!("http://{address}"))
    }

    fn start_by(
        room: tempfile::TempDir,
        nodes: usize,
        tls: Option<Tls>,
        relay: impl FnMut(&str) -> String,
    ) -> Self {
        check_needs(&["etcd", "etcdctl"]);
        let mut etcd =
            Self { nodes: node_arguments(room.path(), nodes, tls.as_ref(), relay), room, tls };
        (0..nodes).for_each(|node| etcd.spawn(node));
        if !etcd.wait_until_up() {
            let logs: Vec<_> = etcd.nodes.iter().map(|node| last_lines(&node.log)).collect();
            panic!("etcd did not start: {logs:#?}");
        }
        etcd
    }

    /// Returns the client URLs of the nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.clone()).collect()
    }

    /// Returns the client URLs, separated by commas, as the command line takes them.
    pub fn url(&self) -> String {
        self.urls().join(",")
    }

    /// Returns the client address of a node, such as `127.0.0.2:4711`.
    pub fn address(&self, node: usize) -> String {
        let url = &self.nodes[node].client;
        url.split("//").nth(1).unwrap().to_owned()
    }

    pub fn room(&self) -> &Path {
        self.room.path()
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Kills a node without a shutdown.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Restarts a node on its data.
    pub fn restart(&mut self, node: usize) {
        self.kill(node);
        self.spawn(node);
    }

    /// Restarts a node with more arguments, which stay for later restarts.
    pub fn restart_with(&mut self, node: usize, more: &[&str]) {
        self.nodes[node].arguments.extend(more.iter().map(ToString::to_string));
        self.restart(node);
    }

    /// Suspends a node; its connections stay open.
    pub fn freeze(&self, node: usize) {
        self.signal(node, "STOP");
    }

    pub fn thaw(&self, node: usize) {
        self.signal(node, "CONT");
    }

    /// Returns the node that is the leader, if there is one.
    pub fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|&node| {
            let status = self.status(node);
            let (leader, own) = (&status["leader"], &status["header"]["member_id"]);
            leader.is_u64() && leader == own
        })
    }

    /// Whether a node knows a leader.
    pub fn hears_a_leader(&self, node: usize) -> bool {
        self.status(node)["leader"].as_u64().is_some_and(|leader| leader != 0)
    }

    /// Returns the member id of a node, if it responds.
    pub fn id(&self, node: usize) -> Option<String> {
        self.status(node)["header"]["member_id"].as_u64().map(|id| format!("{id:x}"))
    }

    /// Returns the status of a node, or null if it does not respond.
    fn status(&self, node: usize) -> serde_json::Value {
        let mut ctl = self.ctl_at(&self.nodes[node].client, PROBE_TIMEOUT);
        let output = ctl.args(["endpoint", "status", "-w", "json"]).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status[0]["Status"].clone()
    }

    /// Compacts the history up to the current revision, and returns that revision.
    pub fn compact(&self) -> i64 {
        let revision = self.revision();
        let output = self.ctl().args(["compact", &revision.to_string()]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let done = output.status.success() || stderr.contains("compacted");
        assert!(done, "{stderr}");
        revision
    }

    /// Returns the newest revision.
    pub fn revision(&self) -> i64 {
        let response = self.say(&["get", "any", "-w", "json"]);
        let response: serde_json::Value = serde_json::from_str(&response).unwrap();
        response["header"]["revision"].as_i64().unwrap()
    }

    /// Runs etcdctl against all nodes and returns its output. It must succeed.
    pub fn say(&self, arguments: &[&str]) -> String {
        let output = self.ctl().args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {stderr}");
        // Keys may contain bytes that are not UTF-8.
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns etcdctl with the addresses of all nodes.
    pub fn ctl(&self) -> Command {
        let mut ctl = self.ctl_at(&self.url(), COMMAND_TIMEOUT);
        ctl.args(["--dial-timeout", COMMAND_TIMEOUT]);
        ctl
    }

    fn ctl_at(&self, url: &str, timeout: &str) -> Command {
        let mut ctl = Command::new("etcdctl");
        ctl.env("ETCDCTL_API", "3").args(["--endpoints", url, "--command-timeout", timeout]);
        if let Some(Tls { ca, client: (cert, key), .. }) = &self.tls {
            ctl.arg("--cacert").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        }
        ctl.stdin(Stdio::null());
        ctl
    }

    fn spawn(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let log = fs::OpenOptions::new().create(true).append(true).open(&node.log).unwrap();
        let mut etcd = Command::new("etcd");
        etcd.args(&node.arguments).env_clear().stdin(Stdio::null());
        etcd.stdout(log.try_clone().unwrap()).stderr(log);
        node.child = Some(etcd.spawn().unwrap());
    }

    /// Waits until every started node responds. Returns false on a timeout or if a node has ended.
    pub fn wait_until_up(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            let mut gone = false;
            for node in &mut self.nodes {
                let ended = node.child.as_mut().is_some_and(|c| c.try_wait().unwrap().is_some());
                gone |= ended;
            }
            if gone {
                return false;
            }
            let mut ctl = self.ctl_at(&self.url(), PROBE_TIMEOUT);
            if ctl.args(["endpoint", "health"]).output().unwrap().status.success() {
                return true;
            }
            thread::sleep(Duration::from_millis(100));
        }
        false
    }

    fn signal(&self, node: usize, name: &str) {
        let Some(child) = &self.nodes[node].child else { return };
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.kill(node));
    }
}

fn node_arguments(
    room: &Path,
    count: usize,
    tls: Option<&Tls>,
    relay: impl FnMut(&str) -> String,
) -> Vec<Node> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let hosts: Vec<_> = (1..=count).map(|number| format!("127.0.0.{number}")).collect();
    let clients: Vec<_> =
        hosts.iter().map(|host| format!("{scheme}://{host}:{}", free_port(host))).collect();
    let peers: Vec<_> = hosts.iter().map(|host| format!("{host}:{}", free_port(host))).collect();
    let advertised: Vec<_> = peers.iter().map(String::as_str).map(relay).collect();
    let all: Vec<_> =
        advertised.iter().enumerate().map(|(n, peer)| format!("n{n}={peer}")).collect();
    let all = all.join(",");
    let node = |(number, (client, peer)): (usize, (String, &String))| {
        let listens = format!("http://{peer}");
        let data = room.join(format!("n{number}"));
        let mut arguments: Vec<String> = [
            ["--name", &format!("n{number}")],
            ["--data-dir", data.to_str().unwrap()],
            ["--listen-client-urls", &client],
            ["--advertise-client-urls", &client],
            ["--listen-peer-urls", &listens],
            ["--initial-advertise-peer-urls", &advertised[number]],
            ["--initial-cluster", &all],
            ["--initial-cluster-state", "new"],
            // A busy host must not look like a dead leader.
            ["--heartbeat-interval", "100"],
            ["--election-timeout", "1000"],
            ["--log-level", "warn"],
            ["--logger", "zap"],
        ]
        .iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
        if let Some(Tls { ca, server: (cert, key), .. }) = tls {
            arguments.push("--client-cert-auth".into());
            for (name, file) in
                [("--trusted-ca-file", ca), ("--cert-file", cert), ("--key-file", key)]
            {
                arguments.extend([name.into(), file.to_str().unwrap().into()]);
            }
        }
        Node { client, arguments, log: room.join(format!("n{number}.log")), child: None }
    };
    clients.into_iter().zip(&peers).enumerate().map(node).collect()
}

/// Returns a random port below the ephemeral ports of Linux, because a connection could take one of those
/// while its node is killed. No port is returned twice: a port is free until its node binds it.
fn free_port(host: &str) -> u16 {
    static RETURNED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let word = RandomState::new().build_hasher().finish();
        let port = 16_384 + u16::try_from(word % 16_384).unwrap();
        let is_new = RETURNED.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind((host, port)).is_ok() {
            return port;
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
