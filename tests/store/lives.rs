//! The lives of keys, through the public API and over reopenings.

use portcullis::{
    Act, Actor, Attempt, Change, Error, Expiry, Grant, Idempotency, KeyId, ListQuery, NewKey,
    Outcome, Prefix, Refusal, Store, Timestamp, error::Field, error::Forbidden, scope::catalogue,
};
use portcullis_testkit::{basic, home, issue, new_key, scopes, surgery};
use std::time::{Duration, SystemTime};

#[test]
fn a_key_works_from_issue_to_revocation_and_again_after_activation() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let (id, key) = issue(&store, new_key(&store, "Nightly export", &["api.read"]));
    let principal = store.authenticate_key(&key).unwrap();
    assert_eq!(principal.id(), id);
    assert_eq!(principal.require(&catalogue::API_READ), Ok(()));
    assert_eq!(
        principal.require(&catalogue::API_WRITE),
        Err(Refusal::LacksScope(catalogue::API_WRITE))
    );
    assert!(!store.revoke(id).unwrap().active);
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    store.update(id, Change::activate()).unwrap();
    assert!(store.authenticate_key(&key).is_ok());
}

#[test]
fn every_state_survives_reopening() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let (on, on_key) = issue(&store, new_key(&store, "on", &["api.read"]));
    let (off, off_key) = issue(&store, new_key(&store, "off", &["api.read"]));
    let (gone, gone_key) = issue(&store, new_key(&store, "gone", &["api.read"]));
    store.revoke(off).unwrap();
    store.revoke(gone).unwrap();
    store.delete(gone).unwrap();
    let metadata = [("team".to_owned(), "blue".to_owned())].into();
    let change =
        Change { owner: Some(Some("shop".into())), metadata: Some(metadata), ..Change::default() };
    let changed = store.update(on, change).unwrap();
    drop(store);

    let store = Store::open(&home).unwrap();
    assert_eq!(store.get(on).unwrap(), changed);
    assert!(store.authenticate_key(&on_key).is_ok());
    assert_eq!(store.authenticate_key(&off_key).unwrap_err(), Refusal::Inactive);
    assert_eq!(store.authenticate_key(&gone_key).unwrap_err(), Refusal::Unknown);
    assert!(matches!(store.get(gone), Err(Error::NoSuchKey(id)) if id == gone));
}

#[test]
fn an_expired_key_is_refused() {
    let store = Store::in_memory().unwrap();
    let mut new = new_key(&store, "short", &["api.read"]);
    new.expiry = Expiry::At(Timestamp::from_secs(1_000_000));
    let (id, key) = issue(&store, new);
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Expired);
    store.update(id, Change { expiry: Some(Expiry::Never), ..Change::default() }).unwrap();
    assert!(store.authenticate_key(&key).is_ok());
}

#[test]
fn a_clock_that_is_set_back_between_two_runs_revives_no_expired_key() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let mut new = new_key(&store, "short", &["api.read"]);
    new.expiry = Expiry::At((SystemTime::now() + Duration::from_hours(1)).into());
    let (_, key) = issue(&store, new);
    assert!(store.authenticate_key(&key).is_ok());
    drop(store);

    // The wall clock is two hours behind the newest change now.
    surgery::shift(&home, 2);
    let store = Store::open(&home).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Expired);
}

#[test]
fn a_key_with_no_scopes_authenticates_and_may_do_nothing() {
    let store = Store::in_memory().unwrap();
    let (_, key) = issue(&store, new_key(&store, "bare", &[]));
    let principal = store.authenticate_key(&key).unwrap();
    for entry in store.catalogue().entries() {
        assert!(principal.require(&entry.scope).is_err());
    }
}

#[test]
fn the_header_walk_ends_at_the_same_decision() {
    let store = Store::in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "header", &["api.read"]));
    let header = basic(&key);
    assert_eq!(store.authenticate(header.as_bytes()).unwrap().id(), id);
    assert_eq!(store.authenticate_all([header.as_bytes()]).unwrap().id(), id);
    assert_eq!(store.authenticate_all([]).unwrap_err(), Refusal::Missing);
    assert_eq!(
        store.authenticate_all([header.as_bytes(), header.as_bytes()]).unwrap_err(),
        Refusal::Ambiguous
    );
    assert_eq!(store.authenticate(b"Bearer x").unwrap_err(), Refusal::Malformed);
}

