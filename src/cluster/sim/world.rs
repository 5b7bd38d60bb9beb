//! What happens to some replicas in a while, and the promise that is kept in it.
//!
//! Keys are issued, taken away, brought back and deleted through any replica, while ways are cut,
//! slowed and healed, the engine stands still, forgets its history or is put back to an earlier
//! state, and replicas crash, leave and come. Others ask for keys all the time. *A validation that
//! starts after `revoke` has returned never accepts, on any replica*: one that does is an offence.

use super::{
    Dice,
    engine::Engine,
    net::{Net, Way},
    node::{self, Node},
    timing,
};
use crate::{
    cluster::plant::Plant,
    digest::{Digest, Seals},
    id::KeyId,
    record::{Actor, Change, Expiry, Metadata, NewKey, Record},
    scope::{Catalogue, Grant},
    time::Timestamp,
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
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
    taken: Cell<Option<u64>>,
    /// The revision at which it was taken.
    taken_at: Cell<u64>,
    /// Someone is changing it.
    busy: Cell<bool>,
    exists: Cell<bool>,
}

/// What came of a run.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Tally {
    pub(super) offences: Vec<String>,
    pub(super) revocations: u64,
    pub(super) waited_out: u64,
    pub(super) validations: u64,
    pub(super) accepted: u64,
    pub(super) refused_by_gates: u64,
    pub(super) restores: u64,
    pub(super) unhealed: Vec<String>,
    /// What happened, to be read when a seed fails.
    pub(super) story: Vec<String>,
    /// What the engine did, revision by revision.
    pub(super) engine: Vec<String>,
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
    plant: Option<Plant>,
    engine: Arc<Engine>,
    is_down: Arc<Mutex<bool>>,
    seals: Arc<Seals>,
    lives: Arc<AtomicU64>,
    start: Instant,
    nodes: RefCell<Vec<Rc<Node>>>,
    keys: RefCell<Vec<Rc<Key>>>,
    /// Rises when the engine is put back: what was under way then promises nothing.
    era: Cell<u64>,
    count: Cell<u64>,
    nodes_made: Cell<u64>,
    is_over: Cell<bool>,
    tally: RefCell<Tally>,
}

