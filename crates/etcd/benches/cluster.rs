//! What does a revocation over three replicas cost, and what do cheaper ways accept after it returned?
//!
//! Three etcd nodes on 127.0.0.1 to .3, their data in memory where the machine has such a place; the
//! replicas are three stores in this process. First a revocation beside a change that waits for
//! nobody, one after the other. Then four ways under the same load: each replica checks all keys
//! again and again while they are revoked, half of them in health and half while the third replica
//! is cut off. Counted is each check that began after the revocation had returned and let the key
//! pass.
//!
//! `cargo bench -p portcullis-etcd --bench cluster`

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../../../benches/support/many.rs"]
mod many;
#[path = "support/ways.rs"]
mod ways;

use many::{fill, percentile, wants_figures};
use portcullis::{Change, Store, cluster};
use portcullis_testkit::proxy::Proxy;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use ways::{How, Ours, Rival, Way};

const REPLICAS: usize = 3;

fn main() {
    let etcd = portcullis_testkit::etcd::Etcd::start(3);
    let small = !wants_figures();
    let (keys, freshness) = if small { (8, 500) } else { (400, 3000) };
    let freshness = Duration::from_millis(freshness);
    // As long as ours waits for a replica that is cut off.
    let hold = freshness * 101 / 99 + Duration::from_millis(50);
    drop(
        Store::builder()
            .create_cluster(
                portcullis_etcd::EtcdStore::new(&portcullis_etcd::Etcd::at(etcd.urls()).unwrap())
                    .unwrap(),
                cluster::Replica::named("maker"),
            )
            .unwrap(),
    );

    let mut ours = Ours::open(&vec![etcd.urls(); REPLICAS], freshness);
    ours.keys = issue(&ours, keys);
    cost(&ours);
    drop(ours);

    println!("{keys} keys are revoked, half of them while a replica is cut off");
    let nodes = |victim: &[Proxy]| {
        let mut nodes = vec![etcd.urls(); REPLICAS];
        nodes[REPLICAS - 1] = victim.iter().map(Proxy::url).collect();
        nodes
    };
    let proxies = || (0..3).map(|node| Proxy::to(&etcd.address(node))).collect::<Vec<_>>();
    let load = |name: &str, way: &dyn Way, victim: &[Proxy]| {
        let [health, cut_off] = under_load(way, keys, victim, freshness);
        println!("{name}");
        println!("  in health    {health}");
        println!("  one cut off  {cut_off}");
        [health.wrong, cut_off.wrong]
    };
    let victim = proxies();
    let mut ours = Ours::open(&nodes(&victim), freshness);
    ours.keys = issue(&ours, keys);
    let wrong = load("acknowledgements and a gate (Portcullis)", &ours, &victim);
    assert_eq!(wrong, [0, 0], "a revoked key was accepted");
    drop(ours);
    for (room, name, how) in [
        ("says", "acknowledgements, no gate", How::Says(hold)),
        ("told", "a watch, no acknowledgements", How::Told),
        ("asks", "a copy that is good for a second", How::Asks(Duration::from_secs(1))),
    ] {
        let victim = proxies();
        load(name, &Rival::start(room, how, &nodes(&victim), keys), &victim);
    }
}

/// Keys that all replicas know.
fn issue(ours: &Ours, keys: usize) -> Vec<(portcullis::KeyId, String)> {
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

/// A revocation beside a change that waits for nobody, and when another replica refuses.
fn cost(ours: &Ours) {
    let (mut changes, mut revocations, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    for (id, text) in &ours.keys {
        let start = Instant::now();
        let renamed = Change { name: Some("renamed".into()), ..Change::default() };
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
    for figures in [&mut changes, &mut revocations, &mut seen] {
        figures.sort_by(f64::total_cmp);
    }
    let of = |figures: &[f64]| [0.5, 0.99].map(|share| percentile(figures, share));
    let ([change, _], [revocation, slow], [seen, _]) = (of(&changes), of(&revocations), of(&seen));
    println!("{REPLICAS} replicas: revoke p50 {revocation:.1} ms, p99 {slow:.1} ms");
    println!("  another replica refuses after p50 {seen:.1} ms");
    println!("  a change that waits for nobody p50 {change:.1} ms");
    println!("  revoke / that change: {:.2}", revocation / change);
}

/// What came of revocations under load.
#[derive(Default)]
struct Counts {
    took_ms: Vec<f64>,
    /// Checks that began after the key's revocation had returned.
    after: usize,
    /// Those of them that let the key pass.
    wrong: usize,
    unavailable: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, longest] = [0.5, 1.0].map(|share| percentile(&self.took_ms, share));
        write!(
            f,
            "accepted after the return {:>7} of {:>9} checks, unavailable {:>8}; revoke p50 {p50:.1} ms, longest {longest:.1} ms",
            self.wrong, self.after, self.unavailable
        )
    }
}

/// Half of the keys are revoked in health, half while the victim is cut off, which it stays until
/// its gate must have shut, if it has one.
fn under_load(way: &dyn Way, keys: usize, victim: &[Proxy], freshness: Duration) -> [Counts; 2] {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap();
    let returned: Vec<_> = (0..keys).map(|_| AtomicU64::new(u64::MAX)).collect();
    let (is_cut_off, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let tally: [[AtomicUsize; 3]; 2] = Default::default();
    let hammer = |replica: usize| {
        while !is_done.load(SeqCst) {
            let tally = &tally[usize::from(is_cut_off.load(SeqCst))];
            for (key, returned) in returned.iter().enumerate() {
                let start = now();
                let answer = way.check(replica, key);
                let is_after = start > returned.load(SeqCst);
                for (count, counts) in
                    tally.iter().zip([is_after, is_after && answer == Some(true), answer.is_none()])
                {
                    count.fetch_add(counts.into(), SeqCst);
                }
            }
            // Leaves the processors to etcd and to the replicas.
            thread::sleep(Duration::from_micros(500));
        }
    };
    let mut counts: [Counts; 2] = Default::default();
    thread::scope(|scope| {
        (0..REPLICAS).for_each(|replica| drop(scope.spawn(move || hammer(replica))));
        for key in 0..keys {
            if key == keys / 2 {
                victim.iter().for_each(Proxy::swallow);
                is_cut_off.store(true, SeqCst);
            }
            let start = Instant::now();
            way.revoke(key);
            returned[key].store(now(), SeqCst);
            let took = start.elapsed().as_secs_f64() * 1e3;
            counts[usize::from(key >= keys / 2)].took_ms.push(took);
        }
        thread::sleep(freshness);
        is_done.store(true, SeqCst);
    });
    victim.iter().for_each(Proxy::pass);
    for (counts, tally) in counts.iter_mut().zip(&tally) {
        counts.took_ms.sort_by(f64::total_cmp);
        [counts.after, counts.wrong, counts.unavailable] =
            [0, 1, 2].map(|place| tally[place].load(SeqCst));
    }
    counts
}
