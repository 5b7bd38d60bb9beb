//! The torture test: replicas and etcd nodes are frozen, killed, cut off and slowed. No replica may accept a
//! key in a validation that began after the key's revocation had returned.
//!
//! There are three real etcd processes and several replicas. Each replica is a child process of the test, and
//! reaches etcd through its own proxies, which can delay or drop data. In each replica, one thread validates
//! all its keys all the time, and records for each key when the last accepted validation *began*. The parent
//! issues and revokes keys on random replicas, under random faults. It informs all replicas of the time at
//! which a revocation returned. Each acceptance that began after that time is counted. All processes share
//! the monotonic clock of the host, so their times can be compared.
//!
//! The nodes also reach each other through proxies. The faults of their network:
//!
//! | fault | other nodes reach it | it reaches other nodes | clients reach it |
//! |---|---|---|---|
//! | unreachable by peers | no | yes | yes |
//! | partitioned | no | no | yes |
//! | isolated | no | no | no |
//! | all nodes partitioned | no | no | yes; there is no quorum |
//!
//! The caller implements a replica: [`ReplicaUnderTest`].

use portcullis_testkit::{Chance, etcd::Etcd, grouped, proxy::Proxy};
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

const URLS: &str = "PORTCULLIS_TEST_TORTURE_URLS";
/// The fault that `open` injects into the first replica; empty for none.
const INJECTED_FAULT: &str = "PORTCULLIS_TEST_TORTURE_FAULT";
const REPLICAS: usize = 4;
/// The number of keys that a replica validates. Older keys are dropped.
const WATCHED: usize = 64;

/// Returns the nanoseconds of the host's monotonic clock, which all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// A replica in a child process.
pub(crate) trait ReplicaUnderTest: Clone + Send + Sync + 'static {
    fn open(urls: &str, injected_fault: &str) -> Result<Self, String>;

    fn validate(&self, key: &str) -> Validation;

    /// Issues a key. Returns its id and its text.
    fn issue(&self, name: &str) -> Result<(String, String), String>;

    /// Revokes a key. Returns how many replicas acknowledged, and how many timed out.
    fn revoke(&self, id: &str) -> Result<(usize, usize), String>;

    /// Shuts down in an orderly way. This is the last handle.
    fn leave(self);
}

pub(crate) enum Validation {
    Accepted,
    Refused,
    Unavailable,
}

// ── a replica

/// A key that this replica validates.
struct Watched {
    text: String,
    /// When the last accepted validation began.
    accepted: AtomicU64,
    /// When its revocation returned, or `u64::MAX`.
    revoked: AtomicU64,
}

#[derive(Default)]
struct Tally {
    validations: AtomicU64,
    accepted: AtomicU64,
    unavailable: AtomicU64,
}

type Keys = Arc<RwLock<BTreeMap<usize, Arc<Watched>>>>;

/// Runs a replica that executes the commands on its standard input. Returns only in the parent.
pub(crate) fn run_as_replica<S: ReplicaUnderTest>() {
    let Ok(urls) = std::env::var(URLS) else { return };
    report("");
    let store = match S::open(&urls, &std::env::var(INJECTED_FAULT).unwrap_or_default()) {
        Ok(store) => store,
        Err(error) => {
            report(&format!("failed opening: {error}"));
            std::process::exit(1)
        }
    };
    report("opened");
    let (keys, tally) = (Keys::default(), Arc::new(Tally::default()));
    let leaving = Arc::new(AtomicBool::new(false));
    let validating = thread::spawn({
        let (store, keys, tally) = (store.clone(), Arc::clone(&keys), Arc::clone(&tally));
        let leaving = Arc::clone(&leaving);
        move || {
            while !leaving.load(SeqCst) {
                validate_all(&store, &keys, &tally);
            }
        }
    });
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        match words[0].as_str() {
            "issue" => {
                let store = store.clone();
                thread::spawn(move || issue(&store, &words[1]));
            }
            "revoke" => {
                let store = store.clone();
                thread::spawn(move || revoke(&store, &words[1], &words[2]));
            }
            "watch" => {
                let mut keys = keys.write().unwrap();
                let watched = Watched {
                    text: words[2].clone(),
                    accepted: AtomicU64::new(0),
                    revoked: AtomicU64::new(u64::MAX),
                };
                keys.insert(words[1].parse().unwrap(), Arc::new(watched));
                // The first key is never revoked. It shows that this replica accepts keys.
                while keys.len() > WATCHED {
                    let oldest = *keys.keys().nth(1).unwrap();
                    keys.remove(&oldest);
                }
            }
            "revoked" => {
                let (number, moment): (usize, u64) =
                    (words[1].parse().unwrap(), words[2].parse().unwrap());
                if let Some(key) = keys.read().unwrap().get(&number) {
                    key.revoked.store(moment, SeqCst);
                    // The key was accepted before this line arrived, but after the revocation returned.
                    if key.accepted.load(SeqCst) > moment {
                        report(&format!("wrong {number}"));
                    }
                }
            }
            "report" => {
                let count = |counter: &AtomicU64| counter.load(SeqCst);
                report(&format!(
                    "report {} {} {}",
                    count(&tally.validations),
                    count(&tally.accepted),
                    count(&tally.unavailable)
                ));
            }
            "leave" => break,
            _ => {}
        }
    }
    leaving.store(true, SeqCst);
    validating.join().unwrap();
    store.leave();
    report("left");
    std::process::exit(0)
}

