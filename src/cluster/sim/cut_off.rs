//! Constructed worst cases: a replica is cut off, and another one revokes a key at once.

use super::{
    Rng,
    link::{Conditions, Link},
    memory::Memory,
    node::{self, Node},
    timing,
};
use crate::{
    digest::Seals,
    id::KeyId,
    record::{Actor, Change, Expiry, NewKey, Record},
    scope::Catalogue,
    time::Timestamp,
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// When the slow one of two replicas is cut off.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cut {
    /// Just after the answer to a proof.
    AfterProof,
    /// At any time. Answers in flight still arrive.
    BeforeAnswers,
}

/// How the other replica waits for the replica that is cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Waits {
    /// For the members that the answer to its change listed.
    ByReceipt,
    /// For the members that it reads after the change.
    AsTheStore,
    /// Without the consensus store, which it can no longer reach after the answer.
    Blindly,
    /// The same, and a third replica made the change, so that this one never read the members.
    BlindlyForOthers,
}

/// One such case.
pub(super) struct CutOff {
    /// The rates of the clocks, and the freshness: of the replica that is cut off, and of the replica
    /// that revokes the key.
    pub(super) rates: [f64; 2],
    pub(super) freshness: [Duration; 2],
    pub(super) cut: Cut,
    pub(super) waits: Waits,
}

impl CutOff {
    /// Two replicas of the default freshness.
    pub(super) fn new(rates: [f64; 2], cut: Cut) -> Self {
        let freshness = [Duration::from_secs(3); 2];
        Self { rates, freshness, cut, waits: Waits::ByReceipt }
    }

    /// Returns how often the replica that is cut off accepted the key after the revocation had returned.
    pub(super) async fn run(self) -> u64 {
        let Self { rates, freshness, cut, waits } = self;
        let (delay, rounds) = if cut == Cut::AfterProof { (1, 4) } else { (290, 64) };
        let rng = Rng::new(rounds);
        let (memory, members) = (Memory::new(), Arc::<AtomicU64>::default());
        let (seals, start) = (Arc::new(Seals::derive(None)), Instant::now());
        let link = |delay| {
            let link = Link::new(Arc::clone(&memory), Rng::new(delay), Arc::default());
            link.set(Conditions { delay, ..Conditions::default() });
            link
        };
        let node = async |name: &str, side: usize, delay| {
            let origin = (start, 1_000_000_000);
            let timing = timing(freshness[side], origin, rates[side], &members);
            Node::start(name.into(), link(delay), timing, Arc::clone(&seals)).await
        };
        node::create(&link(0), &seals).await;
        let (slow, fast) = (node("slow", 0, delay).await, node("fast", 1, 0).await);
        let third = node("third", 1, 0).await;
        let writer = if waits == Waits::BlindlyForOthers { &third } else { &fast };
        let id = KeyId::from_u64(1);
        let digest = seals.digester.digest(b"the key");
        writer.write(digest, |sequence| Some(new(id, sequence)), id).await.unwrap();
        let mut accepted = 0;
        for _ in 0..rounds {
            sleep(Duration::from_secs(5)).await;
            let (mut left, mut wait) = (u64::MAX, rng.below(750));
            while slow.keys.gate_remaining() <= left || wait > 0 || !slow.accepts(&digest) {
                left = if cut == Cut::AfterProof { slow.keys.gate_remaining() } else { 0 };
                wait = if cut == Cut::AfterProof { 0 } else { wait.saturating_sub(1) };
                sleep(Duration::from_millis(1)).await;
            }
            let no_answers = cut == Cut::AfterProof;
            slow.link.set(Conditions {
                no_requests: true,
                no_watch: true,
                no_answers,
                delay,
                ..Conditions::default()
            });
            let (record, _) = writer.record(id).unwrap();
            let off = |sequence| changed(&record, Change::deactivate(), sequence);
            let receipt = writer.write(digest, off, id).await.unwrap().unwrap();
            while fast.accepts(&digest) {
                sleep(Duration::from_millis(1)).await;
            }
            if matches!(waits, Waits::Blindly | Waits::BlindlyForOthers) {
                fast.link.set(Conditions {
                    no_requests: true,
                    no_answers: true,
                    ..Conditions::default()
                });
            }
            match waits {
                Waits::ByReceipt => fast.wait(receipt).await,
                _ => fast.wait_for_all().await,
            };
            accepted += u64::from(slow.accepts(&digest));
            slow.link.set(Conditions { delay, ..Conditions::default() });
            fast.link.set(Conditions::default());
            let (record, _) = writer.record(id).unwrap();
            let on = |sequence| changed(&record, Change::activate(), sequence);
            writer.write(digest, on, id).await.unwrap();
        }
        accepted
    }
}

pub(super) fn new(id: KeyId, sequence: u64) -> Record {
    let set = Catalogue::with_preset().empty();
    let new = NewKey::new("k", set, Expiry::Never);
    Record::new(id, new, Timestamp::from_secs(sequence), Actor::Host, sequence).unwrap()
}

pub(super) fn changed(record: &Record, change: Change, sequence: u64) -> Option<Record> {
    record.changed(change, Timestamp::from_secs(sequence), Actor::Host, sequence).unwrap()
}
