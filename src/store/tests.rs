//! Deny early, allow late: what readers see while a change is pending, and after it failed.

use super::testing::{Script, advance_time, pass_time, scripted_store, store_with_clock_jump};
use crate::{
    Error, Idempotency, KeyId, Outcome, Store,
    error::Field,
    ledger::{CommitOutcome, Room},
    list::ListQuery,
    rate::Rate,
    record::{Actor, Change, Expiry, Metadata, MetadataPatch, NewKey},
    refusal::Refusal,
    scope::{Grant, catalogue::financial_data},
    time::Timestamp,
};
use std::{
    thread,
    time::{Duration, SystemTime},
};

pub(super) fn new_key(store: &Store, names: &[&str], active: bool) -> NewKey {
    NewKey::new("k", store.scopes(names).unwrap(), Expiry::Never).with_active(active)
}

/// Issues a key with a commit that succeeds.
pub(super) fn issue(store: &Store, script: &Script, new: NewKey) -> (KeyId, String) {
    script.verdict(true);
    let issued = store.issue(new).unwrap();
    script.begun();
    (issued.record.id, issued.secret.reveal(str::to_owned))
}

/// Starts a change on a new thread.
fn spawn<T: Send + 'static>(
    store: &Store,
    change: impl FnOnce(&Store) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let store = store.clone();
    thread::spawn(move || change(&store))
}

/// Waits until so many changes were planned in all.
fn planned(store: &Store, sequence: u64) {
    while store.writer.plan().next_sequence() <= sequence {
        thread::yield_now();
    }
}

fn decision(store: &Store, key: &str) -> Result<(), Refusal> {
    store.authenticate_key(key.as_bytes()).map(|_| ())
}

#[test]
#[cfg(feature = "axum")]
fn handle_equals_only_handles_of_its_own_store() {
    let (one, other) = (
        Store::builder().scopes(financial_data()).in_memory().unwrap(),
        Store::builder().scopes(financial_data()).in_memory().unwrap(),
    );
    assert!(one.is(&one.clone()) && !one.is(&other));
}

#[test]
fn new_key_is_invisible_until_it_is_durable() {
    let (store, script) = scripted_store();
    let issuing = spawn(&store, |store| store.issue(new_key(store, &["api.read"], true)));
    script.begun();
    assert!(store.list(&ListQuery::default()).unwrap().records.is_empty());
    assert_eq!(store.count().active, 0);
    script.verdict(true);
    let key = issuing.join().unwrap().unwrap().secret.reveal(str::to_owned);
    assert_eq!(decision(&store, &key), Ok(()));
}

#[test]
fn conflict_discards_everything_that_is_queued_and_retracts_its_denials() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let (other, second) = issue(&store, &script, new_key(&store, &["api.read"], true));
    for outcome in [CommitOutcome::Conflict, CommitOutcome::Refused("full".into())] {
        let is_refused = matches!(outcome, CommitOutcome::Refused(_));
        let in_flight = spawn(&store, move |store| store.revoke(id));
        script.begun();
        let queued = spawn(&store, move |store| store.revoke(other));
        planned(&store, 4);
        assert!([&key, &second].iter().all(|key| decision(&store, key).is_err()));
        script.answer(outcome);
        match in_flight.join().unwrap() {
            Err(Error::ConsensusRefused(why)) => assert!(is_refused, "{why}"),
            Err(Error::Contended) => assert!(!is_refused),
            other => panic!("{other:?}"),
        }
        // It builds on a discarded change.
        assert!(matches!(queued.join().unwrap(), Err(Error::Contended)));
        assert!([&key, &second].iter().all(|key| decision(&store, key).is_ok()));
    }
    // The next change has the number of the first one that was discarded.
    script.verdict(true);
    assert_eq!(store.revoke(id).unwrap().revision, 3);
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
}

#[test]
fn revoked_key_is_refused_before_the_revocation_is_durable() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let revoking = spawn(&store, move |store| store.revoke(id));
    script.begun();
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
    assert!(!revoking.is_finished());
    assert!(store.get(id).unwrap().active, "reads return the durable record");
    script.verdict(true);
    assert!(!revoking.join().unwrap().unwrap().active);
    assert!(!store.get(id).unwrap().active);
}

