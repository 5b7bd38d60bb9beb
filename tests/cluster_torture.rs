//! Several replicas of one store under torture: `support/torture.rs` says what is done to them.
//!
//! The short form is for each change; the long one:
//!
//! ```text
//! PORTCULLIS_TORTURE_SECONDS=1800 cargo test --release --features server,cluster --test cluster_torture -- --nocapture
//! ```

#![allow(clippy::similar_names, clippy::unwrap_used, reason = "a test fails by it")]

#[path = "support/chance.rs"]
mod chance;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/torture.rs"]
mod harness;
#[path = "support/proxy.rs"]
mod proxy;

use etcd::Etcd;
use harness::{Subject, Validation, be_a_replica, torture};
use portcullis::{
    Expiry, Grant, Metadata, NewKey, Refusal, Store,
    cluster::{self, Replica},
};
use std::time::Duration;

/// As long as the torture lets a replica be cut off, and longer.
const STALE: Duration = Duration::from_mins(1);

/// A replica of the store.
#[derive(Clone)]
struct Process(Store);

impl Subject for Process {
    fn open(urls: &str, plant: &str) -> Result<Self, String> {
        let etcd = cluster::Etcd::at(urls.split(',')).unwrap();
        let mut replica = Replica::named(format!("process {}", std::process::id()));
        if plant == "believes an old proof" {
            replica = replica.freshness(STALE);
        }
        let store = Store::builder().open_cluster(&etcd, replica);
        store.map(Self).map_err(|error| error.to_string())
    }

    fn validate(&self, key: &str) -> Validation {
        match self.0.authenticate_key(key.as_bytes()) {
            Ok(_) => Validation::Accepted,
            Err(Refusal::Unavailable) => Validation::Unavailable,
            Err(_) => Validation::Refused,
        }
    }

    fn issue(&self, name: &str) -> Result<(String, String), String> {
        let new = NewKey {
            name: name.into(),
            grant: Grant::Scopes(self.0.scopes(["api.read"]).unwrap()),
            active: true,
            expiry: Expiry::Never,
            owner: None,
            metadata: Metadata::new(),
        };
        let issued = self.0.issue(new).map_err(|error| error.to_string())?;
        let id = issued.record.id.to_string();
        Ok((id, issued.secret.reveal(str::to_owned)))
    }

    fn revoke(&self, id: &str) -> Result<(usize, usize), String> {
        let revoked = self.0.revoke_everywhere(id.parse().unwrap());
        let (_, settled) = revoked.map_err(|error| error.to_string())?;
        Ok((settled.acknowledged, settled.waited_out))
    }

    fn leave(self) {}
}

/// An etcd with an empty store in it.
fn engine() -> Option<Etcd> {
    let etcd = Etcd::start(3)?;
    let nodes = cluster::Etcd::at(etcd.urls()).unwrap();
    Store::builder().create_cluster(&nodes, Replica::named("maker")).unwrap();
    Some(etcd)
}

#[test]
fn no_replica_accepts_a_revoked_key_under_torture() {
    be_a_replica::<Process>();
    let Some(etcd) = engine() else { return };
    let seconds = chance::number("PORTCULLIS_TORTURE_SECONDS", 60);
    let wrong = torture(etcd, seconds, "no_replica_accepts_a_revoked_key_under_torture", "");
    assert_eq!(wrong, 0, "a revoked key was accepted");
}

/// What the torture is worth: it notices a replica whose gate does not shut in time.
#[test]
#[ignore = "it takes the processors from the other; run it by its name"]
fn the_torture_notices_a_gate_that_does_not_shut() {
    be_a_replica::<Process>();
    let Some(etcd) = engine() else { return };
    let seconds = chance::number("PORTCULLIS_TORTURE_SECONDS", 60).min(120);
    let test = "the_torture_notices_a_gate_that_does_not_shut";
    let wrong = torture(etcd, seconds, test, "believes an old proof");
    assert!(wrong > 0, "a replica that answered without a proof was not noticed");
}