/// Validates each key once.
fn validate_all(
    store: &impl ReplicaUnderTest,
    keys: &RwLock<BTreeMap<usize, Arc<Watched>>>,
    tally: &Tally,
) {
    let round: Vec<_> =
        keys.read().unwrap().iter().map(|(number, key)| (*number, Arc::clone(key))).collect();
    for (number, key) in &round {
        let begun = now();
        let answer = store.validate(&key.text);
        tally.validations.fetch_add(1, SeqCst);
        match answer {
            Validation::Accepted => {
                tally.accepted.fetch_add(1, SeqCst);
                key.accepted.fetch_max(begun, SeqCst);
                if begun > key.revoked.load(SeqCst) {
                    report(&format!("wrong {number}"));
                }
            }
            Validation::Unavailable => drop(tally.unavailable.fetch_add(1, SeqCst)),
            Validation::Refused => {}
        }
    }
    // Leave processor time to the other replicas and to etcd.
    thread::sleep(Duration::from_micros(500));
}

fn issue(store: &impl ReplicaUnderTest, number: &str) {
    match store.issue(&format!("key {number}")) {
        Ok((id, text)) => report(&format!("issued {number} {id} {text}")),
        Err(error) => report(&format!("unissued {number} {error}")),
    }
}

fn revoke(store: &impl ReplicaUnderTest, number: &str, id: &str) {
    let start = Instant::now();
    let outcome = store.revoke(id);
    let moment = now();
    let millis = start.elapsed().as_millis();
    match outcome {
        Ok((acknowledged, timed_out)) => {
            report(&format!("revoked {number} {moment} {millis} {acknowledged} {timed_out}"));
        }
        Err(error) => report(&format!("unrevoked {number} {error}")),
    }
}

