//! Model-checks the guarantees of the writer in many thousand schedules of its callers, with shuttle.
//!
//! The command is in `index/models.rs`. The ledger logs its durable changes, and fails from a given change
//! on. A caller that would wait forever is a deadlock, which shuttle reports.

use super::{Store, plans::PlannedKey, scope_names::ScopeNames, uses, writer::Writer};
use crate::{
    audit_entry::{Act, AuditEntry},
    digest::{Digest, Seals},
    error::Error,
    id::KeyId,
    index::Index,
    ledger::{Tip, scripted::Scripted},
    origin::Unknown,
    record::{Actor, Change, Expiry, NewKey, Record},
    refusal::Refusal,
    scope::Grant,
    secret::Prefix,
    sync::explore,
    time::Timestamp,
};
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};
use std::sync::{Arc, LazyLock, Mutex};

/// The durable changes, and the last change that a commit began to write.
#[derive(Default)]
struct Log {
    /// The changes that a commit has begun to write.
    begun: AtomicU64,
    durable: Mutex<Vec<u64>>,
}

impl Log {
    fn has(&self, sequence: u64) -> bool {
        self.durable.lock().unwrap().contains(&sequence)
    }
}

/// A store, and the log of its ledger, which fails from the change `failing` on.
fn store(failing: u64) -> (Store, Arc<Log>) {
    // Created once: the keys of seals are kept until the process ends.
    static SEALS: LazyLock<Arc<Seals>> = LazyLock::new(|| Arc::new(Seals::derive(None)));
    let log = Arc::new(Log::default());
    let ledger = Scripted::by({
        let log = Arc::clone(&log);
        move |batch| {
            log.begun.store(batch.last().unwrap().sequence, SeqCst);
            thread::yield_now();
            let durable = batch.iter().all(|commit| commit.sequence < failing);
            if durable {
                log.durable.lock().unwrap().extend(batch.iter().map(|commit| commit.sequence));
            }
            durable
        }
    });
    let names =
        ScopeNames::new(Vec::new(), Some(crate::scope::catalogue::financial_data().collect()))
            .unwrap();
    let (ledger, seals) = (Box::new(ledger), Arc::clone(&SEALS));
    let writer = Writer::start(ledger, Index::new(), seals, names, Tip::default(), uses::INTERVAL);
    (
        Store {
            writer: Arc::new(writer.unwrap()),
            prefix: Prefix::default(),
            credentials: crate::credential::Credentials::default(),
            is_created: true,
        },
        log,
    )
}

fn digest(store: &Store, id: u64) -> Digest {
    store.writer.seals.digester.digest(&id.to_le_bytes())
}

/// Creates a key with this id. Unlike [`Store::issue`] it uses no random id, so that a failed schedule
/// fails again.
fn make(store: &Store, id: u64, grant: Grant, active: bool) -> Result<KeyId, Error> {
    let core = &store.writer;
    let new = NewKey::new("k", grant, Expiry::Never).with_active(active);
    let mut plans = core.plan();
    plans.check_writable()?;
    let (key, now) = (KeyId::from_u64(id), Timestamp::from_secs(id));
    let record = Record::new(key, new, now, Actor::Host, plans.next_sequence()).unwrap();
    let entry = AuditEntry {
        key: Some(key),
        after: record.fields_unlike(None),
        ..AuditEntry::new(Actor::Host, Act::Create)
    };
    let digest = digest(store, id);
    let change = PlannedKey { id: key, digest, after: Some(Arc::new(record)) };
    let sequence = core.queue_changes(&mut plans, entry, vec![change])?;
    core.wait(plans, sequence).map(|()| key)
}

fn read(store: &Store) -> Grant {
    Grant::Scopes(store.scopes(["api.read"]).unwrap())
}

fn decision(store: &Store, id: u64) -> Result<(), Refusal> {
    store.authenticate_digest(&digest(store, id), Unknown).map(|_| ())
}

fn renamed(name: &str) -> Change {
    Change { name: Some(name.into()), ..Change::default() }
}

fn spawn<T: Send + 'static>(
    store: &Store,
    act: impl FnOnce(&Store) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let store = store.clone();
    thread::spawn(move || act(&store))
}

