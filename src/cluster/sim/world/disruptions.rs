//! The disruptions of replicas, links and the consensus store.

use super::{Key, MAX_FRESHNESS, World};
use crate::cluster::sim::{link::Conditions, node::Node};
use std::{rc::Rc, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::{task::spawn_local, time::sleep};

impl World {
    pub(super) async fn disruptions(self: Rc<Self>) {
        while !self.is_over.get() {
            self.pause(900).await;
            let Some(node) = self.some_node() else { continue };
            let disruption = self.rng.below(16);
            self.log(|| format!("disruption {disruption} for {}", node.name));
            match disruption {
                0..6 => drop(spawn_local(Rc::clone(&self).cut(node))),
                6 | 7 => {
                    node.link
                        .set(Conditions { delay: self.rng.below(300), ..node.link.conditions() });
                }
                8 => self.memory.compact(),
                9 => {
                    *self.is_down.lock().unwrap() = true;
                    self.pause(2500).await;
                    *self.is_down.lock().unwrap() = false;
                }
                10 if self.nodes.borrow().len() > 1 => {
                    node.crash();
                    node.link.set(Conditions { no_answers: true, ..node.link.conditions() });
                    self.nodes.borrow_mut().retain(|other| !Rc::ptr_eq(other, &node));
                    self.add_node().await;
                }
                11..14 => {
                    node.leave();
                    drop(spawn_local(Rc::clone(&self).retire(node)));
                    self.add_node().await;
                }
                14 => drop(spawn_local(Rc::clone(&self).restore())),
                _ => {}
            }
        }
    }

    /// Cuts a replica's link for a while: all of it, one direction, its watch alone, or each long read.
    async fn cut(self: Rc<Self>, node: Rc<Node>) {
        let delay = if self.rng.one_in(2) { self.rng.below(40) } else { self.rng.below(450) };
        let conditions = match self.rng.below(5) {
            0 => Conditions { no_requests: true, delay, ..Conditions::default() },
            1 => Conditions { no_answers: true, delay, ..Conditions::default() },
            2 => Conditions { no_watch: true, delay, ..Conditions::default() },
            3 => Conditions { first_page_only: true, delay, ..Conditions::default() },
            _ => Conditions { no_requests: true, no_answers: true, delay, ..Conditions::default() },
        };
        self.log(|| format!("{} {conditions:?}", node.name));
        node.link.set(conditions);
        self.pause(3000).await;
        self.log(|| format!("{} restored", node.name));
        node.link.set(Conditions { delay: delay.min(40), ..Conditions::default() });
    }

    /// Keeps using a replica that left for a while.
    async fn retire(self: Rc<Self>, node: Rc<Node>) {
        sleep(MAX_FRESHNESS * 2).await;
        self.nodes.borrow_mut().retain(|other| !Rc::ptr_eq(other, &node));
        node.crash();
    }

    /// Stops the consensus store, and restores an earlier state of it. Keys that were revoked after that state
    /// are active again. Keys that were revoked before it are revoked again, even if they were reactivated
    /// since.
    async fn restore(self: Rc<Self>) {
        let (restore, then) = (self.memory.backup(), self.memory.revision());
        let history = self.history.get();
        let is_taken = |key: &&Rc<Key>| key.revoked.get().is_some() && !key.busy.get();
        let revoked: Vec<_> = self.keys.borrow().iter().filter(is_taken).cloned().collect();
        self.pause(1500).await;
        // Revisions of two histories cannot be compared.
        if self.is_over.get()
            || self.history.get() != history
            || self.memory.is_away.swap(true, Relaxed)
        {
            return;
        }
        // As in the runbook: every gate has shut before the older state is served.
        sleep(MAX_FRESHNESS + Duration::from_millis(100)).await;
        restore(&self.memory);
        self.memory.is_away.store(false, Relaxed);
        self.log(|| format!("restored to {then}"));
        self.history.set(self.history.get() + 1);
        self.tally.borrow_mut().restores += 1;
        for key in self.keys.borrow().iter() {
            if key.revoked_at.get() > then || key.busy.get() {
                key.revoked.set(None);
            }
        }
        for key in revoked.iter().filter(|key| !key.busy.get()) {
            self.count.set(self.count.get() + 1);
            key.revoked.set(Some(self.count.get()));
        }
    }
}
