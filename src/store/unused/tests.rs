//! Which keys are unused, and when they are deactivated.

use super::{Moment, UnusedBlocked, UnusedKeys};
use crate::{
    Actor, Change, Error, Expiry, Grant, KeyId, NewKey, Offline, Store, Timestamp,
    audit::Act,
    backup::LaterEvidence,
    ledger::known_uses::KnownUses,
    policy::{Policy, UnusedPolicy},
    scope::catalogue::financial_data,
    store::testing::{advance_time, store_with_clock_jump, store_with_time_ahead},
};
use std::{fs, path::Path, sync::atomic::Ordering::Relaxed, time::Duration};

const DAY: u32 = 24 * 60;

fn policy(days: u64, deactivate: bool) -> Policy {
    let after = Duration::from_hours(24 * days);
    Policy { unused: Some(UnusedPolicy { after, deactivate }), ..Policy::default() }
}

fn store() -> Store {
    let store = Store::builder().scopes(financial_data()).in_memory().unwrap();
    store.set_policy(policy(30, true)).unwrap();
    store
}

fn new(store: &Store) -> NewKey {
    NewKey::new("a", store.scopes(["api.read"]).unwrap(), Expiry::Never)
}

fn issue(store: &Store) -> KeyId {
    store.issue(new(store)).unwrap().record.id
}

/// A moment this many days after the store was opened, with all uses known.
fn after_days(store: &Store, days: u32) -> Moment {
    let since = store.writer.uses_known_since.load(Relaxed);
    // The minute of the opening may not be the one of the policy or the keys.
    let until = since + days * DAY + 2;
    let known = KnownUses { since, until, ..KnownUses::default() };
    Moment { now: Timestamp::from_minutes(until), has_clock_error: false, known }
}

fn unused(store: &Store, moment: &Moment) -> UnusedKeys {
    let state = store.writer.names().policy_state().unwrap();
    store.unused_at(&state, moment).unwrap()
}

fn deactivate(store: &Store, moment: &Moment) -> Vec<KeyId> {
    let state = store.writer.names().policy_state().unwrap();
    store.deactivate_unused_at(&state, moment).unwrap().done
}

#[test]
fn key_is_unused_only_if_all_uses_of_the_whole_time_are_known() {
    let store = store();
    let id = issue(&store);
    assert!(unused(&store, &after_days(&store, 29)).ids.is_empty());
    let mut moment = after_days(&store, 30);
    assert_eq!((unused(&store, &moment).ids, unused(&store, &moment).blocked), (vec![id], None));
    moment.known.since += DAY;
    assert!(unused(&store, &moment).ids.is_empty(), "uses of a day are unknown");
    moment = after_days(&store, 31);
    moment.known.since += DAY - 2;
    assert_eq!(unused(&store, &moment).ids, [id]);
}

#[test]
fn time_counts_from_the_setting_of_the_span() {
    let store = store();
    let id = issue(&store);
    let later = after_days(&store, 5).now;
    advance_time(&store, later);
    store.set_policy(policy(20, true)).unwrap();
    assert!(unused(&store, &after_days(&store, 24)).ids.is_empty());
    assert_eq!(unused(&store, &after_days(&store, 26)).ids, [id]);
}

