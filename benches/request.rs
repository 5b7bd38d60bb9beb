//! The share of authentication in an axum request: the same handler with and without `DataApi`,
//! called in this process without a network.
//!
//! The first share is the full cost: `DataApi` against the same route without a check. The second
//! excludes the cost of any axum layer: `DataApi` against the same route behind a layer that does
//! nothing. The third is the extractor `ApiKey` without a layer, against the route without a check.
//!
//! Each share is the median over many short rounds, in which all take turns.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures and fails by panicking"
)]

mod support {
    pub(crate) mod run;
}

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
    Expiry, NewKey,
    web::{ApiKey, DataApi, scopes::ApiRead},
};
use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt as _, layer::layer_fn};

const KEYS: usize = 10_000;
const ROUNDS: usize = 101;
const CALLS: u64 = 3_000;

criterion_group!(benches, criterion_figures);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    if support::run::is_measured() {
        print_shares(&Fixture::new());
    }
}

fn criterion_figures(criterion: &mut Criterion) {
    let fixture = Fixture::new();
    let mut group = criterion.benchmark_group("request");
    for (name, router) in &fixture.routers {
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|calls| fixture.time(router, calls));
        });
    }
    group.finish();
}

fn print_shares(fixture: &Fixture) {
    let mut shares = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let mut took = [0.0; 4];
        // Rotate the order, so that none always runs second.
        for turn in 0..took.len() {
            let at = (turn + round) % took.len();
            took[at] = fixture.time(&fixture.routers[at].1, CALLS).as_secs_f64();
        }
        let [open, layer, guarded, extractor] = took;
        let round = [(guarded, open), (guarded, layer), (extractor, open)];
        for (shares, (whole, rest)) in shares.iter_mut().zip(round) {
            shares.push(100.0 * (whole - rest) / whole);
        }
    }
    let [all, own, extractor] = shares.map(|mut shares| {
        shares.sort_by(f64::total_cmp);
        shares[ROUNDS / 2]
    });
    println!("\nauthentication's share of a request, {CALLS} of {KEYS} keys in turn:");
    println!("behind DataApi, against no check at all: {all:.0} %");
    println!("behind DataApi, against a layer that does nothing: {own:.0} %");
    println!("by the extractor alone, against no check at all: {extractor:.0} %");
    println!("medians of {ROUNDS} rounds");
}

struct Fixture {
    runtime: Runtime,
    routers: [(&'static str, Router); 4],
    headers: Vec<String>,
}

impl Fixture {
    fn new() -> Self {
        let store = portcullis_testkit::builder().in_memory().unwrap();
        let scopes = store.scopes(["api.read"]).unwrap();
        let header = |number: usize| {
            let new = NewKey::new(format!("key {number}"), scopes, Expiry::Never);
            let secret = store.issue(new).unwrap().secret;
            secret.reveal(|text| format!("Basic {}", BASE64_STANDARD.encode(format!("{text}:"))))
        };
        let headers: Vec<_> = (0..KEYS).map(header).collect();
        let handler = get(async || "accounts");
        let open = |methods| Router::new().route("/accounts", methods).with_state(store.clone());
        let routers = [
            ("open", open(handler.clone())),
            ("a layer", open(handler.clone().route_layer(layer_fn(PassThrough)))),
            ("guarded", DataApi::new(store.clone()).route(ApiRead, "/accounts", handler).into()),
            ("extractor", open(get(async |_: ApiKey<ApiRead>| "accounts"))),
        ];
        let runtime = Builder::new_current_thread().build().unwrap();
        Self { runtime, routers, headers }
    }

    /// Sends requests with the keys in turn, also to the routers without a check.
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

/// A layer that does nothing.
#[derive(Clone)]
struct PassThrough<S>(S);

impl<S: Service<Request<Body>>> Service<Request<Body>> for PassThrough<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(request)
    }
}
