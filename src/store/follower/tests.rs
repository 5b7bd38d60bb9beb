//! Several stores that share one consensus store in memory: the guarantees of one store hold for all.

use crate::{
    Change, Error, Expiry, Grant, Idempotency, KeyId, LifetimePolicy, MetadataPatch, NewKey,
    Outcome, Policy, Prefix, Refusal, Store, UnusedPolicy,
    audit::Act,
    cluster::{
        Replica, Revision,
        follower::Follower,
        ledger::BEFORE_CONFIRMING,
        sim::{
            Rng,
            link::{Conditions, Link},
            memory::Memory,
        },
    },
    error::Field,
    ledger::{
        Mode,
        known_uses::{SINCE, UNTIL},
    },
    list::ListQuery,
    record::Actor,
    scope::{Scope, catalogue::financial_data},
    store::uses::Uses,
    time::Timestamp,
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Long, so that no gate shuts and no call times out on a busy host.
const LONG: Duration = Duration::from_secs(10);
/// Short, for a replica that must shut, time out, or request proofs often.
const SHORT: Duration = Duration::from_millis(400);

/// The consensus store of some replicas.
struct Cluster(Arc<Memory>);

impl Cluster {
    fn new() -> Self {
        Self(Memory::new())
    }

    fn link(&self) -> Link {
        let link = Link::new(Arc::clone(&self.0), Rng::new(1), Arc::default()).in_real_time();
        link.set(Conditions { delay: 2, ..Conditions::default() });
        link
    }

    fn try_store(
        &self,
        mode: Mode,
        scopes: &[&str],
        freshness: Duration,
    ) -> Result<(Store, Link), Error> {
        let link = self.link();
        let consensus = link.clone();
        let names = scopes.iter().map(|n| (n.parse::<Scope>().unwrap(), String::new()));
        let builder = Store::builder().scopes(financial_data()).scopes(names);
        let options = Replica::named("test").freshness(freshness);
        let store = builder.shared(consensus, options, mode)?;
        Ok((store, link))
    }

    fn store(&self) -> (Store, Link) {
        self.store_fresh_for(LONG)
    }

    fn store_fresh_for(&self, freshness: Duration) -> (Store, Link) {
        self.try_store(Mode::OpenOrCreate, &[], freshness).unwrap()
    }
}

fn new_key(store: &Store) -> NewKey {
    NewKey::new("k", store.scopes(["api.read"]).unwrap(), Expiry::Never)
}

fn issue(store: &Store) -> (KeyId, String) {
    let issued = store.issue(new_key(store)).unwrap();
    (issued.record.id, issued.secret.reveal(str::to_owned))
}

fn decision(store: &Store, key: &str) -> Result<(), Refusal> {
    store.authenticate_key(key.as_bytes()).map(|_| ())
}

/// The decision if the gate were open.
fn decision_without_gate(store: &Store, key: &str) -> Result<(), Refusal> {
    let core = &store.writer;
    let digest = core.seals.digester.digest(key.as_bytes());
    core.index.admit(&digest, crate::origin::Unknown, || core.clock.now()).map(|_| ())
}

/// Waits until a condition holds; fails after 30 seconds.
#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    awaited(what, || is_so().then_some(()));
}

#[track_caller]
fn awaited<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn reader_on_one_replica_follows_the_changes_of_another() {
    let cluster = Cluster::new();
    let ((one, _), (other, _)) = (cluster.store(), cluster.store());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batch = |after| other.acting_as(Actor::Host).audit_batch(after, 100).unwrap();
    let mut after = batch(0).newest;
    for _ in 0..5 {
        let newer = other.newer_audit_entry(after);
        let (id, _) = issue(&one);
        runtime.block_on(newer);
        let found = batch(after);
        assert_eq!((found.pruned_through, found.last), (None, after + 1));
        assert_eq!(found.entries[0].key, Some(id));
        // It is applied here as well.
        assert!(other.get(id).is_ok());
        after = found.last;
    }
    assert_eq!(batch(after).entries, []);
}