fn report(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

// ── the parent

/// A child process, and its proxies to etcd.
struct Replica {
    number: usize,
    test: &'static str,
    injected_fault: &'static str,
    proxies: Vec<Proxy>,
    child: Option<Child>,
    input: Option<ChildStdin>,
    /// The number of starts. It identifies late messages of an earlier process.
    run: usize,
    opened: bool,
    /// The last report of the current process.
    report: [u64; 3],
}

impl Replica {
    fn new(number: usize, etcd: &Etcd, test: &'static str, injected_fault: &'static str) -> Self {
        let proxies = (0..etcd.count()).map(|node| Proxy::to(&etcd.address(node))).collect();
        Self {
            number,
            test,
            injected_fault,
            proxies,
            child: None,
            input: None,
            run: 0,
            opened: false,
            report: [0; 3],
        }
    }

    fn start(&mut self, messages: &Sender<Message>) {
        let urls: Vec<_> = self.proxies.iter().map(Proxy::url).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([self.test, "--exact", "--nocapture", "--include-ignored"])
            .env(URLS, urls.join(","))
            .env(INJECTED_FAULT, self.injected_fault)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        self.run += 1;
        self.opened = false;
        self.report = [0; 3];
        self.input = child.stdin.take();
        let out = child.stdout.take().unwrap();
        self.child = Some(child);
        let (number, run, messages) = (self.number, self.run, messages.clone());
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { return };
                if messages.send(Message { replica: number, run, line }).is_err() {
                    return;
                }
            }
        });
    }

    fn send(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            // A pipe that is full or broken belongs to a child that is frozen or dead.
            let _ = writeln!(input, "{line}");
        }
    }

    fn kill(&mut self) {
        self.input = None;
        self.opened = false;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn signal(&self, name: &str) {
        let Some(child) = &self.child else { return };
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Message {
    replica: usize,
    run: usize,
    line: String,
}

/// A key between the request to issue it and the return of its revocation.
struct PendingKey {
    id: Option<(String, String)>,
    /// The replica of the last request, and the time of the next request.
    replica: usize,
    next: Instant,
    is_requested: bool,
}

#[derive(Default)]
struct Counts {
    faults: BTreeMap<&'static str, usize>,
    issued: usize,
    revoked: usize,
    /// Revocations for which a replica timed out.
    timed_out: usize,
    failed: usize,
    wrong: usize,
    reported: [u64; 3],
    slowest_ms: u64,
}

/// A current fault.
enum Fault {
    ReplicaFrozen(usize),
    ReplicaStopped(usize),
    ReplicaCutOff(usize),
    NodeFrozen(usize),
    NodeKilled(usize),
    /// The other nodes do not reach this node.
    NodeUnreachableByPeers(usize),
    /// No node reaches another.
    AllNodesPartitioned,
    /// This node and the others do not reach each other. Clients reach it.
    NodePartitioned(usize),
    /// The same, and clients do not reach it.
    NodeIsolated(usize),
}

struct Torture {
    etcd: Etcd,
    /// The proxies through which the other nodes reach each node.
    peers: Vec<Proxy>,
    /// The member id of each node.
    ids: Vec<String>,
    replicas: Vec<Replica>,
    messages: (Sender<Message>, Receiver<Message>),
    pending: BTreeMap<usize, PendingKey>,
    /// The commands for a replica that starts: the keys to validate, and when they were revoked.
    watched: BTreeMap<usize, [String; 2]>,
    created: usize,
    chance: Chance,
    faults: Vec<(Instant, Fault)>,
    counts: Counts,
}

impl Torture {
    fn new(
        (etcd, peers): (Etcd, Vec<Proxy>),
        seed: u64,
        test: &'static str,
        injected_fault: &'static str,
    ) -> Self {
        // One faulty replica is enough.
        let faulty = |number| if number == 0 { injected_fault } else { "" };
        let replica = |number| Replica::new(number, &etcd, test, faulty(number));
        let replicas = (0..REPLICAS).map(replica).collect();
        let ids = (0..etcd.count()).map(|node| until(|| etcd.id(node))).collect();
        Self {
            etcd,
            peers,
            ids,
            replicas,
            messages: mpsc::channel(),
            pending: BTreeMap::new(),
            watched: BTreeMap::new(),
            created: 0,
            chance: Chance(seed),
            faults: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn start(&mut self) {
        for replica in &mut self.replicas {
            replica.start(&self.messages.0);
        }
        self.until("all replicas are open", |t| t.replicas.iter().all(|r| r.opened));
        self.request_key();
        self.until("the first key is there", |t| !t.watched.is_empty());
    }

    /// Runs for this time, with faults.
    fn run(&mut self, time: Duration) {
        let start = Instant::now();
        let (mut next_fault, mut next_report) = (start, start);
        while start.elapsed() < time {
            if Instant::now() >= next_fault {
                self.inject_fault();
                next_fault = Instant::now() + Duration::from_millis(300 + self.below(1200));
            }
            if Instant::now() >= next_report {
                self.send_all("report");
                next_report += Duration::from_secs(1);
            }
            if self.pending.len() < 6 {
                self.request_key();
            }
            self.step();
        }
    }

    /// Ends all faults, and checks that all replicas recover.
    fn recover(&mut self) {
        while let Some((_, fault)) = self.faults.pop() {
            self.end_fault(&fault);
        }
        self.until("all replicas are open again", |t| t.replicas.iter().all(|r| r.opened));
        let before: Vec<_> = self.reports();
        self.until("all replicas accept the key that was never revoked", |t| {
            t.send_all("report");
            let now = t.reports();
            now.iter().zip(&before).all(|(now, before)| now[1] > before[1] + 100)
        });
        self.until("every revocation returned", |t| {
            t.pending.retain(|_, key| key.id.is_some() || key.is_requested);
            t.pending.is_empty()
        });
    }

    fn reports(&self) -> Vec<[u64; 3]> {
        self.replicas.iter().map(|replica| replica.report).collect()
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_secs(90), "not in 90 s: {what}");
            self.step();
        }
    }

    /// Receives messages of the replicas for a moment, ends faults, and sends the next request of each key.
    fn step(&mut self) {
        let end = Instant::now() + Duration::from_millis(10);
        while let Ok(message) =
            self.messages.1.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.receive(&message);
        }
        let over: Vec<_> = {
            let now = Instant::now();
            let (over, on): (Vec<_>, Vec<_>) =
                self.faults.drain(..).partition(|(until, _)| *until <= now);
            self.faults = on;
            over
        };
        for (_, fault) in over {
            self.end_fault(&fault);
        }
        let due: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, key)| key.next <= Instant::now())
            .map(|(&number, _)| number)
            .collect();
        for number in due {
            self.send_request(number);
        }
    }

    /// Requests a new key.
    fn request_key(&mut self) {
        let key = PendingKey { id: None, replica: 0, next: Instant::now(), is_requested: false };
        self.pending.insert(self.created, key);
        self.created += 1;
    }

    /// Sends the next request of a key to a random replica that is open.
    fn send_request(&mut self, number: usize) {
        let open: Vec<_> = self.replicas.iter().filter(|r| r.opened).map(|r| r.number).collect();
        let chosen = self.below(open.len() as u64);
        let Some(key) = self.pending.get_mut(&number) else { return };
        // A replica without an answer in this time is stopped or cut off: retry on another one.
        key.next = Instant::now() + Duration::from_secs(12);
        let Some(&replica) = open.get(usize::try_from(chosen).unwrap()) else {
            key.next = Instant::now() + Duration::from_millis(200);
            return;
        };
        key.replica = replica;
        let line = match &key.id {
            None if key.is_requested => {
                // It may have been issued, but its secret is lost, so it cannot be validated.
                self.pending.remove(&number);
                self.counts.failed += 1;
                return;
            }
            None => {
                key.is_requested = true;
                format!("issue {number}")
            }
            Some((id, _)) => format!("revoke {number} {id}"),
        };
        self.replicas[replica].send(&line);
    }

    fn receive(&mut self, message: &Message) {
        let replica = &mut self.replicas[message.replica];
        let words: Vec<_> = message.line.split(' ').collect();
        // A wrong acceptance counts even if the process was killed since.
        if words[0] == "wrong" {
            println!("replica {}, key {}: {}", message.replica, message.run, message.line);
            self.counts.wrong += 1;
            return;
        }
        match words[0] {
            "opened" if message.run == replica.run => {
                replica.opened = true;
                for line in self.watched.values().flatten().filter(|line| !line.is_empty()) {
                    replica.send(line);
                }
            }
            "failed" => {
                println!("replica {}: {}", message.replica, message.line);
                if message.run == replica.run {
                    replica.kill();
                    replica.start(&self.messages.0);
                }
            }
            "report" if message.run == replica.run => {
                for (place, word) in words[1..].iter().enumerate() {
                    let count: u64 = word.parse().unwrap();
                    self.counts.reported[place] += count - replica.report[place];
                    replica.report[place] = count;
                }
            }
            "issued" => {
                let number: usize = words[1].parse().unwrap();
                let line = format!("watch {number} {}", words[3]);
                let hold = Duration::from_millis(20 + self.below(400));
                let Some(key) = self.pending.get_mut(&number) else { return };
                key.id = Some((words[2].to_owned(), words[3].to_owned()));
                key.next = Instant::now() + hold;
                self.send_all(&line);
                self.watched.insert(number, [line, String::new()]);
                self.counts.issued += 1;
                if number == 0 {
                    self.pending.remove(&number);
                }
                while self.watched.len() > WATCHED {
                    let oldest = *self.watched.keys().nth(1).unwrap();
                    self.watched.remove(&oldest);
                }
            }
            "unissued" => {
                self.counts.failed += 1;
                self.pending.remove(&words[1].parse().unwrap());
                if words[1] == "0" {
                    println!("{}", message.line);
                    self.created = 0;
                    self.request_key();
                }
            }
            "revoked" => {
                let number: usize = words[1].parse().unwrap();
                if self.pending.remove(&number).is_none() {
                    // It returned earlier on another replica.
                    return;
                }
                self.counts.revoked += 1;
                self.counts.slowest_ms = self.counts.slowest_ms.max(words[3].parse().unwrap());
                self.counts.timed_out += usize::from(words[5] != "0");
                let line = format!("revoked {number} {}", words[2]);
                self.send_all(&line);
                if let Some(lines) = self.watched.get_mut(&number) {
                    lines[1] = line;
                }
            }
            "unrevoked" => {
                self.counts.failed += 1;
                let number: usize = words[1].parse().unwrap();
                let pause = Duration::from_millis(100 + self.below(400));
                if let Some(key) = self.pending.get_mut(&number) {
                    key.next = Instant::now() + pause;
                }
            }
            _ => {}
        }
    }

    fn send_all(&mut self, line: &str) {
        let frozen: Vec<_> = self
            .faults
            .iter()
            .filter_map(
                |(_, fault)| if let Fault::ReplicaFrozen(n) = fault { Some(*n) } else { None },
            )
            .collect();
        for replica in &mut self.replicas {
            // The pipe of a frozen replica may fill up, so it gets no requests for reports.
            if line != "report" || !frozen.contains(&replica.number) {
                replica.send(line);
            }
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.chance.word() % end.max(1)
    }

    /// Injects a random fault. At most two replicas and one node have a fault at a time.
    fn inject_fault(&mut self) {
        let faulty_replicas: Vec<_> = self
            .faults
            .iter()
            .filter_map(|(_, fault)| match fault {
                Fault::ReplicaFrozen(n) | Fault::ReplicaStopped(n) | Fault::ReplicaCutOff(n) => {
                    Some(*n)
                }
                _ => None,
            })
            .collect();
        let is_node_fault = |fault: &Fault| {
            !matches!(
                fault,
                Fault::ReplicaFrozen(_) | Fault::ReplicaStopped(_) | Fault::ReplicaCutOff(_)
            )
        };
        let has_node_fault = self.faults.iter().any(|(_, fault)| is_node_fault(fault));
        let victim = usize::try_from(self.below(REPLICAS as u64)).unwrap();
        let node = usize::try_from(self.below(self.etcd.count() as u64)).unwrap();
        let millis = |t: &mut Self, most: u64| Duration::from_millis(100 + t.below(most));
        let kind = self.below(17);
        if kind < 8 && (faulty_replicas.len() >= 2 || faulty_replicas.contains(&victim))
            || kind >= 8 && has_node_fault
        {
            return;
        }
        let mut count = |name| *self.counts.faults.entry(name).or_default() += 1;
        let (name, fault, most) = match kind {
            0 | 1 => ("frozen", Fault::ReplicaFrozen(victim), 6000),
            2 => ("killed", Fault::ReplicaStopped(victim), 2000),
            3 => ("left", Fault::ReplicaStopped(victim), 2000),
            4 | 5 => ("cut off", Fault::ReplicaCutOff(victim), 6000),
            6 => ("slowed", Fault::ReplicaCutOff(victim), 4000),
            7 => ("disconnected", Fault::ReplicaCutOff(victim), 10),
            8 => ("node frozen", Fault::NodeFrozen(node), 4000),
            9 => ("node killed", Fault::NodeKilled(node), 3000),
            10 => {
                let Some(leader) = self.etcd.leader() else { return };
                ("leader killed", Fault::NodeKilled(leader), 3000)
            }
            11 => ("node unreachable by peers", Fault::NodeUnreachableByPeers(node), 4000),
            12 => ("nodes partitioned", Fault::AllNodesPartitioned, 3000),
            13 => ("node isolated", Fault::NodeIsolated(node), 5000),
            14 | 15 => {
                let Some(leader) = self.etcd.leader() else { return };
                if kind == 14 {
                    ("leader isolated", Fault::NodeIsolated(leader), 5000)
                } else {
                    ("leader partitioned", Fault::NodePartitioned(leader), 5000)
                }
            }
            _ => {
                count("compacted");
                self.etcd.compact();
                return;
            }
        };
        count(name);
        match (&fault, name) {
            (Fault::ReplicaFrozen(n), _) => self.replicas[*n].signal("STOP"),
            (Fault::ReplicaStopped(n), "left") => {
                self.replicas[*n].send("leave");
                self.replicas[*n].opened = false;
            }
            (Fault::ReplicaStopped(n), _) => self.replicas[*n].kill(),
            (Fault::ReplicaCutOff(n), "cut off") => {
                self.replicas[*n].proxies.iter().for_each(Proxy::swallow);
            }
            (Fault::ReplicaCutOff(n), "slowed") => {
                let delay = millis(self, 700);
                self.replicas[*n].proxies.iter().for_each(|proxy| proxy.delay(delay));
            }
            (Fault::ReplicaCutOff(n), _) => self.replicas[*n].proxies.iter().for_each(Proxy::cut),
            (Fault::NodeFrozen(n), _) => self.etcd.freeze(*n),
            (Fault::NodeKilled(n), _) => self.etcd.kill(*n),
            (Fault::NodeUnreachableByPeers(n), _) => self.peers[*n].swallow(),
            (Fault::AllNodesPartitioned, _) => self.peers.iter().for_each(Proxy::swallow),
            (Fault::NodePartitioned(n), _) => partition(&self.peers, *n, &self.ids[*n]),
            (Fault::NodeIsolated(n), _) => {
                partition(&self.peers, *n, &self.ids[*n]);
                self.proxies_to(*n).for_each(Proxy::unplug);
            }
        }
        let until = Instant::now() + millis(self, most);
        self.faults.push((until, fault));
    }

    fn end_fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::ReplicaFrozen(n) => self.replicas[n].signal("CONT"),
            Fault::ReplicaStopped(n) => {
                self.replicas[n].kill();
                self.replicas[n].start(&self.messages.0);
            }
            Fault::ReplicaCutOff(n) => self.replicas[n].proxies.iter().for_each(Proxy::pass),
            Fault::NodeFrozen(n) => self.etcd.thaw(n),
            Fault::NodeKilled(n) => self.etcd.restart(n),
            Fault::NodeUnreachableByPeers(n) => self.peers[n].pass(),
            Fault::AllNodesPartitioned => self.peers.iter().for_each(Proxy::pass),
            Fault::NodePartitioned(n) | Fault::NodeIsolated(n) => {
                rejoin(&self.peers, n);
                self.proxies_to(n).for_each(Proxy::plug_in);
            }
        }
    }

    /// Returns the proxies of all replicas to a node.
    fn proxies_to(&self, node: usize) -> impl Iterator<Item = &Proxy> {
        self.replicas.iter().map(move |replica| &replica.proxies[node])
    }
}