#[test]
fn one_wrong_character_anywhere_is_an_unknown_key() {
    let store = Store::in_memory().unwrap();
    let (_, key) = issue(&store, new_key(&store, "exact", &["api.read"]));
    for at in 0..key.len() {
        let mut wrong = key.clone();
        wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
        assert_eq!(store.authenticate_key(&wrong).unwrap_err(), Refusal::Unknown, "{at}");
    }
    assert_eq!(store.authenticate_key(&key[..key.len() - 1]).unwrap_err(), Refusal::Unknown);
}

#[test]
fn only_an_inactive_key_is_deleted() {
    let store = Store::in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "busy", &["api.read"]));
    assert!(matches!(store.delete(id), Err(Error::StillActive(_))));
    assert!(store.authenticate_key(&key).is_ok());
    store.revoke(id).unwrap();
    store.delete(id).unwrap();
    assert!(matches!(store.update(id, Change::activate()), Err(Error::NoSuchKey(_))));
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Unknown);
}

#[test]
fn the_last_active_root_key_stays() {
    let store = Store::in_memory().unwrap();
    let root = |name: &str| NewKey { grant: Grant::All, ..new_key(&store, name, &[]) };
    let (first, _) = issue(&store, root("first"));
    let changes = [
        Change::deactivate(),
        Change { grant: Some(scopes(&store, &["api.read"])), ..Change::default() },
        Change {
            expiry: Some(Expiry::At(Timestamp::from_secs(9_000_000_000))),
            ..Change::default()
        },
    ];
    for change in &changes {
        assert!(
            matches!(store.update(first, change.clone()), Err(Error::LastRoot(id)) if id == first)
        );
    }
    issue(&store, root("second"));
    for change in changes {
        store.update(first, change).unwrap();
    }
}

#[test]
fn of_two_root_keys_one_may_go_after_reopening_and_the_other_stays() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let [first, second] = ["first", "second"]
        .map(|name| issue(&store, NewKey { grant: Grant::All, ..new_key(&store, name, &[]) }).0);
    drop(store);
    let store = Store::open(&home).unwrap();
    assert!(!store.revoke(first).unwrap().active);
    assert!(matches!(store.revoke(second), Err(Error::LastRoot(id)) if id == second));
}

#[test]
fn a_rotated_key_hands_all_but_its_secret_on_and_ends() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let end = Expiry::At(Timestamp::from_secs(9_000_000_000));
    let new = NewKey {
        expiry: end,
        owner: Some("shop".into()),
        metadata: [("team".into(), "blue".into())].into(),
        ..new_key(&store, "till", &["api.read"])
    };
    let (old, old_key) = issue(&store, new);
    let rotated = store.rotate(old, Duration::ZERO).unwrap();
    let (new, new_key) = (rotated.record.id, rotated.secret.reveal(|k| k.as_bytes().to_vec()));
    assert_eq!(store.authenticate_key(&old_key).unwrap_err(), Refusal::Inactive);
    assert_eq!(store.authenticate_key(&new_key).unwrap().id(), new);
    let (was, is) = (store.get(old).unwrap(), store.get(new).unwrap());
    assert_eq!((was.replaced_by, is.replaces, is.active), (Some(new), Some(old), true));
    assert_eq!(
        (&is.name, is.grant, is.expiry, &is.owner, &is.metadata),
        (&was.name, was.grant, end, &was.owner, &was.metadata)
    );
    let entry = store.audit(0, 100).unwrap().pop().unwrap();
    assert_eq!((entry.act, entry.key), (Act::Rotate { into: new }, Some(old)));
    assert_eq!((entry.before, entry.after), (Change::activate(), Change::deactivate()));
    drop(store);

    let store = Store::open(&home).unwrap();
    assert_eq!((store.get(old).unwrap(), store.get(new).unwrap()), (was, is));
    assert_eq!(store.authenticate_key(&old_key).unwrap_err(), Refusal::Inactive);
    assert_eq!(store.authenticate_key(&new_key).unwrap().id(), new);
}

