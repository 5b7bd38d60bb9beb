//! Several stores on one memory: what holds of one store holds of them all.

use crate::{
    Act, Change, Error, Expiry, Grant, Idempotency, KeyId, ListQuery, Metadata, MetadataPatch,
    NewKey, Outcome, Prefix, Refusal, Store,
    cluster::{
        Replica, Revision,
        follower::Follower,
        ledger::BEFORE_CONFIRMING,
        sim::{
            Dice,
            link::{Conditions, Link},
            memory::Memory,
        },
    },
    ledger::Mode,
    record::Actor,
    scope::Scope,
    store::uses::Uses,
    time::Timestamp,
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// So long that no replica shuts or is given up because the machine has other work.
const LONG: Duration = Duration::from_secs(10);
/// For one that is to shut, to be waited out, or to ask for proofs often.
const SHORT: Duration = Duration::from_millis(400);

/// The consensus store of some replicas.
struct Shore(Arc<Memory>);

impl Shore {
    fn new() -> Self {
        Self(Memory::new())
    }

    fn link(&self) -> Link {
        let link = Link::new(Arc::clone(&self.0), Dice::new(1), Arc::default()).in_real_time();
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
        let mut builder = Store::builder();
        if !scopes.is_empty() {
            builder = builder.scopes(names);
        }
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
    NewKey {
        name: "k".into(),
        grant: Grant::Scopes(store.scopes(["api.read"]).unwrap()),
        active: true,
        expiry: Expiry::Never,
        owner: None,
        metadata: Metadata::new(),
    }
}

fn issue(store: &Store) -> (KeyId, String) {
    let issued = store.issue(new_key(store)).unwrap();
    (issued.record.id, issued.secret.reveal(str::to_owned))
}

fn decision(store: &Store, key: &str) -> Result<(), Refusal> {
    store.authenticate_key(key.as_bytes()).map(|_| ())
}

/// What is decided where the gate is open.
fn behind_the_gate(store: &Store, key: &str) -> Result<(), Refusal> {
    let core = &store.writer;
    let digest = core.seals.digester.digest(key.as_bytes());
    core.index.admit(&digest, || core.clock.now()).map(|_| ())
}

/// Waits for what comes by itself; a test that waits in vain fails.
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
fn a_key_that_one_replica_issues_works_on_all_and_its_revocation_is_over_on_all() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    for _ in 0..5 {
        let (id, key) = issue(&one);
        assert_eq!(decision(&one, &key), Ok(()));
        eventually("the other follows", || decision(&two, &key) == Ok(()));
        let (record, settled) = two.revoke_everywhere(id).unwrap();
        assert_eq!(
            (decision(&one, &key), decision(&two, &key)),
            (Err(Refusal::Inactive), Err(Refusal::Inactive))
        );
        assert!(!record.active);
        assert_eq!((settled.acknowledged, settled.waited_out), (2, 0));
    }
}

#[test]
fn replicas_that_change_at_the_same_time_lose_nothing_and_keep_one_chain() {
    let shore = Shore::new();
    let stores = [shore.store(), shore.store(), shore.store()];
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
        // Each entry is checked against the one before: one for the names, 36 and 18.
        let trail = store.audit(0, 1000).unwrap();
        assert_eq!(trail.len(), 1 + 36 + 18);
        assert_eq!(store.audit(30, 1000).unwrap(), trail[30..]);
        let created = trail.iter().filter(|entry| entry.act == Act::Create).count();
        assert_eq!(created, 36);
    }
}

