//! Some replicas under random disruptions, and the promise that they keep.
//!
//! Keys are issued, revoked, reactivated and deleted through any replica, while links are cut,
//! slowed and restored, the consensus store stands still, forgets its history or is restored to an earlier
//! state, and replicas crash, leave and come. Others ask for keys all the time. *A validation that
//! starts after `revoke` has returned never accepts, on any replica*: one that does is a violation.

mod disruptions;
mod users;

use super::{
    Dice,
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

/// Replicas need not have the same.
const FRESHNESS: [Duration; 3] = [Duration::from_secs(1), Duration::from_millis(1300), LONGEST];
const LONGEST: Duration = Duration::from_millis(2200);
const REPLICAS: u64 = 3;

/// A key, and what is known of it from outside.
struct Key {
    id: KeyId,
    digest: Digest,
    /// A revocation of it has returned, and nobody has begun to bring it back: the number of that
    /// revocation.
    revoked: Cell<Option<u64>>,
    /// The revision at which it was revoked.
    revoked_at: Cell<u64>,
    /// Someone is changing it.
    busy: Cell<bool>,
    exists: Cell<bool>,
}

/// What came of a run.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Tally {
    pub(super) violations: Vec<String>,
    pub(super) revocations: u64,
    pub(super) waited_out: u64,
    pub(super) validations: u64,
    pub(super) accepted: u64,
    pub(super) refused_by_gates: u64,
    pub(super) restores: u64,
    pub(super) unrecovered: Vec<String>,
    /// What happened, to be read when a seed fails.
    pub(super) log: Vec<String>,
    /// What the consensus store did, revision by revision.
    pub(super) memory: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.revocations += other.revocations;
        self.waited_out += other.waited_out;
        self.validations += other.validations;
        self.accepted += other.accepted;
        self.refused_by_gates += other.refused_by_gates;
        self.restores += other.restores;
    }
}

/// All of it.
pub(super) struct World {
    dice: Dice,
    memory: Arc<Memory>,
    is_down: Arc<Mutex<bool>>,
    seals: Arc<Seals>,
    members: Arc<AtomicU64>,
    start: Instant,
    nodes: RefCell<Vec<Rc<Node>>>,
    keys: RefCell<Vec<Rc<Key>>>,
    /// Rises when the consensus store is restored: what was under way then promises nothing.
    era: Cell<u64>,
    count: Cell<u64>,
    nodes_made: Cell<u64>,
    is_over: Cell<bool>,
    tally: RefCell<Tally>,
}

impl World {
    pub(super) async fn run(seed: u64, seconds: u64) -> Tally {
        let world = Rc::new(Self {
            dice: Dice::new(seed),
            memory: Memory::new(),
            is_down: Arc::default(),
            seals: Arc::new(Seals::derive(None)),
            members: Arc::default(),
            start: Instant::now(),
            nodes: RefCell::default(),
            keys: RefCell::default(),
            era: Cell::new(0),
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
        Link::new(Arc::clone(&self.memory), self.dice.clone(), Arc::clone(&self.is_down))
    }

    /// A replica with a clock of its own.
    async fn add_node(&self) {
        let rate = *self.dice.pick(&[0.99, 0.996, 1.0, 1.003, 1.01]);
        let origin = 1_000_000_000 + self.dice.below(1 << 40);
        let freshness = *self.dice.pick(&FRESHNESS);
        let timing = timing(freshness, (self.start, origin), rate, &self.members);
        let name = format!("n{}", self.nodes_made.get());
        self.nodes_made.set(self.nodes_made.get() + 1);
        let starting = Node::start(name, self.link(), timing, Arc::clone(&self.seals));
        // Where the consensus store is away for long, or no store of its own writers can be read.
        if let Ok(node) = timeout(Duration::from_secs(5), starting).await {
            self.nodes.borrow_mut().push(Rc::new(node));
        }
    }

    fn some_node(&self) -> Option<Rc<Node>> {
        let nodes = self.nodes.borrow();
        (!nodes.is_empty()).then(|| Rc::clone(self.dice.pick(&nodes)))
    }

    async fn pause(&self, most: u64) {
        sleep(Duration::from_millis(self.dice.below(most) + 1)).await;
    }

    /// Once all is well again every replica answers, has what the consensus store has, and acknowledges.
    async fn recover(self: &Rc<Self>) {
        *self.is_down.lock().unwrap() = false;
        // What was cut last is restored by then.
        sleep(LONGEST * 4).await;
        let nodes = self.nodes.borrow().clone();
        for node in &nodes {
            node.link.set(Conditions { delay: 12, ..Conditions::default() });
        }
        sleep(LONGEST * 6).await;
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
                    node.trouble()
                ));
            }
            if node.frames() != self.memory.records() {
                unrecovered
                    .push(format!("{} has other records than the consensus store", node.name));
            }
        }
        // The first one counts out what crashed and what joined without hearing of it.
        let mut settled = None;
        for _ in 0..2 {
            let Some(node) = nodes.iter().find(|node| !node.is_gone()) else { return };
            settled = match node.confirm_newest().await {
                Some(receipt) => Some(node.wait(receipt).await),
                None => None,
            };
            sleep(LONGEST * 3).await;
        }
        if settled.is_none_or(|settled| settled.waited_out > 0 || settled.acknowledged == 0) {
            unrecovered.push(format!("a revocation waits for nobody's answer: {settled:?}"));
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
