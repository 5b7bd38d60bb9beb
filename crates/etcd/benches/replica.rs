//! The cost of a replica: of its gate on each validation, and of opening it.
//!
//! A store in a directory and a replica of the same store in etcd validate the same key in turns.
//! Opening the replica reads all keys from etcd, joins, and proves freshness; the bench compares it
//! with opening the directory. A million keys take some minutes; the command line may give other
//! sizes.
//!
//! `cargo bench -p portcullis-etcd --bench replica -- 100000`

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

#[path = "../../../benches/support"]
mod support {
    pub(crate) mod fill;
    pub(crate) mod run;
    pub(crate) mod sizes;
    pub(crate) mod statistics;
}

use base64::{Engine, prelude::BASE64_STANDARD};
use portcullis::{Offline, Store, cluster};
use std::{
    fs::File,
    hint::black_box,
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use support::{fill::fill, run::is_measured, sizes::sizes, statistics::percentile};

fn main() {
    let etcd = portcullis_testkit::etcd::Etcd::start(3);
    for keys in sizes(&[100_000, 1_000_000]) {
        let parent = tempfile::tempdir_in(etcd.room()).unwrap();
        let (dir, file) = (parent.path().join("keys"), parent.path().join("backup"));
        let header = Mutex::new(String::new());
        let store = portcullis_testkit::builder().open(&dir).unwrap();
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

        // A round with a million keys takes long, and such rounds differ less.
        let rounds = if is_measured() { if keys > 500_000 { 3 } else { 5 } } else { 1 };
        let (mut alone, mut joined) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(open(&dir).1);
            let start = Instant::now();
            drop(portcullis_testkit::builder().open_cluster(nodes(), replica()).unwrap());
            joined.push(start.elapsed().as_secs_f64());
        }
        let (alone, joined) = (percentile(&mut alone, 0.5), percentile(&mut joined, 0.5));
        println!(
            "{keys} keys: a replica opens in {joined:.2} s, a directory in {alone:.2} s, {:.1} times as long",
            joined / alone
        );

        let store = portcullis_testkit::builder().open_cluster(nodes(), replica()).unwrap();
        let (alone, _) = open(&dir);
        let header = header.into_inner().unwrap();
        let (ratio, ns) = gate(&store, &alone, header.as_bytes());
        println!(
            "{keys} keys: a validation by a replica / by a store in a directory: {ratio:.2}, {ns:.0} ns more"
        );
    }
}

/// Opens the store in a directory. Returns it and the seconds that opening took. Retries, since sled
/// releases its lock with a delay after closing.
fn open(dir: &Path) -> (Store, f64) {
    loop {
        let start = Instant::now();
        match portcullis_testkit::builder().open(dir) {
            Ok(store) => return (store, start.elapsed().as_secs_f64()),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Returns the settings of the replica. In a run that is not measured, the gate stays open for longer,
/// since the machine may have other load.
fn replica() -> cluster::Replica {
    let replica = cluster::Replica::named("bench");
    if is_measured() { replica } else { replica.freshness(Duration::from_secs(30)) }
}

/// Returns the time of a validation by the replica, as a multiple of the store in a directory, and the
/// difference in nanoseconds. Both are medians over rounds in which the two take turns.
fn gate(replica: &Store, alone: &Store, header: &[u8]) -> (f64, f64) {
    let (rounds, calls) = if is_measured() { (101, 20_000) } else { (1, 100) };
    let time = |store: &Store| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(store.authenticate_header(black_box(header))).unwrap();
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
    (percentile(&mut ratios, 0.5), percentile(&mut more, 0.5))
}