#[test]
fn a_grace_keeps_the_old_key_alive_but_not_past_its_own_end() {
    let store = Store::in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "long", &["api.read"]));
    let made = store.rotate(id, Duration::from_hours(1)).unwrap().record;
    assert!(store.authenticate_key(&key).is_ok());
    let end = made.created_at.as_millis().div_ceil(1000) + 3600;
    assert_eq!(store.get(id).unwrap().expiry, Expiry::At(Timestamp::from_secs(end)));
    assert_eq!(made.expiry, Expiry::Never);
    let soon = Expiry::At(Timestamp::from_secs(made.created_at.as_secs() + 60));
    let (id, _) = issue(&store, NewKey { expiry: soon, ..new_key(&store, "short", &["api.read"]) });
    store.rotate(id, Duration::from_hours(1)).unwrap();
    assert_eq!(store.get(id).unwrap().expiry, soon);
    let (id, _) = issue(&store, new_key(&store, "greedy", &["api.read"]));
    let refused = store.rotate(id, Duration::from_hours(367 * 24));
    assert!(matches!(refused, Err(Error::Invalid { field: Field::Grace, .. })));
}

#[test]
fn only_a_key_that_works_is_rotated_and_once() {
    let store = Store::in_memory().unwrap();
    let why_not = |id| match store.rotate(id, Duration::from_mins(1)) {
        Err(Error::NotCurrent { state, .. }) => state,
        other => panic!("{other:?}"),
    };
    let (replaced, _) = issue(&store, new_key(&store, "a", &["api.read"]));
    store.rotate(replaced, Duration::from_mins(1)).unwrap();
    assert_eq!(why_not(replaced), "replaced already");
    let (off, _) = issue(&store, new_key(&store, "a", &["api.read"]));
    store.revoke(off).unwrap();
    assert_eq!(why_not(off), "inactive");
    let past = Expiry::At(Timestamp::from_secs(1_000_000));
    let (over, _) = issue(&store, NewKey { expiry: past, ..new_key(&store, "a", &[]) });
    assert_eq!(why_not(over), "expired");
    let nobody = "key_00000000000".parse().unwrap();
    assert!(matches!(store.rotate(nobody, Duration::ZERO), Err(Error::NoSuchKey(_))));
}

#[test]
fn the_last_root_key_is_rotated_on_the_machine() {
    let store = Store::in_memory().unwrap();
    let (first, key) = issue(&store, NewKey { grant: Grant::All, ..new_key(&store, "r", &[]) });
    let by_itself = store.acting_as(Actor::Key(first), None).rotate(first, Duration::ZERO);
    assert!(matches!(by_itself, Err(Error::Forbidden(Forbidden::RootIsLocal))));
    let second = store.rotate(first, Duration::ZERO).unwrap().record;
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    assert_eq!(second.grant, Grant::All);
    assert!(matches!(store.revoke(second.id), Err(Error::LastRoot(_))));
}

#[test]
fn the_longest_key_is_still_revoked_and_rotated() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let with_notes = |bytes: usize| {
        let note = |i: usize| (i.to_string(), "x".repeat(bytes.saturating_sub(i * 256).min(256)));
        NewKey { metadata: (0..6).map(note).collect(), ..new_key(&store, "long", &["api.read"]) }
    };
    let most = (0..1536).rev().find(|bytes| store.issue(with_notes(*bytes)).is_ok()).unwrap();
    let (id, key) = issue(&store, with_notes(most));
    let acting = store.acting_as(Actor::Local(7), None);
    let next = acting.rotate(id, Duration::from_hours(1)).unwrap();
    acting.revoke(id).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    let next = acting.rotate(next.record.id, Duration::ZERO).unwrap();
    acting.revoke(next.record.id).unwrap();
}

