//! What does it cost a store to be a replica: on each validation, for its gate, and at its start?
//!
//! The same key is checked by a store in a directory and by a replica of the same store in etcd, in
//! turns. Opening the replica reads all keys out of etcd, joins, and proves that it is fresh; beside
//! it the directory is opened. A million keys take some minutes; other sizes may be given.
//!
//! `cargo bench -p portcullis-etcd --bench replica -- 100000`

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../../benches/support/many.rs"]
mod many;

use base64::{Engine, prelude::BASE64_STANDARD};
use many::{fill, median, sizes, wants_figures};
use portcullis::{Offline, Store, cluster};
use std::{
    fs::File,
    hint::black_box,
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

fn main() {
    let etcd = portcullis_testkit::etcd::Etcd::start(3);
    for keys in sizes(&[100_000, 1_000_000]) {
        let room = tempfile::tempdir_in(etcd.room()).unwrap();
        let (dir, file) = (room.path().join("keys"), room.path().join("backup"));
        let header = Mutex::new(String::new());
        let store = Store::open(&dir).unwrap();
        fill(&store, keys, |number, _, text| {
            if number == 1 {
                *header.lock().unwrap() = format!("Basic {}", BASE64_STANDARD.encode(text));
            }
        });
        store.backup(File::create(&file).unwrap(), |_| ()).unwrap();
        drop(store);
        let nodes = portcullis_etcd::Etcd::at(etcd.urls()).unwrap();
        let nodes = nodes.space(format!("{keys}/")).unwrap();
        let nodes = || portcullis_etcd::EtcdStore::new(&nodes).unwrap();
        Offline::new().import_to(&nodes(), File::open(&file).unwrap(), |_| ()).unwrap();

        // A million keys take a while, and their rounds differ less.
        let rounds = if wants_figures() { if keys > 500_000 { 3 } else { 5 } } else { 1 };
        let (mut alone, mut joined) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(open(&dir).1);
            let start = Instant::now();
            drop(Store::builder().open_cluster(nodes(), replica()).unwrap());
            joined.push(start.elapsed().as_secs_f64());
        }
        let (alone, joined) = (median(alone), median(joined));
        println!(
            "{keys} keys: a replica opens in {joined:.2} s, a directory in {alone:.2} s, {:.1} times as long",
            joined / alone
        );

        let store = Store::builder().open_cluster(nodes(), replica()).unwrap();
        let (alone, _) = open(&dir);
        let header = header.into_inner().unwrap();
        let (ratio, ns) = gate(&store, &alone, header.as_bytes());
        println!(
            "{keys} keys: a validation by a replica / by a store that is alone: {ratio:.2}, {ns:.0} ns more"
        );
    }
}

/// The store in a directory, and how many seconds it took. The engine gives its lock back a moment
/// after it was closed.
fn open(dir: &Path) -> (Store, f64) {
    loop {
        let start = Instant::now();
        match Store::open(dir) {
            Ok(store) => return (store, start.elapsed().as_secs_f64()),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Where no figures are wanted, on a machine with other work, none is to shut.
fn replica() -> cluster::Replica {
    let replica = cluster::Replica::named("bench");
    if wants_figures() { replica } else { replica.freshness(Duration::from_secs(30)) }
}

/// A validation by the replica as a multiple of one by the store that is alone, and the difference in
/// nanoseconds: medians over rounds in which both take turns.
fn gate(replica: &Store, alone: &Store, header: &[u8]) -> (f64, f64) {
    let (rounds, calls) = if wants_figures() { (101, 20_000) } else { (1, 100) };
    let time = |store: &Store| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(store.authenticate(black_box(header))).unwrap();
        }
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    time(replica);
    time(alone);
    let (mut ratios, mut more) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (theirs, ours) = if round % 2 == 0 {
            let theirs = time(replica);
            (theirs, time(alone))
        } else {
            let ours = time(alone);
            (time(replica), ours)
        };
        ratios.push(theirs / ours);
        more.push(theirs - ours);
    }
    (median(ratios), median(more))
}