#[test]
fn key_issued_on_one_replica_is_accepted_and_revoked_on_all() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    for _ in 0..5 {
        let (id, key) = issue(&one);
        assert_eq!(decision(&one, &key), Ok(()));
        eventually("the other follows", || decision(&two, &key) == Ok(()));
        let (record, wait) = two.revoke_everywhere(id).unwrap();
        assert_eq!(
            (decision(&one, &key), decision(&two, &key)),
            (Err(Refusal::Inactive), Err(Refusal::Inactive))
        );
        assert!(!record.active);
        assert_eq!((wait.acknowledged, wait.timed_out), (2, 0));
    }
}

#[test]
fn concurrent_changes_of_replicas_all_commit_in_one_chain() {
    let cluster = Cluster::new();
    let stores = [cluster.store(), cluster.store(), cluster.store()];
    let made: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = stores
            .iter()
            .flat_map(|(store, _)| [store, store])
            .map(|store| {
                scope.spawn(move || {
                    (0..6)
                        .map(|n| {
                            let (id, _) = issue(store);
                            if n % 2 == 0 {
                                store.revoke(id).unwrap();
                            }
                            id
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().collect::<HashSet<_>>().len(), 36);
    for (store, _) in &stores {
        eventually("all follow", || store.count().active == 18 && store.count().inactive == 18);
        let page = store.list(&ListQuery { page_size: Some(200), ..ListQuery::default() }).unwrap();
        assert_eq!(page.records.len(), 36);
        // Each entry is checked against the one before: one for the names, 36 issues, 18 revocations.
        let entries = store.audit(0, 1000).unwrap();
        assert_eq!(entries.len(), 1 + 36 + 18);
        assert_eq!(store.audit(30, 1000).unwrap(), entries[30..]);
        let created = entries.iter().filter(|entry| entry.act == Act::Create).count();
        assert_eq!(created, 36);
    }
}

#[test]
fn unreachable_replica_is_fenced_after_timeout_and_refuses_until_it_reconnects() {
    let cluster = Cluster::new();
    let ((one, _a), (two, cut)) = (cluster.store(), cluster.store_fresh_for(SHORT));
    let (id, key) = issue(&one);
    let principal = awaited("the other follows", || two.authenticate_key(key.as_bytes()).ok());
    let watch = two.revocation(&principal);
    cut.set(Conditions { no_requests: true, no_answers: true, ..Conditions::default() });
    let (_, wait) = one.revoke_everywhere(id).unwrap();
    assert_eq!(decision(&two, &key), Err(Refusal::Unavailable));
    assert!(two.revocation(&principal).is_over(), "the state of the key is unknown");
    assert_eq!((wait.acknowledged, wait.timed_out), (1, 1));
    assert!(!two.health().is_answering);
    eventually("work in flight ends", || watch.is_over());
    cut.set(Conditions { delay: 2, ..Conditions::default() });
    eventually("it is back", || {
        let decided = decision(&two, &key);
        assert!(decided.is_err(), "the key is revoked");
        decided == Err(Refusal::Inactive)
    });
    let (_, other) = issue(&one);
    eventually("it follows again", || decision(&two, &other) == Ok(()));
}

#[test]
fn unanswered_revocation_is_an_error_denies_at_once_and_may_be_repeated() {
    let cluster = Cluster::new();
    let ((one, link), (two, _b)) = (cluster.store(), cluster.store());
    let (id, key) = issue(&one);
    link.set(Conditions { no_answers: true, ..Conditions::default() });
    let outcome = one.revoke(id);
    assert!(matches!(outcome, Err(Error::Unanswered(_))), "{outcome:?}");
    assert!(decision(&one, &key).is_err());
    link.set(Conditions { delay: 2, ..Conditions::default() });
    eventually("the repetition is answered", || one.revoke(id).is_ok());
    assert!(decision(&one, &key).is_err() && decision(&two, &key).is_err());
    // The denial in doubt is retracted.
    two.update(id, Change::activate()).unwrap();
    eventually("it is back on both", || {
        decision(&one, &key) == Ok(()) && decision(&two, &key) == Ok(())
    });
}

#[test]
fn repeated_revocation_writes_so_that_earlier_plans_conflict() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    let (id, key) = issue(&one);
    one.revoke(id).unwrap();
    let before = one.get(id).unwrap().revision;
    one.revoke(id).unwrap();
    let again = one.get(id).unwrap();
    assert!(again.revision > before && !again.active);
    // The other replica has applied it: changes planned on the former record conflict.
    eventually("the other has it", || two.get(id).is_ok_and(|r| r.revision == again.revision));
    assert!(decision(&one, &key).is_err() && decision(&two, &key).is_err());
}

#[test]
fn repeated_revocation_waits_for_the_other_replicas() {
    let cluster = Cluster::new();
    let ((one, _a), (_two, _b)) = (cluster.store(), cluster.store());
    let (id, _) = issue(&one);
    for _ in 0..2 {
        let (record, wait) = one.revoke_everywhere(id).unwrap();
        assert_eq!((record.active, wait.acknowledged, wait.timed_out), (false, 2, 0));
    }
}

#[test]
fn lost_change_stops_denying_once_its_outcome_is_known() {
    let cluster = Cluster::new();
    let ((one, link), (two, _b)) = (cluster.store(), cluster.store());
    let (id, key) = issue(&one);
    link.set(Conditions { no_requests: true, ..Conditions::default() });
    assert!(matches!(one.revoke(id), Err(Error::Unanswered(_))));
    assert_eq!(decision_without_gate(&one, &key), Err(Refusal::Inactive));
    link.set(Conditions { delay: 2, ..Conditions::default() });
    // The outcome is unknown until another change is committed.
    let (_, _) = issue(&two);
    eventually("it is decided", || decision(&one, &key) == Ok(()));
}

#[test]
fn lost_idempotent_request_is_executed_when_sent_again() {
    let cluster = Cluster::new();
    let ((one, link), (two, _b)) = (cluster.store(), cluster.store());
    let ask = |key: &[u8]| {
        let request = Idempotency { key, route: "POST /v1/keys", payload: b"{}" };
        one.acting_as(Actor::Host).issue_once(new_key(&one), &request)
    };
    // Twice, so that all requests are read.
    ask(b"n-16").unwrap();
    ask(b"n-16").unwrap();
    link.set(Conditions { no_requests: true, ..Conditions::default() });
    assert!(matches!(ask(b"n-17"), Err(Error::Unanswered(_))));
    link.set(Conditions { delay: 2, ..Conditions::default() });
    // The outcome is unknown until another change is committed.
    let (_, _) = issue(&two);
    eventually("it is done", || matches!(ask(b"n-17"), Ok(Outcome::Issued(_))));
    assert!(matches!(ask(b"n-17"), Ok(Outcome::Before(_))));
}

#[test]
fn idempotent_request_that_conflicts_is_retried() {
    let cluster = Cluster::new();
    let ((one, link), (two, _b)) = (cluster.store(), cluster.store());
    for round in 0..6u8 {
        // Planned before the other change is applied, and answered after it.
        link.set(Conditions { delay: 200, no_watch: true, ..Conditions::default() });
        issue(&two);
        let outcome = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let key = [round];
                let request = Idempotency { key: &key, route: "POST /v1/keys", payload: b"{}" };
                one.acting_as(Actor::Host).issue_once(new_key(&one), &request)
            });
            eventually("it is in flight", || one.writer.plan().in_flight.is_some());
            link.set(Conditions::default());
            asking.join().unwrap()
        });
        assert!(matches!(outcome, Ok(Outcome::Issued(_))), "{outcome:?}");
    }
}