#[test]
fn a_stale_revision_changes_nothing() {
    let store = Store::in_memory().unwrap();
    let (id, _) = issue(&store, new_key(&store, "shared", &["api.read"]));
    let seen = store.get(id).unwrap().revision;
    let acting = store.acting_as(Actor::Local(0), None);
    let renamed = acting
        .update_if(id, seen, Change { name: Some("mine".into()), ..Change::default() })
        .unwrap();
    assert!(matches!(acting.update_if(id, seen, Change::deactivate()), Err(Error::Changed(_))));
    assert!(store.get(id).unwrap().active);
    assert!(!acting.update_if(id, renamed.revision, Change::deactivate()).unwrap().active);
}

#[test]
fn a_stale_revision_deletes_nothing() {
    let store = Store::in_memory().unwrap();
    let (id, _) = issue(&store, new_key(&store, "old", &["api.read"]));
    let seen = store.get(id).unwrap().revision;
    let now = store.revoke(id).unwrap().revision;
    let acting = store.acting_as(Actor::Host, None);
    assert!(matches!(acting.delete_if(id, seen), Err(Error::Changed(_))));
    acting.delete_if(id, now).unwrap();
}

#[test]
fn bad_values_name_their_field_and_change_nothing() {
    let store = Store::in_memory().unwrap();
    let (id, _) = issue(&store, new_key(&store, "good", &["api.read"]));
    let before = store.get(id).unwrap();
    let long = Change { name: Some("x".repeat(1 << 20)), ..Change::default() };
    assert!(matches!(store.update(id, long), Err(Error::Invalid { field: Field::Name, .. })));
    let wide = (0..16).map(|n| (format!("{n}{}", "k".repeat(60)), "v".repeat(256))).collect();
    let wide = Change { metadata: Some(wide), ..Change::default() };
    assert!(matches!(store.update(id, wide), Err(Error::Invalid { field: Field::Record, .. })));
    assert_eq!(store.get(id).unwrap(), before);
    let unknown = store.scopes(["api.raed"]).unwrap_err().to_string();
    assert!(unknown.contains("api.raed") && unknown.contains("api.read"), "{unknown}");
    let pasted = store.scopes(["pcl_8fK2mQ9xZ1a_AAAABBBBCCCCDDDD"]).unwrap_err().to_string();
    assert!(!pasted.contains("AAAABBBB"), "{pasted}");
}

mod no_key_grants_more_than_it_holds {
    use super::*;

    struct House {
        store: Store,
        clerk: KeyId,
    }

    impl House {
        fn new() -> Self {
            let store = Store::in_memory().unwrap();
            let held = ["admin.key.create", "admin.key.update", "admin.key.delete", "api.read"];
            let mut new = new_key(&store, "clerk", &held);
            new.expiry = Expiry::At(Timestamp::from_secs(5_000_000_000));
            new.owner = Some("shop".into());
            let (clerk, _) = issue(&store, new);
            Self { store, clerk }
        }

        fn key(&self, scopes: &[&str], active: bool) -> KeyId {
            let expiry = Expiry::At(Timestamp::from_secs(4_000_000_000));
            issue(&self.store, NewKey { active, expiry, ..new_key(&self.store, "target", scopes) })
                .0
        }

        fn update(&self, id: KeyId, change: Change) -> Result<(), Forbidden> {
            let acting = self.store.acting_as(Actor::Key(self.clerk), None);
            forbidden(acting.update(id, change).map(|_| ()))
        }

        fn create(&self, spoil: impl FnOnce(&mut NewKey)) -> Result<Option<String>, Forbidden> {
            let mut new = new_key(&self.store, "child", &["api.read"]);
            new.expiry = Expiry::At(Timestamp::from_secs(5_000_000_000));
            spoil(&mut new);
            let made = self.store.acting_as(Actor::Key(self.clerk), None).issue(new);
            forbidden(made.map(|issued| issued.record.owner.clone()))
        }
    }

