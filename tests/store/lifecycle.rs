//! The lifecycle of keys through the public API, also over reopening the store.

use portcullis::{
    Actor, Change, Error, Expiry, Grant, Idempotency, KeyId, NewKey, Outcome, Prefix, Refusal,
    Store, Timestamp, audit::Act, error::Field, error::Forbidden, list::ListQuery,
    scope::catalogue,
};
use portcullis_testkit::{basic, home, issue, new_key, scopes, surgery};
use std::time::{Duration, SystemTime};

#[test]
fn key_is_accepted_until_revoked_and_again_after_reactivation() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
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
fn every_key_state_survives_reopen() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let (on, on_key) = issue(&store, new_key(&store, "on", &["api.read"]));
    let (off, off_key) = issue(&store, new_key(&store, "off", &["api.read"]));
    let (gone, gone_key) = issue(&store, new_key(&store, "gone", &["api.read"]));
    store.revoke(off).unwrap();
    store.revoke(gone).unwrap();
    store.delete(gone).unwrap();
    let metadata = [("team".to_owned(), "blue".to_owned())].into();
    let change = Change::default().with_owner("shop").with_metadata(metadata);
    let changed = store.update(on, change).unwrap();
    drop(store);

    let store = portcullis_testkit::builder().open(&home).unwrap();
    assert_eq!(store.get(on).unwrap(), changed);
    assert!(store.authenticate_key(&on_key).is_ok());
    assert_eq!(store.authenticate_key(&off_key).unwrap_err(), Refusal::Inactive);
    assert_eq!(store.authenticate_key(&gone_key).unwrap_err(), Refusal::Unknown);
    assert!(matches!(store.get(gone), Err(Error::NoSuchKey(id)) if id == gone));
}

#[test]
fn expired_key_is_refused() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let mut new = new_key(&store, "short", &["api.read"]);
    new.expiry = Expiry::At(Timestamp::from_secs(1_000_000));
    let (id, key) = issue(&store, new);
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Expired);
    store.update(id, Change::default().with_expiry(Expiry::Never)).unwrap();
    assert!(store.authenticate_key(&key).is_ok());
}

#[test]
fn clock_set_back_before_reopen_does_not_revive_an_expired_key() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let mut new = new_key(&store, "short", &["api.read"]);
    new.expiry = Expiry::At((SystemTime::now() + Duration::from_hours(1)).into());
    let (_, key) = issue(&store, new);
    assert!(store.authenticate_key(&key).is_ok());
    drop(store);

    // Now the wall clock is two hours behind the newest change.
    surgery::shift(&home, 2);
    let store = portcullis_testkit::builder().open(&home).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Expired);
}

#[test]
fn key_without_scopes_is_accepted_and_has_no_rights() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (_, key) = issue(&store, new_key(&store, "no scopes", &[]));
    let principal = store.authenticate_key(&key).unwrap();
    for entry in store.catalogue().entries() {
        assert!(principal.require(&entry.scope).is_err());
    }
}

#[test]
fn header_and_key_authentication_agree() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "header", &["api.read"]));
    let header = basic(&key);
    assert_eq!(store.authenticate_header(header.as_bytes()).unwrap().id(), id);
    assert_eq!(store.authenticate([header.as_bytes()].into_iter()).unwrap().id(), id);
    assert_eq!(store.authenticate(std::iter::empty::<&[u8]>()).unwrap_err(), Refusal::Missing);
    assert_eq!(
        store.authenticate([header.as_bytes(), header.as_bytes()].into_iter()).unwrap_err(),
        Refusal::Ambiguous
    );
    assert_eq!(store.authenticate_header(b"Bearer x").unwrap_err(), Refusal::Malformed);
}

#[test]
fn key_with_one_wrong_character_is_unknown() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (_, key) = issue(&store, new_key(&store, "exact", &["api.read"]));
    for at in 0..key.len() {
        let mut wrong = key.clone();
        wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
        assert_eq!(store.authenticate_key(&wrong).unwrap_err(), Refusal::Unknown, "{at}");
    }
    assert_eq!(store.authenticate_key(&key[..key.len() - 1]).unwrap_err(), Refusal::Unknown);
}

