//! Metrics in the text format of Prometheus. No label distinguishes keys.

mod labels;
#[cfg(feature = "cluster")]
mod replica;

use self::labels::ByState;
use super::{key_check::KeyCheck, limits::Overload};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use portcullis::{DiskSpace, Store};
use portcullis_admin::RateLimitedLog;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use std::{net::IpAddr, sync::Arc, time::Duration};

const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A check takes some hundred nanoseconds; the upper buckets show a busy or swapping machine.
const BUCKETS: [f64; 12] =
    [2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// A log for each kind of overload, so that no kind hides another.
static LINES: [RateLimitedLog; Overload::ALL.len()] =
    [const { RateLimitedLog::new() }; Overload::ALL.len()];

/// The counters.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    checks: Family<ByResult, Counter>,
    seconds: Histogram,
    keys: Family<ByState, Gauge>,
    answering: Gauge,
    overloads: Family<ByKind, Counter>,
    disk: Option<Disk>,
    clock_ahead: Gauge,
    #[cfg(feature = "cluster")]
    replica: Option<replica::Replica>,
    pub(super) limited: Counter,
    pub(super) connections_refused: Counter,
}

/// The disk and its reserve.
#[derive(Clone, Default)]
struct Disk {
    free: Gauge,
    held: Gauge,
    wanted: Gauge,
    in_use: Gauge,
}

impl Disk {
    fn new(registry: &mut Registry) -> Self {
        let disk = Self::default();
        let mut add = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add("disk_free_bytes", "Free bytes on the volume of the store", &disk.free);
        add("disk_reserve_bytes", "Bytes that are allocated for revocations", &disk.held);
        add(
            "disk_reserve_wanted_bytes",
            "Bytes that should be allocated for revocations",
            &disk.wanted,
        );
        add(
            "disk_reserve_in_use",
            "1 while the disk is full and only stricter changes are written",
            &disk.in_use,
        );
        disk
    }

    fn set(&self, disk: &DiskSpace) {
        let set = |gauge: &Gauge, bytes| gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        set(&self.free, disk.free);
        set(&self.held, disk.reserve_held);
        set(&self.wanted, disk.reserve_wanted);
        self.in_use.set(disk.is_reserve_in_use.into());
    }
}

impl Metrics {
    pub(super) fn new(store: &Store) -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let checks = Family::<ByResult, Counter>::default();
        let seconds = Histogram::new(BUCKETS);
        let keys = Family::<ByState, Gauge>::default();
        let (answering, clock_ahead) = (Gauge::default(), Gauge::default());
        let (limited, connections_refused) = (Counter::default(), Counter::default());
        let overloads = Family::<ByKind, Counter>::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("auth_requests", "Keys that were checked", checks.clone());
        registry.register(
            "auth_duration_seconds",
            "How long the check of a key took",
            seconds.clone(),
        );
        registry.register("auth_limited", "Bad keys answered with 429", limited.clone());
        registry.register(
            "connections_refused",
            "Connections closed because there were too many",
            connections_refused.clone(),
        );
        registry.register(
            "overload",
            "Requests and connections refused, and connections ended, for want of room",
            overloads.clone(),
        );
        registry.register(
            "keys",
            "Keys in the store: active ones that work, active ones that expired, inactive ones",
            keys.clone(),
        );
        registry.register(
            "answering",
            "1 if keys are checked; 0 where a replica cannot know whether it is up to date",
            answering.clone(),
        );
        let disk = store.health().disk.map(|_| Disk::new(&mut registry));
        registry.register(
            "clock_ahead_seconds",
            "How far the store's time is ahead of the wall clock: keys expire that much too early",
            clock_ahead.clone(),
        );
        registry.register("build", "What runs", build);
        for result in KeyCheck::codes() {
            // Present from the start, so that a rate includes the first one.
            drop(checks.get_or_create(&ByResult { result }));
        }
        for overload in Overload::ALL {
            drop(overloads.get_or_create(&ByKind { kind: overload.label() }));
        }
        Self {
            #[cfg(feature = "cluster")]
            replica: replica::Replica::new(store, &mut registry),
            registry: Arc::new(registry),
            checks,
            seconds,
            keys,
            answering,
            overloads,
            disk,
            clock_ahead,
            limited,
            connections_refused,
        }
    }

    pub(super) fn checked(&self, check: &KeyCheck, took: Option<Duration>) {
        self.checks.get_or_create(&ByResult { result: check.code() }).inc();
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }

    /// Counts that a limit was reached, and logs it.
    pub(super) fn overloaded(&self, overload: Overload, source: Option<IpAddr>) {
        let kind = overload.label();
        self.overloads.get_or_create(&ByKind { kind }).inc();
        if let Some(suppressed) = LINES.get(overload as usize).and_then(RateLimitedLog::permit) {
            let source = source.map(tracing::field::display);
            tracing::warn!(kind, source, suppressed, "overloaded");
        }
    }

    /// A router with `/metrics` alone, for a listener of its own.
    pub(super) fn router(self, store: Store) -> Router {
        Router::new().route("/metrics", get(show)).with_state((self, store))
    }
}

async fn show(State((metrics, store)): State<(Metrics, Store)>) -> Response {
    let (count, expired) = (store.count(), store.count_expired());
    let active = count.active.saturating_sub(expired);
    for (state, keys) in [("active", active), ("expired", expired), ("inactive", count.inactive)] {
        metrics.keys.get_or_create(&ByState { state }).set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
    let health = store.health();
    metrics.answering.set(health.is_answering.into());
    if let (Some(gauges), Some(disk)) = (&metrics.disk, &health.disk) {
        gauges.set(disk);
    }
    let ahead = health.clock_ahead.map_or(0, |ahead| ahead.as_secs());
    metrics.clock_ahead.set(i64::try_from(ahead).unwrap_or(i64::MAX));
    #[cfg(feature = "cluster")]
    if let Some(replica) = &metrics.replica {
        replica.look(&store).await;
    }
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => ([(CONTENT_TYPE, CONTENT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn full_disk_is_among_the_metrics() {
        let (store, script) = portcullis::testing::scripted_store();
        script.fill_disk();
        let answer = show(State((Metrics::new(&store), store))).await;
        let text = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        for line in [
            "portcullis_disk_free_bytes 307200",
            "portcullis_disk_reserve_bytes 8388608",
            "portcullis_disk_reserve_wanted_bytes 9437184",
            "portcullis_disk_reserve_in_use 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
