//! The cost of a revocation over three replicas, and the keys that cheaper strategies accept after it
//! returned.
//!
//! Three etcd nodes run on 127.0.0.1 to .3, with their data in memory where the system has `/dev/shm`.
//! The replicas are three stores in this process. The bench first compares a revocation with a change
//! that does not wait for replicas. Then it runs four strategies under the same load: each replica
//! checks all keys repeatedly while they are revoked. Half of the keys are revoked while all replicas
//! are connected, and half while the third one is disconnected. The bench counts the checks that
//! started after the revocation had returned and accepted the key.
//!
//! `cargo bench -p portcullis-etcd --bench cluster`

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

#[path = "support/strategies.rs"]
mod strategies;
#[path = "../../../benches/support"]
mod support {
    pub(crate) mod fill;
    pub(crate) mod run;
    pub(crate) mod statistics;
}

use portcullis::{Change, cluster};
use portcullis_testkit::proxy::Proxy;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use strategies::{Portcullis, Propagation, Rival, Strategy};
use support::{fill::fill, run::is_measured, statistics::percentile};

const REPLICAS: usize = 3;

fn main() {
    let etcd = portcullis_testkit::etcd::Etcd::start(3);
    let small = !is_measured();
    let (keys, freshness) = if small { (8, 500) } else { (400, 3000) };
    let freshness = Duration::from_millis(freshness);
    // As long as Portcullis waits for a replica that is disconnected.
    let hold = freshness * 101 / 99 + Duration::from_millis(50);
    drop(
        portcullis_testkit::builder()
            .create_cluster(
                portcullis_etcd::EtcdStore::new(&portcullis_etcd::Etcd::at(etcd.urls()).unwrap())
                    .unwrap(),
                cluster::Replica::named("creator"),
            )
            .unwrap(),
    );

    let mut ours = Portcullis::open(&vec![etcd.urls(); REPLICAS], freshness);
    ours.keys = issue(&ours, keys);
    cost(&ours);
    drop(ours);

    println!("{keys} keys are revoked, half of them while a replica is disconnected");
    let nodes = |proxies: &[Proxy]| {
        let mut nodes = vec![etcd.urls(); REPLICAS];
        nodes[REPLICAS - 1] = proxies.iter().map(Proxy::url).collect();
        nodes
    };
    let proxies = || (0..3).map(|node| Proxy::to(&etcd.address(node))).collect::<Vec<_>>();
    let load = |name: &str, strategy: &dyn Strategy, proxies: &[Proxy]| {
        let [connected, disconnected] = under_load(strategy, keys, proxies, freshness);
        println!("{name}");
        println!("  all connected     {connected}");
        println!("  one disconnected  {disconnected}");
        [connected.wrong, disconnected.wrong]
    };
    let third = proxies();
    let mut ours = Portcullis::open(&nodes(&third), freshness);
    ours.keys = issue(&ours, keys);
    let wrong = load("acknowledgements and a gate (Portcullis)", &ours, &third);
    assert_eq!(wrong, [0, 0], "a revoked key was accepted");
    drop(ours);
    for (prefix, name, propagation) in [
        ("acknowledge", "acknowledgements, no gate", Propagation::Acknowledge(hold)),
        ("watch", "a watch, no acknowledgements", Propagation::Watch),
        ("poll", "a poll each second", Propagation::Poll(Duration::from_secs(1))),
    ] {
        let third = proxies();
        load(name, &Rival::start(prefix, propagation, &nodes(&third), keys), &third);
    }
}

