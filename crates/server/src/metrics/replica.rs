//! The metrics of a replica. A server with a store of its own has none of them.

use super::labels::ByState;
use portcullis::{
    Store,
    cluster::{Member, MemberState},
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::{task::spawn_blocking, time::timeout};

/// A wait takes milliseconds; for a replica that is cut off it takes as long as a proof is good
/// for, three seconds unless said otherwise.
const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How long etcd may take to list the members. Without an answer the other metrics are reported.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);

/// The metrics, set at each scrape.
#[derive(Clone)]
pub(super) struct Replica {
    open: Gauge,
    remaining: Gauge<f64, AtomicU64>,
    behind: Gauge,
    bootstraps: Counter,
    members: Family<ByState, Gauge>,
}

impl Replica {
    /// Returns `None` if the store is not shared.
    pub(super) fn new(store: &Store, registry: &mut Registry) -> Option<Self> {
        store.following()?;
        let replica = Self {
            open: Gauge::default(),
            remaining: Gauge::default(),
            behind: Gauge::default(),
            bootstraps: Counter::default(),
            members: Family::default(),
        };
        let waits = Histogram::new(BUCKETS);
        let waited_out = Counter::<u64>::default();
        registry.register(
            "gate_open",
            "1 while this replica's gate is open; shut, it answers 503",
            replica.open.clone(),
        );
        registry.register(
            "gate_remaining_seconds",
            "How long the gate stays open if etcd is not reached any more",
            replica.remaining.clone(),
        );
        registry.register(
            "replica_behind_revisions",
            "How far what is applied is behind the newest change that was heard of",
            replica.behind.clone(),
        );
        registry.register(
            "replica_bootstraps",
            "Times that this replica has read all keys",
            replica.bootstraps.clone(),
        );
        registry.register(
            "replicas",
            "Members as etcd knows them; absent while it does not answer",
            replica.members.clone(),
        );
        registry.register(
            "revocation_wait_seconds",
            "How long changes that take something away waited for the other replicas",
            waits.clone(),
        );
        registry.register(
            "replicas_waited_out",
            "Replicas that did not acknowledge such a change in time",
            waited_out.clone(),
        );
        store.tell_waits(move |took, settled| {
            waits.observe(took.as_secs_f64());
            waited_out.inc_by(settled.waited_out as u64);
        });
        Some(replica)
    }

    pub(super) async fn look(&self, store: &Store) {
        let asked = store.clone();
        let members = timeout(MEMBERS_TIMEOUT, spawn_blocking(move || asked.members())).await;
        self.count(members.ok().and_then(Result::ok).and_then(Result::ok));
        let Some(following) = store.following() else { return };
        self.open.set((!following.answers_for.is_zero()).into());
        self.remaining.set(following.answers_for.as_secs_f64());
        self.behind.set(i64::try_from(following.behind).unwrap_or(i64::MAX));
        self.bootstraps.inner().store(following.bootstraps, Relaxed);
    }

    fn count(&self, members: Option<Vec<Member>>) {
        let Some(members) = members else { return self.members.clear() };
        for state in MemberState::ALL {
            let count = members.iter().filter(|member| member.state() == state).count();
            let of = ByState { state: state.as_str() };
            self.members.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
