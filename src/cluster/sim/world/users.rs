//! The tasks that change keys through any replica, and the tasks that validate keys all the time.

use super::{Key, World};
use crate::{
    id::KeyId,
    record::{Actor, Change, Expiry, NewKey, Record},
    scope::Catalogue,
    time::Timestamp,
};
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{task::spawn_local, time::sleep};

impl World {
    pub(super) async fn changes(self: Rc<Self>) {
        while !self.is_over.get() {
            self.pause(500).await;
            let keys: Vec<_> = self
                .keys
                .borrow()
                .iter()
                .filter(|k| !k.busy.get() && k.exists.get())
                .cloned()
                .collect();
            if keys.len() < 4 && self.rng.one_in(2) {
                Rc::clone(&self).issue().await;
                continue;
            }
            if keys.is_empty() {
                continue;
            }
            let key = Rc::clone(self.rng.pick(&keys));
            key.busy.set(true);
            match key.revoked.get() {
                None => self.revoke(&key).await,
                Some(_) if self.rng.one_in(6) => self.delete(&key).await,
                Some(_) => self.reactivate(&key).await,
            }
            key.busy.set(false);
        }
    }

    pub(super) async fn issue(self: Rc<Self>) {
        let number = self.count.get();
        self.count.set(number + 1);
        let id = KeyId::from_u64(1000 + number);
        let digest = self.seals.digester.digest(&number.to_le_bytes());
        let record = move |sequence| {
            let new = NewKey::new("k", Catalogue::with_preset().empty(), Expiry::Never);
            Some(
                Record::new(id, new, Timestamp::from_secs(sequence), Actor::Host, sequence)
                    .unwrap(),
            )
        };
        for _ in 0..4 {
            let Some(node) = self.some_node() else { return };
            if matches!(node.write(digest, record, id).await, Ok(Some(_))) {
                let (revoked, revoked_at) = (Cell::new(None), Cell::new(0));
                let (busy, exists) = (Cell::new(false), Cell::new(true));
                self.keys.borrow_mut().push(Rc::new(Key {
                    id,
                    digest,
                    revoked,
                    revoked_at,
                    busy,
                    exists,
                }));
                return;
            }
            // Without an answer the key may exist. A retry uses the same key.
            self.pause(50).await;
        }
    }

    /// Revokes a key, and retries until a revocation has returned.
    async fn revoke(self: &Rc<Self>, key: &Rc<Key>) {
        for _ in 0..20 {
            let (history, Some(node)) = (self.history.get(), self.some_node()) else { return };
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
            self.log(|| {
                format!(
                    "{} revoked at {revision} through {}, active there {}",
                    key.id, node.name, record.active
                )
            });
            let wait = node.wait(receipt).await;
            if self.history.get() != history {
                continue;
            }
            let number = self.count.get();
            self.count.set(number + 1);
            key.revoked.set(Some(number));
            key.revoked_at.set(revision);
            let mut tally = self.tally.borrow_mut();
            tally.revocations += 1;
            tally.timed_out += u64::from(wait.timed_out > 0);
            drop(tally);
            self.log(|| format!("{} at {revision}: {wait:?}", key.id));
            self.check_everywhere(key);
            spawn_local(Rc::clone(self).watch_key(Rc::clone(key)));
            return;
        }
    }

    async fn reactivate(&self, key: &Key) {
        // From now on the key may be accepted, even if the reactivation fails.
        self.log(|| format!("{} is reactivated", key.id));
        key.revoked.set(None);
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

    // ── validations

    /// Validates keys in threads that may be delayed.
    pub(super) async fn validations(self: Rc<Self>) {
        while !self.is_over.get() {
            self.pause(20).await;
            let Some(node) = self.some_node() else { continue };
            let key = Rc::clone(self.rng.pick(&self.keys.borrow()));
            let before = key.revoked.get();
            let stall = if self.rng.one_in(3) { self.rng.below(250) } else { self.rng.below(6) };
            let accepted = node.accepts_slowly(&key.digest, stall).await;
            let mut tally = self.tally.borrow_mut();
            tally.validations += 1;
            tally.accepted += u64::from(accepted);
            tally.refused_by_gates += u64::from(!node.is_open());
            drop(tally);
            if accepted && before.is_some() && key.revoked.get() == before {
                self.violation(&key, &format!("{} accepted it slowly", node.name));
            }
        }
    }

    /// Validates a revoked key on all replicas repeatedly for a while.
    async fn watch_key(self: Rc<Self>, key: Rc<Key>) {
        let revoked = key.revoked.get();
        for _ in 0..80 {
            sleep(Duration::from_millis(8)).await;
            if key.revoked.get() != revoked {
                return;
            }
            self.check_everywhere(&key);
        }
    }

    fn check_everywhere(&self, key: &Key) {
        let nodes = self.nodes.borrow();
        self.tally.borrow_mut().validations += nodes.len() as u64;
        if let Some(node) = nodes.iter().find(|node| node.accepts(&key.digest)) {
            self.violation(key, &format!("{} accepted it", node.name));
        }
    }
}