#[test]
fn a_replica_that_cannot_be_reached_is_waited_out_and_answers_nobody_until_it_is_back() {
    let shore = Shore::new();
    let ((one, _a), (two, cut)) = (shore.store(), shore.store_fresh_for(SHORT));
    let (id, key) = issue(&one);
    let principal = awaited("the other follows", || two.authenticate_key(key.as_bytes()).ok());
    let watch = two.revocation(&principal);
    cut.set(Conditions { no_requests: true, no_answers: true, ..Conditions::default() });
    let (_, settled) = one.revoke_everywhere(id).unwrap();
    assert_eq!(decision(&two, &key), Err(Refusal::Unavailable));
    assert!(two.revocation(&principal).is_over(), "nobody vouches for the key");
    assert_eq!((settled.acknowledged, settled.waited_out), (1, 1));
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
fn a_revocation_without_an_answer_is_an_error_denies_at_once_and_may_be_repeated() {
    let shore = Shore::new();
    let ((one, link), (two, _b)) = (shore.store(), shore.store());
    let (id, key) = issue(&one);
    link.set(Conditions { no_answers: true, ..Conditions::default() });
    let outcome = one.revoke(id);
    assert!(matches!(outcome, Err(Error::Unanswered(_))), "{outcome:?}");
    assert!(decision(&one, &key).is_err());
    link.set(Conditions { delay: 2, ..Conditions::default() });
    eventually("the repetition is answered", || one.revoke(id).is_ok());
    assert!(decision(&one, &key).is_err() && decision(&two, &key).is_err());
    // What was in doubt leaves nothing behind.
    two.update(id, Change::activate()).unwrap();
    eventually("it is back on both", || {
        decision(&one, &key) == Ok(()) && decision(&two, &key) == Ok(())
    });
}

#[test]
fn a_repeated_revocation_writes_so_that_what_was_planned_before_it_conflicts() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    let (id, key) = issue(&one);
    one.revoke(id).unwrap();
    let before = one.get(id).unwrap().revision;
    one.revoke(id).unwrap();
    let again = one.get(id).unwrap();
    assert!(again.revision > before && !again.active);
    // The other has it too: whatever was planned on the record as it was conflicts.
    eventually("the other has it", || two.get(id).is_ok_and(|r| r.revision == again.revision));
    assert!(decision(&one, &key).is_err() && decision(&two, &key).is_err());
}

#[test]
fn a_repeated_revocation_waits_for_the_others_as_the_first_did() {
    let shore = Shore::new();
    let ((one, _a), (_two, _b)) = (shore.store(), shore.store());
    let (id, _) = issue(&one);
    for _ in 0..2 {
        let (record, settled) = one.revoke_everywhere(id).unwrap();
        assert_eq!((record.active, settled.acknowledged, settled.waited_out), (false, 2, 0));
    }
}

#[test]
fn a_change_that_was_never_made_denies_nothing_after_all() {
    let shore = Shore::new();
    let ((one, link), (two, _b)) = (shore.store(), shore.store());
    let (id, key) = issue(&one);
    link.set(Conditions { no_requests: true, ..Conditions::default() });
    assert!(matches!(one.revoke(id), Err(Error::Unanswered(_))));
    assert_eq!(behind_the_gate(&one, &key), Err(Refusal::Inactive));
    link.set(Conditions { delay: 2, ..Conditions::default() });
    // Nobody knows until somebody else has changed the store.
    let (_, _) = issue(&two);
    eventually("it is decided", || decision(&one, &key) == Ok(()));
}

#[test]
fn a_request_that_was_never_made_is_done_when_it_is_sent_again() {
    let shore = Shore::new();
    let ((one, link), (two, _b)) = (shore.store(), shore.store());
    let ask = |key: &[u8]| {
        let request = Idempotency { key, route: "POST /v1/keys", payload: b"{}" };
        one.acting_as(Actor::Host, None).issue_once(new_key(&one), &request)
    };
    // Twice, so that nothing is left to be read to know what was done.
    ask(b"n-16").unwrap();
    ask(b"n-16").unwrap();
    link.set(Conditions { no_requests: true, ..Conditions::default() });
    assert!(matches!(ask(b"n-17"), Err(Error::Unanswered(_))));
    link.set(Conditions { delay: 2, ..Conditions::default() });
    // Nobody knows until somebody else has changed the store.
    let (_, _) = issue(&two);
    eventually("it is done", || matches!(ask(b"n-17"), Ok(Outcome::Issued(_))));
    assert!(matches!(ask(b"n-17"), Ok(Outcome::Before(_))));
}

#[test]
fn a_request_that_others_overtake_is_done_after_them() {
    let shore = Shore::new();
    let ((one, link), (two, _b)) = (shore.store(), shore.store());
    for round in 0..6u8 {
        // Planned before the other's change is there, and answered after it.
        link.set(Conditions { delay: 200, no_watch: true, ..Conditions::default() });
        issue(&two);
        let outcome = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let key = [round];
                let request = Idempotency { key: &key, route: "POST /v1/keys", payload: b"{}" };
                one.acting_as(Actor::Host, None).issue_once(new_key(&one), &request)
            });
            eventually("it is on its way", || one.writer.plan().in_flight.is_some());
            link.set(Conditions::default());
            asking.join().unwrap()
        });
        assert!(matches!(outcome, Ok(Outcome::Issued(_))), "{outcome:?}");
    }
}

