//! [`Revocation`] futures: which changes complete them, and that no wake-up is lost.

use portcullis::{Change, Expiry, Grant, Principal, Revocation, Store, Timestamp};
use portcullis_testkit::{issue, new_key};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant, SystemTime},
};

const TIMEOUT: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the future; returns false after the timeout.
fn completes(watch: Revocation) -> bool {
    let mut watch = pin!(watch);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let start = Instant::now();
    while watch.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
        thread::park_timeout(TIMEOUT);
        if start.elapsed() >= TIMEOUT {
            return false;
        }
    }
    true
}

fn holder(store: &Store, scopes: &[&str]) -> Principal {
    let (_, key) = issue(store, new_key(store, "holder", scopes));
    store.authenticate_key(&key).unwrap()
}

#[test]
fn revoking_narrowing_and_expiring_complete_the_watches_of_that_key_only() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let narrowed = Grant::Scopes(store.scopes(["api.read"]).unwrap());
    let past = Expiry::At(Timestamp::from_secs(1));
    let changes: [(&str, Change); 3] = [
        ("revoke", Change::deactivate()),
        ("narrow", Change::default().with_grant(narrowed)),
        ("expire", Change::default().with_expiry(past)),
    ];
    let bystander = store.revocation(&holder(&store, &["api.read"]));
    for (kind, change) in changes {
        let holder = holder(&store, &["api.read", "api.write"]);
        let watch = store.revocation(&holder);
        let renamed = Change::default().with_name("renamed");
        store.update(holder.id(), renamed).unwrap();
        assert!(!watch.is_over(), "{kind}");
        store.update(holder.id(), change).unwrap();
        assert!(watch.is_over(), "{kind}");
        assert!(completes(watch), "{kind}");
    }
    assert!(!bystander.is_over());
    drop(store);
    assert!(bystander.is_over(), "closing the store completes every watch");
}

#[test]
fn watch_of_a_valid_key_is_pending_and_its_debug_output_names_the_key() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let caller = holder(&store, &["api.read"]);
    let mut watch = pin!(store.revocation(&caller));
    assert_eq!(watch.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
    let shown = format!("Revocation {{ id: {:?}, is_over: false, .. }}", caller.id());
    assert_eq!(format!("{watch:?}"), shown);
}

#[test]
fn watch_follows_changes_of_the_expiry() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let holder = holder(&store, &["api.read"]);
    let watch = store.revocation(&holder);
    assert_eq!((watch.expires_at(), watch.remaining()), (Expiry::Never, None));
    let soon = Timestamp::from(SystemTime::now() + Duration::from_hours(1));
    let soon = Expiry::At(Timestamp::from_secs(soon.as_secs()));
    let expiry = |expiry| Change::default().with_expiry(expiry);
    store.update(holder.id(), expiry(soon)).unwrap();
    assert_eq!(watch.expires_at(), soon);
    let left = watch.remaining().unwrap();
    assert!(left > Duration::from_mins(59) && left <= Duration::from_hours(1), "{left:?}");
    store.update(holder.id(), expiry(Expiry::Never)).unwrap();
    assert_eq!(watch.remaining(), None);
    assert!(!watch.is_over());
}

/// Revokes and reactivates one key repeatedly. Each time another thread creates a watch, after a
/// varying delay, and waits for it.
#[test]
fn no_wake_up_is_lost_when_a_watch_is_created_during_the_revocation() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "contended", &["api.read"]));
    let completed = Arc::new(AtomicU64::new(0));
    let (rounds, turn) = mpsc::channel::<Principal>();
    let (done, finished) = mpsc::channel();
    let watcher = thread::spawn({
        let (store, completed) = (store.clone(), Arc::clone(&completed));
        move || {
            for (round, principal) in turn.iter().enumerate() {
                for _ in 0..round % 97 * 20 {
                    std::hint::spin_loop();
                }
                assert!(completes(store.revocation(&principal)), "round {round}");
                completed.fetch_add(1, Ordering::Relaxed);
                done.send(()).unwrap();
            }
        }
    });
    let total = 5_000;
    for _ in 0..total {
        rounds.send(store.authenticate_key(&key).unwrap()).unwrap();
        store.revoke(id).unwrap();
        finished.recv().expect("the watch completed");
        store.update(id, Change::activate()).unwrap();
    }
    drop(rounds);
    watcher.join().unwrap();
    assert_eq!(completed.load(Ordering::Relaxed), total);
}
