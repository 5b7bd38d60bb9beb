//! The cost of wiping stacks: the same requests to two runtimes in this process, one of which wipes
//! the stack of a worker before it waits.
//!
//! ```text
//! cargo test --test memory cost_of -- --ignored --nocapture
//! ```

use crate::{
    http1::{Http1, connect, request},
    servers::keys_in,
};
use portcullis::{Expiry, Grant, NewKey, Store, wipe_stack};
use portcullis_admin as admin;
use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

const ROUNDS: usize = 31;
const REQUESTS: u32 = 200;
const CONNECTIONS: usize = 8;
const CALLS: u32 = 2_000;

#[test]
#[ignore = "a measurement"]
fn cost_of_wiping_the_stack() {
    let start = Instant::now();
    (0..CALLS).for_each(|_| wipe_stack());
    println!("one call: {:?}", start.elapsed() / CALLS);
    let (store, key) = store();
    let plain = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wiping = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_park(wipe_stack)
        .build()
        .unwrap();
    let addresses = [&plain, &wiping].map(|runtime| serve(runtime, store.clone()));
    for (load, of) in
        [("one connection", one as fn(&str, &str) -> Duration), ("8 connections", many)]
    {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (times, address) in times.iter_mut().zip(&addresses) {
                times.push(of(address, &key));
            }
        }
        let [plain, wiping] = times.map(|mut times| {
            times.sort_unstable();
            times[ROUNDS / 2]
        });
        let ratio = wiping.as_secs_f64() / plain.as_secs_f64();
        println!("{load}: {plain:?} a request without, {wiping:?} with wiping, ratio {ratio:.3}");
    }
}

fn store() -> (Store, String) {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let issued = store.issue(NewKey::new("load", Grant::All, Expiry::Never));
    let key = issued.unwrap().secret.reveal(|text| keys_in(text)[0].clone());
    (store, key)
}

fn serve(runtime: &Runtime, store: Store) -> String {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async { axum::serve(listener, admin::router(store)).await });
    address
}

/// The mean time of a request on one connection.
fn one(address: &str, key: &str) -> Duration {
    let mut connection = Http1::new(connect(address, None));
    let whoami = request("GET", "/v1/whoami", key, "");
    let start = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(connection.ask(&whoami).status, 200);
    }
    start.elapsed() / REQUESTS
}

/// The same on several connections at once, divided by their number.
fn many(address: &str, key: &str) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| one(address, key));
        }
    });
    start.elapsed() / REQUESTS / u32::try_from(CONNECTIONS).unwrap()
}
