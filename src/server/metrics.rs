//! What operators watch, in the text format of Prometheus. No label tells one key from another.

#[cfg(feature = "cluster")]
mod replica;

use super::{guard::Verdict, overload::Overload};
use crate::Store;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use std::{sync::Arc, time::Duration};

const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A check takes some hundred nanoseconds; a busy or swapping machine shows in the upper ones.
const BUCKETS: [f64; 12] =
    [2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// The counters.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    checks: Family<ByResult, Counter>,
    seconds: Histogram,
    keys: Family<ByState, Gauge>,
    answering: Gauge,
    overloads: Family<ByKind, Counter>,
    #[cfg(feature = "cluster")]
    replica: Option<replica::Replica>,
    pub(super) limited: Counter,
    pub(super) connections_refused: Counter,
}

impl Metrics {
    #[cfg_attr(not(feature = "cluster"), expect(unused_variables, reason = "it is alone"))]
    pub(super) fn new(store: &Store) -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let checks = Family::<ByResult, Counter>::default();
        let seconds = Histogram::new(BUCKETS);
        let keys = Family::<ByState, Gauge>::default();
        let answering = Gauge::default();
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
        registry.register("build", "What runs", build);
        for result in Verdict::ALL {
            // Named from the start, so that a rate sees the first one.
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
            limited,
            connections_refused,
        }
    }

    pub(super) fn checked(&self, verdict: &Verdict, took: Option<Duration>) {
        self.checks.get_or_create(&ByResult { result: verdict.code() }).inc();
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }

    pub(super) fn overloaded(&self, kind: Overload) {
        self.overloads.get_or_create(&ByKind { kind: kind.label() }).inc();
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
    metrics.answering.set(store.health().is_answering.into());
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