#[test]
fn of_replicas_that_issue_a_first_key_at_once_one_succeeds() {
    let cluster = Cluster::new();
    let ((one, link), (two, _b)) = (cluster.store(), cluster.store());
    // Planned before the key of the other replica is applied, and answered after it.
    link.set(Conditions { delay: 200, no_watch: true, ..Conditions::default() });
    assert!(two.issue_first_key_of_opened("root").unwrap().is_some());
    let outcome = thread::scope(|scope| {
        let asking = scope.spawn(|| one.issue_first_key_of_opened("root"));
        eventually("it is in flight", || one.writer.plan().in_flight.is_some());
        link.set(Conditions::default());
        asking.join().unwrap()
    });
    assert!(outcome.unwrap().is_none());
    assert_eq!(two.count().active, 1);
}

#[test]
fn each_wait_for_the_other_replicas_is_reported() {
    let cluster = Cluster::new();
    let ((one, _a), (_two, _b)) = (cluster.store(), cluster.store());
    let (id, _) = issue(&one);
    let reported = Arc::new(Mutex::new(Vec::new()));
    let recorder = Arc::clone(&reported);
    one.on_replica_wait(move |_, wait| recorder.lock().unwrap().push(wait));
    let (_, wait) = one.revoke_everywhere(id).unwrap();
    assert_eq!(*reported.lock().unwrap(), [wait]);
}