#[test]
fn validation_after_a_returned_revocation_refuses_and_it_is_durable() {
    explore(|| {
        let (store, log) = store(u64::MAX);
        let id = make(&store, 1, read(&store), true).unwrap();
        let revoked = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let revoked = Arc::clone(&revoked);
                spawn(&store, move |store| {
                    let before = revoked.load(SeqCst);
                    let decision = decision(store, 1);
                    assert!(!before || decision == Err(Refusal::Inactive), "a revoked key passed");
                })
            })
            .collect();
        let renaming = spawn(&store, move |store| store.update(id, renamed("other")).unwrap());
        let record = store.revoke(id).unwrap();
        revoked.store(true, SeqCst);
        assert!(log.has(record.revision), "a revocation was acknowledged before it was durable");
        assert!(log.has(renaming.join().unwrap().revision));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn denial_precedes_and_acceptance_follows_the_durable_write() {
    explore(|| {
        let (store, log) = store(u64::MAX);
        let off = make(&store, 1, read(&store), true).unwrap();
        let on = make(&store, 2, read(&store), false).unwrap();
        let reader = {
            let log = Arc::clone(&log);
            spawn(&store, move |store| {
                for _ in 0..3 {
                    let begun = log.begun.load(SeqCst);
                    // The revocation is the third change or the fourth.
                    assert!(begun < 4 || decision(store, 1).is_err(), "refused too late");
                    if decision(store, 2).is_ok() {
                        let active = store.get(on).unwrap();
                        assert!(active.active && log.has(active.revision), "allowed too early");
                    }
                }
            })
        };
        let activating =
            spawn(&store, move |store| store.update(on, Change::activate()).unwrap().revision);
        let revision = store.revoke(off).unwrap().revision;
        assert!(log.has(revision) && log.has(activating.join().unwrap()));
        assert_eq!(decision(&store, 2), Ok(()));
        reader.join().unwrap();
    });
}

#[test]
fn concurrent_changes_of_one_key_end_in_the_last_planned_state() {
    explore(|| {
        let (store, log) = store(u64::MAX);
        let id = make(&store, 1, read(&store), true).unwrap();
        let changing: Vec<_> = [Change::deactivate(), Change::activate(), renamed("other")]
            .into_iter()
            .map(|change| spawn(&store, move |store| store.update(id, change).unwrap()))
            .collect();
        let again = store.revoke(id).unwrap();
        // A repeated revocation is acknowledged only after the pending one is durable.
        assert!(log.has(again.revision));
        let acknowledged: Vec<_> =
            changing.into_iter().map(|changing| changing.join().unwrap().revision).collect();
        assert!(acknowledged.iter().all(|revision| log.has(*revision)));
        let last = store.get(id).unwrap();
        assert_eq!(Some(&last.revision), log.durable.lock().unwrap().last());
        assert_eq!(last.name, "other", "a change was planned without the pending one");
        assert_eq!(decision(&store, 1).is_ok(), last.active);
        assert_eq!(store.writer.plan().pending_sequence(id), 0, "nothing is pending");
    });
}

#[test]
fn failed_commit_keeps_denials_allows_nothing_new_and_wakes_every_caller() {
    for failing in 3..6 {
        explore(move || {
            let (store, log) = store(failing);
            let off = make(&store, 1, read(&store), true).unwrap();
            let on = make(&store, 2, read(&store), false).unwrap();
            let revoking = spawn(&store, move |store| store.revoke(off));
            let activating = spawn(&store, move |store| store.update(on, Change::activate()));
            let made = make(&store, 3, read(&store), true);
            assert_eq!(made.is_ok(), decision(&store, 3).is_ok());
            let (revoked, activated) = (revoking.join().unwrap(), activating.join().unwrap());
            for acknowledged in [&revoked, &activated] {
                match acknowledged {
                    Ok(record) => assert!(log.has(record.revision), "acknowledged, not durable"),
                    Err(Error::NotDurable(_) | Error::Poisoned(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!(decision(&store, 1), Err(Refusal::Inactive), "a denial ended");
            assert_eq!(activated.is_ok(), decision(&store, 2).is_ok());
            assert!(revoked.is_err() || activated.is_err() || made.is_err());
            assert!(matches!(store.update(off, renamed("other")), Err(Error::Poisoned(_))));
            // If the activation was not planned, this revocation alters nothing.
            assert!(matches!(store.revoke(on), Ok(_) | Err(Error::Poisoned(_))));
            assert_eq!(decision(&store, 2), Err(Refusal::Inactive));
        });
    }
}

#[test]
fn concurrent_revocations_keep_the_last_root() {
    explore(|| {
        let (store, _) = store(u64::MAX);
        let [first, second] = [1, 2].map(|id| make(&store, id, Grant::All, true).unwrap());
        let other = spawn(&store, move |store| store.revoke(second).is_ok());
        let one = store.revoke(first).is_ok();
        assert!(one != other.join().unwrap(), "one of two roots is revoked");
        assert_eq!(store.writer.index.lasting_roots(), 1);
        assert!(decision(&store, 1).is_ok() != decision(&store, 2).is_ok());
    });
}

#[test]
fn revocation_wakes_its_watch_while_the_last_handle_is_dropped() {
    explore(|| {
        let (store, log) = store(u64::MAX);
        let id = make(&store, 1, read(&store), true).unwrap();
        let awaiting = spawn(&store, move |store| {
            let Ok(principal) = store.authenticate_digest(&digest(store, 1), Unknown) else {
                return;
            };
            let watch = store.revocation(&principal);
            block_on(watch);
            assert!(decision(store, 1).is_err(), "a stream ended before its key");
        });
        let revoking = spawn(&store, move |store| store.revoke(id).unwrap().revision);
        drop(store);
        let revision = revoking.join().unwrap();
        awaiting.join().unwrap();
        assert!(log.has(revision));
    });
}

#[test]
fn closing_store_ends_its_watches_and_wakes_their_tasks() {
    explore(|| {
        let (store, _) = store(u64::MAX);
        make(&store, 1, read(&store), true).unwrap();
        let principal = store.authenticate_digest(&digest(&store, 1), Unknown).unwrap();
        let watch = store.revocation(&principal);
        let awaiting = thread::spawn(move || block_on(watch));
        drop(store);
        awaiting.join().unwrap();
    });
}
