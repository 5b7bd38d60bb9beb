//! The torture: replicas and etcd nodes are frozen, killed, cut off and slowed, and no replica may
//! accept a key whose revocation had returned before it was asked.
//!
//! Three real etcd processes and several replicas, each a child process of the test that reaches
//! etcd through relays of its own, which delay or swallow what passes. In each replica one thread
//! validates, without a pause, every key of this test that it knows of, and notes per key when the
//! last accepted validation *began*. The parent issues and revokes keys on replicas chosen by
//! chance, under faults chosen by chance, and tells all replicas when a revocation returned. An
//! acceptance that began after that moment is counted, by whichever replica; the clock is the
//! machine's own, so that one replica's moment can be compared with another's.
//!
//! The nodes reach each other through relays as well: one that the others cannot reach is heard by
//! none; one that is parted from them hears none either, and one that is isolated is reached by no
//! client besides; where none reaches another there is no quorum, though clients reach all of them.
//!
//! Whoever includes this says what a replica is: [`Subject`].

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
/// What is done to each test's children, as `open` understands it.
const PLANT: &str = "PORTCULLIS_TEST_TORTURE_PLANT";
const REPLICAS: usize = 4;
/// Keys that a replica goes on validating; older ones make room.
const WATCHED: usize = 64;

/// Nanoseconds of the machine's monotonic clock, which all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// What a replica is.
pub(crate) trait Subject: Clone + Send + Sync + 'static {
    fn open(urls: &str, plant: &str) -> Result<Self, String>;

    fn validate(&self, key: &str) -> Validation;

    /// The id of a new key, and its text.
    fn issue(&self, name: &str) -> Result<(String, String), String>;

    /// How many replicas acknowledged, and how many were waited out.
    fn revoke(&self, id: &str) -> Result<(usize, usize), String>;

    /// Stops as a process does that is told to; it is the last handle.
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
    /// When its revocation had returned, or `u64::MAX`.
    revoked: AtomicU64,
}

#[derive(Default)]
struct Tally {
    validations: AtomicU64,
    accepted: AtomicU64,
    unavailable: AtomicU64,
}

type Keys = Arc<RwLock<BTreeMap<usize, Arc<Watched>>>>;

