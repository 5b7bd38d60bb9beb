//! The audit log: retention, the entry of every act, and the count of repeated refusals.

use portcullis::{
    Actor, Change, Error, Expiry, Grant, Idempotency, KeyId, Outcome, Store, Timestamp,
    audit::{Act, Attempt},
    error::{Field, Forbidden},
};
use portcullis_testkit::{
    audit::{AuditedStore, SOURCE, hours_ago, now, store_with_old_entries},
    home, issue, new_key, scopes,
    surgery::{age, entry, operate},
};
use std::time::{Duration, SystemTime};

#[test]
fn log_with_acts_and_refusals_survives_reopen() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let (clerk, _) = issue(&store, new_key(&store, "clerk", &["admin.key.create", "api.read"]));
    let source = "192.0.2.7".parse().unwrap();
    let acting = store.acting_as(Actor::Key(clerk)).with_address(source);
    acting.issue(new_key(&store, "thief", &["api.write"])).unwrap_err();
    let child = acting.issue(new_key(&store, "child", &["api.read"])).unwrap().record.id;
    store.revoke(child).unwrap();
    store.delete(child).unwrap();
    drop(store);

    let store = portcullis_testkit::builder().open(&home).unwrap();
    let entries = store.audit(0, 100).unwrap();
    let found: Vec<_> =
        entries.iter().map(|entry| (entry.act.as_str(), entry.actor, entry.key)).collect();
    assert_eq!(
        found,
        [
            ("extend_catalogue", Actor::Host, None),
            ("create", Actor::Host, Some(clerk)),
            ("refuse", Actor::Key(clerk), None),
            ("create", Actor::Key(clerk), Some(child)),
            ("update", Actor::Host, Some(child)),
            ("delete", Actor::Host, Some(child)),
        ]
    );
    assert!(entries.iter().map(|entry| entry.sequence).eq(1..=6));
    assert!(
        matches!(&entries[2].act, Act::Refuse { reason, .. } if reason.contains("its own scopes"))
    );
    assert_eq!(
        (entries[2].after.name.as_deref(), entries[2].source),
        (Some("thief"), Some(source))
    );
    assert_eq!(
        (&entries[4].before, &entries[4].after),
        (&Change::activate(), &Change::deactivate())
    );
    assert_eq!(store.audit(4, 1).unwrap(), entries[4..5]);
    assert!(store.audit(6, 10).unwrap().is_empty() && store.audit(99, 10).unwrap().is_empty());
}

#[test]
fn refusal_by_the_host_is_recorded() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    store.acting_as(Actor::Local(7)).refuse(Attempt::List, None, "no scope").unwrap();
    let entries = store.audit(0, 10).unwrap();
    let refused = entries.last().unwrap();
    assert_eq!(refused.actor, Actor::Local(7));
    let Act::Refuse { attempt, reason } = &refused.act else { panic!("{:?}", refused.act) };
    assert_eq!((*attempt, reason.as_str()), (Attempt::List, "no scope"));
}

mod pruning {
    use super::*;

    fn prune(store: &Store) -> Result<Option<portcullis::audit::Pruned>, Error> {
        store.acting_as(Actor::Local(7)).with_address(SOURCE).prune_audit(hours_ago(30))
    }

    #[test]
    fn last_day_is_never_pruned_so_idempotent_requests_are_still_known() {
        let (_dir, _home, store) = store_with_old_entries();
        let acting = store.acting_as(Actor::Host);
        let refused = acting.prune_audit(hours_ago(23));
        assert!(matches!(refused, Err(Error::Invalid { field: Field::Before, .. })), "{refused:?}");
        let request = Idempotency { key: b"once", route: "POST", payload: b"a" };
        let issued = acting.issue_once(new_key(&store, "a", &[]), &request).unwrap();
        let Outcome::Issued(issued) = issued else { panic!("{issued:?}") };
        acting.prune_audit(hours_ago(25)).unwrap().unwrap();
        let again =
            store.acting_as(Actor::Host).issue_once(new_key(&store, "a", &[]), &request).unwrap();
        let Outcome::Before(again) = again else { panic!("{again:?}") };
        assert_eq!(again.id, issued.record.id);
    }

    #[test]
    fn idempotent_request_is_known_after_prune_and_reopen() {
        let (_dir, home, store) = store_with_old_entries();
        let request = Idempotency { key: b"once", route: "POST", payload: b"a" };
        store.acting_as(Actor::Host).issue_once(new_key(&store, "a", &[]), &request).unwrap();
        prune(&store).unwrap().unwrap();
        drop(store);
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let again = store.acting_as(Actor::Host).issue_once(new_key(&store, "a", &[]), &request);
        assert!(matches!(again, Ok(Outcome::Before(_))), "{again:?}");
    }