#[test]
fn replica_that_cannot_catch_up_reports_its_error() {
    let cluster = Cluster::new();
    let ((one, _a), (two, cut)) = (cluster.store(), cluster.store());
    (0..5).for_each(|_| drop(issue(&one)));
    cut.set(Conditions { no_watch: true, ..Conditions::default() });
    issue(&one);
    cluster.0.compact();
    cut.set(Conditions { first_page_only: true, ..Conditions::default() });
    eventually("it reports its error", || two.health().replication_error.is_some());
    cut.set(Conditions::default());
    eventually("it follows", || {
        two.health().replication_error.is_none() && two.count().active == 6
    });
}

#[test]
fn replica_reports_how_long_its_gate_stays_open() {
    let cluster = Cluster::new();
    let (one, link) = cluster.store_fresh_for(SHORT);
    let answers_for = || one.following().unwrap().answers_for;
    eventually("it answers", || !answers_for().is_zero());
    assert!(answers_for() < Duration::from_secs(10));
    link.set(Conditions { no_requests: true, no_answers: true, ..Conditions::default() });
    eventually("it answers nobody", || answers_for().is_zero());
}

#[test]
fn every_replica_lists_all_members() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    for store in [&one, &two] {
        assert_eq!(store.members().unwrap().len(), 2);
    }
}

#[test]
fn change_builds_on_the_pending_change_of_its_key() {
    let cluster = Cluster::new();
    let (one, link) = cluster.store();
    let ((other, _), (id, _)) = (issue(&one), issue(&one));
    let slow = Conditions { delay: 100, ..Conditions::default() };
    // The first change completes only after its own replica has applied it.
    link.set(Conditions { no_watch: true, ..slow });
    let planned = || one.writer.plan().next_sequence();
    let named = |name: &str| Change { name: Some(name.into()), ..Change::default() };
    let owned = Change { owner: Some(Some("shop-17".into())), ..Change::default() };
    let begun = planned();
    thread::scope(|scope| {
        let first = scope.spawn(|| one.update(other, named("a")).unwrap());
        eventually("it is in flight", || one.writer.plan().in_flight.is_some());
        let second = scope.spawn(|| one.update(id, owned).unwrap());
        eventually("it is planned", || planned() == begun + 2);
        link.set(slow);
        first.join().unwrap();
        one.update(id, named("b")).unwrap();
        second.join().unwrap();
    });
    let record = one.get(id).unwrap();
    assert_eq!((&*record.name, record.owner.as_deref()), ("b", Some("shop-17")));
}

#[test]
fn denial_is_retried_as_long_as_it_conflicts() {
    let cluster = Cluster::new();
    let (one, _a) = cluster.store();
    let after_five = |persists: bool| {
        let mut attempts = 0;
        one.writer.retry_within(
            Duration::ZERO,
            || persists,
            || {
                attempts += 1;
                if attempts < 5 { Err(Error::Contended) } else { Ok(attempts) }
            },
        )
    };
    assert!(matches!(after_five(true), Ok(5)));
    assert!(matches!(after_five(false), Err(Error::Contended)));
}

#[test]
fn metadata_patches_of_two_replicas_all_take_effect() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    let (id, key) = issue(&one);
    let patch = |store: &Store, change: Change, entry: String| {
        let metadata = MetadataPatch::from([(entry, Some("1".into()))]);
        store.acting_as(Actor::Host).patch(id, change, metadata).unwrap()
    };
    thread::scope(|scope| {
        for (store, name) in [(&one, "a"), (&two, "b")] {
            scope.spawn(move || {
                (0..6).for_each(|n| {
                    patch(store, Change::default(), format!("{name}{n}"));
                });
            });
        }
        patch(&two, Change::deactivate(), "leaked".into());
    });
    let record = awaited("it follows", || one.get(id).ok().filter(|r| r.metadata.len() == 13));
    assert!(!record.active);
    assert_eq!(decision(&one, &key), Err(Refusal::Inactive));
}

