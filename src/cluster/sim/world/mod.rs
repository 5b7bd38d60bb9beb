//! Several replicas under random disruptions, and the check of the promise.
//!
//! Keys are issued, revoked, reactivated and deleted through any replica. Meanwhile links are cut, slowed
//! and restored. The consensus store stops, is compacted, or is restored to an earlier state. Replicas
//! crash, leave and join. Keys are validated all the time. *A validation that starts after `revoke` has
//! returned never accepts, on any replica*: a validation that does is a violation.

mod disruptions;
mod users;

use super::{
    Rng,
    link::{Conditions, Link},
    memory::Memory,
    node::{self, Node},
    timing,
};
use crate::{
    digest::{Digest, Seals},
    id::KeyId,
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};
use tokio::{
    task::spawn_local,
    time::{Instant, sleep, timeout},
};

/// The freshness of a replica is one of these.
const FRESHNESS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_millis(1300), MAX_FRESHNESS];
const MAX_FRESHNESS: Duration = Duration::from_millis(2200);
const REPLICAS: u64 = 3;

/// A key, and its state as its users know it.
struct Key {
    id: KeyId,
    digest: Digest,
    /// The number of the last revocation that has returned; `None` from the start of a reactivation on.
    revoked: Cell<Option<u64>>,
    /// The revision at which it was revoked.
    revoked_at: Cell<u64>,
    /// Whether a task is changing it.
    busy: Cell<bool>,
    exists: Cell<bool>,
}

/// The results of a run.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Tally {
    pub(super) violations: Vec<String>,
    pub(super) revocations: u64,
    pub(super) timed_out: u64,
    pub(super) validations: u64,
    pub(super) accepted: u64,
    pub(super) refused_by_gates: u64,
    pub(super) restores: u64,
    pub(super) unrecovered: Vec<String>,
    /// The log, which is printed for a failed seed.
    pub(super) log: Vec<String>,
    /// The history of the consensus store, by revision.
    pub(super) memory: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.revocations += other.revocations;
        self.timed_out += other.timed_out;
        self.validations += other.validations;
        self.accepted += other.accepted;
        self.refused_by_gates += other.refused_by_gates;
        self.restores += other.restores;
    }
}

/// The state of a run.
pub(super) struct World {
    rng: Rng,
    memory: Arc<Memory>,
    is_down: Arc<Mutex<bool>>,
    seals: Arc<Seals>,
    members: Arc<AtomicU64>,
    start: Instant,
    nodes: RefCell<Vec<Rc<Node>>>,
    keys: RefCell<Vec<Rc<Key>>>,
    /// The number of the current history: rises when the consensus store is restored. Revocations that were
    /// in flight then guarantee nothing.
    history: Cell<u64>,
    count: Cell<u64>,
    nodes_made: Cell<u64>,
    is_over: Cell<bool>,
    tally: RefCell<Tally>,
}

impl World {
    pub(super) async fn run(seed: u64, seconds: u64) -> Tally {
        let world = Rc::new(Self {
            rng: Rng::new(seed),
            memory: Memory::new(),
            is_down: Arc::default(),
            seals: Arc::new(Seals::derive(None)),
            members: Arc::default(),
            start: Instant::now(),
            nodes: RefCell::default(),
            keys: RefCell::default(),
            history: Cell::new(0),
            count: Cell::new(0),
            nodes_made: Cell::new(0),
            is_over: Cell::new(false),
            tally: RefCell::default(),
        });
        let world = &world;
        node::create(&world.link(), &world.seals).await;
        for _ in 0..REPLICAS {
            world.add_node().await;
        }
        for _ in 0..3 {
            Rc::clone(world).issue().await;
        }
        let mut tasks = vec![spawn_local(Rc::clone(world).disruptions())];
        tasks.extend((0..3).map(|_| spawn_local(Rc::clone(world).changes())));
        tasks.extend((0..4).map(|_| spawn_local(Rc::clone(world).validations())));
        sleep(Duration::from_secs(seconds)).await;
        world.is_over.set(true);
        for task in tasks {
            let _ = timeout(Duration::from_mins(1), task).await;
        }
        world.recover().await;
        for node in world.nodes.borrow().iter() {
            node.crash();
        }
        let memory = world.memory.trace();
        Tally { memory, ..world.tally.borrow().clone() }
    }