    #[test]
    fn root_key_may_not_prune() {
        let (_dir, _home, store) = store_with_old_entries();
        let root = new_key(&store, "root", &[]).with_grant(Grant::All);
        let (root, _) = issue(&store, root);
        let refused = store.acting_as(Actor::Key(root)).prune_audit(hours_ago(30));
        assert!(matches!(refused, Err(Error::Forbidden(Forbidden::PruneIsLocal))), "{refused:?}");
    }

    #[test]
    fn kill_between_prune_and_removal_leaves_the_log_pruned() {
        let (_dir, home, store) = store_with_old_entries();
        let frames =
            |db: &sled::Db| (1..=10).map(|n| db.get(entry(n)).unwrap()).collect::<Vec<_>>();
        drop(store);
        let old = operate(&home, frames);
        let store = portcullis_testkit::builder().open(&home).unwrap();
        prune(&store).unwrap().unwrap();
        drop(store);
        // Put the old entries back, as after a kill before the writer removed them.
        operate(&home, |db| {
            for (n, frame) in (1..).zip(&old) {
                db.insert(entry(n), frame.as_ref().unwrap()).unwrap();
            }
        });
        let store = portcullis_testkit::builder().open(&home).unwrap();
        assert_eq!(store.audit(0, 100).unwrap()[0].sequence, 11);
        let deadline = SystemTime::now() + Duration::from_secs(20);
        while store.acting_as(Actor::Host).prune_audit(hours_ago(30)).unwrap().is_some() {
            assert!(SystemTime::now() < deadline);
        }
        issue(&store, new_key(&store, "wakes the writer", &[]));
        // Closing waits for the writer, which removes pruned entries before it waits for work.
        std::thread::sleep(Duration::from_millis(1500));
        drop(store);
        assert!(operate(&home, frames).iter().all(Option::is_none));
    }

    #[test]
    fn prune_of_many_batches_removes_every_old_entry() {
        let (_dir, home) = home();
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let (id, _) = issue(&store, new_key(&store, "a", &["api.read"]));
        let store_ref = &store;
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for n in 0..320 {
                        let name = format!("{thread} {n}");
                        store_ref.update(id, Change::default().with_name(name)).unwrap();
                    }
                });
            }
        });
        drop(store);
        age(&home, 100);
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let pruned = prune(&store).unwrap().unwrap();
        assert_eq!(pruned.removed, 2 + 8 * 320);
        drop(store);
        let left = operate(&home, |db| db.scan_prefix(b"a").count());
        assert_eq!(left, 1);
    }
}

mod recorded_acts {
    use super::*;

    #[test]
    fn every_change_is_recorded_with_actor_source_before_and_after() {
        let mut fixture = AuditedStore::new();
        let names =
            ["admin.key.create", "admin.key.update", "admin.key.delete", "api.read", "api.write"];
        let (clerk, _) = fixture.key("clerk", &names);
        let store = fixture.store.clone();
        let acting = store.acting_as(Actor::Key(clerk)).with_address(SOURCE);
        let record = acting.issue(new_key(&store, "a", &["api.read", "api.write"])).unwrap().record;
        let create = fixture.entry();
        assert_eq!((create.act.clone(), create.key), (Act::Create, Some(record.id)));
        assert_eq!(create.before, Change::default());
        assert_eq!(create.after.grant, Some(record.grant));
        assert_eq!((create.after.active, create.after.name.as_deref()), (Some(true), Some("a")));
        let narrow = Change::default()
            .with_grant(scopes(&store, &["api.read"]))
            .with_expiry(Expiry::At(Timestamp::from_secs(4_000_000_000)));
        acting.update(record.id, narrow.clone()).unwrap();
        let update = fixture.entry();
        assert_eq!((update.act.clone(), &update.after), (Act::Update, &narrow));
        assert_eq!(
            (update.before.grant, update.before.expiry),
            (Some(record.grant), Some(Expiry::Never))
        );
        let new = acting.rotate(record.id, Duration::ZERO).unwrap().record.id;
        let rotate = fixture.entry();
        assert_eq!((rotate.act.clone(), rotate.key), (Act::Rotate { into: new }, Some(record.id)));
        assert_eq!((&rotate.before, &rotate.after), (&Change::activate(), &Change::deactivate()));
        acting.revoke(new).unwrap();
        let revoke = fixture.entry();
        assert_eq!((&revoke.before, &revoke.after), (&Change::activate(), &Change::deactivate()));
        acting.delete(new).unwrap();
        let delete = fixture.entry();
        assert_eq!((delete.act.clone(), &delete.after), (Act::Delete, &Change::default()));
        assert_eq!(delete.before.name.as_deref(), Some("a"));
        for entry in [&create, &update, &rotate, &revoke, &delete] {
            assert_eq!((entry.actor, entry.source), (Actor::Key(clerk), Some(SOURCE)));
        }
        // An entry is in the transaction of its change, so the record's revision is its sequence.
        assert_eq!(create.sequence + 1, update.sequence);
        assert_eq!(store.get(record.id).unwrap().revision, rotate.sequence);
    }

