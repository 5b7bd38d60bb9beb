//! Metrics in the text format of Prometheus. No label distinguishes keys.

mod leaks;
mod shared;
#[cfg(feature = "cluster")]
mod replica;

use self::{
    leaks::Leaks,
    shared::{ByResult, ByState, register},
};
use super::{key_check::KeyCheck, limits::Overload};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use portcullis::{DiskSpace, Store, list::ListQuery};
use portcullis_admin::{LeakReports, RateLimitedLog};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use std::{net::IpAddr, sync::Arc, time::Duration};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A check takes some hundred nanoseconds; the upper buckets show a busy or swapping machine.
const BUCKETS: [f64; 12] =
    [2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Within {
    within: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// A rate-limited log for each kind of overload, so that one kind does not suppress another.
static OVERLOAD_LOGS: [RateLimitedLog; Overload::ALL.len()] =
    [const { RateLimitedLog::new() }; Overload::ALL.len()];

/// The result for a valid key that arrived over plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExposedResult {
    Revoked,
    LastRootKey,
    Limit,
    Failed,
}

impl ExposedResult {
    const ALL: [Self; 4] = [Self::Revoked, Self::LastRootKey, Self::Limit, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::LastRootKey => "last_root_key",
            Self::Limit => "limit",
            Self::Failed => "failed",
        }
    }
}

/// The metrics of a server.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    checks: Family<ByResult, Counter>,
    seconds: Histogram,
    keys: Family<ByState, Gauge>,
    expiring: Family<Within, Gauge>,
    answering: Gauge,
    poisoned: Gauge,
    overloads: Family<ByKind, Counter>,
    exposed: Family<ByResult, Counter>,
    leaks: Option<Leaks>,
    disk: Option<Disk>,
    clock_ahead: Gauge,
    #[cfg(feature = "cluster")]
    replica: Option<replica::Replica>,
    pub(super) limited: Counter,
    pub(super) connections_refused: Counter,
}

/// The disk and its reserve.
#[derive(Clone)]
struct Disk {
    free: Gauge,
    reserve_held: Gauge,
    reserve_wanted: Gauge,
    is_reserve_in_use: Gauge,
}

impl Disk {
    fn new(registry: &mut Registry) -> Self {
        let mut gauge = |name, help| register(registry, name, help);
        Self {
            free: gauge("disk_free_bytes", "Free bytes on the volume of the store"),
            reserve_held: gauge("disk_reserve_bytes", "Bytes that are allocated for revocations"),
            reserve_wanted: gauge(
                "disk_reserve_wanted_bytes",
                "Bytes that should be allocated for revocations",
            ),
            is_reserve_in_use: gauge(
                "disk_reserve_in_use",
                "1 while the disk is full and only stricter changes are written",
            ),
        }
    }

    fn set(&self, disk: &DiskSpace) {
        let set = |gauge: &Gauge, bytes| gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        set(&self.free, disk.free);
        set(&self.reserve_held, disk.reserve_held);
        set(&self.reserve_wanted, disk.reserve_wanted);
        self.is_reserve_in_use.set(disk.is_reserve_in_use.into());
    }
}