#[test]
fn requests_of_other_replicas_are_unknown_until_they_are_read() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    let (id, _) = issue(&two);
    eventually("it follows", || one.get(id).is_ok());
    let core = &one.writer;
    assert!(!core.plan().knows_requests());
    core.read_requests().unwrap();
    assert!(core.plan().knows_requests());
}

#[test]
fn names_numbered_by_another_replica_are_not_numbered_again() {
    let cluster = Cluster::new();
    let (one, _a) = cluster.store();
    let core = &one.writer;
    let numbered = core.numbered();
    assert!(core.check_numbered(numbered, core.catalogue()).is_ok());
    let stale = core.check_numbered(numbered - 1, core.catalogue());
    assert!(matches!(stale, Err(Error::Contended)));
}

#[test]
fn cleared_replica_forgets_everything_it_applied() {
    let cluster = Cluster::new();
    let (one, _a) = cluster.store();
    let (id, key) = issue(&one);
    one.writer.clear();
    assert!(matches!(one.get(id), Err(Error::NoSuchKey(_))));
    assert_eq!((decision(&one, &key), one.count().active), (Err(Refusal::Unknown), 0));
    assert!(one.writer.plan().base.is_none());
}

#[test]
fn request_sent_to_two_replicas_is_executed_once() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    let request = Idempotency { key: b"n-17", route: "POST /v1/keys", payload: b"{}" };
    let ask = |store: &Store| {
        let outcome = store.acting_as(Actor::Host).issue_once(new_key(store), &request);
        match outcome.unwrap() {
            Outcome::Issued(issued) => (true, issued.record.id),
            Outcome::Before(record) => (false, record.id),
        }
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            [&one, &two, &one, &two].map(|store| scope.spawn(move || ask(store))).into();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|(is_new, _)| *is_new).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().map(|(_, id)| id).collect::<HashSet<_>>().len(), 1);
    let third = cluster.store();
    assert_eq!(ask(&third.0), (false, outcomes[0].1), "a replica that joined later knows it too");
}