#[test]
fn each_wait_for_the_other_replicas_is_told() {
    let shore = Shore::new();
    let ((one, _a), (_two, _b)) = (shore.store(), shore.store());
    let (id, _) = issue(&one);
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    one.tell_waits(move |_, settled| heard.lock().unwrap().push(settled));
    let (_, settled) = one.revoke_everywhere(id).unwrap();
    assert_eq!(*told.lock().unwrap(), [settled]);
}

#[test]
fn a_replica_that_cannot_read_what_it_missed_says_why_it_does_not_follow() {
    let shore = Shore::new();
    let ((one, _a), (two, cut)) = (shore.store(), shore.store());
    (0..5).for_each(|_| drop(issue(&one)));
    cut.set(Conditions { no_watch: true, ..Conditions::default() });
    issue(&one);
    shore.0.compact();
    cut.set(Conditions { first_page_only: true, ..Conditions::default() });
    eventually("it says why", || two.health().trouble.is_some());
    cut.set(Conditions::default());
    eventually("it follows", || two.health().trouble.is_none() && two.count().active == 6);
}

#[test]
fn a_replica_says_how_long_it_goes_on_answering_until_it_answers_nobody() {
    let shore = Shore::new();
    let (one, link) = shore.store_fresh_for(SHORT);
    let answers_for = || one.following().unwrap().answers_for;
    eventually("it answers", || !answers_for().is_zero());
    assert!(answers_for() < Duration::from_secs(10));
    link.set(Conditions { no_requests: true, no_answers: true, ..Conditions::default() });
    eventually("it answers nobody", || answers_for().is_zero());
}

#[test]
fn each_replica_knows_all_that_share_the_store() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    for store in [&one, &two] {
        assert_eq!(store.members().unwrap().len(), 2);
    }
}

