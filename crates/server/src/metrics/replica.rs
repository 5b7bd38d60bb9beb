//! The metrics of a replica. A server whose store is in a directory has none of them.

use super::shared::{ByState, register};
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

/// A wait takes milliseconds. For an unreachable replica it takes as long as its freshness, by default
/// three seconds.
const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How long etcd may take to list the members. After the timeout the other metrics are reported.
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
            open: register(
                registry,
                "gate_open",
                "1 while this replica's gate is open; 0 while this replica responds 503",
            ),
            remaining: register(
                registry,
                "gate_remaining_seconds",
                "How long the gate stays open if etcd is no longer reached",
            ),
            behind: register(
                registry,
                "replica_behind_revisions",
                "Revisions between the newest known change and the newest applied one",
            ),
            bootstraps: register(
                registry,
                "replica_bootstraps",
                "How often this replica has read all keys",
            ),
            members: register(
                registry,
                "replicas",
                "Members that are registered in etcd; absent while etcd does not respond",
            ),
        };
        let waits = Histogram::new(BUCKETS);
        registry.register(
            "revocation_wait_seconds",
            "How long revocations and other stricter changes waited for the other replicas",
            waits.clone(),
        );
        let waited_out: Counter<u64> = register(
            registry,
            "replicas_waited_out",
            "Replicas that did not acknowledge such a change in time",
        );
        store.on_replica_wait(move |took, wait| {
            waits.observe(took.as_secs_f64());
            waited_out.inc_by(wait.timed_out as u64);
        });
        Some(replica)
    }

    /// Sets the metrics to the current state.
    pub(super) async fn update(&self, store: &Store) {
        let members_store = store.clone();
        let members =
            timeout(MEMBERS_TIMEOUT, spawn_blocking(move || members_store.members())).await;
        self.count_members(members.ok().and_then(Result::ok).and_then(Result::ok));
        let Some(following) = store.following() else { return };
        self.open.set((!following.answers_for.is_zero()).into());
        self.remaining.set(following.answers_for.as_secs_f64());
        self.behind.set(i64::try_from(following.behind).unwrap_or(i64::MAX));
        self.bootstraps.inner().store(following.bootstraps, Relaxed);
    }

    fn count_members(&self, members: Option<Vec<Member>>) {
        let Some(members) = members else { return self.members.clear() };
        for state in MemberState::ALL {
            let count = members.iter().filter(|member| member.state() == state).count();
            let of = ByState { state: state.as_str() };
            self.members.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
