//! A watch over a key in use: what ends it, and that no wake-up is ever lost.

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

const WATCHDOG: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Awaits the end, parked; `false` if the watchdog bit.
fn ends(watch: Revocation) -> bool {
    let mut watch = pin!(watch);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let start = Instant::now();
    while watch.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
        thread::park_timeout(WATCHDOG);
        if start.elapsed() >= WATCHDOG {
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
fn each_way_of_taking_a_key_away_ends_its_watch_and_no_other() {
    let store = Store::in_memory().unwrap();
    let narrowed = Grant::Scopes(store.scopes(["api.read"]).unwrap());
    let past = Expiry::At(Timestamp::from_secs(1));
    let ways: [(&str, Change); 3] = [
        ("revoke", Change::deactivate()),
        ("narrow", Change { grant: Some(narrowed), ..Change::default() }),
        ("expire", Change { expiry: Some(past), ..Change::default() }),
    ];
    let bystander = store.revocation(&holder(&store, &["api.read"]));
    for (way, change) in ways {
        let holder = holder(&store, &["api.read", "api.write"]);
        let watch = store.revocation(&holder);
        let renamed = Change { name: Some("renamed".into()), ..Change::default() };
        store.update(holder.id(), renamed).unwrap();
        assert!(!watch.is_over(), "{way}");
        store.update(holder.id(), change).unwrap();
        assert!(watch.is_over(), "{way}");
        assert!(ends(watch), "{way}");
    }
    assert!(!bystander.is_over());
    drop(store);
    assert!(bystander.is_over(), "a store that is closed takes no key away any more");
}

#[test]
fn a_watch_of_a_key_in_use_waits_and_says_whose_it_is() {
    let store = Store::in_memory().unwrap();
    let caller = holder(&store, &["api.read"]);
    let mut watch = pin!(store.revocation(&caller));
    assert_eq!(watch.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
    let shown = format!("Revocation {{ id: {:?}, is_over: false, .. }}", caller.id());
    assert_eq!(format!("{watch:?}"), shown);
}

#[test]
fn the_end_of_a_key_moves_with_its_changes() {
    let store = Store::in_memory().unwrap();
    let holder = holder(&store, &["api.read"]);
    let watch = store.revocation(&holder);
    assert_eq!((watch.expires_at(), watch.remaining()), (Expiry::Never, None));
    let soon = Timestamp::from(SystemTime::now() + Duration::from_hours(1));
    let soon = Expiry::At(Timestamp::from_secs(soon.as_secs()));
    let expiry = |expiry| Change { expiry: Some(expiry), ..Change::default() };
    store.update(holder.id(), expiry(soon)).unwrap();
    assert_eq!(watch.expires_at(), soon);
    let left = watch.remaining().unwrap();
    assert!(left > Duration::from_mins(59) && left <= Duration::from_hours(1), "{left:?}");
    store.update(holder.id(), expiry(Expiry::Never)).unwrap();
    assert_eq!(watch.remaining(), None);
    assert!(!watch.is_over());
}

/// Revokes and brings back the same key over and over, while another thread takes a watch each
/// time and awaits it, at all distances from the revocation.
#[test]
fn no_wake_up_is_lost_between_taking_a_watch_and_revoking() {
    let store = Store::in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "contended", &["api.read"]));
    let ended = Arc::new(AtomicU64::new(0));
    let (rounds, turn) = mpsc::channel::<Principal>();
    let (done, finished) = mpsc::channel();
    let watcher = thread::spawn({
        let (store, ended) = (store.clone(), Arc::clone(&ended));
        move || {
            for (round, principal) in turn.iter().enumerate() {
                for _ in 0..round % 97 * 20 {
                    std::hint::spin_loop();
                }
                assert!(ends(store.revocation(&principal)), "round {round}");
                ended.fetch_add(1, Ordering::Relaxed);
                done.send(()).unwrap();
            }
        }
    });
    let total = 5_000;
    for _ in 0..total {
        rounds.send(store.authenticate_key(&key).unwrap()).unwrap();
        store.revoke(id).unwrap();
        finished.recv().expect("the watch ended");
        store.update(id, Change::activate()).unwrap();
    }
    drop(rounds);
    watcher.join().unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), total);
}