impl World {
    pub(super) async fn run(seed: u64, plant: Option<Plant>, seconds: u64) -> Tally {
        let world = Rc::new(Self {
            dice: Dice::new(seed),
            plant,
            engine: Engine::new(),
            is_down: Arc::default(),
            seals: Arc::new(Seals::derive(None)),
            lives: Arc::default(),
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
        node::create(&world.net(), &world.seals).await;
        for _ in 0..REPLICAS {
            world.add_node().await;
        }
        for _ in 0..3 {
            Rc::clone(world).issue().await;
        }
        let mut tasks = vec![spawn_local(Rc::clone(world).mishaps())];
        tasks.extend((0..3).map(|_| spawn_local(Rc::clone(world).changes())));
        tasks.extend((0..4).map(|_| spawn_local(Rc::clone(world).asks())));
        sleep(Duration::from_secs(seconds)).await;
        world.is_over.set(true);
        for task in tasks {
            let _ = timeout(Duration::from_mins(1), task).await;
        }
        if plant.is_none() {
            world.heal().await;
        }
        for node in world.nodes.borrow().iter() {
            node.crash();
        }
        let engine = world.engine.trace();
        Tally { engine, ..world.tally.borrow().clone() }
    }

    fn net(&self) -> Net {
        Net::new(Arc::clone(&self.engine), self.dice.clone(), Arc::clone(&self.is_down))
    }

    /// A replica with a clock of its own.
    async fn add_node(&self) {
        let rate = *self.dice.pick(&[0.99, 0.996, 1.0, 1.003, 1.01]);
        let origin = 1_000_000_000 + self.dice.below(1 << 40);
        let freshness = *self.dice.pick(&FRESHNESS);
        let timing = timing(freshness, (self.start, origin), rate, self.plant, &self.lives);
        let name = format!("n{}", self.nodes_made.get());
        self.nodes_made.set(self.nodes_made.get() + 1);
        let starting = Node::start(name, self.net(), timing, Arc::clone(&self.seals));
        // Where the engine is away for long, or no store of its own writers can be read.
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

    // ── what users do

    async fn changes(self: Rc<Self>) {
        while !self.is_over.get() {
            self.pause(500).await;
            let keys: Vec<_> = self
                .keys
                .borrow()
                .iter()
                .filter(|k| !k.busy.get() && k.exists.get())
                .cloned()
                .collect();
            if keys.len() < 4 && self.dice.one_in(2) {
                Rc::clone(&self).issue().await;
                continue;
            }
            if keys.is_empty() {
                continue;
            }
            let key = Rc::clone(self.dice.pick(&keys));
            key.busy.set(true);
            match key.taken.get() {
                None => self.revoke(&key).await,
                Some(_) if self.dice.one_in(6) => self.delete(&key).await,
                Some(_) => self.bring_back(&key).await,
            }
            key.busy.set(false);
        }
    }

    async fn issue(self: Rc<Self>) {
        let number = self.count.get();
        self.count.set(number + 1);
        let id = KeyId::from_u64(1000 + number);
        let digest = self.seals.digester.digest(&number.to_le_bytes());
        let record = move |sequence| {
            let new = NewKey {
                name: "k".into(),
                grant: Grant::Scopes(Catalogue::new(Vec::new(), None).unwrap().empty()),
                active: true,
                expiry: Expiry::Never,
                owner: None,
                metadata: Metadata::new(),
            };
            Some(
                Record::new(id, new, Timestamp::from_secs(sequence), Actor::Host, sequence)
                    .unwrap(),
            )
        };
        for _ in 0..4 {
            let Some(node) = self.some_node() else { return };
            if matches!(node.write(digest, record, id).await, Ok(Some(_))) {
                let (taken, taken_at) = (Cell::new(None), Cell::new(0));
                let (busy, exists) = (Cell::new(false), Cell::new(true));
                self.keys.borrow_mut().push(Rc::new(Key {
                    id,
                    digest,
                    taken,
                    taken_at,
                    busy,
                    exists,
                }));
                return;
            }
            // Without an answer it may be there; another name costs nothing.
            self.pause(50).await;
        }
    }

    /// Takes a key away, and tries again until it is told that it is over.
    async fn revoke(self: &Rc<Self>, key: &Rc<Key>) {
        for _ in 0..20 {
            let (era, Some(node)) = (self.era.get(), self.some_node()) else { return };
            let Some((record, digest)) = node.record(key.id) else {
                self.pause(40).await;
                continue;
            };
            let off = |sequence| {
                let now = Timestamp::from_secs(sequence);
                let off = record.changed(Change::deactivate(), now, Actor::Host, sequence).unwrap();
                off.or_else(|| Some(record.rewritten(now, Actor::Host, sequence)))
            };
            let Ok(Some(receipt)) = node.write(digest, off, key.id).await else {
                self.pause(40).await;
                continue;
            };
            let revision = receipt.revision.0;
            self.tell(|| {
                format!(
                    "{} revoked at {revision} through {}, active there {}",
                    key.id, node.name, record.active
                )
            });
            let settled = node.settle(receipt).await;
            if self.era.get() != era {
                continue;
            }
            let number = self.count.get();
            self.count.set(number + 1);
            key.taken.set(Some(number));
            key.taken_at.set(revision);
            let mut tally = self.tally.borrow_mut();
            tally.revocations += 1;
            tally.waited_out += u64::from(settled.waited_out > 0);
            drop(tally);
            self.tell(|| format!("{} at {revision}: {settled:?}", key.id));
            self.look_everywhere(key);
            spawn_local(Rc::clone(self).look_on(Rc::clone(key)));
            return;
        }
    }

    async fn bring_back(&self, key: &Key) {
        // From here on it may be accepted, whether or not anyone is told so.
        self.tell(|| format!("{} is brought back", key.id));
        key.taken.set(None);
        for _ in 0..8 {
            let Some(node) = self.some_node() else { return };
            if let Some((record, digest)) = node.record(key.id) {
                let on = |sequence| {
                    let now = Timestamp::from_secs(sequence);
                    let on =
                        record.changed(Change::activate(), now, Actor::Host, sequence).unwrap();
                    on.or_else(|| Some((*record).clone()))
                };
                if matches!(node.write(digest, on, key.id).await, Ok(Some(_))) {
                    return;
                }
            }
            self.pause(60).await;
        }
    }

    async fn delete(&self, key: &Key) {
        let Some(node) = self.some_node() else { return };
        if let Some((record, digest)) = node.record(key.id)
            && !record.active
            && matches!(node.write(digest, |_| None, key.id).await, Ok(Some(_)))
        {
            key.exists.set(false);
        }
    }

    // ── what callers do

    /// Asks for keys, as threads do that may be held up for a while.
    async fn asks(self: Rc<Self>) {
        while !self.is_over.get() {
            self.pause(20).await;
            let Some(node) = self.some_node() else { continue };
            let key = Rc::clone(self.dice.pick(&self.keys.borrow()));
            let before = key.taken.get();
            let stall = if self.dice.one_in(3) { self.dice.below(250) } else { self.dice.below(6) };
            let accepted = node.accepts_slowly(&key.digest, stall).await;
            let mut tally = self.tally.borrow_mut();
            tally.validations += 1;
            tally.accepted += u64::from(accepted);
            tally.refused_by_gates += u64::from(!node.is_open());
            drop(tally);
            if accepted && before.is_some() && key.taken.get() == before {
                self.offence(&key, &format!("{} accepted it slowly", node.name));
            }
        }
    }

    /// Right after a revocation has returned, and again and again for a while.
    async fn look_on(self: Rc<Self>, key: Rc<Key>) {
        let taken = key.taken.get();
        for _ in 0..80 {
            sleep(Duration::from_millis(8)).await;
            if key.taken.get() != taken {
                return;
            }
            self.look_everywhere(&key);
        }
    }

    fn look_everywhere(&self, key: &Key) {
        let nodes = self.nodes.borrow();
        self.tally.borrow_mut().validations += nodes.len() as u64;
        if let Some(node) = nodes.iter().find(|node| node.accepts(&key.digest)) {
            self.offence(key, &format!("{} accepted it", node.name));
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        let line = format!("{:?} {}", self.start.elapsed(), what());
        self.tally.borrow_mut().story.push(line);
    }

    fn offence(&self, key: &Key, what: &str) {
        let at = self.start.elapsed();
        self.tell(|| format!("OFFENCE {}: {what}", key.id));
        self.tally.borrow_mut().offences.push(format!("{at:?} {}: {what}", key.id));
    }

    // ── what happens to them

    async fn mishaps(self: Rc<Self>) {
        while !self.is_over.get() {
            self.pause(900).await;
            let Some(node) = self.some_node() else { continue };
            let mishap = self.dice.below(16);
            self.tell(|| format!("mishap {mishap} for {}", node.name));
            match mishap {
                0..6 => drop(spawn_local(Rc::clone(&self).cut(node))),
                6 | 7 => {
                    node.net.set(Way { delay: self.dice.below(300), ..node.net.way() });
                }
                8 => self.engine.compact(),
                9 => {
                    *self.is_down.lock().unwrap() = true;
                    self.pause(2500).await;
                    *self.is_down.lock().unwrap() = false;
                }
                10 if self.nodes.borrow().len() > 1 => {
                    node.crash();
                    node.net.set(Way { no_answers: true, ..node.net.way() });
                    self.nodes.borrow_mut().retain(|other| !Rc::ptr_eq(other, &node));
                    self.add_node().await;
                }
                11..14 => {
                    node.leave();
                    drop(spawn_local(Rc::clone(&self).bury(node)));
                    self.add_node().await;
                }
                14 => drop(spawn_local(Rc::clone(&self).put_back())),
                _ => {}
            }
        }
    }

    /// Cuts a replica's way for a while: all of it, one direction, or its tail alone.
    async fn cut(self: Rc<Self>, node: Rc<Node>) {
        let delay = if self.dice.one_in(2) { self.dice.below(40) } else { self.dice.below(450) };
        let way = match self.dice.below(4) {
            0 => Way { no_requests: true, delay, ..Way::default() },
            1 => Way { no_answers: true, delay, ..Way::default() },
            2 => Way { no_tail: true, delay, ..Way::default() },
            _ => Way { no_requests: true, no_answers: true, delay, ..Way::default() },
        };
        self.tell(|| format!("{} {way:?}", node.name));
        node.net.set(way);
        self.pause(3000).await;
        self.tell(|| format!("{} healed", node.name));
        node.net.set(Way { delay: delay.min(40), ..Way::default() });
    }

    /// A replica that left is asked a while longer.
    async fn bury(self: Rc<Self>, node: Rc<Node>) {
        sleep(LONGEST * 2).await;
        self.nodes.borrow_mut().retain(|other| !Rc::ptr_eq(other, &node));
        node.crash();
    }

    /// Stops the engine, and puts it back to what it was a while ago. What was taken since is given back, by
    /// whoever did that; what had been taken before is still gone.
    async fn put_back(self: Rc<Self>) {
        let (put_back, then) = (self.engine.backup(), self.engine.revision());
        let era = self.era.get();
        self.pause(1500).await;
        // Revisions of two histories say nothing of each other.
        if self.is_over.get() || self.era.get() != era || self.engine.is_away.swap(true, Relaxed) {
            return;
        }
        // As the runbook has it: every gate has shut before the older state answers anyone.
        sleep(LONGEST + Duration::from_millis(100)).await;
        put_back(&self.engine);
        self.engine.is_away.store(false, Relaxed);
        self.tell(|| format!("put back to {then}"));
        self.era.set(self.era.get() + 1);
        self.tally.borrow_mut().restores += 1;
        for key in self.keys.borrow().iter() {
            if key.taken_at.get() > then || key.busy.get() {
                key.taken.set(None);
            }
        }
    }

    /// Once all is well again every replica answers, has what the engine has, and acknowledges.
    async fn heal(self: &Rc<Self>) {
        *self.is_down.lock().unwrap() = false;
        // What was cut last is healed by then.
        sleep(LONGEST * 4).await;
        let nodes = self.nodes.borrow().clone();
        for node in &nodes {
            node.net.set(Way { delay: 12, ..Way::default() });
        }
        sleep(LONGEST * 6).await;
        for _ in 0..3 {
            Rc::clone(self).issue().await;
        }
        sleep(Duration::from_millis(200)).await;
        let mut unhealed = Vec::new();
        for node in nodes.iter().filter(|node| !node.is_gone()) {
            if !node.is_open() {
                unhealed.push(format!("the gate of {} is shut: {:?}", node.name, node.trouble()));
            }
            if node.frames() != self.engine.records() {
                unhealed.push(format!("{} has other records than the engine", node.name));
            }
        }
        // The first one counts out what crashed and what joined without hearing of it.
        let mut settled = None;
        for _ in 0..2 {
            let Some(node) = nodes.iter().find(|node| !node.is_gone()) else { return };
            settled = match node.witness().await {
                Some(receipt) => Some(node.settle(receipt).await),
                None => None,
            };
            sleep(LONGEST * 3).await;
        }
        if settled.is_none_or(|settled| settled.waited_out > 0 || settled.acknowledged == 0) {
            unhealed.push(format!("a revocation waits for nobody's answer: {settled:?}"));
        }
        self.tally.borrow_mut().unhealed = unhealed;
    }
}