#[test]
fn two_replicas_cannot_revoke_the_last_two_roots() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    let root = |store: &Store| {
        store.issue(NewKey { grant: Grant::All, ..new_key(store) }).unwrap().record.id
    };
    let (first, second) = (root(&one), root(&two));
    eventually("both know both", || one.get(second).is_ok() && two.get(first).is_ok());
    let (a, b) = thread::scope(|scope| {
        let a = scope.spawn(|| one.revoke(first));
        let b = scope.spawn(|| two.revoke(second));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert!(matches!(a.and(b), Err(Error::LastRoot(_))));
}

#[test]
fn change_finds_a_key_just_issued_by_another_replica() {
    let cluster = Cluster::new();
    let ((one, _a), (two, slow)) = (cluster.store(), cluster.store());
    slow.set(Conditions { delay: 40, ..Conditions::default() });
    for _ in 0..3 {
        let (id, _) = issue(&one);
        assert!(!two.revoke(id).unwrap().active);
        two.delete(id).unwrap();
        assert!(matches!(two.get(id), Err(Error::NoSuchKey(_))));
    }
}

#[test]
fn scope_added_by_one_replica_has_one_number_on_all() {
    let cluster = Cluster::new();
    let (one, two) = thread::scope(|scope| {
        let one = scope
            .spawn(|| cluster.try_store(Mode::OpenOrCreate, &["x.one", "x.both"], LONG).unwrap());
        let two = scope
            .spawn(|| cluster.try_store(Mode::OpenOrCreate, &["x.two", "x.both"], LONG).unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    let names = |store: &Store| -> Vec<String> {
        store.catalogue().entries().iter().map(|entry| entry.scope.to_string()).collect()
    };
    eventually("both know all", || names(&one.0) == names(&two.0) && names(&one.0).len() == 17);
    let grant = Grant::Scopes(two.0.scopes(["x.two"]).unwrap());
    let issued = two.0.issue(NewKey { grant, ..new_key(&two.0) }).unwrap();
    let key = issued.secret.reveal(str::to_owned);
    eventually("it works there", || decision(&one.0, &key) == Ok(()));
    let principal = one.0.authenticate_key(key.as_bytes()).unwrap();
    assert!(principal.require(&"x.two".parse().unwrap()).is_ok());
    assert!(principal.require(&"x.one".parse().unwrap()).is_err());
}

#[test]
fn policy_set_on_one_replica_holds_on_all_and_on_later_ones() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.store(), cluster.store());
    let day = LifetimePolicy { max: Some(LONG), ..LifetimePolicy::default() };
    let policy = Policy { others: day, ..Policy::default() };
    one.0.set_policy(policy).unwrap();
    let refused = two.0.issue(new_key(&two.0));
    assert!(matches!(refused, Err(Error::Invalid { field: Field::ExpiresAt, .. })), "{refused:?}");
    assert_eq!(two.0.policy().unwrap(), policy);
    assert_eq!(cluster.store().0.policy().unwrap(), policy);
    two.0.set_policy(Policy::default()).unwrap();
    one.0.issue(new_key(&one.0)).unwrap();
}

/// Sets a policy on unused keys. Returns the store, its link, and the minute since which uses are known.
fn with_unused_policy(cluster: &Cluster) -> (Store, Link, u32) {
    let (store, link) = cluster.store();
    let unused = UnusedPolicy { after: Duration::from_hours(24), deactivate: true };
    store.set_policy(Policy { unused: Some(unused), ..Policy::default() }).unwrap();
    let now = store.now().as_minutes();
    let since = now - 7;
    store.writer.ledger.write_uses(&[(SINCE, since), (UNTIL, now)]).unwrap();
    store.writer.report_uses(now);
    (store, link, since)
}

#[test]
fn uses_are_known_while_all_replicas_report_and_leave_cleanly() {
    let cluster = Cluster::new();
    let (one, _a, since) = with_unused_policy(&cluster);
    let known = |store: &Store| store.writer.known_uses().unwrap();
    assert_eq!((known(&one).since, known(&one).missing), (since, None));
    let (two, _b) = cluster.store();
    let found = known(&two);
    assert_eq!((found.since, found.missing, found.obsolete), (since, None, vec![]));
    // A replica is as far as its last report.
    let now = one.now().as_minutes();
    let replicas = one.writer.ledger.replicas().unwrap();
    assert_eq!(replicas.known_uses(now + 20).unwrap().until, now.min(found.until));
    let late = replicas.known_uses(now + 40).unwrap();
    assert_eq!(late.missing.as_deref(), Some("test"), "it has not reported for half an hour");
    drop(two);
    eventually("it has left", || one.members().unwrap().len() == 1);
    let found = known(&one);
    assert_eq!((found.since, found.missing, found.obsolete.len()), (since, None, 1));
    let (three, _c) = cluster.store();
    assert_eq!(known(&three).since, since);
    // The report of the replica that left is deleted with the next deactivation, which only one begins.
    let begin = |store: &Store| {
        let obsolete = known(store).obsolete;
        let acting = store.acting_as(Actor::Policy);
        acting.caller().begin_deactivation(3, store.now(), &obsolete).unwrap()
    };
    assert!(begin(&three));
    eventually("it follows", || !begin(&one));
    assert!(known(&one).obsolete.is_empty() && known(&three).obsolete.is_empty());
}

#[test]
fn replica_that_ended_without_its_last_report_interrupts_the_known_time() {
    let cluster = Cluster::new();
    let (one, _a, since) = with_unused_policy(&cluster);
    let (two, link) = cluster.store_fresh_for(SHORT);
    assert_eq!(one.writer.known_uses().unwrap().since, since);
    link.set(Conditions { no_requests: true, ..Conditions::default() });
    drop(two);
    let (id, _) = issue(&one);
    one.revoke(id).unwrap();
    eventually("it is removed", || one.members().unwrap().len() == 1);
    let found = one.writer.known_uses().unwrap();
    assert_eq!((found.since, found.missing), (found.until.max(one.now().as_minutes()), None));
    // It stays interrupted.
    assert!(one.writer.known_uses().unwrap().since > since);
    assert!(cluster.store().0.writer.known_uses().unwrap().since > since);
}

#[test]
fn replica_without_a_report_makes_uses_unknown() {
    let cluster = Cluster::new();
    // This one opened before there was a policy, and has not had a round since.
    let (two, _b) = cluster.store();
    let (one, _a, _) = with_unused_policy(&cluster);
    assert!(one.writer.known_uses().unwrap().missing.is_some());
    two.writer.report_uses(two.now().as_minutes());
    assert_eq!(one.writer.known_uses().unwrap().missing, None);
}

#[test]
fn open_requires_and_create_forbids_an_existing_store() {
    let cluster = Cluster::new();
    let open = |wanted| cluster.try_store(wanted, &[], LONG).map(|_| ());
    assert!(matches!(open(Mode::Open), Err(Error::NotFound(_))));
    open(Mode::Create).unwrap();
    assert!(matches!(open(Mode::Create), Err(Error::AlreadyExists(_))));
    open(Mode::Open).unwrap();
    let link = cluster.link();
    let other = Store::builder().prefix(Prefix::new("acme").unwrap());
    let outcome = other.shared(link, Replica::named("x"), Mode::Open);
    assert!(matches!(outcome, Err(Error::WrongPrefix(_))));
    let link = cluster.link();
    let other = Store::builder().pepper("a pepper of its own");
    let outcome = other.shared(link, Replica::named("x"), Mode::Open);
    assert!(matches!(outcome, Err(Error::WrongPepper)));
}

#[test]
fn replica_that_left_is_not_waited_for() {
    let cluster = Cluster::new();
    let (one, _a) = cluster.store();
    let (id, _) = issue(&one);
    drop(cluster.store());
    let (_, wait) = one.revoke_everywhere(id).unwrap();
    assert_eq!((wait.acknowledged, wait.timed_out), (1, 0));
}

#[test]
fn changes_too_many_for_one_transaction_are_split() {
    let cluster = Cluster::new();
    let ((one, link), (two, _b)) = (cluster.store(), cluster.store());
    // The other changes are queued while the first is in flight.
    link.set(Conditions { delay: 120, ..Conditions::default() });
    thread::scope(|scope| {
        let threads: Vec<_> = (0..150).map(|_| scope.spawn(|| issue(&one))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    eventually("it has them all", || one.count().active == 150);
    eventually("the other has them all", || two.count().active == 150);
}

#[test]
fn maximum_number_of_scopes_is_numbered() {
    let cluster = Cluster::new();
    let names: Vec<_> = (0..240).map(|number| format!("x.scope{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (one, _a) = cluster.try_store(Mode::OpenOrCreate, &names, LONG).unwrap();
    assert!(one.scopes(["x.scope0", "x.scope239"]).is_ok());
    let (two, _b) = cluster.try_store(Mode::Open, &names, LONG).unwrap();
    assert_eq!(two.catalogue().entries().len(), one.catalogue().entries().len());
}

#[test]
fn change_refused_by_the_consensus_store_is_not_made_and_reported() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    let (id, key) = issue(&one);
    eventually("the other follows", || decision(&two, &key) == Ok(()));
    *cluster.0.refuses.lock().unwrap() = Some("there is no room");
    let outcome = one.revoke(id);
    assert!(matches!(&outcome, Err(Error::ConsensusRefused(why)) if &**why == "there is no room"));
    assert!(one.issue(new_key(&one)).is_err());
    // Nothing was changed, so no replica denies the key, now or later.
    assert_eq!((decision(&one, &key), decision(&two, &key)), (Ok(()), Ok(())));
    *cluster.0.refuses.lock().unwrap() = None;
    issue(&two);
    assert_eq!(one.count().inactive, 0);
    one.revoke(id).unwrap();
    assert_eq!(
        (decision(&one, &key), decision(&two, &key)),
        (Err(Refusal::Inactive), Err(Refusal::Inactive))
    );
}

#[test]
fn last_use_is_known_on_all_replicas_and_on_later_ones() {
    let cluster = Cluster::new();
    let ((one, _a), (two, _b)) = (cluster.store(), cluster.store());
    let ((id, key), (unused, _)) = (issue(&one), issue(&one));
    eventually("the other follows", || decision(&two, &key) == Ok(()));
    let (third, _c) = cluster.store();
    eventually("all follow", || third.get(unused).is_ok());
    assert_eq!((third.last_used(id), third.last_used(unused)), (None, None));
    let epoch = cluster.0.latest().epoch;
    // A store writes its uses when it is closed.
    drop(two);
    assert_eq!(cluster.0.latest().epoch, epoch, "a use is no change");
    assert_eq!(cluster.0.last_uses(Revision(0)).uses.len(), 1);
    let later = cluster.store().0;
    for store in [&third, &later] {
        eventually("it is known", || store.last_used(id).is_some());
        assert_eq!(store.last_used(unused), None);
    }
    // A use that is stored already is not written again.
    decision(&later, &key).unwrap();
    let written = cluster.0.last_uses(Revision(0)).revision;
    if one.last_used(id) == later.last_used(id) {
        later.writer.ledger.write_uses(&[(id, later.writer.index.last_use(id).unwrap())]).unwrap();
        assert!(cluster.0.last_uses(written).uses.is_empty(), "it was written twice");
    }
    one.revoke(id).unwrap();
    one.delete(id).unwrap();
    assert!(cluster.0.last_uses(Revision(0)).uses.is_empty(), "a deleted key leaves no use behind");
}

#[test]
fn uses_that_cannot_be_written_are_written_the_next_time() {
    let cluster = Cluster::new();
    let (one, link) = cluster.store();
    let (id, key) = issue(&one);
    decision(&one, &key).unwrap();
    link.set(Conditions { no_requests: true, ..Conditions::default() });
    let (index, mut uses) = (&one.writer.index, Uses::new(Duration::ZERO, 0));
    index.tick(Timestamp::from_minutes(index.minute() + 2));
    uses.step(&one.writer).unwrap();
    assert!(cluster.0.last_uses(Revision(0)).uses.is_empty() && one.health().poisoned.is_none());
    link.set(Conditions { delay: 2, ..Conditions::default() });
    uses.finish(&one.writer).unwrap();
    assert_eq!(cluster.0.last_uses(Revision(0)).uses.len(), 1);
    one.revoke(id).unwrap();
}

#[test]
fn key_applied_during_the_confirming_read_is_found() {
    let cluster = Cluster::new();
    let ((one, link), (two, _b)) = (cluster.store(), cluster.store());
    link.set(Conditions { delay: 2, no_watch: true, ..Conditions::default() });
    let (id, _) = issue(&two);
    let here = one.clone();
    BEFORE_CONFIRMING.set(Some(Box::new(move || {
        assert!(here.get(id).is_err());
        link.set(Conditions { delay: 2, ..Conditions::default() });
        eventually("it comes", || here.get(id).is_ok());
    })));
    assert!(!one.revoke(id).unwrap().active);
    let none = KeyId::from_u64(1);
    assert!(matches!(one.revoke(none), Err(Error::NoSuchKey(_))));
}

/// A proof may be read before a change and answered after the change is applied. That is not another
/// history.
#[test]
fn replica_with_slow_answers_does_not_bootstrap_again() {
    let cluster = Cluster::new();
    // A short freshness, so that it requests proofs often.
    let ((one, _a), (two, slow)) = (cluster.store(), cluster.store_fresh_for(SHORT / 4));
    let (id, _) = issue(&one);
    eventually("it follows", || two.get(id).is_ok());
    slow.set(Conditions { delay: 40, ..Conditions::default() });
    let mut most = 0;
    for _ in 0..80 {
        issue(&one);
        let active = two.count().active;
        assert!(
            active >= most && two.health().replication_error.is_none(),
            "it bootstrapped again: {active} of {most}"
        );
        most = active;
    }
}

#[test]
fn store_is_not_created_over_an_unfinished_import() {
    let cluster = Cluster::new();
    let begun = cluster.0.begin_import(b"source").unwrap();
    for mode in [Mode::Create, Mode::OpenOrCreate] {
        let error = cluster.try_store(mode, &[], LONG).err().unwrap();
        let said = error.to_string();
        assert!(matches!(error, Error::ConsensusRefused(_)), "{said}");
        assert!(said.contains("repeat the import to continue it"), "{said}");
    }
    assert_eq!(cluster.0.begin_import(b"source").unwrap(), begun, "it can be continued");
}
