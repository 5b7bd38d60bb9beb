//! The time of a revocation by the number of replicas, and the traffic of an idle replica.
//!
//! Three etcd nodes run on 127.0.0.1 to .3, with their data in memory where the system has `/dev/shm`.
//! All replicas are stores in this process, each with its own runtime and connections. A change that
//! does not wait for replicas and a revocation take turns, both on the first replica. The other
//! replicas authenticate the key repeatedly until they refuse it. Then three idle replicas connect to
//! etcd through proxies that count bytes.
//!
//! `cargo bench -p portcullis-etcd --bench replicas`; the command line may give other numbers.

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
    pub(crate) mod statistics;
}

use portcullis::{Change, KeyId, Store, cluster::Replica};
use portcullis_etcd::{Etcd, EtcdStore};
use portcullis_testkit::proxy::Proxy;
use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use support::{fill::fill, run::is_measured, statistics::percentile};

/// The number of replicas that open concurrently.
const CONCURRENT: usize = 8;

fn main() {
    let etcd = portcullis_testkit::etcd::Etcd::start(3);
    let (keys, idle) = if is_measured() { (200, 20) } else { (7, 1) };
    let create = portcullis_testkit::builder()
        .create_cluster(EtcdStore::new(&Etcd::at(etcd.urls()).unwrap()).unwrap(), replica())
        .unwrap();
    drop(create);

    println!("replicas | revoke p50, p99 ms | a change that does not wait | revoke / change");
    println!("         | another refuses p50, p99 ms, the last of them p50, p99");
    for count in counts() {
        let stores = open(&vec![etcd.urls(); count]);
        measure_revocations(&stores, keys);
    }

    let proxies: Vec<Vec<_>> = (0..3)
        .map(|_| (0..etcd.count()).map(|node| Proxy::to(&etcd.address(node))).collect())
        .collect();
    let urls: Vec<Vec<_>> =
        proxies.iter().map(|proxies| proxies.iter().map(Proxy::url).collect()).collect();
    let stores = open(&urls);
    measure_traffic(&stores, &proxies, Duration::from_secs(idle), keys);
}

fn counts() -> Vec<usize> {
    let given: Vec<_> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    match (is_measured(), given.is_empty()) {
        (false, _) => vec![1, 2],
        (true, true) => vec![1, 3, 10, 50],
        (true, false) => given,
    }
}

/// Returns the settings of a replica. In a run that is not measured, freshness lasts longer, so that no
/// replica is fenced if the machine has other load.
fn replica() -> Replica {
    let replica = Replica::named("bench");
    if is_measured() { replica } else { replica.freshness(Duration::from_secs(20)) }
}

/// Opens a replica for each list of nodes.
fn open(nodes: &[Vec<String>]) -> Vec<Store> {
    let open = |urls: &Vec<String>| {
        portcullis_testkit::builder()
            .open_cluster(EtcdStore::new(&Etcd::at(urls.clone()).unwrap()).unwrap(), replica())
            .unwrap()
    };
    let mut stores = Vec::new();
    for chunk in nodes.chunks(CONCURRENT) {
        thread::scope(|scope| {
            let opening: Vec<_> =
                chunk.iter().map(|urls| scope.spawn(move || open(urls))).collect();
            stores.extend(opening.into_iter().map(|store| store.join().unwrap()));
        });
    }
    stores
}

/// Issues keys and waits until all replicas accept them.
fn issue(stores: &[Store], keys: usize) -> Vec<(KeyId, String)> {
    let made = Mutex::new(Vec::new());
    fill(&stores[0], keys * 8 / 7 + 8, |number, id, text| {
        if number % 8 != 0 {
            made.lock().unwrap().push((id, text.to_owned()));
        }
    });
    let mut made = made.into_inner().unwrap();
    made.truncate(keys);
    for (_, text) in &made {
        for store in stores {
            while store.authenticate_key(text.as_bytes()).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    made
}

/// Prints the times of revocations, and of changes that do not wait for replicas.
fn measure_revocations(stores: &[Store], keys: usize) {
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let (mut changes, mut revocations) = (Vec::new(), Vec::new());
    let (mut seen, mut seen_last) = (Vec::new(), Vec::new());
    for (id, text) in issue(stores, keys) {
        let start = Instant::now();
        let renamed = Change::default().with_name("renamed");
        stores[0].update(id, renamed).unwrap();
        changes.push(ms(start));
        // Wait until the other replicas have applied it.
        thread::sleep(Duration::from_millis(5 + stores.len() as u64));
        let start = Instant::now();
        let (took, came) = thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut open: Vec<_> = stores.iter().skip(1).collect();
                let mut came = Vec::new();
                while !open.is_empty() {
                    open.retain(|store| {
                        let accepts = store.authenticate_key(text.as_bytes()).is_ok();
                        if !accepts {
                            came.push(ms(start));
                        }
                        accepts
                    });
                    thread::sleep(Duration::from_micros(100));
                }
                came
            });
            let (_, settled) = stores[0].revoke_everywhere(id).unwrap();
            let took = ms(start);
            assert_eq!((settled.acknowledged, settled.timed_out), (stores.len(), 0));
            (took, others.join().unwrap())
        });
        revocations.push(took);
        seen_last.extend(came.last());
        seen.extend(came);
    }
    let of = |values: &mut Vec<f64>| [0.5, 0.99].map(|share| percentile(values, share));
    let ([revoke, slow], [change, _]) = (of(&mut revocations), of(&mut changes));
    let ratio = revoke / change;
    println!("{:>8} | {revoke:.1}, {slow:.1} | {change:.1} | {ratio:.1}", stores.len());
    if !seen.is_empty() {
        let ([p50, p99], [last, last_slow]) = (of(&mut seen), of(&mut seen_last));
        println!("         | {p50:.1}, {p99:.1}, {last:.1}, {last_slow:.1}");
    }
}

/// Prints the bytes through the proxies in each direction, without the overhead of TCP and IP.
fn measure_traffic(stores: &[Store], proxies: &[Vec<Proxy>], idle: Duration, keys: usize) {
    let sum = || {
        let each = proxies.iter().flatten().map(Proxy::bytes);
        each.fold([0, 0], |[up, down], [more_up, more_down]| [up + more_up, down + more_down])
    };
    let keys = issue(stores, keys);
    // Wait for the traffic of connecting and loading to end.
    thread::sleep(Duration::from_secs(2).min(idle));
    let during = |work: &dyn Fn()| {
        let (before, start) = (sum(), Instant::now());
        work();
        let (after, took) = (sum(), start.elapsed().as_secs_f64());
        ([0, 1].map(|way| (after[way] - before[way]) as f64 / stores.len() as f64), took)
    };
    let ([up, down], took) = during(&|| thread::sleep(idle));
    println!(
        "an idle replica: {:.0} bytes a second, {:.0} to etcd and {:.0} from it",
        (up + down) / took,
        up / took,
        down / took
    );
    let idle = (up + down) / took;
    let ([up, down], took) = during(&|| {
        for (id, _) in &keys {
            stores[0].revoke_everywhere(*id).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
    });
    let each = (up + down - idle * took) / keys.len() as f64;
    println!("a revocation: {each:.0} additional bytes for each of {} replicas", stores.len());
}