/// Issues keys and waits until all replicas accept them.
fn issue(ours: &Portcullis, keys: usize) -> Vec<(portcullis::KeyId, String)> {
    let made = Mutex::new(Vec::new());
    fill(&ours.stores[0], keys * 8 / 7 + 8, |number, id, text| {
        if number % 8 != 0 {
            made.lock().unwrap().push((id, text.to_owned()));
        }
    });
    let mut made = made.into_inner().unwrap();
    made.truncate(keys);
    for (_, text) in &made {
        for store in &ours.stores {
            while store.authenticate_key(text.as_bytes()).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    made
}

/// Prints the time of a revocation, of a change that does not wait for replicas, and of the first
/// refusal by another replica.
fn cost(ours: &Portcullis) {
    let (mut changes, mut revocations, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    for (id, text) in &ours.keys {
        let start = Instant::now();
        let renamed = Change::default().with_name("renamed");
        ours.stores[0].update(*id, renamed).unwrap();
        changes.push(ms(start));
        let start = Instant::now();
        let (took, came) = thread::scope(|scope| {
            let other = scope.spawn(|| {
                while ours.stores[2].authenticate_key(text.as_bytes()).is_ok() {
                    thread::sleep(Duration::from_micros(50));
                }
                ms(start)
            });
            ours.stores[0].revoke_everywhere(*id).unwrap();
            (ms(start), other.join().unwrap())
        });
        revocations.push(took);
        seen.push(came);
    }
    let percentiles = |values: &mut [f64]| [0.5, 0.99].map(|share| percentile(values, share));
    let [change, _] = percentiles(&mut changes);
    let [revocation, slow] = percentiles(&mut revocations);
    let [seen, _] = percentiles(&mut seen);
    println!("{REPLICAS} replicas: revoke p50 {revocation:.1} ms, p99 {slow:.1} ms");
    println!("  another replica refuses after p50 {seen:.1} ms");
    println!("  a change that does not wait for replicas p50 {change:.1} ms");
    println!("  revoke / that change: {:.2}", revocation / change);
}

/// The results of revocations under load.
#[derive(Default)]
struct Counts {
    took_ms: Vec<f64>,
    /// Checks that started after the key's revocation had returned.
    after: usize,
    /// Those of them that accepted the key.
    wrong: usize,
    unavailable: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut took_ms = self.took_ms.clone();
        let [p50, longest] = [0.5, 1.0].map(|share| percentile(&mut took_ms, share));
        write!(
            f,
            "accepted after the return {:>7} of {:>9} checks, unavailable {:>8}; revoke p50 {p50:.1} ms, longest {longest:.1} ms",
            self.wrong, self.after, self.unavailable
        )
    }
}

/// Revokes half of the keys while all replicas are connected, and half while the third one is
/// disconnected. It stays disconnected until its gate, if it has one, must have closed.
fn under_load(
    strategy: &dyn Strategy,
    keys: usize,
    proxies: &[Proxy],
    freshness: Duration,
) -> [Counts; 2] {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap();
    let returned: Vec<_> = (0..keys).map(|_| AtomicU64::new(u64::MAX)).collect();
    let (is_disconnected, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let tally: [[AtomicUsize; 3]; 2] = Default::default();
    let hammer = |replica: usize| {
        while !is_done.load(SeqCst) {
            let tally = &tally[usize::from(is_disconnected.load(SeqCst))];
            for (key, returned) in returned.iter().enumerate() {
                let start = now();
                let answer = strategy.check(replica, key);
                let is_after = start > returned.load(SeqCst);
                for (count, counts) in
                    tally.iter().zip([is_after, is_after && answer == Some(true), answer.is_none()])
                {
                    count.fetch_add(counts.into(), SeqCst);
                }
            }
            // Leave the processors to etcd and to the replicas.
            thread::sleep(Duration::from_micros(500));
        }
    };
    let mut counts: [Counts; 2] = Default::default();
    thread::scope(|scope| {
        (0..REPLICAS).for_each(|replica| drop(scope.spawn(move || hammer(replica))));
        for key in 0..keys {
            if key == keys / 2 {
                proxies.iter().for_each(Proxy::swallow);
                is_disconnected.store(true, SeqCst);
            }
            let start = Instant::now();
            strategy.revoke(key);
            returned[key].store(now(), SeqCst);
            let took = start.elapsed().as_secs_f64() * 1e3;
            counts[usize::from(key >= keys / 2)].took_ms.push(took);
        }
        thread::sleep(freshness);
        is_done.store(true, SeqCst);
    });
    proxies.iter().for_each(Proxy::pass);
    for (counts, tally) in counts.iter_mut().zip(&tally) {
        [counts.after, counts.wrong, counts.unavailable] =
            [0, 1, 2].map(|index| tally[index].load(SeqCst));
    }
    counts
}