    fn forbidden<T>(outcome: Result<T, Error>) -> Result<T, Forbidden> {
        outcome.map_err(|e| match e {
            Error::Forbidden(reason) => reason,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn by_creating() {
        let house = House::new();
        assert_eq!(house.create(|_| ()), Ok(Some("shop".into())));
        let wider = scopes(&house.store, &["api.read", "api.write"]);
        assert_eq!(house.create(|new| new.grant = wider), Err(Forbidden::ExceedsScopes));
        assert_eq!(house.create(|new| new.grant = Grant::All), Err(Forbidden::RootIsLocal));
        assert_eq!(house.create(|new| new.expiry = Expiry::Never), Err(Forbidden::ExceedsExpiry));
        assert_eq!(
            house.create(|new| new.owner = Some("rival".into())),
            Err(Forbidden::ForeignOwner)
        );
    }

    #[test]
    fn by_updating() {
        let house = House::new();
        let target = house.key(&["api.read"], true);
        let wider = Change {
            grant: Some(scopes(&house.store, &["api.read", "api.write"])),
            ..Change::default()
        };
        assert_eq!(house.update(target, wider.clone()), Err(Forbidden::ExceedsScopes));
        assert_eq!(house.update(house.clerk, wider), Err(Forbidden::ExceedsScopes));
        let root = Change { grant: Some(Grant::All), ..Change::default() };
        assert_eq!(house.update(target, root), Err(Forbidden::RootIsLocal));
        let owner = Change { owner: Some(Some("rival".into())), ..Change::default() };
        assert_eq!(house.update(target, owner), Err(Forbidden::ForeignOwner));
        let rivals = Change { owner: Some(Some("rival".into())), ..Change::default() };
        house.store.update(target, rivals).unwrap();
        let taken = Change { owner: Some(Some("shop".into())), ..Change::default() };
        assert_eq!(house.update(target, taken), Err(Forbidden::ForeignOwner));
    }

    #[test]
    fn by_bringing_back_a_stronger_key() {
        let house = House::new();
        let stronger = house.key(&["api.write"], false);
        assert_eq!(house.update(stronger, Change::activate()), Err(Forbidden::ExceedsScopes));
        let weaker = house.key(&["api.read"], false);
        assert_eq!(house.update(weaker, Change::activate()), Ok(()));
    }

    #[test]
    fn by_lengthening_a_life() {
        let house = House::new();
        let until = |secs| Change {
            expiry: Some(Expiry::At(Timestamp::from_secs(secs))),
            ..Change::default()
        };
        let stronger = house.key(&["api.write"], true);
        assert_eq!(house.update(stronger, until(4_500_000_000)), Err(Forbidden::ExceedsScopes));
        let own = house.key(&["api.read"], true);
        assert_eq!(house.update(own, until(5_000_000_001)), Err(Forbidden::ExceedsExpiry));
        assert_eq!(house.update(own, until(5_000_000_000)), Ok(()));
    }

    #[test]
    fn by_rotating_a_stronger_key() {
        let house = House::new();
        let acting = house.store.acting_as(Actor::Key(house.clerk), None);
        let rotate = |id| forbidden(acting.rotate(id, Duration::ZERO).map(|_| ()));
        let key = |scopes: &[&str], expiry, owner: Option<&str>| {
            let new = NewKey { expiry, ..new_key(&house.store, "target", scopes) };
            issue(&house.store, NewKey { owner: owner.map(String::from), ..new }).0
        };
        let end = Expiry::At(Timestamp::from_secs(4_000_000_000));
        let stronger = key(&["api.write"], end, Some("shop"));
        assert_eq!(rotate(stronger), Err(Forbidden::ExceedsScopes));
        let lasting = key(&["api.read"], Expiry::Never, Some("shop"));
        assert_eq!(rotate(lasting), Err(Forbidden::ExceedsExpiry));
        let rivals = key(&["api.read"], end, Some("rival"));
        assert_eq!(rotate(rivals), Err(Forbidden::ForeignOwner));
        let nobodys = key(&["api.read"], end, None);
        assert_eq!(rotate(nobodys), Err(Forbidden::ForeignOwner));
        assert_eq!(rotate(key(&["api.read"], end, Some("shop"))), Ok(()));
        let (reader, _) = issue(&house.store, new_key(&house.store, "reader", &["api.read"]));
        let acting = house.store.acting_as(Actor::Key(reader), None);
        assert_eq!(
            forbidden(acting.rotate(reader, Duration::ZERO).map(|_| ())),
            Err(Forbidden::LacksScope(catalogue::ADMIN_KEY_UPDATE))
        );
    }

    #[test]
    fn yet_taking_away_is_always_allowed() {
        let house = House::new();
        let stronger = house.key(&["api.read", "api.write"], true);
        let narrowed =
            Change { grant: Some(scopes(&house.store, &["api.write"])), ..Change::default() };
        assert_eq!(house.update(stronger, narrowed), Ok(()));
        assert_eq!(house.update(stronger, Change::deactivate()), Ok(()));
    }

    #[test]
    fn and_not_after_it_was_taken_away() {
        let house = House::new();
        let target = house.key(&["api.read"], true);
        house.store.revoke(house.clerk).unwrap();
        assert_eq!(house.update(target, Change::deactivate()), Err(Forbidden::ActorRefused));
        assert_eq!(house.create(|_| ()), Err(Forbidden::ActorRefused));
    }

    #[test]
    fn and_only_with_the_right_scope_but_for_its_own_end() {
        let house = House::new();
        let (reader, _) = issue(&house.store, new_key(&house.store, "reader", &["api.read"]));
        let target = house.key(&["api.read"], true);
        let acting = house.store.acting_as(Actor::Key(reader), None);
        let lacks = |scope: portcullis::Scope| Err(Forbidden::LacksScope(scope));
        assert_eq!(
            forbidden(acting.revoke(target).map(|_| ())),
            lacks(catalogue::ADMIN_KEY_UPDATE)
        );
        assert_eq!(forbidden(acting.delete(target)), lacks(catalogue::ADMIN_KEY_DELETE));
        // It does not learn which keys there are either.
        let nobody = "key_00000000000".parse().unwrap();
        assert_eq!(
            forbidden(acting.revoke(nobody).map(|_| ())),
            lacks(catalogue::ADMIN_KEY_UPDATE)
        );
        assert_eq!(forbidden(acting.delete(nobody)), lacks(catalogue::ADMIN_KEY_DELETE));
        let new = new_key(&house.store, "child", &["api.read"]);
        assert_eq!(forbidden(acting.issue(new).map(|_| ())), lacks(catalogue::ADMIN_KEY_CREATE));
        let renamed = Change { name: Some("x".into()), active: Some(false), ..Change::default() };
        assert_eq!(
            forbidden(acting.update(reader, renamed).map(|_| ())),
            lacks(catalogue::ADMIN_KEY_UPDATE)
        );
        assert!(!acting.revoke(reader).unwrap().active);
    }
}

#[test]
fn the_trail_tells_every_change_and_every_refused_act() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    let (clerk, _) = issue(&store, new_key(&store, "clerk", &["admin.key.create", "api.read"]));
    let source = Some("192.0.2.7".parse().unwrap());
    let acting = store.acting_as(Actor::Key(clerk), source);
    acting.issue(new_key(&store, "thief", &["api.write"])).unwrap_err();
    let child = acting.issue(new_key(&store, "child", &["api.read"])).unwrap().record.id;
    store.revoke(child).unwrap();
    store.delete(child).unwrap();
    drop(store);

    let store = Store::open(&home).unwrap();
    let trail = store.audit(0, 100).unwrap();
    let told: Vec<_> =
        trail.iter().map(|entry| (entry.act.as_str(), entry.actor, entry.key)).collect();
    assert_eq!(
        told,
        [
            ("extend_catalogue", Actor::Host, None),
            ("create", Actor::Host, Some(clerk)),
            ("refuse", Actor::Key(clerk), None),
            ("create", Actor::Key(clerk), Some(child)),
            ("update", Actor::Host, Some(child)),
            ("delete", Actor::Host, Some(child)),
        ]
    );
    assert!(trail.iter().map(|entry| entry.sequence).eq(1..=6));
    assert!(
        matches!(&trail[2].act, Act::Refuse { reason, .. } if reason.contains("its own scopes"))
    );
    assert_eq!((trail[2].after.name.as_deref(), trail[2].source), (Some("thief"), source));
    assert_eq!((&trail[4].before, &trail[4].after), (&Change::activate(), &Change::deactivate()));
    assert_eq!(store.audit(4, 1).unwrap(), trail[4..5]);
    assert!(store.audit(6, 10).unwrap().is_empty() && store.audit(99, 10).unwrap().is_empty());
}

#[test]
fn a_page_token_is_stable_under_inserts_and_deletions() {
    let store = Store::in_memory().unwrap();
    let ids: Vec<KeyId> =
        (0..5).map(|n| issue(&store, new_key(&store, &format!("k{n}"), &[])).0).collect();
    let mut query = ListQuery { page_size: Some(2), ..ListQuery::default() };
    let first = store.list(&query).unwrap();
    let last_seen = first.records[1].id;
    store.revoke(last_seen).unwrap();
    store.delete(last_seen).unwrap();
    let (newer, _) = issue(&store, new_key(&store, "newer", &[]));
    query.page_token = first.next_page_token;
    query.page_size = Some(200);
    let rest = store.list(&query).unwrap();
    assert!(rest.next_page_token.is_none());
    let mut seen: Vec<KeyId> = first.records.iter().chain(&rest.records).map(|r| r.id).collect();
    // Made within the same tick of the clock it may stand anywhere.
    seen.retain(|id| *id != newer);
    assert_eq!(seen.len(), 5);
    seen.sort();
    let mut all = ids;
    all.sort();
    assert_eq!(seen, all);
}

#[test]
fn a_list_is_filtered_by_name_state_and_scope() {
    let store = Store::in_memory().unwrap();
    let (read, _) = issue(&store, new_key(&store, "Nightly Export", &["api.read"]));
    let (write, _) = issue(&store, new_key(&store, "import", &["api.write"]));
    store.revoke(write).unwrap();
    let ids = |query: ListQuery| {
        store.list(&query).unwrap().records.iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(ListQuery { text: Some("EXPORT".into()), ..ListQuery::default() }), [read]);
    assert_eq!(ids(ListQuery { text: Some(write.to_string()), ..ListQuery::default() }), [write]);
    assert_eq!(ids(ListQuery { active: Some(false), ..ListQuery::default() }), [write]);
    assert_eq!(ids(ListQuery { scope: Some(catalogue::API_READ), ..ListQuery::default() }), [read]);
    for wrong in [0, 201] {
        let query = ListQuery { page_size: Some(wrong), ..ListQuery::default() };
        assert!(matches!(store.list(&query), Err(Error::Invalid { field: Field::PageSize, .. })));
    }
    let query = ListQuery { page_token: Some("nonsense".into()), ..ListQuery::default() };
    assert!(matches!(store.list(&query), Err(Error::Invalid { field: Field::PageToken, .. })));
}

#[test]
fn a_store_keeps_its_prefix_its_scopes_and_its_pepper() {
    let (_dir, home) = home();
    let pepper = b"sixteen bytes or more".to_vec();
    let scope: portcullis::Scope = "ledger.close".parse().unwrap();
    let first = Store::builder()
        .prefix(Prefix::new("acme").unwrap())
        .pepper(pepper.clone())
        .scopes([(scope.clone(), "close a year".to_owned())]);
    let store = first.create(&home).unwrap();
    let (_, key) = issue(&store, new_key(&store, "closer", &["ledger.close"]));
    assert!(key.starts_with(b"acme_"));
    drop(store);

    assert!(matches!(Store::open(&home), Err(Error::WrongPepper)));
    let other = Store::builder().pepper(pepper.clone()).prefix(Prefix::new("pcl").unwrap());
    assert!(matches!(other.open(&home), Err(Error::WrongPrefix(p)) if &*p == "acme"));
    let again = Store::builder().pepper(pepper.clone()).open_existing(&home).unwrap();
    assert!(again.authenticate_key(&key).unwrap().require(&scope).is_ok());
    assert!(again.scopes(["ledger.close"]).is_ok());
    drop(again);
    let without = Store::builder().pepper(pepper).scopes([]).open(&home).unwrap();
    assert!(without.authenticate_key(&key).unwrap().require(&scope).is_ok());
    assert!(matches!(without.scopes(["ledger.close"]), Err(Error::UnknownScope(_))));
}

#[test]
fn a_pepper_has_at_least_sixteen_bytes() {
    let short = Store::builder().pepper(*b"fifteen bytes..").in_memory();
    assert!(matches!(short, Err(Error::Invalid { field: Field::Pepper, .. })));
    assert!(Store::builder().pepper(*b"sixteen bytes...").in_memory().is_ok());
}

#[test]
fn a_store_counts_its_keys_and_shows_its_prefix_and_nothing_else() {
    let store = Store::builder().prefix(Prefix::new("acme").unwrap()).in_memory().unwrap();
    for name in ["a", "b", "c"] {
        issue(&store, new_key(&store, name, &["api.read"]));
    }
    let (off, _) = issue(&store, new_key(&store, "off", &["api.read"]));
    store.revoke(off).unwrap();
    assert_eq!((store.count().active, store.count().inactive), (3, 1));
    assert_eq!(store.count_expired(), 0);
    for name in ["ended", "ended too"] {
        let ended = Expiry::At(Timestamp::from_secs(1_000_000));
        issue(&store, NewKey { expiry: ended, ..new_key(&store, name, &["api.read"]) });
    }
    assert_eq!((store.count().active, store.count_expired()), (5, 2));
    assert_eq!(store.prefix(), Prefix::new("acme").unwrap());
    assert_eq!(format!("{store:?}"), "Store { prefix: acme, .. }");
}

#[test]
fn an_act_that_was_refused_elsewhere_is_in_the_trail() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    store.acting_as(Actor::Local(7), None).refuse(Attempt::List, None, "no scope").unwrap();
    let told = store.audit(0, 10).unwrap();
    let refused = told.last().unwrap();
    assert_eq!(refused.actor, Actor::Local(7));
    let Act::Refuse { attempt, reason } = &refused.act else { panic!("{:?}", refused.act) };
    assert_eq!((*attempt, reason.as_str()), (Attempt::List, "no scope"));
}

#[test]
fn a_request_that_was_done_once_is_known_after_reopening() {
    let (_dir, home) = home();
    let request = Idempotency { key: b"a", route: "POST /v1/keys", payload: b"{}" };
    let send = |store: &Store| {
        store.acting_as(Actor::Host, None).issue_once(new_key(store, "a", &["api.read"]), &request)
    };
    let store = Store::open(&home).unwrap();
    let Outcome::Issued(issued) = send(&store).unwrap() else { panic!("done before") };
    drop(store);
    let store = Store::open(&home).unwrap();
    let Outcome::Before(record) = send(&store).unwrap() else { panic!("done twice") };
    assert_eq!(record.id, issued.record.id);

    let request = Idempotency { key: b"b", route: "POST rotate", payload: b"{}" };
    let rotate = |store: &Store| {
        store.acting_as(Actor::Host, None).rotate_once(record.id, Duration::ZERO, &request)
    };
    let Outcome::Issued(issued) = rotate(&store).unwrap() else { panic!("done before") };
    drop(store);
    let store = Store::open(&home).unwrap();
    let Outcome::Before(record) = rotate(&store).unwrap() else { panic!("done twice") };
    assert_eq!(record.id, issued.record.id, "the key that was made, not the one it replaces");
}

#[test]
fn a_stranger_who_can_be_no_user_is_malformed_and_any_other_unknown() {
    let store = Store::in_memory().unwrap();
    let decide = |user: &[u8]| store.authenticate(basic(user).as_bytes()).unwrap_err();
    assert_eq!(decide(b"somebody"), Refusal::Unknown);
    assert_eq!(decide(b"some body"), Refusal::Malformed);
    assert_eq!(decide(b"some:body"), Refusal::Malformed);
}