#[test]
fn reactivated_key_is_refused_until_the_change_is_durable() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], false));
    let activating = spawn(&store, move |store| store.update(id, Change::activate()));
    script.begun();
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
    script.verdict(true);
    activating.join().unwrap().unwrap();
    assert_eq!(decision(&store, &key), Ok(()));
}

#[test]
fn scopes_are_narrowed_at_once_and_widened_when_durable() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let swapped = Change {
        grant: Some(Grant::Scopes(store.scopes(["api.write"]).unwrap())),
        ..Change::default()
    };
    let swapping = spawn(&store, move |store| store.update(id, swapped));
    script.begun();
    let granted = |store: &Store| *store.authenticate_key(key.as_bytes()).unwrap().grant();
    assert_eq!(granted(&store), Grant::Scopes(store.scopes([""; 0]).unwrap()));
    script.verdict(true);
    swapping.join().unwrap().unwrap();
    assert_eq!(granted(&store), Grant::Scopes(store.scopes(["api.write"]).unwrap()));
}

#[test]
fn rotation_denies_the_old_key_at_once_and_accepts_the_new_one_when_durable() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let rotating = spawn(&store, move |store| store.rotate(id, Duration::ZERO));
    assert_eq!(script.begun(), 1);
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
    assert_eq!(store.list(&ListQuery::default()).unwrap().records.len(), 1);
    script.verdict(true);
    let issued = rotating.join().unwrap().unwrap();
    let second = issued.record.id;
    let new = issued.secret.reveal(str::to_owned);
    assert_eq!((decision(&store, &key), decision(&store, &new)), (Err(Refusal::Inactive), Ok(())));

    script.verdict(false);
    assert!(matches!(store.rotate(second, Duration::ZERO), Err(Error::NotDurable(_))));
    assert_eq!(decision(&store, &new), Err(Refusal::Inactive));
    assert_eq!(store.list(&ListQuery::default()).unwrap().records.len(), 2);
}

#[test]
fn key_with_a_pending_revocation_is_not_rotated() {
    let (store, script) = scripted_store();
    let (id, _) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let revoking = spawn(&store, move |store| store.revoke(id));
    script.begun();
    let rotating = spawn(&store, move |store| store.rotate(id, Duration::ZERO));
    planned(&store, 3); // The audit entry of the refusal.
    script.verdict(true);
    script.verdict(true);
    revoking.join().unwrap().unwrap();
    assert!(matches!(rotating.join().unwrap(), Err(Error::NotCurrent { .. })));
}

#[test]
fn earlier_expiry_takes_effect_at_once() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let ended = Change { expiry: Some(Expiry::At(Timestamp::from_secs(1))), ..Change::default() };
    let ending = spawn(&store, move |store| store.update(id, ended));
    script.begun();
    assert_eq!(decision(&store, &key), Err(Refusal::Expired));
    script.verdict(true);
    ending.join().unwrap().unwrap();
}

#[test]
fn clock_set_back_revives_no_expired_key() {
    let (store, script) = scripted_store();
    let in_hours = |hours| Timestamp::from(SystemTime::now() + Duration::from_hours(hours));
    let new = NewKey { expiry: Expiry::At(in_hours(1)), ..new_key(&store, &["api.read"], true) };
    let (_, key) = issue(&store, &script, new);
    assert_eq!(decision(&store, &key), Ok(()));
    // As if the wall clock had been two hours ahead when the last change was planned. The next change gets
    // no earlier time.
    store.writer.plan().tip.newest = in_hours(2);
    issue(&store, &script, new_key(&store, &["api.read"], true));
    assert_eq!(decision(&store, &key), Err(Refusal::Expired));
}

#[test]
fn clock_jump_of_more_than_a_day_is_reported() {
    let jumped = |hours| store_with_clock_jump(Duration::from_hours(hours)).health();
    assert_eq!(jumped(23).clock_jump, None);
    assert!(jumped(25).clock_jump.is_some_and(|ahead| ahead > Duration::from_hours(24)));
}

