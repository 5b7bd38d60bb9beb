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

/// How long a node may take to be up, on a machine with other work.
const UP: Duration = Duration::from_mins(1);
/// How long etcdctl waits for what must succeed, and for nodes that may be dead or frozen.
const SAYING: &str = "30s";
const LOOKING: &str = "3s";

/// A cluster of etcd in a directory of its own. Its nodes die with it.
pub struct Etcd {
    room: tempfile::TempDir,
    nodes: Vec<Node>,
    tls: Option<Tls>,
}

/// The files of a private authority, by which nodes and clients know each other.
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
    /// Starts this many nodes and waits until they answer. A test that calls this says
    /// `#[needs("etcd", "etcdctl")]`.
    pub fn start(nodes: usize) -> Self {
        Self::start_in(room(), nodes, None)
    }

    /// Nodes that talk to clients by TLS, and only to those that the authority vouches for.
    pub fn start_with(nodes: usize, tls: Tls) -> Self {
        Self::start_in(room(), nodes, Some(tls))
    }

    /// Nodes that reach each other where `relay` says, which is told where each listens.
    pub fn start_apart(nodes: usize, relay: impl FnMut(&str) -> String) -> Self {
        Self::start_by(room(), nodes, None, relay)
    }

    /// Nodes whose data lies in this directory.
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
        let mut etcd = Self { nodes: plan(room.path(), nodes, tls.as_ref(), relay), room, tls };
        (0..nodes).for_each(|node| etcd.spawn(node));
        if !etcd.wait_until_up() {
            let logs: Vec<_> = etcd.nodes.iter().map(|node| last_lines(&node.log)).collect();
            panic!("etcd did not start: {logs:#?}");
        }
        etcd
    }

    /// Where clients reach the nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.clone()).collect()
    }

    /// The same in one word, as the command line takes it.
    pub fn url(&self) -> String {
        self.urls().join(",")
    }

    /// `127.0.0.2:4711` of one node.
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

    /// Kills a node as a power cut would.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a killed node again, on its data.
    pub fn restart(&mut self, node: usize) {
        self.kill(node);
        self.spawn(node);
    }

    /// The same, with more arguments from now on.
    pub fn restart_with(&mut self, node: usize, more: &[&str]) {
        self.nodes[node].arguments.extend(more.iter().map(ToString::to_string));
        self.restart(node);
    }

    /// Stops a node in the middle of whatever it does; its connections stay open.
    pub fn freeze(&self, node: usize) {
        self.signal(node, "STOP");
    }

    pub fn thaw(&self, node: usize) {
        self.signal(node, "CONT");
    }

    /// The node that leads, if the nodes that answer agree on one.
    pub fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|&node| {
            let status = self.status(node);
            let (leader, own) = (&status["leader"], &status["header"]["member_id"]);
            leader.is_u64() && leader == own
        })
    }

    /// Whether a node hears of any leader.
    pub fn hears_a_leader(&self, node: usize) -> bool {
        self.status(node)["leader"].as_u64().is_some_and(|leader| leader != 0)
    }

    /// The name by which a node tells its peers who it is, if it answers.
    pub fn id(&self, node: usize) -> Option<String> {
        self.status(node)["header"]["member_id"].as_u64().map(|id| format!("{id:x}"))
    }

    /// Null where it does not answer.
    fn status(&self, node: usize) -> serde_json::Value {
        let mut ctl = self.ctl_at(&self.nodes[node].client, LOOKING);
        let output = ctl.args(["endpoint", "status", "-w", "json"]).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        told[0]["Status"].clone()
    }

    /// Forgets the history up to now, and gives that revision.
    pub fn compact(&self) -> i64 {
        let revision = self.revision();
        let output = self.ctl().args(["compact", &revision.to_string()]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let done = output.status.success() || told.contains("compacted");
        assert!(done, "{told}");
        revision
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        let told = self.say(&["get", "any", "-w", "json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        told["header"]["revision"].as_i64().unwrap()
    }

    /// Runs etcdctl against all nodes; it must succeed.
    pub fn say(&self, arguments: &[&str]) -> String {
        let output = self.ctl().args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {told}");
        // Keys have bytes that are no text.
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// etcdctl, told where all the nodes are.
    pub fn ctl(&self) -> Command {
        let mut ctl = self.ctl_at(&self.url(), SAYING);
        ctl.args(["--dial-timeout", SAYING]);
        ctl
    }

    fn ctl_at(&self, url: &str, patience: &str) -> Command {
        let mut ctl = Command::new("etcdctl");
        ctl.env("ETCDCTL_API", "3").args(["--endpoints", url, "--command-timeout", patience]);
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

    /// Whether every node that was started answers, before the time is over.
    pub fn wait_until_up(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < UP {
            let mut gone = false;
            for node in &mut self.nodes {
                let ended = node.child.as_mut().is_some_and(|c| c.try_wait().unwrap().is_some());
                gone |= ended;
            }
            if gone {
                return false;
            }
            let mut ctl = self.ctl_at(&self.url(), LOOKING);
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

fn plan(
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
    let known: Vec<_> = peers.iter().map(String::as_str).map(relay).collect();
    let all: Vec<_> = known.iter().enumerate().map(|(n, peer)| format!("n{n}={peer}")).collect();
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
            ["--initial-advertise-peer-urls", &known[number]],
            ["--initial-cluster", &all],
            ["--initial-cluster-state", "new"],
            // Other work on the machine must not look like a dead leader.
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

/// Chosen by chance, below those that Linux gives to connections: one of them might otherwise be in
/// the way of a node that comes back. None is given twice: between this and the node that takes it,
/// and while that is killed, it is free.
fn free_port(host: &str) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let word = RandomState::new().build_hasher().finish();
        let port = 16_384 + u16::try_from(word % 16_384).unwrap();
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
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
