//! Networks of keys: where a key can be used from, and who may widen them.

use portcullis::{
    Actor, Change, Error, Expiry, Grant, KeyId, Network, Networks, NewKey, Refusal, Store,
    audit::Act, error::Field, error::Forbidden,
};
use portcullis_testkit::{basic, builder, home, issue, new_key, scopes};
use std::{net::IpAddr, time::Duration};

fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn from(store: &Store, key: &[u8], text: &str) -> Result<KeyId, Refusal> {
    store.authenticate_key_from(key, address(text)).map(|principal| principal.id())
}

#[test]
fn key_with_networks_is_refused_from_elsewhere_in_every_form() {
    let store = builder().in_memory().unwrap();
    let new = new_key(&store, "till", &["api.read"]).with_networks(networks(&["192.0.2.0/24"]));
    let (id, key) = issue(&store, new);
    let header = basic(&key);
    let values = || [&header].into_iter();
    let none = || std::iter::empty::<&str>();
    let (here, elsewhere) = (address("192.0.2.7"), address("198.51.100.7"));
    let (_, handle) = store.authenticate_with_handle_from(&key, here).unwrap();
    let forms = |address| {
        [
            store.authenticate_key_from(&key, address),
            store.authenticate_from(values(), address),
            store.authenticate_request_from(values(), none(), address),
            store.authenticate_with_handle_from(&key, address).map(|(principal, _)| principal),
            store.authenticate_again_from(&handle, address),
        ]
    };
    assert!(forms(here).into_iter().all(|form| form.is_ok_and(|principal| principal.id() == id)));
    let refused = forms(elsewhere).into_iter().chain(forms(None)).chain([
        store.authenticate_key(&key),
        store.authenticate(values()),
        store.authenticate_header(header.as_bytes()),
        store.authenticate_request(values(), none()),
        store.authenticate_with_handle(&key).map(|(principal, _)| principal),
        store.authenticate_again(&handle),
    ]);
    for form in refused {
        assert_eq!(form.unwrap_err(), Refusal::Network);
    }
    assert_eq!(Refusal::Network.status(), 401);
}

#[test]
fn networks_survive_reopen_rotation_and_backup_and_are_in_the_audit_log() {
    let (_dir, home) = home();
    let store = builder().open(&home).unwrap();
    let some = networks(&["192.0.2.0/24", "2001:db8::/32"]);
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]).with_networks(some.clone()));
    let (plain, plain_key) = issue(&store, new_key(&store, "b", &["api.read"]));
    let narrowed = networks(&["192.0.2.128/25"]);
    store.update(plain, Change::default().with_networks(narrowed.clone())).unwrap();
    store.update(plain, Change::default().with_networks(Networks::ANY)).unwrap();
    drop(store);

    let store = builder().open(&home).unwrap();
    assert_eq!(store.get(id).unwrap().networks, some);
    assert!(from(&store, &key, "2001:db8::1").is_ok());
    assert_eq!(from(&store, &key, "198.51.100.7"), Err(Refusal::Network));
    assert!(store.authenticate_key(&plain_key).is_ok());
    let successor = store.rotate(id, Duration::from_hours(1)).unwrap();
    assert_eq!(successor.record.networks, some);
    let successor = successor.secret.reveal(|text| text.as_bytes().to_vec());
    assert_eq!(from(&store, &successor, "198.51.100.7"), Err(Refusal::Network));
    assert!(
        from(&store, &successor, "192.0.2.1").is_ok() && from(&store, &key, "192.0.2.1").is_ok()
    );

    let changes: Vec<_> = store
        .audit(0, 20)
        .unwrap()
        .into_iter()
        .filter(|entry| matches!(entry.act, Act::Create | Act::Update))
        .map(|entry| (entry.before.networks, entry.after.networks))
        .collect();
    let none = Networks::ANY;
    assert_eq!(
        changes[changes.len() - 4..],
        [
            (None, Some(some)),
            (None, None),
            (Some(none.clone()), Some(narrowed.clone())),
            (Some(narrowed), Some(none)),
        ]
    );
}