#[test]
fn key_revoked_reactivated_and_revoked_again_stays_refused() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let first = spawn(&store, move |store| store.revoke(id));
    script.begun();
    let second = spawn(&store, move |store| store.update(id, Change::activate()));
    planned(&store, 3);
    let third = spawn(&store, move |store| store.revoke(id));
    planned(&store, 4);
    script.verdict(true);
    first.join().unwrap().unwrap();
    assert_eq!(script.begun(), 2);
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
    script.verdict(true);
    assert!(second.join().unwrap().is_ok() && third.join().unwrap().is_ok());
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
}

#[test]
fn change_builds_on_the_pending_change_of_its_key() {
    let (store, script) = scripted_store();
    let (id, _) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let update = |change| spawn(&store, move |store| store.update(id, change).unwrap());
    let named = |name: &str| Change { name: Some(name.into()), ..Change::default() };
    let first = update(named("a"));
    script.begun();
    let owned = update(Change { owner: Some(Some("shop-17".into())), ..Change::default() });
    planned(&store, 3);
    script.verdict(true);
    script.begun();
    let last = update(named("b"));
    planned(&store, 4);
    script.verdict(true);
    script.verdict(true);
    assert!([first, owned, last].into_iter().all(|change| change.join().is_ok()));
    let record = store.get(id).unwrap();
    assert_eq!((&*record.name, record.owner.as_deref()), ("b", Some("shop-17")));
}

#[test]
fn metadata_patch_merges_into_changes_that_are_queued() {
    let (store, script) = scripted_store();
    let metadata = Metadata::from([("team".into(), "a".into()), ("floor".into(), "2".into())]);
    let new = NewKey { metadata, ..new_key(&store, &["api.read"], true) };
    let (id, key) = issue(&store, &script, new);
    let patch = |change, entry: &str, value: Option<&str>| {
        let metadata = MetadataPatch::from([(entry.to_owned(), value.map(str::to_owned))]);
        spawn(&store, move |store| {
            store.acting_as(Actor::Host).patch(id, change, metadata).unwrap()
        })
    };
    let first = patch(Change::default(), "shift", Some("night"));
    script.begun();
    let second = patch(Change::default(), "floor", None);
    planned(&store, 3);
    let third = patch(Change::deactivate(), "reason", Some("leaked"));
    planned(&store, 4);
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive), "denied before it is durable");
    script.verdict(true);
    script.verdict(true);
    assert!([first, second, third].into_iter().all(|patch| patch.join().is_ok()));
    let expected = [("reason", "leaked"), ("shift", "night"), ("team", "a")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(store.get(id).unwrap().metadata, Metadata::from(expected));
}

#[test]
fn metadata_patch_beyond_its_limits_is_refused_by_name_and_changes_nothing() {
    let store = Store::builder().scopes(financial_data()).in_memory().unwrap();
    let issued = store.issue(new_key(&store, &["api.read"], true)).unwrap();
    let (before, id) = (issued.record, store.list(&ListQuery::default()).unwrap().records[0].id);
    let patch = MetadataPatch::from([("reason".into(), Some("x".repeat(257)))]);
    let refused = store.acting_as(Actor::Host).patch(id, Change::deactivate(), patch);
    assert!(matches!(refused, Err(Error::Invalid { field: Field::Metadata, .. })));
    assert_eq!(store.get(id).unwrap(), before);
    issued.secret.reveal(|key| assert_eq!(decision(&store, key), Ok(())));
}

#[test]
fn repeated_change_waits_for_the_pending_one() {
    let (store, script) = scripted_store();
    let (id, _) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let first = spawn(&store, move |store| store.revoke(id));
    script.begun();
    let again = spawn(&store, move |store| store.revoke(id));
    thread::sleep(Duration::from_millis(50));
    assert!(!again.is_finished());
    script.verdict(false);
    assert!(matches!(first.join().unwrap(), Err(Error::NotDurable(_))));
    assert!(matches!(again.join().unwrap(), Err(Error::NotDurable(_))));
}