    fn link(&self) -> Link {
        Link::new(Arc::clone(&self.memory), self.rng.clone(), Arc::clone(&self.is_down))
    }

    /// Starts a replica with its own clock.
    async fn add_node(&self) {
        let rate = *self.rng.pick(&[0.99, 0.996, 1.0, 1.003, 1.01]);
        let origin = 1_000_000_000 + self.rng.below(1 << 40);
        let freshness = *self.rng.pick(&FRESHNESS);
        let timing = timing(freshness, (self.start, origin), rate, &self.members);
        let name = format!("n{}", self.nodes_made.get());
        self.nodes_made.set(self.nodes_made.get() + 1);
        let starting = Node::start(name, self.link(), timing, Arc::clone(&self.seals));
        // It fails if the consensus store is unavailable for long, or if a faulty writer has damaged it.
        if let Ok(node) = timeout(Duration::from_secs(5), starting).await {
            self.nodes.borrow_mut().push(Rc::new(node));
        }
    }

    fn some_node(&self) -> Option<Rc<Node>> {
        let nodes = self.nodes.borrow();
        (!nodes.is_empty()).then(|| Rc::clone(self.rng.pick(&nodes)))
    }

    async fn pause(&self, most: u64) {
        sleep(Duration::from_millis(self.rng.below(most) + 1)).await;
    }

    /// Checks that after the disruptions every replica validates, has all records, and acknowledges.
    async fn recover(self: &Rc<Self>) {
        *self.is_down.lock().unwrap() = false;
        // The last cut link is restored by then.
        sleep(MAX_FRESHNESS * 4).await;
        let nodes = self.nodes.borrow().clone();
        for node in &nodes {
            node.link.set(Conditions { delay: 12, ..Conditions::default() });
        }
        sleep(MAX_FRESHNESS * 6).await;
        for _ in 0..3 {
            Rc::clone(self).issue().await;
        }
        sleep(Duration::from_millis(200)).await;
        let mut unrecovered = Vec::new();
        for node in nodes.iter().filter(|node| !node.is_gone()) {
            if !node.is_open() {
                unrecovered.push(format!(
                    "the gate of {} is shut: {:?}",
                    node.name,
                    node.replication_error()
                ));
            }
            if node.frames() != self.memory.records() {
                unrecovered
                    .push(format!("{} has other records than the consensus store", node.name));
            }
        }
        // The first wait removes members that crashed, and members that joined with a lost answer.
        let mut wait = None;
        for _ in 0..2 {
            let Some(node) = nodes.iter().find(|node| !node.is_gone()) else { return };
            wait = match node.confirm_newest().await {
                Some(receipt) => Some(node.wait(receipt).await),
                None => None,
            };
            sleep(MAX_FRESHNESS * 3).await;
        }
        if wait.is_none_or(|wait| wait.timed_out > 0 || wait.acknowledged == 0) {
            unrecovered.push(format!("not every replica acknowledges a revocation: {wait:?}"));
        }
        self.tally.borrow_mut().unrecovered = unrecovered;
    }

    fn log(&self, what: impl FnOnce() -> String) {
        let line = format!("{:?} {}", self.start.elapsed(), what());
        self.tally.borrow_mut().log.push(line);
    }

    fn violation(&self, key: &Key, what: &str) {
        let at = self.start.elapsed();
        self.log(|| format!("VIOLATION {}: {what}", key.id));
        self.tally.borrow_mut().violations.push(format!("{at:?} {}: {what}", key.id));
    }
}
