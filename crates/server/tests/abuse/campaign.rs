//! Hostile clients attack the running program while a client with a valid key authenticates, an
//! administrator issues and revokes keys, and a probe asks for readiness, each from an address of
//! its own. None of the three may notice.
//!
//! The short form counts failures, memory and what is left after the attack. The long form
//! (`PORTCULLIS_ABUSE_SECONDS=20`) also holds the latency of the valid client against that without
//! an attack, which a busy machine would decide in a short one.

mod attacks;
mod wire;
mod witness;

use attacks::{ATTACKS, Attacker};
use portcullis::{Grant, Metadata, NewKey, Store};
use portcullis_testkit::serving::Home;
use portcullis_testkit::{issue, new_key, number};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{scope, sleep},
    time::{Duration, Instant},
};
use wire::Target;
use witness::{Seen, administrator, client, connections, peak_mib, probe};

/// Two cores, default options.
const MOST_MIB: u64 = 256;
const RELEASE: Duration = Duration::from_secs(15);
/// Refused acts in the audit log: repetitions of one within a minute are one entry.
const MOST_REFUSALS: usize = 10;
const GREATEST_P99: Duration = Duration::from_millis(100);
const SHORT: usize = 2;
/// Connections of the greatest attacks: as many as the server allows in all, and some more.
const CONNECTIONS: usize = 1000;
/// An unoptimised build takes ten times as long for an answer.
const SHORT_CONNECTIONS: usize = 100;
/// In the short form the others close their connections by themselves.
const HELD_IN_THE_SHORT_FORM: [&str; 2] = [attacks::EXPORTS, attacks::LISTS];

/// The keys of one scene.
struct Keys {
    valid: String,
    administrator: String,
    reader: String,
    lister: String,
}

/// A store with the scene's keys, and enough others with long records that a page or an export of
/// them is large.
fn furnish(home: &Home) -> Keys {
    let store = Store::open(home.data()).unwrap();
    let key = |name: &str, scopes: &[&str]| {
        String::from_utf8(issue(&store, new_key(&store, name, scopes)).1).unwrap()
    };
    let root = NewKey { grant: Grant::All, ..new_key(&store, "root", &[]) };
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
                    let new = NewKey {
                        metadata: metadata.clone(),
                        ..new_key(&store, &"long ".repeat(20), &["api.read"])
                    };
                    store.issue(new).unwrap();
                }
            });
        }
    });
    keys
}

/// What the three witnesses saw.
struct Witnessed {
    client: Seen,
    administrator: Seen,
    probe: Seen,
}

impl Witnessed {
    fn failures(&self) -> Vec<&String> {
        [&self.client, &self.administrator, &self.probe]
            .into_iter()
            .flat_map(|seen| &seen.failed)
            .collect()
    }
}

/// Lets the witnesses work while `attack` runs.
fn witness(target: &Target, keys: &Keys, attack: impl FnOnce()) -> Witnessed {
    let over = AtomicBool::new(false);
    scope(|threads| {
        let client = threads.spawn(|| client(target, &keys.valid, &over));
        let administrator = threads.spawn(|| administrator(target, &keys.administrator, &over));
        let probe = threads.spawn(|| probe(target, &over));
        attack();
        over.store(true, Relaxed);
        Witnessed {
            client: client.join().unwrap(),
            administrator: administrator.join().unwrap(),
            probe: probe.join().unwrap(),
        }
    })
}

/// How long it took until no more connections are open than before.
fn free_again(target: &Target, before: usize) -> Duration {
    let ended = Instant::now();
    while connections(target.port()) > before && ended.elapsed() < 4 * RELEASE {
        sleep(Duration::from_millis(20));
    }
    ended.elapsed()
}

#[test]
fn hostile_clients_disturb_no_valid_client() {
    let seconds = number("PORTCULLIS_ABUSE_SECONDS", SHORT);
    let is_long = seconds > SHORT;
    let calm_time = Duration::from_millis(if is_long { 3000 } else { 500 });
    let chosen = std::env::var("PORTCULLIS_ABUSE_ATTACK").unwrap_or_default();
    let mut found = Vec::new();
    for (name, attack) in ATTACKS.iter().filter(|(name, _)| name.contains(&chosen)) {
        let home = Home::new();
        let keys = furnish(&home);
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
            // The attack is under way when the witnesses begin.
            sleep(Duration::from_secs(1));
            let time = Duration::from_secs(seconds as u64);
            let seen = witness(&target, &keys, || sleep(time));
            over.store(true, Relaxed);
            // The attacker says nothing more, and leaves it to the server to close.
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
        if mib > MOST_MIB {
            found.push(format!("{name}: {mib} MiB"));
        }
        // A busy machine decides how much longer than the send timeout it takes in the short form.
        if release > if is_long { RELEASE } else { 3 * RELEASE } {
            found.push(format!("{name}: not free again after {release:?}"));
        }
        if is_long && (p99 > GREATEST_P99 || p99 > 10 * calm) {
            found.push(format!("{name}: p99 {p99:?}, {calm:?} without it"));
        }
        if !server.stop().success() {
            found.push(format!("{name}: the server did not end well"));
        }
        let entries = Store::open(home.data()).unwrap().audit(0, usize::MAX).unwrap();
        let refused = entries.iter().filter(|entry| entry.act.as_str() == "refuse").count();
        if refused > MOST_REFUSALS {
            found.push(format!("{name}: {refused} refused acts in the audit log"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