impl Metrics {
    pub(super) fn new(store: &Store, leaks: Option<LeakReports>) -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let checks: Family<ByResult, Counter> =
            register(&mut registry, "auth_requests", "Keys that were checked");
        let seconds = Histogram::new(BUCKETS);
        let seconds_help = "How long the check of a key took";
        registry.register("auth_duration_seconds", seconds_help, seconds.clone());
        let limited = register(&mut registry, "auth_limited", "Bad keys that got the response 429");
        let connections_refused = register(
            &mut registry,
            "connections_refused",
            "Connections closed because there were too many",
        );
        let overloads: Family<ByKind, Counter> = register(
            &mut registry,
            "overload",
            "Requests and connections refused, and connections ended, because a limit was reached",
        );
        let keys = register(
            &mut registry,
            "keys",
            "Keys in the store: active and valid, active and expired, inactive",
        );
        let expiring = register(
            &mut registry,
            "keys_expiring",
            "Active keys that expire within this time and were not replaced",
        );
        let answering = register(
            &mut registry,
            "answering",
            "1 if keys are checked; 0 if a replica cannot prove that it is up to date",
        );
        let poisoned = register(
            &mut registry,
            "poisoned",
            "1 after a failed write: nothing is written until the server is restarted",
        );
        let exposed: Family<ByResult, Counter> = register(
            &mut registry,
            "exposed_keys",
            "Valid keys that arrived over plain HTTP, with --revoke-exposed",
        );
        let leaks = leaks.map(|leaks| Leaks::new(leaks, &mut registry));
        let disk = store.health().disk.map(|_| Disk::new(&mut registry));
        let clock_ahead = register(
            &mut registry,
            "clock_ahead_seconds",
            "How far the store's time is ahead of the wall clock: keys expire that much too early",
        );
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the running program", build);
        for result in KeyCheck::codes() {
            // Present from the start, so that a rate includes the first check.
            drop(checks.get_or_create(&ByResult { result }));
        }
        for overload in Overload::ALL {
            drop(overloads.get_or_create(&ByKind { kind: overload.label() }));
        }
        for result in ExposedResult::ALL {
            drop(exposed.get_or_create(&ByResult { result: result.label() }));
        }
        Self {
            #[cfg(feature = "cluster")]
            replica: replica::Replica::new(store, &mut registry),
            registry: Arc::new(registry),
            checks,
            seconds,
            keys,
            expiring,
            answering,
            poisoned,
            overloads,
            exposed,
            leaks,
            disk,
            clock_ahead,
            limited,
            connections_refused,
        }
    }

    /// Counts a checked key, and how long the check took if that was measured.
    pub(super) fn record_check(&self, check: &KeyCheck, took: Option<Duration>) {
        self.checks.get_or_create(&ByResult { result: check.code() }).inc();
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }

    /// Counts a valid key that arrived over plain HTTP.
    pub(super) fn record_exposed(&self, result: ExposedResult) {
        self.exposed.get_or_create(&ByResult { result: result.label() }).inc();
    }

    /// Counts that a limit was reached, and logs it.
    pub(super) fn record_overload(&self, overload: Overload, source: Option<IpAddr>) {
        let kind = overload.label();
        self.overloads.get_or_create(&ByKind { kind }).inc();
        if let Some(suppressed) =
            OVERLOAD_LOGS.get(overload as usize).and_then(RateLimitedLog::permit)
        {
            let source = source.map(tracing::field::display);
            tracing::warn!(kind, source, suppressed, "overloaded");
        }
    }

    /// Returns a router with only `/metrics`, for a separate listener.
    pub(super) fn router(self, store: Store) -> Router {
        Router::new().route("/metrics", get(render)).with_state((self, store))
    }
}

async fn render(State((metrics, store)): State<(Metrics, Store)>) -> Response {
    let (count, expired) = (store.count(), store.count_expired());
    let active = count.active.saturating_sub(expired);
    for (state, keys) in [("active", active), ("expired", expired), ("inactive", count.inactive)] {
        metrics.keys.get_or_create(&ByState { state }).set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
    for (within, days) in [("7d", 7), ("30d", 30)] {
        let query = ListQuery::default().expiring_within(Duration::from_hours(24 * days));
        let keys =
            i64::try_from(store.count_matching(&query).unwrap_or_default()).unwrap_or(i64::MAX);
        metrics.expiring.get_or_create(&Within { within }).set(keys);
    }
    let health = store.health();
    metrics.answering.set(health.is_answering.into());
    metrics.poisoned.set(health.poisoned.is_some().into());
    if let (Some(gauges), Some(disk)) = (&metrics.disk, &health.disk) {
        gauges.set(disk);
    }
    let ahead = health.clock_ahead.map_or(0, |ahead| ahead.as_secs());
    metrics.clock_ahead.set(i64::try_from(ahead).unwrap_or(i64::MAX));
    if let Some(leaks) = &metrics.leaks {
        leaks.update();
    }
    #[cfg(feature = "cluster")]
    if let Some(replica) = &metrics.replica {
        replica.update(&store).await;
    }
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn metrics_report_a_full_disk() {
        let (store, script) = portcullis::testing::scripted_store();
        script.fill_disk();
        let response = render(State((Metrics::new(&store, None), store))).await;
        let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        for line in [
            "portcullis_disk_free_bytes 307200",
            "portcullis_disk_reserve_bytes 8388608",
            "portcullis_disk_reserve_wanted_bytes 9437184",
            "portcullis_disk_reserve_in_use 1",
            "portcullis_poisoned 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
