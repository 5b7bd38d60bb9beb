//! Hostile clients attack the running program. Meanwhile a client with a valid key authenticates, an
//! administrator issues and revokes keys, and a probe checks readiness, each from its own address. None
//! of the three may fail.
//!
//! The short form checks failures, memory and open connections after the attack. The long form
//! (`PORTCULLIS_ABUSE_SECONDS=20`) also compares the latency of the valid client with that before the
//! attack. On a busy host a short measurement would be noise.

mod attacks;
mod wire;
mod witness;

use attacks::{ATTACKS, Attacker};
use portcullis::{Grant, Metadata};
use portcullis_testkit::serving::Home;
use portcullis_testkit::{issue, new_key, number};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{scope, sleep},
    time::{Duration, Instant},
};
use wire::Target;
use witness::{Seen, administrator, client, connections, peak_mib, probe};

/// The limit on the memory of the server, with two cores and default options.
const MAX_MIB: u64 = 256;
const RELEASE_TIMEOUT: Duration = Duration::from_secs(15);
/// Refused acts in the audit log: repetitions of one within a minute are one entry.
const MAX_REFUSALS: usize = 10;
const MAX_P99: Duration = Duration::from_millis(100);
const SHORT_SECONDS: usize = 2;
/// Connections of the largest attacks: more than the server allows.
const CONNECTIONS: usize = 1000;
/// An unoptimised build takes ten times as long for a response.
const SHORT_CONNECTIONS: usize = 100;
/// Attacks that hold their connections in the short form; the others close them.
const HELD_IN_THE_SHORT_FORM: [&str; 2] = [attacks::EXPORTS, attacks::LISTS];

/// The keys of one attack.
struct Keys {
    valid: String,
    administrator: String,
    reader: String,
    lister: String,
}

/// Creates a store with these keys and enough others with long records, so that a page or an export is
/// large.
fn create_store(home: &Home) -> Keys {
    let store = portcullis_testkit::builder().open(home.data()).unwrap();
    let key = |name: &str, scopes: &[&str]| {
        String::from_utf8(issue(&store, new_key(&store, name, scopes)).1).unwrap()
    };
    let root = new_key(&store, "root", &[]).with_grant(Grant::All);
    issue(&store, root);
    let administrator = ["admin.key.create", "admin.key.update", "admin.key.list", "api.read"];
    let keys = Keys {
        valid: key("valid", &["api.read"]),
        administrator: key("administrator", &administrator),
        reader: key("reader", &["api.read"]),
        lister: key("lister", &["admin.key.list"]),
    };
    let metadata: Metadata = (0..4).map(|n| (format!("note-{n}"), "n".repeat(250))).collect();
    scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..50 {
                    let new = new_key(&store, &"long ".repeat(20), &["api.read"])
                        .with_metadata(metadata.clone());
                    store.issue(new).unwrap();
                }
            });
        }
    });
    keys
}

/// The measurements of the three valid clients.
struct Measurements {
    client: Seen,
    administrator: Seen,
    probe: Seen,
}

impl Measurements {
    fn failures(&self) -> Vec<&String> {
        [&self.client, &self.administrator, &self.probe]
            .into_iter()
            .flat_map(|seen| &seen.failed)
            .collect()
    }
}

/// Runs the three valid clients while `attack` runs.
fn witness(target: &Target, keys: &Keys, attack: impl FnOnce()) -> Measurements {
    let over = AtomicBool::new(false);
    scope(|threads| {
        let client = threads.spawn(|| client(target, &keys.valid, &over));
        let administrator = threads.spawn(|| administrator(target, &keys.administrator, &over));
        let probe = threads.spawn(|| probe(target, &over));
        attack();
        over.store(true, Relaxed);
        Measurements {
            client: client.join().unwrap(),
            administrator: administrator.join().unwrap(),
            probe: probe.join().unwrap(),
        }
    })
}

/// Waits until no more connections are open than before. Returns how long that took.
fn free_again(target: &Target, before: usize) -> Duration {
    let ended = Instant::now();
    while connections(target.port()) > before && ended.elapsed() < 4 * RELEASE_TIMEOUT {
        sleep(Duration::from_millis(20));
    }
    ended.elapsed()
}

#[test]
fn hostile_clients_do_not_disturb_valid_clients() {
    let seconds = number("PORTCULLIS_ABUSE_SECONDS", SHORT_SECONDS);
    let is_long = seconds > SHORT_SECONDS;
    let calm_time = Duration::from_millis(if is_long { 3000 } else { 500 });
    let chosen = std::env::var("PORTCULLIS_ABUSE_ATTACK").unwrap_or_default();
    let mut found = Vec::new();
    for (name, attack) in ATTACKS.iter().filter(|(name, _)| name.contains(&chosen)) {
        let home = Home::new();
        let keys = create_store(&home);
        let server = home.serve(&[]);
        let target =
            Target::new(server.address().parse().unwrap(), &home.data().join("tls/cert.pem"));
        let calm = witness(&target, &keys, || sleep(calm_time));
        assert!(calm.failures().is_empty(), "{name}, before it began: {:?}", calm.failures());
        let before = connections(target.port());
        let (over, gone) = (AtomicBool::new(false), AtomicBool::new(false));
        let attacker = Attacker {
            target: &target,
            reader: &keys.reader,
            lister: &keys.lister,
            connections: if is_long { CONNECTIONS } else { SHORT_CONNECTIONS },
            over: &over,
            gone: &gone,
        };
        let (seen, release) = scope(|threads| {
            threads.spawn(|| attack(&attacker));
            // The attack is running when the witnesses start.
            sleep(Duration::from_secs(1));
            let time = Duration::from_secs(seconds as u64);
            let seen = witness(&target, &keys, || sleep(time));
            over.store(true, Relaxed);
            // The attacker sends nothing more and waits for the server to close.
            gone.store(!is_long && !HELD_IN_THE_SHORT_FORM.contains(name), Relaxed);
            let release = free_again(&target, before);
            gone.store(true, Relaxed);
            (seen, release)
        });
        let mib = peak_mib(server.id());
        let (calm, p99) = (calm.client.p99(), seen.client.p99());
        let failures = seen.failures();
        println!(
            "{name}: {} requests of valid clients, {} failed, p99 {p99:.1?} ({calm:.1?} before), {mib} MiB, free again after {release:.1?}",
            seen.client.took.len() + seen.administrator.took.len() + seen.probe.took.len(),
            failures.len(),
        );
        if let Some(first) = failures.first() {
            found.push(format!("{name}: {} failed, the first: {first}", failures.len()));
        }
        if mib > MAX_MIB {
            found.push(format!("{name}: {mib} MiB"));
        }
        // In the short form a busy host can exceed the send timeout.
        if release > if is_long { RELEASE_TIMEOUT } else { 3 * RELEASE_TIMEOUT } {
            found.push(format!("{name}: not free again after {release:?}"));
        }
        if is_long && (p99 > MAX_P99 || p99 > 10 * calm) {
            found.push(format!("{name}: p99 {p99:?}, {calm:?} without it"));
        }
        if !server.stop().success() {
            found.push(format!("{name}: the server did not exit with success"));
        }
        let entries =
            portcullis_testkit::builder().open(home.data()).unwrap().audit(0, usize::MAX).unwrap();
        let refused = entries.iter().filter(|entry| entry.act.as_str() == "refuse").count();
        if refused > MAX_REFUSALS {
            found.push(format!("{name}: {refused} refused acts in the audit log"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