#[test]
fn failed_write_keeps_denials_allows_nothing_new_and_validation_continues() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let (other, other_key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let (_, third_key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    script.verdict(false);
    assert!(matches!(store.revoke(id), Err(Error::NotDurable(_))));
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
    assert!(store.health().poisoned.is_some());

    assert!(matches!(store.update(id, Change::activate()), Err(Error::Poisoned(_))));
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
    assert!(matches!(store.revoke(other), Err(Error::Poisoned(_))));
    assert_eq!(decision(&store, &other_key), Err(Refusal::Inactive));
    assert!(matches!(store.issue(new_key(&store, &["api.read"], true)), Err(Error::Poisoned(_))));
    assert!(matches!(store.delete(id), Err(Error::Poisoned(_))));
    assert_eq!(decision(&store, &third_key), Ok(()));
}

#[test]
fn revocation_queued_behind_a_failed_write_stays_refused() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let issuing =
        spawn(&store, |store| store.issue(new_key(store, &["api.read"], true)).map(|_| ()));
    script.begun();
    let revoking = spawn(&store, move |store| store.revoke(id));
    planned(&store, 3);
    script.verdict(false);
    assert!(matches!(issuing.join().unwrap(), Err(Error::NotDurable(_))));
    assert!(matches!(revoking.join().unwrap(), Err(Error::NotDurable(_))));
    assert_eq!(decision(&store, &key), Err(Refusal::Inactive));
}

#[test]
fn rejected_plan_changes_nothing() {
    let (store, script) = scripted_store();
    let root = NewKey { grant: Grant::All, ..new_key(&store, &[], true) };
    let (id, key) = issue(&store, &script, root);
    script.verdict(true); // For the audit entry of the refusal.
    assert!(matches!(store.revoke(id), Err(Error::LastRoot(_))));
    let stale = store.acting_as(Actor::Host).update_if(
        id,
        99,
        Change { name: Some("x".into()), ..Change::default() },
    );
    assert!(matches!(stale, Err(Error::Changed(_))));
    assert_eq!(decision(&store, &key), Ok(()));
    assert_eq!(store.writer.plan().next_sequence(), 3);
}

#[test]
fn expected_revision_includes_pending_changes() {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let seen = store.get(id).unwrap().revision;
    let named = Change { name: Some("a".into()), ..Change::default() };
    let renaming = spawn(&store, move |store| store.update(id, named));
    script.begun();
    let host = store.acting_as(Actor::Host);
    assert!(matches!(host.update_if(id, seen, Change::deactivate()), Err(Error::Changed(_))));
    assert!(matches!(host.delete_if(id, seen), Err(Error::Changed(_))));
    assert_eq!(decision(&store, &key), Ok(()));
    let revoking = spawn(&store, move |store| {
        store.acting_as(Actor::Host).update_if(id, seen + 1, Change::deactivate())
    });
    planned(&store, seen + 2);
    script.verdict(true);
    script.verdict(true);
    assert_eq!(renaming.join().unwrap().unwrap().revision, seen + 1);
    assert!(!revoking.join().unwrap().unwrap().active);
}