    #[test]
    fn every_refused_act_is_recorded() {
        let mut fixture = AuditedStore::new();
        let (clerk, _) =
            fixture.key("clerk", &["admin.key.create", "admin.key.update", "admin.key.delete"]);
        let (unprivileged, _) = fixture.key("unprivileged", &[]);
        let (strong, _) = fixture.key("strong", &["api.write"]);
        let (root, _) = {
            let new = new_key(&fixture.store, "root", &[]).with_grant(Grant::All);
            fixture.read += 1;
            issue(&fixture.store, new)
        };
        let store = fixture.store.clone();
        let as_clerk = store.acting_as(Actor::Key(clerk)).with_address(SOURCE);
        as_clerk.issue(new_key(&store, "x", &["api.write"])).unwrap_err();
        fixture.assert_refused(Actor::Key(clerk), "create", None);
        as_clerk.rotate(strong, Duration::ZERO).unwrap_err();
        fixture.assert_refused(Actor::Key(clerk), "rotate", Some(strong));
        as_clerk.delete(strong).unwrap_err();
        fixture.assert_refused(Actor::Key(clerk), "delete", Some(strong));
        as_clerk.revoke(root).unwrap_err();
        fixture.assert_refused(Actor::Key(clerk), "update", Some(root));
        as_clerk.prune_audit(hours_ago(30)).unwrap_err();
        fixture.assert_refused(Actor::Key(clerk), "cut", None);
        store
            .acting_as(Actor::Key(unprivileged))
            .with_address(SOURCE)
            .issue(new_key(&store, "x", &[]))
            .unwrap_err();
        fixture.assert_refused(Actor::Key(unprivileged), "create", None);
        for id in [strong, "key_00000000000".parse().unwrap()] {
            // A new key for each id: a repeated refusal of one key would only be counted.
            let (weak, _) = fixture.key("weak", &[]);
            let as_weak = store.acting_as(Actor::Key(weak)).with_address(SOURCE);
            as_weak.revoke(id).unwrap_err();
            fixture.assert_refused(Actor::Key(weak), "update", Some(id));
            as_weak.rotate(id, Duration::ZERO).unwrap_err();
            fixture.assert_refused(Actor::Key(weak), "rotate", Some(id));
            as_weak.delete(id).unwrap_err();
            fixture.assert_refused(Actor::Key(weak), "delete", Some(id));
        }
        // A revoked key may do nothing, and its attempts are recorded.
        store.revoke(clerk).unwrap();
        fixture.read += 1;
        as_clerk.issue(new_key(&store, "x", &[])).unwrap_err();
        fixture.assert_refused(Actor::Key(clerk), "create", None);
        // A refused act of the host is recorded, too.
        store.delete(strong).unwrap_err();
        let entry = fixture.entry();
        assert_eq!((entry.actor, entry.act.as_str()), (Actor::Host, "refuse"));
    }
}

mod repeated_refusals {
    use super::*;

    const REFUSALS: u64 = 10_000;

    /// Creates a store with a key that may not administer keys.
    fn store_with_weak_key() -> (tempfile::TempDir, std::path::PathBuf, Store, KeyId) {
        let (dir, home) = home();
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let (id, _) = issue(&store, new_key(&store, "weak", &["api.read"]));
        (dir, home, store, id)
    }

