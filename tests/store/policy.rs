//! The policy of a store: how long keys may live.

use portcullis::{
    Actor, Change, Error, Expiry, Grant, ImportOptions, ImportedSecret, LifetimePolicy, NewKey,
    Offline, Policy, Store, Timestamp, audit::Act, backup::LaterEvidence, error::Field,
    list::ListQuery, scope::catalogue,
};
use portcullis_testkit::audit::hours_ago;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_hours(24);

fn within(days: u32) -> LifetimePolicy {
    LifetimePolicy { max: Some(DAY * days), ..LifetimePolicy::default() }
}

fn policy() -> Policy {
    Policy { administrators: within(90), others: within(365), ..Policy::default() }
}

fn builder() -> portcullis::Builder {
    Store::builder().scopes(catalogue::financial_data())
}

fn store() -> Store {
    builder().in_memory().unwrap()
}

fn in_days(days: u32) -> Expiry {
    Expiry::At(Timestamp::from(SystemTime::now() + DAY * days))
}

fn new(store: &Store, scope: &str, expiry: Expiry) -> NewKey {
    NewKey::new("a", store.scopes([scope]).unwrap(), expiry)
}

#[expect(clippy::needless_pass_by_value, reason = "callers have no other use for it")]
fn is_refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Invalid { field: Field::ExpiresAt, .. }))
}

#[test]
fn store_without_a_policy_limits_nothing() {
    let store = store();
    assert_eq!(store.policy().unwrap(), Policy::default());
    store.issue(new(&store, "admin.key.list", Expiry::Never)).unwrap();
}

#[test]
fn longest_lifetimes_of_administrator_keys_and_of_others_are_apart() {
    let store = store();
    store.set_policy(policy()).unwrap();
    let issue = |scope, expiry| store.issue(new(&store, scope, expiry));
    issue("api.read", in_days(364)).unwrap();
    assert!(is_refused(issue("api.read", in_days(366))));
    assert!(is_refused(issue("api.read", Expiry::Never)));
    issue("admin.key.list", in_days(89)).unwrap();
    assert!(is_refused(issue("admin.key.list", in_days(91))));
}

#[test]
fn required_expiry_refuses_a_lasting_key_but_not_a_root_key() {
    let store = store();
    let others = LifetimePolicy { required: true, ..LifetimePolicy::default() };
    store.set_policy(Policy { administrators: others, others, ..Policy::default() }).unwrap();
    assert!(is_refused(store.issue(new(&store, "api.read", Expiry::Never))));
    store.issue(new(&store, "api.read", in_days(9000))).unwrap();
    store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap();
}

#[test]
fn default_lifetime_is_that_of_the_kind_of_key() {
    let store = store();
    let others = LifetimePolicy { default: Some(DAY), ..LifetimePolicy::default() };
    store.set_policy(Policy { others, ..Policy::default() }).unwrap();
    let default = |name| store.default_expiry(&store.scopes([name]).unwrap().into()).unwrap();
    assert!(default("api.read") > in_days(0) && default("api.read") < in_days(2));
    assert_eq!(default("admin.key.list"), Expiry::Never);
    assert_eq!(store.default_expiry(&Grant::All).unwrap(), Expiry::Never);
}

#[test]
fn key_that_exceeds_a_new_policy_stays_and_can_be_restricted_and_rotated_but_not_extended() {
    let store = store();
    let id = store.issue(new(&store, "api.read", in_days(500))).unwrap().record.id;
    store.set_policy(policy()).unwrap();
    let expiry = |expiry| Change::default().with_expiry(expiry);
    assert!(is_refused(store.update(id, expiry(in_days(501)))));
    assert!(is_refused(store.update(id, expiry(Expiry::Never))));
    store.update(id, expiry(in_days(499))).unwrap();
    store.update(id, Change::default().with_name("b")).unwrap();
    let id = store.rotate(id, Duration::ZERO).unwrap().record.id;
    store.revoke(id).unwrap();
    let activate = Change::activate();
    assert!(is_refused(store.update(id, activate.clone())));
    store.update(id, activate.with_expiry(in_days(300))).unwrap();
}

#[test]
fn key_that_becomes_an_administrator_key_must_fit_the_policy_of_these() {
    let store = store();
    store.set_policy(policy()).unwrap();
    let id = store.issue(new(&store, "api.read", in_days(300))).unwrap().record.id;
    let widen = Change::default().with_grant(store.scopes(["admin.key.list"]).unwrap());
    assert!(is_refused(store.update(id, widen.clone())));
    store.update(id, widen.with_expiry(in_days(80))).unwrap();
}

#[test]
fn policy_survives_reopening_and_pruning() {
    let (_dir, dir) = portcullis_testkit::home();
    let store = builder().open(&dir).unwrap();
    store.set_policy(Policy::default()).unwrap();
    store.set_policy(policy()).unwrap();
    store.set_policy(policy()).unwrap();
    let entries = store.audit(1, 100).unwrap();
    let acts = entries.iter().filter(|entry| matches!(entry.act, Act::SetPolicy { .. }));
    assert_eq!(acts.clone().count(), 2);
    let is_new = |act: &Act| matches!(act, Act::SetPolicy { policy: set, .. } if *set == policy());
    let mut acts = acts;
    assert!(acts.next_back().is_some_and(|entry| is_new(&entry.act)));
    drop(store);
    portcullis_testkit::surgery::age(&dir, 100);
    let store = builder().open(&dir).unwrap();
    let pruned = store.acting_as(Actor::Host).prune_audit(hours_ago(30)).unwrap().unwrap();
    assert!(pruned.through >= entries.last().unwrap().sequence);
    drop(store);
    let store = builder().open(&dir).unwrap();
    assert_eq!(store.policy().unwrap(), policy());
    assert!(is_refused(store.issue(new(&store, "api.read", Expiry::Never))));
}