#[test]
fn only_inactive_key_can_be_deleted() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "busy", &["api.read"]));
    assert!(matches!(store.delete(id), Err(Error::StillActive(_))));
    assert!(store.authenticate_key(&key).is_ok());
    store.revoke(id).unwrap();
    store.delete(id).unwrap();
    assert!(matches!(store.update(id, Change::activate()), Err(Error::NoSuchKey(_))));
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Unknown);
}

#[test]
fn last_active_root_key_cannot_be_revoked_narrowed_or_expired() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let root = |name: &str| new_key(&store, name, &[]).with_grant(Grant::All);
    let (first, _) = issue(&store, root("first"));
    let changes = [
        Change::deactivate(),
        Change::default().with_grant(scopes(&store, &["api.read"])),
        Change::default().with_expiry(Expiry::At(Timestamp::from_secs(9_000_000_000))),
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
fn one_of_two_root_keys_can_be_revoked_after_reopen() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let [first, second] = ["first", "second"]
        .map(|name| issue(&store, new_key(&store, name, &[]).with_grant(Grant::All)).0);
    drop(store);
    let store = portcullis_testkit::builder().open(&home).unwrap();
    assert!(!store.revoke(first).unwrap().active);
    assert!(matches!(store.revoke(second), Err(Error::LastRoot(id)) if id == second));
}

#[test]
fn rotation_copies_all_fields_and_revokes_the_old_key() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let end = Expiry::At(Timestamp::from_secs(9_000_000_000));
    let new = new_key(&store, "till", &["api.read"])
        .with_expiry(end)
        .with_owner("shop")
        .with_metadata([("team".into(), "blue".into())].into());
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

    let store = portcullis_testkit::builder().open(&home).unwrap();
    assert_eq!((store.get(old).unwrap(), store.get(new).unwrap()), (was, is));
    assert_eq!(store.authenticate_key(&old_key).unwrap_err(), Refusal::Inactive);
    assert_eq!(store.authenticate_key(&new_key).unwrap().id(), new);
}

#[test]
fn rotated_key_stays_valid_for_the_grace_period_or_until_its_expiry() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "long", &["api.read"]));
    let issued = store.rotate(id, Duration::from_hours(1)).unwrap().record;
    assert!(store.authenticate_key(&key).is_ok());
    let end = issued.created_at.as_millis().div_ceil(1000) + 3600;
    assert_eq!(store.get(id).unwrap().expiry, Expiry::At(Timestamp::from_secs(end)));
    assert_eq!(issued.expiry, Expiry::Never);
    let soon = Expiry::At(Timestamp::from_secs(issued.created_at.as_secs() + 60));
    let (id, _) = issue(&store, new_key(&store, "short", &["api.read"]).with_expiry(soon));
    store.rotate(id, Duration::from_hours(1)).unwrap();
    assert_eq!(store.get(id).unwrap().expiry, soon);
    let (id, _) = issue(&store, new_key(&store, "greedy", &["api.read"]));
    let refused = store.rotate(id, Duration::from_hours(367 * 24));
    assert!(matches!(refused, Err(Error::Invalid { field: Field::Grace, .. })));
}

#[test]
fn only_valid_key_can_be_rotated_and_only_once() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let refused_state = |id| match store.rotate(id, Duration::from_mins(1)) {
        Err(Error::NotCurrent { state, .. }) => state,
        other => panic!("{other:?}"),
    };
    let (replaced, _) = issue(&store, new_key(&store, "a", &["api.read"]));
    store.rotate(replaced, Duration::from_mins(1)).unwrap();
    assert_eq!(refused_state(replaced), "replaced already");
    let (off, _) = issue(&store, new_key(&store, "a", &["api.read"]));
    store.revoke(off).unwrap();
    assert_eq!(refused_state(off), "inactive");
    let past = Expiry::At(Timestamp::from_secs(1_000_000));
    let (over, _) = issue(&store, new_key(&store, "a", &[]).with_expiry(past));
    assert_eq!(refused_state(over), "expired");
    let unknown = "key_00000000000".parse().unwrap();
    assert!(matches!(store.rotate(unknown, Duration::ZERO), Err(Error::NoSuchKey(_))));
}

