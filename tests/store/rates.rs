//! Rates of keys: how many requests a key may make, and who may raise a rate.

use portcullis::{
    Actor, Change, Error, Expiry, Grant, NewKey, Rate, Refusal, Store, audit::Act, error::Forbidden,
};
use portcullis_testkit::{basic, builder, home, issue, new_key};
use std::time::Duration;

fn rate(requests: u32, seconds: u32) -> Rate {
    Rate::new(requests, seconds).unwrap()
}

/// How many of ten requests are allowed.
fn allowed(store: &Store, key: &[u8]) -> usize {
    (0..10).filter(|_| store.authenticate_key(key).is_ok()).count()
}

#[test]
fn key_makes_the_requests_of_its_rate_in_every_form_and_no_more() {
    let store = builder().in_memory().unwrap();
    let (_, key) = issue(&store, new_key(&store, "a", &["api.read"]).with_rate(rate(5, 3600)));
    let header = basic(&key);
    let values = || [&header].into_iter();
    let none = || std::iter::empty::<&str>();
    let (_, handle) = store.authenticate_with_handle(&key).unwrap();
    assert!(store.authenticate_key(&key).is_ok());
    assert!(store.authenticate(values()).is_ok());
    assert!(store.authenticate_header(header.as_bytes()).is_ok());
    assert!(store.authenticate_request_from(values(), none(), None).is_ok());
    for limited in [store.authenticate_key(&key), store.authenticate(values())] {
        let limited = limited.unwrap_err();
        // Some of the 720 s may have passed.
        let is_due = |seconds: u32| (600..=720).contains(&seconds);
        assert!(
            matches!(limited, Refusal::RateLimited { rate: of, retry_after } if of == rate(5, 3600) && is_due(retry_after))
        );
        assert_eq!(limited.status(), 429);
    }
    // A session and another service's question are no requests of the key.
    assert!(store.authenticate_again(&handle).is_ok() && store.verify_key(&key, None).is_ok());
}

#[test]
fn rate_survives_reopen_and_rotation_and_is_in_the_audit_log() {
    let (_dir, home) = home();
    let store = builder().open(&home).unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]).with_rate(rate(2, 3600)));
    assert_eq!(allowed(&store, &key), 2);
    drop(store);
    let store = builder().open(&home).unwrap();
    assert_eq!(store.get(id).unwrap().rate, Some(rate(2, 3600)));
    assert_eq!(allowed(&store, &key), 2, "a process counts its own requests");
    let successor = store.rotate(id, Duration::from_hours(1)).unwrap();
    assert_eq!(successor.record.rate, Some(rate(2, 3600)));
    let successor = successor.secret.reveal(|text| text.as_bytes().to_vec());
    assert_eq!((allowed(&store, &key), allowed(&store, &successor)), (0, 2));
    store.update(id, Change::default().with_rate(rate(3, 3600))).unwrap();
    store.update(id, Change::default().without_rate()).unwrap();
    assert_eq!(allowed(&store, &key), 10);
    let entries = store.audit(0, 20).unwrap().into_iter();
    let changes: Vec<_> = entries
        .filter(|entry| matches!(entry.act, Act::Create | Act::Update))
        .map(|entry| (entry.before.rate, entry.after.rate))
        .collect();
    let [two, three] = [Some(Some(rate(2, 3600))), Some(Some(rate(3, 3600)))];
    assert_eq!(changes[changes.len() - 3..], [(None, two), (two, three), (three, Some(None))]);
}

#[test]
fn revoked_key_begins_anew_when_it_is_reactivated() {
    let store = builder().in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]).with_rate(rate(2, 3600)));
    assert_eq!(allowed(&store, &key), 2);
    store.update(id, Change::default().with_name("b")).unwrap();
    assert_eq!(allowed(&store, &key), 0);
    store.revoke(id).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    store.update(id, Change::activate()).unwrap();
    assert_eq!(allowed(&store, &key), 2);
}

#[test]
fn maker_with_a_rate_grants_no_higher_one_and_does_not_raise_its_own() {
    let store = builder().in_memory().unwrap();
    let names = ["admin.key.create", "admin.key.update", "api.read"];
    let (maker, _) = issue(&store, new_key(&store, "maker", &names).with_rate(rate(100, 60)));
    let acting = store.acting_as(Actor::Key(maker));
    let new = || new_key(&store, "made", &["api.read"]);
    let exceeds = |error: Error| matches!(error, Error::Forbidden(Forbidden::ExceedsRate));
    assert!(exceeds(acting.issue(new()).unwrap_err()));
    assert!(exceeds(acting.update(maker, Change::default().without_rate()).unwrap_err()));
    for higher in [rate(101, 60), rate(100, 59), rate(200, 120), rate(2, 1)] {
        assert!(exceeds(acting.issue(new().with_rate(higher)).unwrap_err()), "{higher}");
        assert!(exceeds(acting.update(maker, Change::default().with_rate(higher)).unwrap_err()));
    }
    for lower in [rate(100, 60), rate(1, 1), rate(100, 61)] {
        let id = acting.issue(new().with_rate(lower)).unwrap().record.id;
        assert!(acting.rotate(id, Duration::ZERO).is_ok());
    }
    acting.update(maker, Change::default().with_rate(rate(50, 60))).unwrap();
    // A root key with a rate is not one that always works.
    let (root, _) = issue(&store, NewKey::new("root", Grant::All, Expiry::Never));
    let limited = store.update(root, Change::default().with_rate(rate(1, 1)));
    assert!(matches!(limited, Err(Error::LastRoot(_))));
}