#[test]
fn only_root_and_local_operators_set_the_policy() {
    let store = store();
    let all = store.catalogue().entries().iter().map(|entry| entry.scope.as_str());
    let strong = NewKey::new("strong", store.scopes(all).unwrap(), Expiry::Never);
    let strong = Actor::Key(store.issue(strong).unwrap().record.id);
    let root = NewKey::new("root", Grant::All, Expiry::Never);
    let root = Actor::Key(store.issue(root).unwrap().record.id);
    let set = |actor| store.acting_as(actor).set_policy(policy());
    assert!(matches!(set(strong), Err(Error::Forbidden(_))));
    assert_eq!(store.policy().unwrap(), Policy::default());
    set(root).unwrap();
    set(Actor::Local(7)).unwrap();
    assert_eq!(store.policy().unwrap(), policy());
}

#[test]
fn contradictory_policy_and_its_reserved_name_are_refused_and_change_nothing() {
    let store = store();
    let of = |max, default| {
        let others = LifetimePolicy { max, default, required: false };
        store.set_policy(Policy { others, ..Policy::default() })
    };
    for refused in [of(Some(DAY), Some(DAY * 2)), of(Some(Duration::ZERO), None)] {
        assert!(matches!(refused, Err(Error::Invalid { field: Field::Policy, .. })));
    }
    let name = "portcullis.policy".parse().unwrap();
    store.set_policy(policy()).unwrap();
    assert!(matches!(store.add_scope(&name, "mine"), Err(Error::Invalid { .. })));
    assert!(matches!(store.hide_scope(&name), Err(Error::Invalid { .. })));
    assert!(store.scopes(["portcullis.policy"]).is_err());
    assert_eq!(store.policy().unwrap(), policy());
}

#[test]
fn restore_has_the_policy_of_the_backup_and_of_the_later_entries() {
    let (_dir, old) = portcullis_testkit::home();
    let store = builder().open(&old).unwrap();
    let mut without = Vec::new();
    store.backup(&mut without, |_| ()).unwrap();
    store.set_policy(Policy { others: within(1), ..Policy::default() }).unwrap();
    let mut with = Vec::new();
    store.backup(&mut with, |_| ()).unwrap();
    store.set_policy(policy()).unwrap();
    drop(store);
    let restored = |bytes: &[u8], name: &str, later: &LaterEvidence| {
        let dir = old.with_file_name(name);
        Offline::new().restore(bytes, &dir, later, Actor::Local(7), |_| ()).unwrap();
        builder().open(&dir).unwrap().policy().unwrap()
    };
    let later = LaterEvidence::Directory { data: old.clone(), anchor: None };
    assert_eq!(restored(&without, "one", &later), policy());
    assert_eq!(restored(&with, "two", &later), policy());
    let alone = restored(&with, "three", &LaterEvidence::Unknown);
    assert_eq!(alone, Policy { others: within(1), ..Policy::default() });
}

#[test]
fn keys_that_exceed_a_new_policy_are_listed_and_counted() {
    let store = store();
    let issue = |scope, expiry| store.issue(new(&store, scope, expiry)).unwrap().record.id;
    let lasting = issue("api.read", Expiry::Never);
    let _short = issue("api.read", in_days(300));
    let strong = issue("admin.key.list", in_days(300));
    store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap();
    let exceeding = ListQuery::default().with_exceeds_policy(true);
    assert_eq!(store.count_matching(&exceeding).unwrap(), 0);
    store.set_policy(policy()).unwrap();
    let page = store.list(&exceeding).unwrap();
    let mut ids: Vec<_> = page.records.iter().map(|record| record.id).collect();
    ids.sort_unstable();
    let mut expected = [lasting, strong];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert_eq!(store.count_matching(&ListQuery::default().with_exceeds_policy(false)).unwrap(), 2);
    let counted = store.acting_as(Actor::Host).count_for_bulk(&exceeding).unwrap();
    assert_eq!(counted.len(), 2);
}

#[test]
fn batches_and_imports_obey_the_policy() {
    let store = store();
    store.set_policy(policy()).unwrap();
    let acting = store.acting_as(Actor::Host);
    let batch = vec![new(&store, "api.read", in_days(300)), new(&store, "api.read", Expiry::Never)];
    let refused = acting.issue_all(batch.clone()).unwrap_err();
    assert_eq!(refused.index, 1);
    assert!(is_refused::<()>(Err(refused.error)));
    assert_eq!(acting.issue_all(batch[..1].to_vec()).unwrap().len(), 1);
    let text = || ImportedSecret::Plaintext("sk_live_0123456789abcdef".to_owned().into());
    let imported = |expiry| {
        let keys = vec![(new(&store, "api.read", expiry), text())];
        acting.import(keys, ImportOptions::default()).unwrap().remove(0)
    };
    assert!(is_refused(imported(Expiry::Never)));
    imported(in_days(300)).unwrap();
}