/// Partitions a node from its peers in both directions. Its connections to them go through their proxies,
/// which recognize its id in the first bytes of each connection.
pub(crate) fn partition(peers: &[Proxy], node: usize, id: &str) {
    peers[node].unplug();
    for peer in peers {
        peer.mute(Some(id));
    }
}

pub(crate) fn rejoin(peers: &[Proxy], node: usize) {
    peers[node].plug_in();
    for peer in peers {
        peer.mute(None);
    }
}

pub(crate) fn until<T>(mut is: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "not within a minute");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the torture test on replicas of one store in an etcd whose nodes reach each other through proxies.
/// Returns how often a key was accepted after its revocation had returned. `test` is the name of the calling
/// test, with which the children are started.
pub(crate) fn torture(
    nodes: (Etcd, Vec<Proxy>),
    (seconds, seed): (usize, u64),
    test: &'static str,
    injected_fault: &'static str,
) -> usize {
    let mut torture = Torture::new(nodes, seed, test, injected_fault);
    torture.start();
    torture.run(Duration::from_secs(seconds as u64));
    torture.recover();
    let counts = std::mem::take(&mut torture.counts);
    let faults: Vec<_> =
        counts.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let large = |count: u64| grouped(usize::try_from(count).unwrap());
    let [validations, accepted, unavailable] = counts.reported;
    println!(
        "torture: {seconds} s, {} faults ({}), {} keys issued, {} revoked ({} with a replica timed out, the slowest \
         in {} ms), {} failed requests, {} validations ({} accepted, {} unavailable), {} accepted after a returned \
         revocation",
        grouped(counts.faults.values().sum()),
        faults.join(", "),
        grouped(counts.issued),
        grouped(counts.revoked),
        grouped(counts.timed_out),
        large(counts.slowest_ms),
        grouped(counts.failed),
        large(validations),
        large(accepted),
        large(unavailable),
        counts.wrong
    );
    assert!(counts.revoked > seconds / 4 && accepted > 1000, "too little was tried");
    counts.wrong
}
