//! A cut that was planned before another one was known: the floor must not fall.

use super::Planning;
use crate::{
    Actor, Attempt, Expiry, Grant, Metadata, NewKey, Store, Timestamp,
    cluster::{
        Replica,
        sim::{Dice, link::Link, memory::Memory},
    },
};
use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

#[test]
fn a_cut_that_comes_after_a_longer_one_changes_nothing() {
    let memory = Memory::new();
    let replica = || {
        let link = Link::new(Arc::clone(&memory), Dice::new(1), Arc::default()).in_real_time();
        Store::builder().cluster(link, Replica::named("a")).unwrap()
    };
    let (one, two) = (replica(), replica());
    let issue = |name: &str| {
        let issued = one.issue(NewKey {
            name: name.into(),
            grant: Grant::Scopes(one.scopes(["api.read"]).unwrap()),
            active: true,
            expiry: Expiry::Never,
            owner: None,
            metadata: Metadata::new(),
        });
        issued.unwrap().record.created_at.as_secs()
    };
    let day = 86_400;
    let first = issue("a");
    one.writer.clock.advance(Timestamp::from_secs(first + 3 * day));
    let second = issue("b");
    one.writer.clock.advance(Timestamp::from_secs(second + 9 * day));

    // Planned on the second replica, and overtaken by a longer cut on the first.
    let short = Timestamp::from_secs(first + day);
    let place = two.writer.ledger.prune_point(short, two.writer.catalogue()).unwrap().unwrap();
    let longer = Timestamp::from_secs(second + day);
    let cut = one.acting_as(Actor::Host, None).prune_audit(longer).unwrap().unwrap();
    assert!(place.through < cut.through);
    let start = Instant::now();
    while two.writer.ledger.audit_start().through < cut.through {
        assert!(start.elapsed() < Duration::from_mins(1), "the other does not follow");
        sleep(Duration::from_millis(10));
    }
    let caller = two.acting_as(Actor::Host, None).caller();
    let planning = Planning::begin(caller, Attempt::Prune, None).unwrap();
    assert_eq!(planning.prune(place).unwrap(), None);
    assert_eq!(two.audit(0, 100).unwrap()[0].sequence, cut.through + 1);
}