#[test]
fn a_change_of_a_key_whose_change_is_on_its_way_keeps_that() {
    let shore = Shore::new();
    let (one, link) = shore.store();
    let ((other, _), (id, _)) = (issue(&one), issue(&one));
    let slow = Conditions { delay: 100, ..Conditions::default() };
    // The first is not done before its own replica has it.
    link.set(Conditions { no_watch: true, ..slow });
    let planned = || one.writer.plan().next_sequence();
    let named = |name: &str| Change { name: Some(name.into()), ..Change::default() };
    let owned = Change { owner: Some(Some("shop-17".into())), ..Change::default() };
    let begun = planned();
    thread::scope(|scope| {
        let first = scope.spawn(|| one.update(other, named("a")).unwrap());
        eventually("it is on its way", || one.writer.plan().in_flight.is_some());
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
fn denial_is_planned_again_however_often_other_replicas_come_first() {
    let shore = Shore::new();
    let (one, _a) = shore.store();
    let after_five = |persists: bool| {
        let mut attempts = 0;
        one.writer.again_within(
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
fn metadata_patches_of_two_replicas_all_take_effect_and_their_denial_does() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    let (id, key) = issue(&one);
    let patch = |store: &Store, change: Change, entry: String| {
        let metadata = MetadataPatch::from([(entry, Some("1".into()))]);
        store.acting_as(Actor::Host, None).patch(id, change, metadata).unwrap()
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
fn requests_that_others_did_are_unknown_until_they_are_read() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    let (id, _) = issue(&two);
    eventually("it follows", || one.get(id).is_ok());
    let core = &one.writer;
    assert!(!core.plan().knows_requests());
    core.read_requests().unwrap();
    assert!(core.plan().knows_requests());
}

#[test]
fn names_that_others_numbered_meanwhile_are_not_numbered_again() {
    let shore = Shore::new();
    let (one, _a) = shore.store();
    let core = &one.writer;
    let numbered = core.numbered();
    assert!(core.check_numbered(numbered, core.catalogue()).is_ok());
    let stale = core.check_numbered(numbered - 1, core.catalogue());
    assert!(matches!(stale, Err(Error::Contended)));
}

#[test]
fn a_replica_that_starts_over_forgets_all_that_it_had_applied() {
    let shore = Shore::new();
    let (one, _a) = shore.store();
    let (id, key) = issue(&one);
    one.writer.clear();
    assert!(matches!(one.get(id), Err(Error::NoSuchKey(_))));
    assert_eq!((decision(&one, &key), one.count().active), (Err(Refusal::Unknown), 0));
    assert!(one.writer.plan().base.is_none());
}

#[test]
fn a_request_that_is_sent_to_two_replicas_is_done_once() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    let request = Idempotency { key: b"n-17", route: "POST /v1/keys", payload: b"{}" };
    let ask = |store: &Store| {
        let outcome = store.acting_as(Actor::Host, None).issue_once(new_key(store), &request);
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
    let third = shore.store();
    assert_eq!(ask(&third.0), (false, outcomes[0].1), "one that came later knows it too");
}

#[test]
fn two_replicas_cannot_take_away_the_last_two_roots() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
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
fn a_change_finds_what_another_replica_has_just_made() {
    let shore = Shore::new();
    let ((one, _a), (two, slow)) = (shore.store(), shore.store());
    slow.set(Conditions { delay: 40, ..Conditions::default() });
    for _ in 0..3 {
        let (id, _) = issue(&one);
        assert!(!two.revoke(id).unwrap().active);
        two.delete(id).unwrap();
        assert!(matches!(two.get(id), Err(Error::NoSuchKey(_))));
    }
}

#[test]
fn scopes_that_one_replica_brings_have_one_number_on_all() {
    let shore = Shore::new();
    let (one, two) = thread::scope(|scope| {
        let one = scope
            .spawn(|| shore.try_store(Mode::OpenOrCreate, &["x.one", "x.both"], LONG).unwrap());
        let two = scope
            .spawn(|| shore.try_store(Mode::OpenOrCreate, &["x.two", "x.both"], LONG).unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    let names = |store: &Store| -> Vec<String> {
        store.catalogue().entries().iter().map(|entry| entry.scope.to_string()).collect()
    };
    eventually("both know all", || names(&one.0) == names(&two.0) && names(&one.0).len() == 16);
    let grant = Grant::Scopes(two.0.scopes(["x.two"]).unwrap());
    let issued = two.0.issue(NewKey { grant, ..new_key(&two.0) }).unwrap();
    let key = issued.secret.reveal(str::to_owned);
    eventually("it works there", || decision(&one.0, &key) == Ok(()));
    let principal = one.0.authenticate_key(key.as_bytes()).unwrap();
    assert!(principal.require(&"x.two".parse().unwrap()).is_ok());
    assert!(principal.require(&"x.one".parse().unwrap()).is_err());
}

#[test]
fn a_store_that_must_be_there_is_not_made_and_one_that_must_be_new_is_not_opened() {
    let shore = Shore::new();
    let open = |wanted| shore.try_store(wanted, &[], LONG).map(|_| ());
    assert!(matches!(open(Mode::Open), Err(Error::NotFound(_))));
    open(Mode::Create).unwrap();
    assert!(matches!(open(Mode::Create), Err(Error::AlreadyExists(_))));
    open(Mode::Open).unwrap();
    let link = shore.link();
    let other = Store::builder().prefix(Prefix::new("acme").unwrap());
    let outcome = other.shared(link, Replica::named("x"), Mode::Open);
    assert!(matches!(outcome, Err(Error::WrongPrefix(_))));
    let link = shore.link();
    let other = Store::builder().pepper("a pepper of its own");
    let outcome = other.shared(link, Replica::named("x"), Mode::Open);
    assert!(matches!(outcome, Err(Error::WrongPepper)));
}

#[test]
fn a_replica_that_left_keeps_nobody_waiting() {
    let shore = Shore::new();
    let (one, _a) = shore.store();
    let (id, _) = issue(&one);
    drop(shore.store());
    let (_, settled) = one.revoke_everywhere(id).unwrap();
    assert_eq!((settled.acknowledged, settled.waited_out), (1, 0));
}

#[test]
fn changes_that_are_too_many_for_one_transaction_go_in_several() {
    let shore = Shore::new();
    let ((one, link), (two, _b)) = (shore.store(), shore.store());
    // While the first is on its way the others gather.
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
fn as_many_scopes_as_there_may_be_are_numbered() {
    let shore = Shore::new();
    let names: Vec<_> = (0..240).map(|number| format!("x.scope{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (one, _a) = shore.try_store(Mode::OpenOrCreate, &names, LONG).unwrap();
    assert!(one.scopes(["x.scope0", "x.scope239"]).is_ok());
    let (two, _b) = shore.try_store(Mode::Open, &names, LONG).unwrap();
    assert_eq!(two.catalogue().entries().len(), one.catalogue().entries().len());
}

#[test]
fn a_change_that_the_engine_refuses_is_not_made_and_the_error_says_so() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    let (id, key) = issue(&one);
    eventually("the other follows", || decision(&two, &key) == Ok(()));
    *shore.0.refuses.lock().unwrap() = Some("there is no room");
    let outcome = one.revoke(id);
    assert!(matches!(&outcome, Err(Error::ConsensusRefused(why)) if &**why == "there is no room"));
    assert!(one.issue(new_key(&one)).is_err());
    // Nothing was changed, so nothing is denied: neither here nor elsewhere, nor later.
    assert_eq!((decision(&one, &key), decision(&two, &key)), (Ok(()), Ok(())));
    *shore.0.refuses.lock().unwrap() = None;
    issue(&two);
    assert_eq!(one.count().inactive, 0);
    one.revoke(id).unwrap();
    assert_eq!(
        (decision(&one, &key), decision(&two, &key)),
        (Err(Refusal::Inactive), Err(Refusal::Inactive))
    );
}

#[test]
fn when_a_key_was_last_used_is_known_on_all_replicas_and_to_those_that_come_later() {
    let shore = Shore::new();
    let ((one, _a), (two, _b)) = (shore.store(), shore.store());
    let ((id, key), (unused, _)) = (issue(&one), issue(&one));
    eventually("the other follows", || decision(&two, &key) == Ok(()));
    let (third, _c) = shore.store();
    eventually("all follow", || third.get(unused).is_ok());
    assert_eq!((third.last_used(id), third.last_used(unused)), (None, None));
    let epoch = shore.0.latest().epoch;
    // It writes them when it is closed.
    drop(two);
    assert_eq!(shore.0.latest().epoch, epoch, "a use is no change");
    assert_eq!(shore.0.last_uses(Revision(0)).uses.len(), 1);
    let later = shore.store().0;
    for store in [&third, &later] {
        eventually("it is known", || store.last_used(id).is_some());
        assert_eq!(store.last_used(unused), None);
    }
    // What is there already is not written again.
    decision(&later, &key).unwrap();
    let written = shore.0.last_uses(Revision(0)).revision;
    if one.last_used(id) == later.last_used(id) {
        later.writer.ledger.write_uses(&[(id, later.writer.index.last_use(id).unwrap())]).unwrap();
        assert!(shore.0.last_uses(written).uses.is_empty(), "it was written twice");
    }
    one.revoke(id).unwrap();
    one.delete(id).unwrap();
    assert!(shore.0.last_uses(Revision(0)).uses.is_empty(), "a deleted key leaves no use behind");
}

#[test]
fn uses_that_cannot_be_written_do_no_harm_and_are_written_the_next_time() {
    let shore = Shore::new();
    let (one, link) = shore.store();
    let (id, key) = issue(&one);
    decision(&one, &key).unwrap();
    link.set(Conditions { no_requests: true, ..Conditions::default() });
    let (index, mut uses) = (&one.writer.index, Uses::new(Duration::ZERO, 0));
    index.tick(Timestamp::from_minutes(index.minute() + 2));
    uses.step(&one.writer).unwrap();
    assert!(shore.0.last_uses(Revision(0)).uses.is_empty() && one.health().poisoned.is_none());
    link.set(Conditions { delay: 2, ..Conditions::default() });
    uses.finish(&one.writer).unwrap();
    assert_eq!(shore.0.last_uses(Revision(0)).uses.len(), 1);
    one.revoke(id).unwrap();
}

#[test]
fn a_key_that_is_applied_while_the_engine_is_asked_about_it_is_found() {
    let shore = Shore::new();
    let ((one, link), (two, _b)) = (shore.store(), shore.store());
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

/// A proof that was read before a change, and whose answer comes after the change was applied, is no
/// sign of another history.
#[test]
fn a_replica_with_slow_answers_among_many_changes_reads_nothing_anew() {
    let shore = Shore::new();
    // It asks for as many proofs as it can.
    let ((one, _a), (two, slow)) = (shore.store(), shore.store_fresh_for(SHORT / 4));
    let (id, _) = issue(&one);
    eventually("it follows", || two.get(id).is_ok());
    slow.set(Conditions { delay: 40, ..Conditions::default() });
    let mut most = 0;
    for _ in 0..80 {
        issue(&one);
        let active = two.count().active;
        assert!(
            active >= most && two.health().trouble.is_none(),
            "it began anew: {active} of {most}"
        );
        most = active;
    }
}