/// The child: a replica that does what its standard input says. Returns only in the parent.
pub(crate) fn be_a_replica<S: Subject>() {
    let Ok(urls) = std::env::var(URLS) else { return };
    tell("");
    let store = match S::open(&urls, &std::env::var(PLANT).unwrap_or_default()) {
        Ok(store) => store,
        Err(error) => {
            tell(&format!("failed opening: {error}"));
            std::process::exit(1)
        }
    };
    tell("opened");
    let (keys, tally) = (Keys::default(), Arc::new(Tally::default()));
    let leaving = Arc::new(AtomicBool::new(false));
    let hammering = thread::spawn({
        let (store, keys, tally) = (store.clone(), Arc::clone(&keys), Arc::clone(&tally));
        let leaving = Arc::clone(&leaving);
        move || {
            while !leaving.load(SeqCst) {
                hammer(&store, &keys, &tally);
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
                // The first is never revoked, and shows that this replica answers at all.
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
                    // What was accepted before this line came, but after the moment that it tells.
                    if key.accepted.load(SeqCst) > moment {
                        tell(&format!("wrong {number}"));
                    }
                }
            }
            "report" => {
                let count = |counter: &AtomicU64| counter.load(SeqCst);
                tell(&format!(
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
    hammering.join().unwrap();
    store.leave();
    tell("left");
    std::process::exit(0)
}

/// One validation of each key that is watched.
fn hammer(store: &impl Subject, keys: &RwLock<BTreeMap<usize, Arc<Watched>>>, tally: &Tally) {
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
                    tell(&format!("wrong {number}"));
                }
            }
            Validation::Unavailable => drop(tally.unavailable.fetch_add(1, SeqCst)),
            Validation::Refused => {}
        }
    }
    // Leaves the processor to the other replicas, and to etcd.
    thread::sleep(Duration::from_micros(500));
}

fn issue(store: &impl Subject, number: &str) {
    match store.issue(&format!("key {number}")) {
        Ok((id, text)) => tell(&format!("issued {number} {id} {text}")),
        Err(error) => tell(&format!("unissued {number} {error}")),
    }
}

fn revoke(store: &impl Subject, number: &str, id: &str) {
    let start = Instant::now();
    let outcome = store.revoke(id);
    let moment = now();
    let millis = start.elapsed().as_millis();
    match outcome {
        Ok((acknowledged, waited_out)) => {
            tell(&format!("revoked {number} {moment} {millis} {acknowledged} {waited_out}"));
        }
        Err(error) => tell(&format!("unrevoked {number} {error}")),
    }
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

// ── the parent

/// A child process, and its own way to etcd.
struct Replica {
    number: usize,
    test: &'static str,
    plant: &'static str,
    proxies: Vec<Proxy>,
    child: Option<Child>,
    input: Option<ChildStdin>,
    /// How often it was started; what an earlier process said late is not mistaken.
    life: usize,
    opened: bool,
    /// What the current process last reported.
    report: [u64; 3],
}

impl Replica {
    fn new(number: usize, etcd: &Etcd, test: &'static str, plant: &'static str) -> Self {
        let proxies = (0..etcd.count()).map(|node| Proxy::to(&etcd.address(node))).collect();
        Self {
            number,
            test,
            plant,
            proxies,
            child: None,
            input: None,
            life: 0,
            opened: false,
            report: [0; 3],
        }
    }

    fn start(&mut self, said: &Sender<Said>) {
        let urls: Vec<_> = self.proxies.iter().map(Proxy::url).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([self.test, "--exact", "--nocapture", "--include-ignored"])
            .env(URLS, urls.join(","))
            .env(PLANT, self.plant)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        self.life += 1;
        self.opened = false;
        self.report = [0; 3];
        self.input = child.stdin.take();
        let out = child.stdout.take().unwrap();
        self.child = Some(child);
        let (number, life, said) = (self.number, self.life, said.clone());
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { return };
                if said.send(Said { replica: number, life, line }).is_err() {
                    return;
                }
            }
        });
    }

    fn ask(&mut self, line: &str) {
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

struct Said {
    replica: usize,
    life: usize,
    line: String,
}

/// A key on its way from being asked for to being forgotten.
struct Life {
    id: Option<(String, String)>,
    /// Where it was last asked for, when, and when to ask next.
    replica: usize,
    next: Instant,
    asked: bool,
}

#[derive(Default)]
struct Counts {
    faults: BTreeMap<&'static str, usize>,
    issued: usize,
    revoked: usize,
    /// Revocations that waited for nobody's end, and that waited one out.
    waited_out: usize,
    failed: usize,
    wrong: usize,
    lines: [u64; 3],
    slowest_ms: u64,
}

/// A fault that is on, and when it ends.
enum Fault {
    Frozen(usize),
    Dead(usize),
    CutOff(usize),
    NodeFrozen(usize),
    NodeDead(usize),
    /// The others do not reach this node.
    Unheard(usize),
    /// No node reaches another.
    Apart,
    /// This node reaches no other and none reaches it; clients do.
    Parted(usize),
    /// The same, and no client reaches it.
    Isolated(usize),
}

struct Torture {
    etcd: Etcd,
    /// How the nodes reach each.
    peers: Vec<Proxy>,
    /// By what each is known to its peers.
    ids: Vec<String>,
    replicas: Vec<Replica>,
    said: (Sender<Said>, Receiver<Said>),
    lives: BTreeMap<usize, Life>,
    /// What a replica that starts is told: keys to watch, and when they were revoked.
    watched: BTreeMap<usize, [String; 2]>,
    born: usize,
    chance: Chance,
    faults: Vec<(Instant, Fault)>,
    counts: Counts,
}

impl Torture {
    fn new(
        (etcd, peers): (Etcd, Vec<Proxy>),
        seed: u64,
        test: &'static str,
        plant: &'static str,
    ) -> Self {
        // One rotten replica is enough.
        let rotten = |number| if number == 0 { plant } else { "" };
        let replica = |number| Replica::new(number, &etcd, test, rotten(number));
        let replicas = (0..REPLICAS).map(replica).collect();
        let ids = (0..etcd.count()).map(|node| until(|| etcd.id(node))).collect();
        Self {
            etcd,
            peers,
            ids,
            replicas,
            said: mpsc::channel(),
            lives: BTreeMap::new(),
            watched: BTreeMap::new(),
            born: 0,
            chance: Chance(seed),
            faults: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn start(&mut self) {
        for replica in &mut self.replicas {
            replica.start(&self.said.0);
        }
        self.until("all replicas are open", |t| t.replicas.iter().all(|r| r.opened));
        self.bear();
        self.until("the first key is there", |t| !t.watched.is_empty());
    }

    /// Runs for so long, with faults.
    fn run(&mut self, time: Duration) {
        let start = Instant::now();
        let (mut next_fault, mut next_report) = (start, start);
        while start.elapsed() < time {
            if Instant::now() >= next_fault {
                self.fault();
                next_fault = Instant::now() + Duration::from_millis(300 + self.below(1200));
            }
            if Instant::now() >= next_report {
                self.ask_all("report");
                next_report += Duration::from_secs(1);
            }
            if self.lives.len() < 6 {
                self.bear();
            }
            self.turn();
        }
    }

    /// Ends all faults, and asks whether everyone is well.
    fn heal(&mut self) {
        while let Some((_, fault)) = self.faults.pop() {
            self.end(&fault);
        }
        self.until("all replicas are open again", |t| t.replicas.iter().all(|r| r.opened));
        let before: Vec<_> = self.reports();
        self.until("all replicas accept the key that was never revoked", |t| {
            t.ask_all("report");
            let now = t.reports();
            now.iter().zip(&before).all(|(now, before)| now[1] > before[1] + 100)
        });
        self.until("every revocation returned", |t| {
            t.lives.retain(|_, life| life.id.is_some() || life.asked);
            t.lives.is_empty()
        });
    }

    fn reports(&self) -> Vec<[u64; 3]> {
        self.replicas.iter().map(|replica| replica.report).collect()
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_secs(90), "not in 90 s: {what}");
            self.turn();
        }
    }

    /// Hears what the replicas say for a moment, and takes every key on its way a step further.
    fn turn(&mut self) {
        let end = Instant::now() + Duration::from_millis(10);
        while let Ok(said) = self.said.1.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.hear(&said);
        }
        let over: Vec<_> = {
            let now = Instant::now();
            let (over, on): (Vec<_>, Vec<_>) =
                self.faults.drain(..).partition(|(until, _)| *until <= now);
            self.faults = on;
            over
        };
        for (_, fault) in over {
            self.end(&fault);
        }
        let due: Vec<_> = self
            .lives
            .iter()
            .filter(|(_, life)| life.next <= Instant::now())
            .map(|(&number, _)| number)
            .collect();
        for number in due {
            self.ask_for(number);
        }
    }

    /// A new key is asked for.
    fn bear(&mut self) {
        let life = Life { id: None, replica: 0, next: Instant::now(), asked: false };
        self.lives.insert(self.born, life);
        self.born += 1;
    }

    /// Asks a replica, chosen by chance among those that may answer, for what is next for a key.
    fn ask_for(&mut self, number: usize) {
        let open: Vec<_> = self.replicas.iter().filter(|r| r.opened).map(|r| r.number).collect();
        let chosen = self.below(open.len() as u64);
        let Some(life) = self.lives.get_mut(&number) else { return };
        // A replica that does not answer in this time is dead or cut off: another one is asked.
        life.next = Instant::now() + Duration::from_secs(12);
        let Some(&replica) = open.get(usize::try_from(chosen).unwrap()) else {
            life.next = Instant::now() + Duration::from_millis(200);
            return;
        };
        life.replica = replica;
        let line = match &life.id {
            None if life.asked => {
                // It may have been issued; nobody has its secret, so nobody can ask for it.
                self.lives.remove(&number);
                self.counts.failed += 1;
                return;
            }
            None => {
                life.asked = true;
                format!("issue {number}")
            }
            Some((id, _)) => format!("revoke {number} {id}"),
        };
        self.replicas[replica].ask(&line);
    }

    fn hear(&mut self, said: &Said) {
        let replica = &mut self.replicas[said.replica];
        let words: Vec<_> = said.line.split(' ').collect();
        // Nothing excuses a wrong acceptance, not even having been killed since.
        if words[0] == "wrong" {
            println!("replica {}, life {}: {}", said.replica, said.life, said.line);
            self.counts.wrong += 1;
            return;
        }
        match words[0] {
            "opened" if said.life == replica.life => {
                replica.opened = true;
                for line in self.watched.values().flatten().filter(|line| !line.is_empty()) {
                    replica.ask(line);
                }
            }
            "failed" => {
                println!("replica {}: {}", said.replica, said.line);
                if said.life == replica.life {
                    replica.kill();
                    replica.start(&self.said.0);
                }
            }
            "report" if said.life == replica.life => {
                for (place, word) in words[1..].iter().enumerate() {
                    let count: u64 = word.parse().unwrap();
                    self.counts.lines[place] += count - replica.report[place];
                    replica.report[place] = count;
                }
            }
            "issued" => {
                let number: usize = words[1].parse().unwrap();
                let line = format!("watch {number} {}", words[3]);
                let hold = Duration::from_millis(20 + self.below(400));
                let Some(life) = self.lives.get_mut(&number) else { return };
                life.id = Some((words[2].to_owned(), words[3].to_owned()));
                life.next = Instant::now() + hold;
                self.ask_all(&line);
                self.watched.insert(number, [line, String::new()]);
                self.counts.issued += 1;
                if number == 0 {
                    self.lives.remove(&number);
                }
                while self.watched.len() > WATCHED {
                    let oldest = *self.watched.keys().nth(1).unwrap();
                    self.watched.remove(&oldest);
                }
            }
            "unissued" => {
                self.counts.failed += 1;
                self.lives.remove(&words[1].parse().unwrap());
                if words[1] == "0" {
                    println!("{}", said.line);
                    self.born = 0;
                    self.bear();
                }
            }
            "revoked" => {
                let number: usize = words[1].parse().unwrap();
                if self.lives.remove(&number).is_none() {
                    // It returned on another replica before.
                    return;
                }
                self.counts.revoked += 1;
                self.counts.slowest_ms = self.counts.slowest_ms.max(words[3].parse().unwrap());
                self.counts.waited_out += usize::from(words[5] != "0");
                let line = format!("revoked {number} {}", words[2]);
                self.ask_all(&line);
                if let Some(lines) = self.watched.get_mut(&number) {
                    lines[1] = line;
                }
            }
            "unrevoked" => {
                self.counts.failed += 1;
                let number: usize = words[1].parse().unwrap();
                let pause = Duration::from_millis(100 + self.below(400));
                if let Some(life) = self.lives.get_mut(&number) {
                    life.next = Instant::now() + pause;
                }
            }
            _ => {}
        }
    }

    fn ask_all(&mut self, line: &str) {
        let frozen: Vec<_> = self
            .faults
            .iter()
            .filter_map(|(_, fault)| if let Fault::Frozen(n) = fault { Some(*n) } else { None })
            .collect();
        for replica in &mut self.replicas {
            // A pipe to one that is frozen may fill up, but not by what a few seconds bring.
            if line != "report" || !frozen.contains(&replica.number) {
                replica.ask(line);
            }
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.chance.word() % end.max(1)
    }

    /// One fault, chosen by chance. At most one replica and one node suffer at a time, and for a
    /// while two replicas do.
    fn fault(&mut self) {
        let hurt: Vec<_> = self
            .faults
            .iter()
            .filter_map(|(_, fault)| match fault {
                Fault::Frozen(n) | Fault::Dead(n) | Fault::CutOff(n) => Some(*n),
                _ => None,
            })
            .collect();
        let is_of_nodes =
            |fault: &Fault| !matches!(fault, Fault::Frozen(_) | Fault::Dead(_) | Fault::CutOff(_));
        let node_hurts = self.faults.iter().any(|(_, fault)| is_of_nodes(fault));
        let victim = usize::try_from(self.below(REPLICAS as u64)).unwrap();
        let node = usize::try_from(self.below(self.etcd.count() as u64)).unwrap();
        let millis = |t: &mut Self, most: u64| Duration::from_millis(100 + t.below(most));
        let kind = self.below(17);
        if kind < 8 && (hurt.len() >= 2 || hurt.contains(&victim)) || kind >= 8 && node_hurts {
            return;
        }
        let mut count = |name| *self.counts.faults.entry(name).or_default() += 1;
        let (name, fault, most) = match kind {
            0 | 1 => ("frozen", Fault::Frozen(victim), 6000),
            2 => ("killed", Fault::Dead(victim), 2000),
            3 => ("left", Fault::Dead(victim), 2000),
            4 | 5 => ("cut off", Fault::CutOff(victim), 6000),
            6 => ("slowed", Fault::CutOff(victim), 4000),
            7 => ("disconnected", Fault::CutOff(victim), 10),
            8 => ("node frozen", Fault::NodeFrozen(node), 4000),
            9 => ("node killed", Fault::NodeDead(node), 3000),
            10 => {
                let Some(leader) = self.etcd.leader() else { return };
                ("leader killed", Fault::NodeDead(leader), 3000)
            }
            11 => ("node unheard", Fault::Unheard(node), 4000),
            12 => ("nodes apart", Fault::Apart, 3000),
            13 => ("node isolated", Fault::Isolated(node), 5000),
            14 | 15 => {
                let Some(leader) = self.etcd.leader() else { return };
                if kind == 14 {
                    ("leader isolated", Fault::Isolated(leader), 5000)
                } else {
                    ("leader parted", Fault::Parted(leader), 5000)
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
            (Fault::Frozen(n), _) => self.replicas[*n].signal("STOP"),
            (Fault::Dead(n), "left") => {
                self.replicas[*n].ask("leave");
                self.replicas[*n].opened = false;
            }
            (Fault::Dead(n), _) => self.replicas[*n].kill(),
            (Fault::CutOff(n), "cut off") => {
                self.replicas[*n].proxies.iter().for_each(Proxy::swallow);
            }
            (Fault::CutOff(n), "slowed") => {
                let delay = millis(self, 700);
                self.replicas[*n].proxies.iter().for_each(|proxy| proxy.delay(delay));
            }
            (Fault::CutOff(n), _) => self.replicas[*n].proxies.iter().for_each(Proxy::cut),
            (Fault::NodeFrozen(n), _) => self.etcd.freeze(*n),
            (Fault::NodeDead(n), _) => self.etcd.kill(*n),
            (Fault::Unheard(n), _) => self.peers[*n].swallow(),
            (Fault::Apart, _) => self.peers.iter().for_each(Proxy::swallow),
            (Fault::Parted(n), _) => part(&self.peers, *n, &self.ids[*n]),
            (Fault::Isolated(n), _) => {
                part(&self.peers, *n, &self.ids[*n]);
                self.ways_to(*n).for_each(Proxy::unplug);
            }
        }
        let until = Instant::now() + millis(self, most);
        self.faults.push((until, fault));
    }

    fn end(&mut self, fault: &Fault) {
        match *fault {
            Fault::Frozen(n) => self.replicas[n].signal("CONT"),
            Fault::Dead(n) => {
                self.replicas[n].kill();
                self.replicas[n].start(&self.said.0);
            }
            Fault::CutOff(n) => self.replicas[n].proxies.iter().for_each(Proxy::pass),
            Fault::NodeFrozen(n) => self.etcd.thaw(n),
            Fault::NodeDead(n) => self.etcd.restart(n),
            Fault::Unheard(n) => self.peers[n].pass(),
            Fault::Apart => self.peers.iter().for_each(Proxy::pass),
            Fault::Parted(n) | Fault::Isolated(n) => {
                rejoin(&self.peers, n);
                self.ways_to(n).for_each(Proxy::plug_in);
            }
        }
    }

    /// The replicas' ways to a node.
    fn ways_to(&self, node: usize) -> impl Iterator<Item = &Proxy> {
        self.replicas.iter().map(move |replica| &replica.proxies[node])
    }
}

/// Cuts a node from its peers, both ways. Whatever it opens to them goes through their relays, where
/// it is known by the first words of each connection.
pub(crate) fn part(peers: &[Proxy], node: usize, id: &str) {
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

/// Tortures replicas of one store, which is in etcd already, whose nodes reach each other by relays,
/// for so long; gives how often one was accepted after its revocation had returned. `test` is the
/// test that calls this, by which its children are started.
pub(crate) fn torture(
    nodes: (Etcd, Vec<Proxy>),
    (seconds, seed): (usize, u64),
    test: &'static str,
    plant: &'static str,
) -> usize {
    let mut torture = Torture::new(nodes, seed, test, plant);
    torture.start();
    torture.run(Duration::from_secs(seconds as u64));
    torture.heal();
    let counts = std::mem::take(&mut torture.counts);
    let faults: Vec<_> =
        counts.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let large = |count: u64| grouped(usize::try_from(count).unwrap());
    let [validations, accepted, unavailable] = counts.lines;
    println!(
        "torture: {seconds} s, {} faults ({}), {} keys issued, {} revoked ({} with a replica waited out, the slowest \
         in {} ms), {} failed requests, {} validations ({} accepted, {} unavailable), {} accepted after a returned \
         revocation",
        grouped(counts.faults.values().sum()),
        faults.join(", "),
        grouped(counts.issued),
        grouped(counts.revoked),
        grouped(counts.waited_out),
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