#[test]
fn last_root_key_is_rotated_by_the_host_only() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (first, key) = issue(&store, new_key(&store, "r", &[]).with_grant(Grant::All));
    let by_itself = store.acting_as(Actor::Key(first)).rotate(first, Duration::ZERO);
    assert!(matches!(by_itself, Err(Error::Forbidden(Forbidden::RootIsLocal))));
    let second = store.rotate(first, Duration::ZERO).unwrap().record;
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    assert_eq!(second.grant, Grant::All);
    assert!(matches!(store.revoke(second.id), Err(Error::LastRoot(_))));
}

#[test]
fn key_with_the_largest_record_can_be_revoked_and_rotated() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let with_metadata = |bytes: usize| {
        let entry = |i: usize| (i.to_string(), "x".repeat(bytes.saturating_sub(i * 256).min(256)));
        new_key(&store, "long", &["api.read"]).with_metadata((0..6).map(entry).collect())
    };
    let largest = (0..1536).rev().find(|bytes| store.issue(with_metadata(*bytes)).is_ok()).unwrap();
    let (id, key) = issue(&store, with_metadata(largest));
    let acting = store.acting_as(Actor::Local(7));
    let next = acting.rotate(id, Duration::from_hours(1)).unwrap();
    acting.revoke(id).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    let next = acting.rotate(next.record.id, Duration::ZERO).unwrap();
    acting.revoke(next.record.id).unwrap();
}

#[test]
fn update_with_a_stale_revision_is_refused() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, _) = issue(&store, new_key(&store, "shared", &["api.read"]));
    let seen = store.get(id).unwrap().revision;
    let acting = store.acting_as(Actor::Local(0));
    let renamed = acting.update_if(id, seen, Change::default().with_name("mine")).unwrap();
    assert!(matches!(acting.update_if(id, seen, Change::deactivate()), Err(Error::Changed(_))));
    assert!(store.get(id).unwrap().active);
    assert!(!acting.update_if(id, renamed.revision, Change::deactivate()).unwrap().active);
}

#[test]
fn delete_with_a_stale_revision_is_refused() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, _) = issue(&store, new_key(&store, "old", &["api.read"]));
    let seen = store.get(id).unwrap().revision;
    let now = store.revoke(id).unwrap().revision;
    let acting = store.acting_as(Actor::Host);
    assert!(matches!(acting.delete_if(id, seen), Err(Error::Changed(_))));
    acting.delete_if(id, now).unwrap();
}

#[test]
fn invalid_value_is_reported_by_field_and_changes_nothing() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, _) = issue(&store, new_key(&store, "good", &["api.read"]));
    let before = store.get(id).unwrap();
    let long = Change::default().with_name("x".repeat(1 << 20));
    assert!(matches!(store.update(id, long), Err(Error::Invalid { field: Field::Name, .. })));
    let wide = (0..16).map(|n| (format!("{n}{}", "k".repeat(60)), "v".repeat(256))).collect();
    let wide = Change::default().with_metadata(wide);
    assert!(matches!(store.update(id, wide), Err(Error::Invalid { field: Field::Record, .. })));
    assert_eq!(store.get(id).unwrap(), before);
    let unknown = store.scopes(["api.raed"]).unwrap_err().to_string();
    assert!(unknown.contains("api.raed") && unknown.contains("api.read"), "{unknown}");
    let pasted = store.scopes(["pcl_8fK2mQ9xZ1a_AAAABBBBCCCCDDDD"]).unwrap_err().to_string();
    assert!(!pasted.contains("AAAABBBB"), "{pasted}");
}

mod escalation_is_refused {
    use super::*;

    struct Fixture {
        store: Store,
        clerk: KeyId,
    }

    impl Fixture {
        fn new() -> Self {
            let store = portcullis_testkit::builder().in_memory().unwrap();
            let held = ["admin.key.create", "admin.key.update", "admin.key.delete", "api.read"];
            let mut new = new_key(&store, "clerk", &held);
            new.expiry = Expiry::At(Timestamp::from_secs(5_000_000_000));
            new.owner = Some("shop".into());
            let (clerk, _) = issue(&store, new);
            Self { store, clerk }
        }