#[test]
fn removed_network_is_refused_at_once_and_a_watch_ends() {
    let store = builder().in_memory().unwrap();
    let both = networks(&["192.0.2.0/24", "198.51.100.0/24"]);
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]).with_networks(both));
    let watch = |text: &str| {
        let principal = store.authenticate_key_from(&key, address(text)).unwrap();
        store.revocation(&principal)
    };
    let (kept, removed) = (watch("192.0.2.1"), watch("198.51.100.1"));
    store.update(id, Change::default().with_networks(networks(&["192.0.2.0/25"]))).unwrap();
    assert_eq!((kept.is_over(), removed.is_over()), (false, true));
    assert_eq!(from(&store, &key, "198.51.100.1"), Err(Refusal::Network));
    // The address of a key without networks is not kept.
    store.update(id, Change::default().with_networks(Networks::ANY)).unwrap();
    let unbound = watch("192.0.2.1");
    store.update(id, Change::default().with_networks(networks(&["192.0.2.0/25"]))).unwrap();
    assert_eq!((kept.is_over(), unbound.is_over()), (false, true));
}

#[test]
fn maker_with_networks_grants_no_wider_ones_and_does_not_widen_its_own() {
    let store = builder().in_memory().unwrap();
    let names = ["admin.key.create", "admin.key.update", "api.read"];
    let own = networks(&["192.0.2.0/24"]);
    let (maker, _) = issue(&store, new_key(&store, "maker", &names).with_networks(own.clone()));
    let (other, _) = issue(&store, new_key(&store, "other", &["api.read"]));
    let acting = store.acting_as(Actor::Key(maker)).with_address("192.0.2.1".parse().unwrap());
    let exceeds = |error: Error| matches!(error, Error::Forbidden(Forbidden::ExceedsNetworks));
    let new = |networks| new_key(&store, "made", &["api.read"]).with_networks(networks);
    for wider in [Networks::ANY, networks(&["192.0.0.0/16"]), networks(&["192.0.2.0/25", "::1"])] {
        assert!(exceeds(acting.issue(new(wider.clone())).unwrap_err()));
        let change = Change::default().with_networks(wider);
        assert!(exceeds(acting.update(maker, change).unwrap_err()));
    }
    // Another key with wider networks is neither loosened nor rotated, and narrowing it is allowed.
    assert!(exceeds(acting.rotate(other, Duration::ZERO).unwrap_err()));
    acting.update(other, Change::default().with_networks(networks(&["192.0.2.128/25"]))).unwrap();
    assert!(acting.update(other, Change::default().with_networks(own)).is_ok());
    assert!(acting.issue(new(networks(&["192.0.2.128/25"]))).is_ok());
    acting.update(maker, Change::default().with_networks(networks(&["192.0.2.0/28"]))).unwrap();
    // The acting key is checked again with the address of the act.
    let elsewhere = store.acting_as(Actor::Key(maker)).with_address("192.0.2.99".parse().unwrap());
    for refused in [elsewhere, store.acting_as(Actor::Key(maker))] {
        let refused = refused.revoke(other).unwrap_err();
        assert!(matches!(refused, Error::Forbidden(Forbidden::ActorRefused)));
    }
}

#[test]
fn last_root_cannot_be_bound_to_networks() {
    let store = builder().in_memory().unwrap();
    let (root, _) = issue(&store, NewKey::new("root", Grant::All, Expiry::Never));
    let bind = || store.update(root, Change::default().with_networks(networks(&["::1"])));
    assert!(matches!(bind(), Err(Error::LastRoot(_))));
    issue(&store, NewKey::new("other", Grant::All, Expiry::Never));
    assert!(bind().is_ok());
}

#[test]
fn key_has_at_most_16_networks() {
    let store = builder().in_memory().unwrap();
    let many = |count: u8| -> Networks {
        (0..count).map(|last| format!("192.0.2.{last}").parse::<Network>().unwrap()).collect()
    };
    let new = |count| {
        NewKey::new("a", scopes(&store, &["api.read"]), Expiry::Never).with_networks(many(count))
    };
    assert!(store.issue(new(16)).is_ok());
    assert!(matches!(store.issue(new(17)), Err(Error::Invalid { field: Field::Networks, .. })));
}
