//! Revocation is linearizable: on every thread, an authentication that starts after the revocation
//! returned is refused.
//!
//! Four readers authenticate the newest keys without a pause, by key and by header. A writer issues a
//! key, waits until a reader was accepted with it, and restricts the key in one of six ways. When the
//! restriction has returned, the writer draws a number from a shared counter. Each reader draws a
//! number before it authenticates. A reader that is accepted with a number higher than the writer's
//! violates linearizability. A short run is part of the tests; the long runs:
//!
//! ```text
//! PORTCULLIS_REVOCATIONS=100000 cargo test --release --test store revocation:: -- --nocapture
//! PORTCULLIS_REVOCATIONS_ON_DISK=10000 cargo test --release --test store revocation_on_disk -- --nocapture
//! ```

use portcullis::{
    Actor, Change, Error, Expiry, Grant, KeyId, NewKey, Principal, Refusal, Store, Timestamp,
    scope::catalogue,
};
use portcullis_testkit::{basic, grouped, home, issue, new_key, number, scopes};
use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

const READERS: usize = 4;

/// A way to restrict a key.
#[derive(Clone, Copy, Debug)]
enum Restriction {
    Revoke,
    Deactivate,
    RevokeAgain,
    Narrow,
    Expire,
    Delete,
}

const RESTRICTIONS: [Restriction; 6] = [
    Restriction::Revoke,
    Restriction::Deactivate,
    Restriction::RevokeAgain,
    Restriction::Narrow,
    Restriction::Expire,
    Restriction::Delete,
];

impl Restriction {
    /// Returns whether this result still grants the right that the restriction removes.
    fn is_accepted(self, result: &Result<Principal, Refusal>) -> bool {
        match self {
            Self::Narrow => result
                .as_ref()
                .is_ok_and(|principal| principal.require(&catalogue::API_WRITE).is_ok()),
            // An inactive key becomes an unknown key when it is deleted.
            Self::Delete => result.as_ref().err() != Some(&Refusal::Unknown),
            _ => result.is_ok(),
        }
    }

    fn apply(self, store: &Store, id: KeyId) {
        match self {
            Self::Revoke | Self::RevokeAgain => store.revoke(id).map(|_| ()),
            Self::Deactivate => store.update(id, Change::deactivate()).map(|_| ()),
            Self::Narrow => {
                let narrow = scopes(store, &["api.read"]);
                store.update(id, Change::default().with_grant(narrow)).map(|_| ())
            }
            Self::Expire => {
                let past = Expiry::At(Timestamp::from_secs(1_000_000));
                store.update(id, Change::default().with_expiry(past)).map(|_| ())
            }
            Self::Delete => store.delete(id),
        }
        .unwrap();
    }
}

struct Target {
    key: Vec<u8>,
    header: String,
    restriction: Restriction,
    /// The counter when the restriction had returned; 0 before.
    restricted_at: AtomicU64,
    accepted: AtomicUsize,
    /// Refused authentications that started after the restriction returned.
    refused_after: AtomicUsize,
}

#[derive(Default)]
struct Experiment {
    /// The newest two keys; the older one is restricted.
    targets: RwLock<[Option<Arc<Target>>; 2]>,
    counter: AtomicU64,
    is_over: AtomicBool,
    authentications: AtomicUsize,
    /// Accepted authentications that started after the restriction returned.
    violations: AtomicUsize,
}

impl Experiment {
    fn draw(&self) -> u64 {
        self.counter.fetch_add(1, SeqCst) + 1
    }

    fn read(&self, store: &Store, reader: usize) {
        let mut by_header = reader.is_multiple_of(2);
        while !self.is_over.load(SeqCst) {
            let targets = self.targets.read().unwrap().clone();
            for target in targets.iter().flatten() {
                by_header = !by_header;
                let started = self.draw();
                let result = if by_header {
                    store.authenticate_header(target.header.as_bytes())
                } else {
                    store.authenticate_key(&target.key)
                };
                let is_accepted = target.restriction.is_accepted(&result);
                self.authentications.fetch_add(1, SeqCst);
                // A restriction without a number will draw a higher one than this reader did.
                let restricted_at = target.restricted_at.load(SeqCst);
                match (is_accepted, restricted_at != 0 && started > restricted_at) {
                    (true, true) => _ = self.violations.fetch_add(1, SeqCst),
                    (true, false) => _ = target.accepted.fetch_add(1, SeqCst),
                    (false, true) => _ = target.refused_after.fetch_add(1, SeqCst),
                    (false, false) => {}
                }
            }
            // Let the two writing threads run on a machine with few cores.
            thread::yield_now();
        }
    }

