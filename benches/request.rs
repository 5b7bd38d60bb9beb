//! What share of an axum request is its authentication: the same handler behind `DataApi` and
//! without it, called in this process, no network?
//!
//! The ratio is the median of those of many short rounds, in which both take turns.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use axum::{
    Router,
    body::Body,
    http::{Request, header::AUTHORIZATION},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use criterion::{Criterion, criterion_group};
use http_body_util::BodyExt as _;
use portcullis::{
    Expiry, Grant, Metadata, NewKey, Store,
    web::{DataApi, scopes::ApiRead},
};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

const KEYS: usize = 10_000;
const ROUNDS: usize = 101;
const CALLS: u64 = 3_000;

criterion_group!(benches, criterion_figures);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Cargo passes `--bench` where figures are wanted; otherwise this run only shows that it works.
    if std::env::args().any(|argument| argument == "--bench") {
        print_ratio(&House::furnish());
    }
}

fn criterion_figures(criterion: &mut Criterion) {
    let house = House::furnish();
    let mut group = criterion.benchmark_group("request");
    for (name, router) in [("guarded", &house.guarded), ("open", &house.open)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|calls| house.time(router, calls));
        });
    }
    group.finish();
}

fn print_ratio(house: &House) {
    let mut ratios: Vec<_> = (0..ROUNDS)
        .map(|round| {
            // Neither is always the one that comes second.
            let first = round % 2 == 0;
            let open = first.then(|| house.time(&house.open, CALLS));
            let guarded = house.time(&house.guarded, CALLS).as_secs_f64();
            let open = open.unwrap_or_else(|| house.time(&house.open, CALLS)).as_secs_f64();
            (guarded - open) / guarded
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let share = 100.0 * ratios.get(ROUNDS / 2).unwrap();
    println!("\nauthentication's share of a request: {share:.0} %");
    println!("median of {ROUNDS} rounds of {CALLS} requests, {KEYS} keys");
}

struct House {
    runtime: Runtime,
    guarded: Router,
    open: Router,
    headers: Vec<String>,
}

impl House {
    fn furnish() -> Self {
        let store = Store::in_memory().unwrap();
        let scopes = store.scopes(["api.read"]).unwrap();
        let header = |number: usize| {
            let new = NewKey {
                name: format!("key {number}"),
                grant: Grant::Scopes(scopes),
                active: true,
                expiry: Expiry::Never,
                owner: None,
                metadata: Metadata::new(),
            };
            let secret = store.issue(new).unwrap().secret;
            secret.reveal(|text| format!("Basic {}", BASE64_STANDARD.encode(format!("{text}:"))))
        };
        let headers: Vec<_> = (0..KEYS).map(header).collect();
        let guarded: Router =
            DataApi::new(store).route(ApiRead, "/accounts", get(async || "accounts")).into();
        let open = Router::new().route("/accounts", get(async || "accounts"));
        let runtime = Builder::new_current_thread().build().unwrap();
        Self { runtime, guarded, open, headers }
    }

    /// Requests with the keys in turn; the open router is sent them as well.
    fn time(&self, router: &Router, calls: u64) -> Duration {
        self.runtime.block_on(async {
            let start = Instant::now();
            for (_, header) in (0..calls).zip(self.headers.iter().cycle()) {
                let request = Request::get("/accounts").header(AUTHORIZATION, header);
                let request = request.body(Body::empty()).unwrap();
                let response = router.clone().oneshot(request).await.unwrap();
                assert!(response.status().is_success());
                response.into_body().collect().await.unwrap();
            }
            start.elapsed()
        })
    }
}