    fn refuse_repeatedly(store: &Store, id: KeyId) {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let acting = store.acting_as(Actor::Key(id)).with_address(SOURCE);
                    for _ in 0..REFUSALS / 4 {
                        acting.refuse(Attempt::List, None, "lacks it").unwrap();
                    }
                });
            }
        });
    }

    /// Returns the refusals after the first two entries, each with its count of repetitions.
    fn refusals(store: &Store) -> Vec<(Attempt, String, u64)> {
        let mut found = Vec::new();
        for entry in store.audit(2, 1000).unwrap() {
            match entry.act {
                Act::Refuse { attempt, reason } => found.push((attempt, reason, 0)),
                Act::RefuseRepeated { attempt, reason, count, first, last } => {
                    assert!(first <= last && last <= entry.at);
                    found.push((attempt, reason, count));
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn ten_thousand_refusals_are_two_entries_with_exact_count_and_period() {
        let (_dir, home, store, id) = store_with_weak_key();
        let begun = now();
        refuse_repeatedly(&store, id);
        let ended = now();
        let found = refusals(&store);
        // More entries are written only if the refusals take longer than a minute.
        assert!(
            (1..=2 + (ended - begun) / 60_000 * 2).contains(&(found.len() as u64)),
            "{found:?}"
        );
        drop(store);
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let entries = store.audit(2, 1000).unwrap();
        let mut sum = 0;
        for entry in &entries {
            assert_eq!((entry.actor, entry.source), (Actor::Key(id), Some(SOURCE)));
            match &entry.act {
                Act::Refuse { .. } => sum += 1,
                Act::RefuseRepeated { attempt, reason, count, first, last } => {
                    sum += count;
                    assert_eq!((*attempt, reason.as_str()), (Attempt::List, "lacks it"));
                    // The store reads a coarse clock, which may be a few milliseconds behind.
                    assert!(begun <= first.as_millis() + 1000 && last.as_millis() <= ended);
                    assert!(first <= last && *last <= entry.at);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sum, REFUSALS);
    }

    #[test]
    fn refusal_with_another_actor_attempt_or_reason_has_its_own_entry() {
        let (_dir, _home, store, id) = store_with_weak_key();
        let acting = |actor| store.acting_as(actor);
        let acts = [
            (Actor::Key(id), Attempt::List, "a"),
            (Actor::Key(id), Attempt::List, "b"),
            (Actor::Key(id), Attempt::Create, "a"),
            (Actor::Local(7), Attempt::List, "a"),
            (Actor::Host, Attempt::List, "a"),
        ];
        for _ in 0..3 {
            for (actor, attempt, reason) in acts {
                acting(actor).refuse(attempt, None, reason).unwrap();
            }
        }
        let entries = store.audit(2, 100).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.actor, &entry.act)).collect();
        let expected = acts.map(|(actor, attempt, reason)| {
            (actor, Act::Refuse { attempt, reason: reason.into() })
        });
        let expected: Vec<_> = expected.iter().map(|(actor, act)| (*actor, act)).collect();
        assert_eq!(found, expected);
    }

    /// A copy of the directory of an open store is in the state after a kill.
    #[test]
    fn crash_loses_only_the_unwritten_count() {
        let (dir, home, store, id) = store_with_weak_key();
        let acting = store.acting_as(Actor::Key(id));
        let copied = |name: &str| {
            let copy = dir.path().join(name);
            portcullis_testkit::copy(&home, &copy);
            let store = portcullis_testkit::builder().open(copy).unwrap();
            refusals(&store)
        };
        acting.refuse(Attempt::List, None, "a").unwrap();
        let first = [(Attempt::List, "a".to_owned(), 0)];
        assert_eq!(copied("immediately"), first);
        for _ in 0..100 {
            acting.refuse(Attempt::List, None, "a").unwrap();
        }
        assert_eq!(copied("later"), first);
        store.revoke(id).unwrap();
        assert_eq!(copied("after a change"), first);
        drop(store);
        let [first] = first;
        let expected = [first, (Attempt::List, "a".to_owned(), 100)];
        assert_eq!(refusals(&portcullis_testkit::builder().open(&home).unwrap()), expected);
    }

    #[test]
    fn many_reasons_of_one_key_share_one_count() {
        let (_dir, home, store, id) = store_with_weak_key();
        let acting = store.acting_as(Actor::Key(id));
        for reason in 0..1000 {
            acting.refuse(Attempt::Rotate, None, &format!("reason {reason}")).unwrap();
        }
        drop(store);
        let found = refusals(&portcullis_testkit::builder().open(&home).unwrap());
        // 16 reasons have their own count. The others share one, with an entry for the first.
        assert_eq!(found.len(), 16 + 1 + 1, "{found:?}");
        assert_eq!(found[17], (Attempt::Rotate, "(several other reasons)".into(), 1000 - 17));
    }
}
