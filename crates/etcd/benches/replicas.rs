//! What does a revocation take by the number of replicas, and what does one that is idle send?
//!
//! Three etcd nodes on 127.0.0.1 to .3, their data in memory where the machine has such a place; all
//! replicas are stores in this process, each with a runtime and connections of its own. A change
//! that waits for nobody and a revocation take turns, both through the first replica, and all the
//! others are asked again and again until they refuse. Then three replicas reach etcd through relays
//! that count, and nobody asks them anything.
//!
//! `cargo bench -p portcullis-etcd --bench replicas`; other numbers of replicas may be given.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../../../benches/support/many.rs"]
mod many;

use many::{fill, percentile, wants_figures};
use portcullis::{Change, KeyId, Store, cluster::Replica};
use portcullis_etcd::{Etcd, EtcdStore};
use portcullis_testkit::proxy::Proxy;
use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// So many open at a time.
const ABREAST: usize = 8;

fn main() {
    let etcd = portcullis_testkit::etcd::Etcd::start(3);
    let (keys, idle) = if wants_figures() { (200, 20) } else { (7, 1) };
    let create = Store::builder()
        .create_cluster(EtcdStore::new(&Etcd::at(etcd.urls()).unwrap()).unwrap(), replica())
        .unwrap();
    drop(create);

    println!("replicas | revoke p50, p99 ms | a change that waits for nobody | revoke / change");
    println!("         | another refuses p50, p99 ms, the last of them p50, p99");
    for count in counts() {
        let stores = open(&vec![etcd.urls(); count]);
        spread(&stores, keys);
    }

    let proxies: Vec<Vec<_>> = (0..3)
        .map(|_| (0..etcd.count()).map(|node| Proxy::to(&etcd.address(node))).collect())
        .collect();
    let ways: Vec<Vec<_>> =
        proxies.iter().map(|ways| ways.iter().map(Proxy::url).collect()).collect();
    let stores = open(&ways);
    traffic(&stores, &proxies, Duration::from_secs(idle), keys);
}

fn counts() -> Vec<usize> {
    let asked: Vec<_> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    match (wants_figures(), asked.is_empty()) {
        (false, _) => vec![1, 2],
        (true, true) => vec![1, 3, 10, 50],
        (true, false) => asked,
    }
}

/// Where no figures are wanted, on a machine with other work, none is to be waited out.
fn replica() -> Replica {
    let replica = Replica::named("bench");
    if wants_figures() { replica } else { replica.freshness(Duration::from_secs(20)) }
}

/// A replica for each list of nodes.
fn open(nodes: &[Vec<String>]) -> Vec<Store> {
    let open = |urls: &Vec<String>| {
        Store::builder()
            .open_cluster(EtcdStore::new(&Etcd::at(urls.clone()).unwrap()).unwrap(), replica())
            .unwrap()
    };
    let mut stores = Vec::new();
    for some in nodes.chunks(ABREAST) {
        thread::scope(|scope| {
            let opening: Vec<_> = some.iter().map(|urls| scope.spawn(move || open(urls))).collect();
            stores.extend(opening.into_iter().map(|store| store.join().unwrap()));
        });
    }
    stores
}

/// Keys that all replicas know.
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

fn spread(stores: &[Store], keys: usize) {
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let (mut changes, mut revocations) = (Vec::new(), Vec::new());
    let (mut seen, mut seen_last) = (Vec::new(), Vec::new());
    for (id, text) in issue(stores, keys) {
        let start = Instant::now();
        let renamed = Change { name: Some("renamed".into()), ..Change::default() };
        stores[0].update(id, renamed).unwrap();
        changes.push(ms(start));
        // Until the others are done with it.
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
            assert_eq!((settled.acknowledged, settled.waited_out), (stores.len(), 0));
            (took, others.join().unwrap())
        });
        revocations.push(took);
        seen_last.extend(came.last());
        seen.extend(came);
    }
    let of = |figures: &mut Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        [0.5, 0.99].map(|share| percentile(figures, share))
    };
    let ([revoke, slow], [change, _]) = (of(&mut revocations), of(&mut changes));
    let ratio = revoke / change;
    println!("{:>8} | {revoke:.1}, {slow:.1} | {change:.1} | {ratio:.1}", stores.len());
    if !seen.is_empty() {
        let ([p50, p99], [last, last_slow]) = (of(&mut seen), of(&mut seen_last));
        println!("         | {p50:.1}, {p99:.1}, {last:.1}, {last_slow:.1}");
    }
}

/// What passes the relays, each way: without what TCP and IP add.
fn traffic(stores: &[Store], proxies: &[Vec<Proxy>], idle: Duration, keys: usize) {
    let sum = || {
        let each = proxies.iter().flatten().map(Proxy::bytes);
        each.fold([0, 0], |[up, down], [more_up, more_down]| [up + more_up, down + more_down])
    };
    let keys = issue(stores, keys);
    // What connecting and reading everything took is over.
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
    println!("a revocation: {each:.0} bytes more for each replica, at {} of them", stores.len());
}
