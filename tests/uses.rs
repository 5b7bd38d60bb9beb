//! When a key was last used, through the public API and over reopenings.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

mod support;

use portcullis::{Expiry, Refusal, Store, Timestamp};
use std::time::{Duration, SystemTime};
use support::{home, issue, new_key};

#[test]
fn the_last_use_is_the_minute_of_it_and_survives_a_close() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let (id, key) = issue(&store, new_key(&store, "till", &["api.read"]));
    let (unused, _) = issue(&store, new_key(&store, "spare", &["api.read"]));
    assert_eq!(store.last_used(id), None);
    store.authenticate_key(&key).unwrap();
    let used = store.last_used(id).unwrap();
    let now = Timestamp::from(SystemTime::now());
    assert!(
        used <= now && now.as_secs() - used.as_secs() < 121 && used.as_secs().is_multiple_of(60)
    );
    let entries = store.audit(0, 99).unwrap().len();
    drop(store);

    let store = Store::open(&home).unwrap();
    assert_eq!((store.last_used(id), store.last_used(unused)), (Some(used), None));
    assert_eq!(store.audit(0, 99).unwrap().len(), entries, "a use is no change");
    store.revoke(id).unwrap();
    assert_eq!(store.last_used(id), Some(used), "a change alters no use");
    store.delete(id).unwrap();
    assert_eq!(store.last_used(id), None);
    drop(store);
    assert_eq!(Store::open(&home).unwrap().last_used(id), None);
}

#[test]
fn a_key_that_is_refused_was_not_used() {
    let store = Store::in_memory().unwrap();
    let mut new = new_key(&store, "short", &["api.read"]);
    new.expiry = Expiry::At(Timestamp::from_secs(1_000_000));
    let (expired, key) = issue(&store, new);
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Expired);
    let (revoked, key) = issue(&store, new_key(&store, "off", &["api.read"]));
    store.revoke(revoked).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    assert_eq!((store.last_used(expired), store.last_used(revoked)), (None, None));
}

#[test]
fn a_key_that_takes_the_place_of_another_is_unused() {
    let store = Store::in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "till", &["api.read"]));
    store.authenticate_key(&key).unwrap();
    let new = store.rotate(id, Duration::from_mins(1)).unwrap();
    assert_eq!(store.last_used(new.record.id), None);
    assert!(store.last_used(id).is_some());
}