#[test]
fn used_changed_inactive_and_root_keys_are_not_unused() {
    let store = store();
    store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap();
    store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap();
    let [used, changed, reactivated, inactive, left] = [(); 5].map(|()| issue(&store));
    store.revoke(inactive).unwrap();
    store.revoke(reactivated).unwrap();
    let fifth = after_days(&store, 5);
    store.writer.index.record_use(used, fifth.known.until);
    advance_time(&store, fifth.now);
    store.update(reactivated, Change::activate()).unwrap();
    store.update(changed, Change { name: Some("b".into()), ..Change::default() }).unwrap();
    assert_eq!(unused(&store, &after_days(&store, 31)).ids, [left]);
    let mut all = unused(&store, &after_days(&store, 36)).ids;
    assert_eq!(all.first(), Some(&left), "the longest unused is the first");
    let mut expected = vec![used, changed, reactivated, left];
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn nothing_is_unused_after_a_clock_error_or_while_a_replica_has_not_reported() {
    let store = store();
    issue(&store);
    let mut moment = after_days(&store, 40);
    moment.has_clock_error = true;
    let found = unused(&store, &moment);
    assert_eq!((found.ids, found.blocked), (vec![], Some(UnusedBlocked::ClockError)));
    assert!(deactivate(&store, &moment).is_empty());
    let mut moment = after_days(&store, 40);
    moment.known.missing = Some("till-4".into());
    let found = unused(&store, &moment);
    let blocked = UnusedBlocked::ReplicaNotReported("till-4".into());
    assert_eq!((found.ids, found.blocked), (vec![], Some(blocked)));
    assert!(deactivate(&store, &moment).is_empty());
    for store in [
        store_with_clock_jump(Duration::from_hours(30 * 24)),
        store_with_time_ahead(Duration::from_hours(30 * 24)),
    ] {
        store.set_policy(policy(1, true)).unwrap();
        assert_eq!(store.unused_keys().unwrap().blocked, Some(UnusedBlocked::ClockError));
    }
}

#[test]
fn one_percent_is_deactivated_once_a_day_and_recorded() {
    let room = tempfile::tempdir().unwrap();
    let store = Store::builder().scopes(financial_data()).open(room.path().join("keys")).unwrap();
    store.set_policy(policy(30, true)).unwrap();
    let keys = vec![new(&store); 250];
    assert!(store.acting_as(Actor::Host).issue_all(keys).unwrap().iter().all(Result::is_ok));
    let moment = after_days(&store, 31);
    let planned = unused(&store, &moment);
    assert_eq!((planned.ids.len(), planned.at_once, planned.next().len()), (250, 2, 2));
    assert_eq!(deactivate(&store, &moment), planned.next());
    assert!(planned.next().iter().all(|id| !store.get(*id).unwrap().active));
    let found = unused(&store, &moment);
    assert!(matches!(found.blocked, Some(UnusedBlocked::RanAt(_))), "{:?}", found.blocked);
    assert!(deactivate(&store, &moment).is_empty());
    assert_eq!(deactivate(&store, &after_days(&store, 32)).len(), 2);
    assert_eq!(store.count().inactive, 4);
    let entries = store.audit(0, 1000).unwrap();
    let runs: Vec<_> =
        entries.iter().filter(|e| matches!(e.act, Act::DeactivateUnused { keys: 2 })).collect();
    let ended =
        entries.iter().filter(|e| e.after.active == Some(false) && e.actor == Actor::Policy);
    assert_eq!((runs.len(), runs[0].actor, ended.count()), (2, Actor::Policy, 4));
}

#[test]
fn a_small_store_deactivates_one_key_a_day() {
    let store = store();
    let id = issue(&store);
    assert_eq!(deactivate(&store, &after_days(&store, 31)), [id]);
}

#[test]
fn policy_that_only_lists_deactivates_nothing() {
    let store = store();
    let id = issue(&store);
    store.set_policy(policy(30, false)).unwrap();
    let moment = after_days(&store, 31);
    let found = unused(&store, &moment);
    assert_eq!((found.ids, found.blocked), (vec![id], Some(UnusedBlocked::NotInPolicy)));
    assert!(deactivate(&store, &moment).is_empty());
    store.set_policy(Policy::default()).unwrap();
    let found = store.unused_keys().unwrap();
    assert_eq!((found.ids, found.blocked), (vec![], Some(UnusedBlocked::NotInPolicy)));
    assert!(store.deactivate_unused().unwrap().done.is_empty());
}

#[test]
fn key_that_is_used_meanwhile_is_left_alone() {
    let store = store();
    let (one, two) = (issue(&store), issue(&store));
    let moment = after_days(&store, 31);
    let first = unused(&store, &moment).next().to_vec();
    store.writer.index.record_use(first[0], moment.known.until);
    let left = if first == [one] { two } else { one };
    assert_eq!(deactivate(&store, &moment), [left]);
}

#[test]
fn span_below_a_day_is_refused() {
    let unused = UnusedPolicy { after: Duration::from_hours(23), deactivate: false };
    let refused = store().set_policy(Policy { unused: Some(unused), ..Policy::default() });
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}

fn opened(dir: &Path) -> (Store, u32) {
    let store = Store::builder().scopes(financial_data()).open(dir).unwrap();
    let since = store.writer.uses_known_since.load(Relaxed);
    (store, since)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

#[test]
fn known_time_survives_a_clean_end_but_no_crash_and_no_restore() {
    let room = tempfile::tempdir().unwrap();
    let [dir, crashed, restored] =
        ["keys", "crashed", "restored"].map(|name| room.path().join(name));
    let (store, now) = opened(&dir);
    // A minute long ago, so that a new time differs.
    store.writer.uses_known_since.store(7, Relaxed);
    drop(store);
    assert!(opened(&dir).1 >= now, "without such a policy nothing is recorded");
    let (store, _) = opened(&dir);
    store.set_policy(policy(30, true)).unwrap();
    store.writer.uses_known_since.store(7, Relaxed);
    drop(store);
    let (store, since) = opened(&dir);
    assert_eq!(since, 7);
    copy(&dir, &crashed);
    assert!(opened(&crashed).1 >= now, "uses may have been lost");
    drop(store);
    let (store, since) = opened(&dir);
    assert_eq!(since, 7);
    let mut backup = Vec::new();
    store.backup(&mut backup, |_| {}).unwrap();
    let offline = Offline::new();
    let later = LaterEvidence::Unknown;
    offline.restore(&*backup, &restored, &later, Actor::Host, |_| {}).unwrap();
    let (store, since) = opened(&restored);
    assert!(since >= now, "uses after the backup are lost");
    assert_eq!(store.policy().unwrap(), policy(30, true));
}

#[test]
fn known_time_starts_again_after_a_store_is_closed_with_a_wrong_clock() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("keys");
    let (store, now) = opened(&dir);
    store.set_policy(policy(30, true)).unwrap();
    store.writer.uses_known_since.store(7, Relaxed);
    let hour = Timestamp::from_millis(store.now().as_millis() + 3_600_000);
    advance_time(&store, hour);
    drop(store);
    assert!(opened(&dir).1 >= now);
}