        fn key(&self, scopes: &[&str], active: bool) -> KeyId {
            let expiry = Expiry::At(Timestamp::from_secs(4_000_000_000));
            issue(
                &self.store,
                new_key(&self.store, "target", scopes)
                    .with_owner("shop")
                    .with_active(active)
                    .with_expiry(expiry),
            )
            .0
        }

        fn update(&self, id: KeyId, change: Change) -> Result<(), Forbidden> {
            let acting = self.store.acting_as(Actor::Key(self.clerk));
            forbidden(acting.update(id, change).map(|_| ()))
        }

        fn create(&self, alter: impl FnOnce(&mut NewKey)) -> Result<Option<String>, Forbidden> {
            let mut new = new_key(&self.store, "child", &["api.read"]);
            new.expiry = Expiry::At(Timestamp::from_secs(5_000_000_000));
            alter(&mut new);
            let issued = self.store.acting_as(Actor::Key(self.clerk)).issue(new);
            forbidden(issued.map(|issued| issued.record.owner.clone()))
        }
    }

    fn forbidden<T>(outcome: Result<T, Error>) -> Result<T, Forbidden> {
        outcome.map_err(|e| match e {
            Error::Forbidden(reason) => reason,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn by_creating_a_key() {
        let fixture = Fixture::new();
        assert_eq!(fixture.create(|_| ()), Ok(Some("shop".into())));
        let wider = scopes(&fixture.store, &["api.read", "api.write"]);
        assert_eq!(fixture.create(|new| new.grant = wider), Err(Forbidden::ExceedsScopes));
        assert_eq!(fixture.create(|new| new.grant = Grant::All), Err(Forbidden::RootIsLocal));
        assert_eq!(fixture.create(|new| new.expiry = Expiry::Never), Err(Forbidden::ExceedsExpiry));
        assert_eq!(
            fixture.create(|new| new.owner = Some("rival".into())),
            Err(Forbidden::ForeignOwner)
        );
    }

    #[test]
    fn by_adding_scopes_or_changing_the_owner() {
        let fixture = Fixture::new();
        let target = fixture.key(&["api.read"], true);
        let wider =
            Change::default().with_grant(scopes(&fixture.store, &["api.read", "api.write"]));
        assert_eq!(fixture.update(target, wider.clone()), Err(Forbidden::ExceedsScopes));
        assert_eq!(fixture.update(fixture.clerk, wider), Err(Forbidden::ExceedsScopes));
        let root = Change::default().with_grant(Grant::All);
        assert_eq!(fixture.update(target, root), Err(Forbidden::RootIsLocal));
        let owner = Change::default().with_owner("rival");
        assert_eq!(fixture.update(target, owner), Err(Forbidden::ForeignOwner));
        let rivals = Change::default().with_owner("rival");
        fixture.store.update(target, rivals).unwrap();
        // The key of another owner does not exist for the clerk.
        let acting = fixture.store.acting_as(Actor::Key(fixture.clerk));
        let taken = acting.update(target, Change::default().with_owner("shop"));
        assert!(matches!(taken, Err(Error::NoSuchKey(_))), "{taken:?}");
    }

    #[test]
    fn by_reactivating_a_stronger_key() {
        let fixture = Fixture::new();
        let stronger = fixture.key(&["api.write"], false);
        assert_eq!(fixture.update(stronger, Change::activate()), Err(Forbidden::ExceedsScopes));
        let weaker = fixture.key(&["api.read"], false);
        assert_eq!(fixture.update(weaker, Change::activate()), Ok(()));
    }

    #[test]
    fn by_extending_an_expiry() {
        let fixture = Fixture::new();
        let until = |secs| Change::default().with_expiry(Expiry::At(Timestamp::from_secs(secs)));
        let stronger = fixture.key(&["api.write"], true);
        assert_eq!(fixture.update(stronger, until(4_500_000_000)), Err(Forbidden::ExceedsScopes));
        let own = fixture.key(&["api.read"], true);
        assert_eq!(fixture.update(own, until(5_000_000_001)), Err(Forbidden::ExceedsExpiry));
        assert_eq!(fixture.update(own, until(5_000_000_000)), Ok(()));
    }

    #[test]
    fn by_rotating_a_stronger_key() {
        let fixture = Fixture::new();
        let acting = fixture.store.acting_as(Actor::Key(fixture.clerk));
        let rotate = |id| forbidden(acting.rotate(id, Duration::ZERO).map(|_| ()));
        let key = |scopes: &[&str], expiry, owner: Option<&str>| {
            let mut new = new_key(&fixture.store, "target", scopes).with_expiry(expiry);
            new.owner = owner.map(String::from);
            issue(&fixture.store, new).0
        };
        let end = Expiry::At(Timestamp::from_secs(4_000_000_000));
        let stronger = key(&["api.write"], end, Some("shop"));
        assert_eq!(rotate(stronger), Err(Forbidden::ExceedsScopes));
        let lasting = key(&["api.read"], Expiry::Never, Some("shop"));
        assert_eq!(rotate(lasting), Err(Forbidden::ExceedsExpiry));
        for owner in [Some("rival"), None] {
            let rotated = acting.rotate(key(&["api.read"], end, owner), Duration::ZERO);
            assert!(matches!(rotated, Err(Error::NoSuchKey(_))), "{rotated:?}");
        }
        // Without an owner a clerk sees all keys, and rotates only those without an owner.
        let held = ["admin.key.update", "api.read"];
        let (free, _) = issue(&fixture.store, new_key(&fixture.store, "free", &held));
        let free = fixture.store.acting_as(Actor::Key(free));
        let of_rival = free.rotate(key(&["api.read"], end, Some("rival")), Duration::ZERO);
        assert_eq!(forbidden(of_rival.map(|_| ())), Err(Forbidden::ForeignOwner));
        assert!(free.rotate(key(&["api.read"], end, None), Duration::ZERO).is_ok());
        assert_eq!(rotate(key(&["api.read"], end, Some("shop"))), Ok(()));
        let (reader, _) = issue(&fixture.store, new_key(&fixture.store, "reader", &["api.read"]));
        let acting = fixture.store.acting_as(Actor::Key(reader));
        assert_eq!(
            forbidden(acting.rotate(reader, Duration::ZERO).map(|_| ())),
            Err(Forbidden::LacksScope(catalogue::ADMIN_KEY_UPDATE))
        );
    }

    #[test]
    fn but_narrowing_and_revoking_a_stronger_key_is_allowed() {
        let fixture = Fixture::new();
        let stronger = fixture.key(&["api.read", "api.write"], true);
        let narrowed = Change::default().with_grant(scopes(&fixture.store, &["api.write"]));
        assert_eq!(fixture.update(stronger, narrowed), Ok(()));
        assert_eq!(fixture.update(stronger, Change::deactivate()), Ok(()));
    }

    #[test]
    fn by_a_revoked_key() {
        let fixture = Fixture::new();
        let target = fixture.key(&["api.read"], true);
        fixture.store.revoke(fixture.clerk).unwrap();
        assert_eq!(fixture.update(target, Change::deactivate()), Err(Forbidden::ActorRefused));
        assert_eq!(fixture.create(|_| ()), Err(Forbidden::ActorRefused));
    }

    #[test]
    fn without_the_scope_except_for_revoking_itself() {
        let fixture = Fixture::new();
        let (reader, _) = issue(&fixture.store, new_key(&fixture.store, "reader", &["api.read"]));
        let target = fixture.key(&["api.read"], true);
        let acting = fixture.store.acting_as(Actor::Key(reader));
        let lacks = |scope: portcullis::Scope| Err(Forbidden::LacksScope(scope));
        assert_eq!(
            forbidden(acting.revoke(target).map(|_| ())),
            lacks(catalogue::ADMIN_KEY_UPDATE)
        );
        assert_eq!(forbidden(acting.delete(target)), lacks(catalogue::ADMIN_KEY_DELETE));
        // Without the scope, an unknown key is refused in the same way.
        let unknown = "key_00000000000".parse().unwrap();
        assert_eq!(
            forbidden(acting.revoke(unknown).map(|_| ())),
            lacks(catalogue::ADMIN_KEY_UPDATE)
        );
        assert_eq!(forbidden(acting.delete(unknown)), lacks(catalogue::ADMIN_KEY_DELETE));
        let new = new_key(&fixture.store, "child", &["api.read"]);
        assert_eq!(forbidden(acting.issue(new).map(|_| ())), lacks(catalogue::ADMIN_KEY_CREATE));
        let renamed = Change::default().with_name("x").with_active(false);
        assert_eq!(
            forbidden(acting.update(reader, renamed).map(|_| ())),
            lacks(catalogue::ADMIN_KEY_UPDATE)
        );
        assert!(!acting.revoke(reader).unwrap().active);
    }
}

#[test]
fn page_token_stays_valid_after_inserts_and_deletions() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let ids: Vec<KeyId> =
        (0..5).map(|n| issue(&store, new_key(&store, &format!("k{n}"), &[])).0).collect();
    let mut query = ListQuery::default().with_page_size(2);
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
    // If it was created in the same millisecond, it may be at any position.
    seen.retain(|id| *id != newer);
    assert_eq!(seen.len(), 5);
    seen.sort();
    let mut all = ids;
    all.sort();
    assert_eq!(seen, all);
}

#[test]
fn list_is_filtered_by_name_state_and_scope() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (read, _) = issue(&store, new_key(&store, "Nightly Export", &["api.read"]));
    let (write, _) = issue(&store, new_key(&store, "import", &["api.write"]));
    store.revoke(write).unwrap();
    let ids = |query: ListQuery| {
        store.list(&query).unwrap().records.iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(ListQuery::default().with_text("EXPORT")), [read]);
    assert_eq!(ids(ListQuery::default().with_text(write.to_string())), [write]);
    assert_eq!(ids(ListQuery::default().with_active(false)), [write]);
    assert_eq!(ids(ListQuery::default().with_scope(catalogue::API_READ)), [read]);
    for wrong in [0, 201] {
        let query = ListQuery::default().with_page_size(wrong);
        assert!(matches!(store.list(&query), Err(Error::Invalid { field: Field::PageSize, .. })));
    }
    let query = ListQuery::default().with_page_token("nonsense");
    assert!(matches!(store.list(&query), Err(Error::Invalid { field: Field::PageToken, .. })));
}

#[test]
fn prefix_scopes_and_pepper_survive_reopen() {
    let (_dir, home) = home();
    let pepper = b"sixteen bytes or more".to_vec();
    let scope: portcullis::Scope = "ledger.close".parse().unwrap();
    let first = portcullis_testkit::builder()
        .prefix(Prefix::new("acme").unwrap())
        .pepper(pepper.clone())
        .scopes([(scope.clone(), "close a year".to_owned())]);
    let store = first.create(&home).unwrap();
    let (_, key) = issue(&store, new_key(&store, "closer", &["ledger.close"]));
    assert!(key.starts_with(b"acme_"));
    drop(store);

    assert!(matches!(portcullis_testkit::builder().open(&home), Err(Error::WrongPepper)));
    let other =
        portcullis_testkit::builder().pepper(pepper.clone()).prefix(Prefix::new("pcl").unwrap());
    assert!(matches!(other.open(&home), Err(Error::WrongPrefix(p)) if &*p == "acme"));
    let again = Store::builder().pepper(pepper.clone()).open_existing(&home).unwrap();
    assert!(again.authenticate_key(&key).unwrap().require(&scope).is_ok());
    assert!(again.scopes(["ledger.close"]).is_ok());
    drop(again);
    let without = portcullis_testkit::builder().pepper(pepper).scopes([]).open(&home).unwrap();
    assert!(without.authenticate_key(&key).unwrap().require(&scope).is_ok());
    assert!(matches!(without.scopes(["ledger.close"]), Err(Error::UnknownScope(_))));
}

#[test]
fn pepper_has_at_least_sixteen_bytes() {
    let short = portcullis_testkit::builder().pepper(*b"fifteen bytes..").in_memory();
    assert!(matches!(short, Err(Error::Invalid { field: Field::Pepper, .. })));
    assert!(portcullis_testkit::builder().pepper(*b"sixteen bytes...").in_memory().is_ok());
}

#[test]
fn store_counts_its_keys_and_debug_shows_only_the_prefix() {
    let store =
        portcullis_testkit::builder().prefix(Prefix::new("acme").unwrap()).in_memory().unwrap();
    for name in ["a", "b", "c"] {
        issue(&store, new_key(&store, name, &["api.read"]));
    }
    let (off, _) = issue(&store, new_key(&store, "off", &["api.read"]));
    store.revoke(off).unwrap();
    assert_eq!((store.count().active, store.count().inactive), (3, 1));
    assert_eq!(store.count_expired(), 0);
    for name in ["ended", "ended too"] {
        let ended = Expiry::At(Timestamp::from_secs(1_000_000));
        issue(&store, new_key(&store, name, &["api.read"]).with_expiry(ended));
    }
    assert_eq!((store.count().active, store.count_expired()), (5, 2));
    assert_eq!(store.prefix(), Prefix::new("acme").unwrap());
    assert_eq!(format!("{store:?}"), "Store { prefix: acme, .. }");
}

#[test]
fn idempotent_request_is_known_after_reopen() {
    let (_dir, home) = home();
    let request = Idempotency { key: b"a", route: "POST /v1/keys", payload: b"{}" };
    let send = |store: &Store| {
        store.acting_as(Actor::Host).issue_once(new_key(store, "a", &["api.read"]), &request)
    };
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let Outcome::Issued(issued) = send(&store).unwrap() else { panic!("executed before") };
    drop(store);
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let Outcome::Before(record) = send(&store).unwrap() else { panic!("executed twice") };
    assert_eq!(record.id, issued.record.id);

    let request = Idempotency { key: b"b", route: "POST rotate", payload: b"{}" };
    let rotate = |store: &Store| {
        store.acting_as(Actor::Host).rotate_once(record.id, Duration::ZERO, &request)
    };
    let Outcome::Issued(issued) = rotate(&store).unwrap() else { panic!("executed before") };
    drop(store);
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let Outcome::Before(record) = rotate(&store).unwrap() else { panic!("executed twice") };
    assert_eq!(record.id, issued.record.id, "the new key, not the replaced one");
}

#[test]
fn unknown_user_is_malformed_only_if_the_user_name_is_invalid() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let refusal = |user: &[u8]| store.authenticate_header(basic(user).as_bytes()).unwrap_err();
    assert_eq!(refusal(b"somebody"), Refusal::Unknown);
    assert_eq!(refusal(b"some body"), Refusal::Malformed);
    assert_eq!(refusal(b"some:body"), Refusal::Malformed);
}