#[test]
fn key_with_a_pending_revocation_can_change_nothing() {
    let (store, script) = scripted_store();
    let names = ["admin.key.update", "admin.key.create", "api.read"];
    let (clerk, _) = issue(&store, &script, new_key(&store, &names, true));
    let (other, other_key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    let revoking = spawn(&store, move |store| store.revoke(clerk));
    script.begun();
    let takeover = spawn(&store, move |store| store.acting_as(Actor::Key(clerk)).revoke(other));
    planned(&store, 4);
    let minting = spawn(&store, move |store| {
        store.acting_as(Actor::Key(clerk)).issue(new_key(store, &["api.read"], true))
    });
    planned(&store, 5);
    assert_eq!(decision(&store, &other_key), Ok(()));
    script.verdict(true);
    script.verdict(true); // For the audit entries of both refusals.
    revoking.join().unwrap().unwrap();
    assert!(matches!(takeover.join().unwrap(), Err(Error::Forbidden(_))));
    assert!(matches!(minting.join().unwrap(), Err(Error::Forbidden(_))));
}

#[test]
fn last_root_check_includes_pending_changes() {
    let (store, script) = scripted_store();
    let root = || NewKey { grant: Grant::All, ..new_key(&store, &[], true) };
    let (first, _) = issue(&store, &script, root());
    let (second, _) = issue(&store, &script, root());
    let revoking = spawn(&store, move |store| store.revoke(first));
    script.begun();
    let refused = spawn(&store, move |store| store.revoke(second));
    planned(&store, 4);
    script.verdict(true);
    script.verdict(true);
    revoking.join().unwrap().unwrap();
    assert!(matches!(refused.join().unwrap(), Err(Error::LastRoot(_))));
}

#[test]
fn changes_queued_during_a_commit_form_the_next_batch() {
    let (store, script) = scripted_store();
    let first = spawn(&store, |store| store.issue(new_key(store, &["api.read"], true)).map(|_| ()));
    assert_eq!(script.begun(), 1);
    let more: Vec<_> = (0..5)
        .map(|_| spawn(&store, |store| store.issue(new_key(store, &[], true)).map(|_| ())))
        .collect();
    planned(&store, 6);
    script.verdict(true);
    assert_eq!(script.begun(), 5);
    script.verdict(true);
    assert!(
        first.join().unwrap().is_ok()
            && more.into_iter().all(|issuing| issuing.join().unwrap().is_ok())
    );
}

#[test]
fn failed_ledger_wakes_every_waiting_caller() {
    let (store, script) = scripted_store();
    let issuing: Vec<_> = (0..4)
        .map(|_| spawn(&store, |store| store.issue(new_key(store, &[], true)).map(|_| ())))
        .collect();
    planned(&store, 4);
    drop(script); // The ledger panics from here on.
    assert!(issuing.into_iter().all(|issuing| matches!(
        issuing.join().unwrap(),
        Err(Error::NotDurable(_) | Error::Poisoned(_))
    )));
    assert!(store.health().poisoned.is_some());
}

#[test]
fn duplicate_request_waits_for_the_first_one() {
    let (store, script) = scripted_store();
    let once = |store: &Store| {
        let request = Idempotency { key: b"a", route: "POST /v1/keys", payload: b"{}" };
        let new = new_key(store, &["api.read"], true);
        store.acting_as(Actor::Host).issue_once(new, &request)
    };
    let first = spawn(&store, once);
    script.begun();
    let second = spawn(&store, once);
    thread::sleep(Duration::from_millis(50));
    assert!(!second.is_finished());
    script.verdict(true);
    let Outcome::Issued(issued) = first.join().unwrap().unwrap() else { panic!("not issued") };
    let Outcome::Before(record) = second.join().unwrap().unwrap() else { panic!("issued twice") };
    assert_eq!(record, issued.record);
    assert_eq!(store.list(&ListQuery::default()).unwrap().records.len(), 1);
}

#[test]
#[cfg(feature = "axum")]
fn log_reports_each_refused_act_missing_from_the_audit_log() {
    let (store, script) = scripted_store();
    let root = NewKey { grant: Grant::All, ..new_key(&store, &[], true) };
    let (root, _) = issue(&store, &script, root);
    let names = ["admin.key.create", "api.read"];
    let (clerk, _) = issue(&store, &script, new_key(&store, &names, true));
    let log = tempfile::NamedTempFile::new().unwrap();
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(log.reopen().unwrap());
    tracing::subscriber::with_default(lines.finish(), || {
        script.verdict(false);
        assert!(matches!(store.revoke(root), Err(Error::LastRoot(_))));
        let clerk = store.acting_as(Actor::Key(clerk));
        let wider = clerk.issue(new_key(&store, &["api.write"], true));
        assert!(matches!(wider, Err(Error::Forbidden(_))));
        assert!(matches!(store.delete(root), Err(Error::StillActive(_))));
    });
    let log = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert!(lines.iter().all(|line| line.contains("a refused act is missing from the audit log")));
    let actors = [Actor::Host, Actor::Key(clerk), Actor::Host];
    let expected: Vec<_> = actors.iter().map(|actor| format!("actor={actor} error=")).collect();
    assert_eq!(lines.len(), expected.len(), "{log}");
    assert!(lines.iter().zip(&expected).all(|(line, expected)| line.contains(expected)), "{log}");
}

/// A store with one key, whose disk then has this much space.
fn with_room(room: Room) -> (Store, Script, KeyId, String) {
    let (store, script) = scripted_store();
    let (id, key) = issue(&store, &script, new_key(&store, &["api.read"], true));
    script.set_room(room);
    (store, script, id, key)
}

#[test]
fn full_disk_accepts_only_stricter_changes() {
    let (store, script, id, key) = with_room(Room::Enough);
    let (other, _) = issue(&store, &script, new_key(&store, &["api.read"], false));
    script.set_room(Room::Reserve);
    let soon = Expiry::At(Timestamp::from_secs(4_000_000_000));
    let elsewhere = Some(Grant::Scopes(store.scopes(["api.write"]).unwrap()));
    let refused: [Result<(), Error>; 6] = [
        store.issue(new_key(&store, &["api.read"], true)).map(drop),
        store.rotate(id, Duration::ZERO).map(drop),
        store.update(id, Change { name: Some("n".into()), ..Change::default() }).map(drop),
        store.update(other, Change::activate()).map(drop),
        store.update(id, Change { grant: elsewhere, ..Change::default() }).map(drop),
        store.delete(other),
    ];
    for outcome in refused {
        assert!(matches!(outcome, Err(Error::NoRoom { .. })), "{outcome:?}");
    }
    assert!(store.authenticate_key(key.as_bytes()).is_ok());
    for change in [
        Change { expiry: Some(soon), ..Change::default() },
        Change { grant: Some(Grant::Scopes(store.scopes([""; 0]).unwrap())), ..Change::default() },
        Change { name: Some("leaked".into()), ..Change::deactivate() },
    ] {
        script.verdict(true);
        store.update(id, change).unwrap();
    }
    assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
    assert_eq!(store.get(id).unwrap().name, "leaked");
}

#[test]
fn full_disk_writes_no_refused_acts() {
    let (store, script, id, _) = with_room(Room::Reserve);
    // The key has no scope to issue keys. The refusal would be an audit entry.
    let acting = store.acting_as(Actor::Key(id));
    let refused = acting.issue(new_key(&store, &["api.read"], true));
    assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
    script.set_room(Room::Enough);
    script.verdict(true);
    store.revoke(id).unwrap();
    assert_eq!(script.begun(), 1, "only the revocation was written");
}

#[test]
fn used_up_reserve_refuses_the_key_until_its_revocation_is_written() {
    let (store, script, id, key) = with_room(Room::Nothing);
    for _ in 0..2 {
        let outcome = store.revoke(id);
        assert!(matches!(outcome, Err(Error::ReserveUsedUp { .. })), "{outcome:?}");
        assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
    }
    assert_eq!(store.health().poisoned, None);
    // There is space again: the change is repeated, and the key can be reactivated.
    script.set_room(Room::Enough);
    script.verdict(true);
    store.revoke(id).unwrap();
    script.verdict(true);
    store.update(id, Change::activate()).unwrap();
    assert!(store.authenticate_key(key.as_bytes()).is_ok());
}

#[test]
fn key_with_a_rate_gets_requests_as_time_passes_and_not_as_the_clock_is_set() {
    let store = Store::builder().scopes(financial_data()).in_memory().unwrap();
    let new = new_key(&store, &["api.read"], true).with_rate(Rate::new(3, 3600).unwrap());
    let key = store.issue(new).unwrap().secret.reveal(|text| text.as_bytes().to_vec());
    let allowed = || (0..9).filter(|_| store.authenticate_key(&key).is_ok()).count();
    assert_eq!(allowed(), 3);
    // A change with a wrong clock moves the time that decides on expiries.
    advance_time(&store, Timestamp::from_millis(store.now().as_millis() + 7_200_000));
    assert_eq!(allowed(), 0);
    pass_time(&store, Duration::from_mins(20));
    assert_eq!(allowed(), 1);
    pass_time(&store, Duration::from_hours(24));
    assert_eq!(allowed(), 3);
}