    fn write(&self, store: &Store, restrictions: usize) {
        let mut previous: Option<Arc<Target>> = None;
        for restriction in RESTRICTIONS.into_iter().cycle().take(restrictions) {
            let mut new = new_key(store, "restricted", &["api.read", "api.write"]);
            new.active = !matches!(restriction, Restriction::Delete | Restriction::RevokeAgain);
            let (id, key) = issue(store, new);
            if matches!(restriction, Restriction::RevokeAgain) {
                store.update(id, Change::activate()).unwrap();
            }
            let target = Arc::new(Target {
                header: basic(&key),
                key,
                restriction,
                restricted_at: AtomicU64::new(0),
                accepted: AtomicUsize::new(0),
                refused_after: AtomicUsize::new(0),
            });
            *self.targets.write().unwrap() = [Some(Arc::clone(&target)), previous.take()];
            while target.accepted.load(SeqCst) == 0 {
                thread::yield_now();
            }
            restriction.apply(store, id);
            target.restricted_at.store(self.draw(), SeqCst);
            while target.refused_after.load(SeqCst) == 0 && self.violations.load(SeqCst) == 0 {
                thread::yield_now();
            }
            previous = Some(target);
        }
        self.is_over.store(true, SeqCst);
    }
}

fn run(store: &Store, restrictions: usize, location: &str) {
    let experiment = Experiment::default();
    thread::scope(|scope| {
        for reader in 0..READERS {
            let experiment = &experiment;
            scope.spawn(move || experiment.read(store, reader));
        }
        // The readers must end even if the writer panics.
        let end = SetOnDrop(&experiment.is_over);
        experiment.write(store, restrictions);
        drop(end);
    });
    let (authentications, violations) =
        (experiment.authentications.into_inner(), experiment.violations.into_inner());
    println!(
        "revocation {location}: {} revocations, {READERS} readers, {} validations, {violations} accepted that started after the revocation returned",
        grouped(restrictions),
        grouped(authentications),
    );
    assert_eq!(violations, 0);
    assert!(
        authentications > restrictions * 2,
        "each key was accepted and then refused at least once"
    );
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn authentication_started_after_revocation_in_memory_is_refused() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    run(&store, number("PORTCULLIS_REVOCATIONS", 20_000), "in memory");
}

#[test]
fn authentication_started_after_revocation_on_disk_is_refused() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    run(&store, number("PORTCULLIS_REVOCATIONS_ON_DISK", 300), "on disk");
}

#[test]
fn keys_that_are_revoked_together_have_an_outcome_each_and_the_own_key_comes_last() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let issue = |scope: &str| {
        let new = NewKey::new("a", store.scopes([scope]).unwrap(), Expiry::Never);
        store.issue(new).unwrap().record.id
    };
    let (own, gone) = (issue("admin.key.update"), issue("api.read"));
    let root = store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap().record.id;
    store.revoke(gone).unwrap();
    store.delete(gone).unwrap();
    // More keys than are planned at once: a key that is revoked before the last part revokes no more.
    let many: Vec<KeyId> = (0..600).map(|_| issue("api.read")).collect();
    let ids = [&[own, gone, root], &many[..]].concat();
    let outcomes = store.acting_as(Actor::Key(own)).revoke_all(&ids);
    let is_active = |id| store.get(id).unwrap().active;
    assert!(many.iter().all(|id| !is_active(*id)) && !is_active(own) && is_active(root));
    assert!(matches!(outcomes[1], Err(Error::NoSuchKey(id)) if id == gone));
    assert!(outcomes[2].is_err());
    let revoked = ids.iter().zip(&outcomes).filter(|(id, _)| ![gone, root].contains(id));
    assert!(
        revoked
            .map(|(id, outcome)| (id, outcome.as_ref().unwrap()))
            .all(|(id, record)| { record.id == *id && !record.active })
    );
    // A revoked key revokes nothing.
    let other = issue("api.read");
    let refused = store.acting_as(Actor::Key(own)).revoke_all(&[other]);
    assert!(refused[0].is_err() && is_active(other));
}