#[test]
fn first_key_is_issued_by_the_process_that_created_the_store_only() {
    let (_dir, home) = home();
    // As with a volume that is not mounted.
    assert!(
        portcullis_testkit::builder()
            .open(&home)
            .unwrap()
            .issue_first_key("root")
            .unwrap()
            .is_none()
    );
    let (_dir, home) = portcullis_testkit::home();
    let store = portcullis_testkit::builder().create(&home).unwrap();
    let first = store.issue_first_key("root").unwrap().unwrap();
    assert_eq!((first.record.grant, first.record.expiry), (Grant::All, Expiry::Never));
    assert!(store.issue_first_key("root").unwrap().is_none());
    assert!(store.issue_first_key_of_opened("root").unwrap().is_none());
    drop(store);
    let (_dir, home) = portcullis_testkit::home();
    drop(portcullis_testkit::builder().create(&home).unwrap());
    let store = portcullis_testkit::builder().open_existing(&home).unwrap();
    assert!(store.issue_first_key("root").unwrap().is_none());
    assert!(store.issue_first_key_of_opened("root").unwrap().is_some());
}

#[test]
fn records_of_all_keys_are_iterated() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let ids: Vec<_> =
        (0..450).map(|n| issue(&store, new_key(&store, &n.to_string(), &["api.read"])).0).collect();
    let found: Vec<_> = store.records().map(|record| record.id).collect();
    assert_eq!(found.len(), 450);
    assert!(ids.iter().all(|id| found.contains(id)));
}
