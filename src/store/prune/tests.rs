//! A prune that was planned before a longer prune was applied: the audit start must not move back.

use super::Planning;
use crate::{
    Actor, Expiry, NewKey, Store, Timestamp,
    audit::Attempt,
    cluster::{
        Replica,
        sim::{Rng, link::Link, memory::Memory},
    },
    scope::catalogue::financial_data,
};
use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

#[test]
fn prune_after_a_longer_prune_changes_nothing() {
    let memory = Memory::new();
    let replica = || {
        let link = Link::new(Arc::clone(&memory), Rng::new(1), Arc::default()).in_real_time();
        Store::builder().scopes(financial_data()).cluster(link, Replica::named("a")).unwrap()
    };
    let (one, two) = (replica(), replica());
    let issue = |name: &str| {
        let issued = one.issue(NewKey::new(name, one.scopes(["api.read"]).unwrap(), Expiry::Never));
        issued.unwrap().record.created_at.as_secs()
    };
    let day = 86_400;
    let first = issue("a");
    one.writer.clock.advance(Timestamp::from_secs(first + 3 * day));
    let second = issue("b");
    one.writer.clock.advance(Timestamp::from_secs(second + 9 * day));

    // Planned on the second replica. A longer prune on the first replica commits before it.
    let short = Timestamp::from_secs(first + day);
    let place = two.writer.ledger.prune_point(short, two.writer.catalogue()).unwrap().unwrap();
    let longer = Timestamp::from_secs(second + day);
    let pruned = one.acting_as(Actor::Host).prune_audit(longer).unwrap().unwrap();
    assert!(place.through < pruned.through);
    let start = Instant::now();
    while two.writer.ledger.audit_start().through < pruned.through {
        assert!(start.elapsed() < Duration::from_mins(1), "the other does not follow");
        sleep(Duration::from_millis(10));
    }
    let caller = two.acting_as(Actor::Host).caller();
    let planning = Planning::begin(caller, Attempt::Prune, None).unwrap();
    assert_eq!(planning.prune(place).unwrap(), None);
    assert_eq!(two.audit(0, 100).unwrap()[0].sequence, pruned.through + 1);
}
