//! What operators see of the replicas that share a store: metrics, the list over HTTP, the portal's page.

#![allow(clippy::print_stderr, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/serving.rs"]
mod serving;

use etcd::Etcd;
use serving::{Home, id_of};
use std::{
    net::TcpListener,
    thread::sleep,
    time::{Duration, Instant},
};

const WATCHDOG: Duration = Duration::from_mins(1);

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WATCHDOG, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// Status and body of what a server answers by plain HTTP.
fn ask(url: &str, key: Option<&str>) -> (u16, String) {
    let client = reqwest::blocking::Client::builder().timeout(WATCHDOG).build().unwrap();
    let mut request = client.get(url.replace("https:", "http:"));
    if let Some(key) = key {
        request = request.basic_auth(key, None::<&str>);
    }
    let answer = request.send().unwrap();
    (answer.status().as_u16(), answer.text().unwrap())
}

/// The figure of a metric, if it is told.
fn figure(told: &str, name: &str) -> Option<f64> {
    let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|figure| figure.parse().unwrap())
}

#[test]
fn the_metrics_tell_the_gate_the_lag_the_waits_and_who_there_is() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (home, url) = (Home::new(), etcd.url());
    home.done(&["--etcd", &url, "init"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let serve = ["--etcd", &url, "--behind-proxy", "--metrics-listen", &listener];
    let server = home.serve(&serve);
    let metrics = || ask(&format!("http://{listener}/metrics"), None).1;
    let told = |name: &str| figure(&metrics(), &format!("portcullis_{name}"));
    let members = "replicas{state=\"current\"}";
    eventually("the only one is current", || told(members) == Some(1.0));
    assert_eq!(told("replicas{state=\"fenced\"}"), Some(0.0));
    assert_eq!(told("gate_open"), Some(1.0));
    let remaining = told("gate_remaining_seconds").unwrap();
    assert!(remaining > 0.0 && remaining <= 3.0, "{remaining}");
    assert_eq!(told("replica_bootstraps_total"), Some(1.0));

    let waits = told("revocation_wait_seconds_count").unwrap();
    let key = home.key("till", "api.read");
    home.done(&["key", "revoke", &id_of(&key)]);
    assert_eq!(told("revocation_wait_seconds_count"), Some(waits + 1.0));
    assert_eq!(told("replicas_waited_out_total"), Some(0.0));
    eventually("it has applied it", || told("replica_behind_revisions") == Some(0.0));

    // Cut off, it still tells what it knows, and only that.
    etcd.freeze(0);
    eventually("the gate shuts", || told("gate_open") == Some(0.0));
    assert_eq!(told("gate_remaining_seconds"), Some(0.0));
    assert_eq!(told(members), None);
    etcd.thaw(0);
    eventually("it opens again", || told("gate_open") == Some(1.0));
    eventually("etcd answers again", || told(members) == Some(1.0));
    assert!(server.stop().success());
}
