//! Revocation is linearizable: a validation that starts after the denial returned refuses, on
//! every thread.
//!
//! Four readers authenticate the newest keys without a pause, by key and by header. A writer
//! issues a key, waits until a reader was let in with it, takes it away in one of six ways, and
//! stamps the moment at which that returned. Each reader takes a stamp from the same counter
//! before it asks; if it is let in although its stamp is later than the denial's, that is one too
//! many. The short form is for each change; the long one:
//!
//! ```text
//! PORTCULLIS_REVOCATIONS=100000 cargo test --release --test store revocation:: -- --nocapture
//! PORTCULLIS_REVOCATIONS_ON_DISK=10000 cargo test --release --test store revocation_on_disk -- --nocapture
//! ```

use portcullis::{Change, Expiry, KeyId, Principal, Refusal, Store, Timestamp, scope::catalogue};
use portcullis_testkit::{basic, grouped, home, issue, new_key, number, scopes};
use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

const READERS: usize = 4;

/// A way to take something away.
#[derive(Clone, Copy, Debug)]
enum Denial {
    Revoke,
    Deactivate,
    RevokeAgain,
    Narrow,
    End,
    Delete,
}

const DENIALS: [Denial; 6] = [
    Denial::Revoke,
    Denial::Deactivate,
    Denial::RevokeAgain,
    Denial::Narrow,
    Denial::End,
    Denial::Delete,
];

impl Denial {
    /// Whether this answer still grants what the denial takes away.
    fn is_let_in(self, answer: &Result<Principal, Refusal>) -> bool {
        match self {
            Self::Narrow => {
                answer.as_ref().is_ok_and(|who| who.require(&catalogue::API_WRITE).is_ok())
            }
            // An inactive key that is deleted becomes a stranger's.
            Self::Delete => answer.as_ref().err() != Some(&Refusal::Unknown),
            _ => answer.is_ok(),
        }
    }

    fn apply(self, store: &Store, id: KeyId) {
        match self {
            Self::Revoke | Self::RevokeAgain => store.revoke(id).map(|_| ()),
            Self::Deactivate => store.update(id, Change::deactivate()).map(|_| ()),
            Self::Narrow => {
                let narrow = Some(scopes(store, &["api.read"]));
                store.update(id, Change { grant: narrow, ..Change::default() }).map(|_| ())
            }
            Self::End => {
                let past = Some(Expiry::At(Timestamp::from_secs(1_000_000)));
                store.update(id, Change { expiry: past, ..Change::default() }).map(|_| ())
            }
            Self::Delete => store.delete(id),
        }
        .unwrap();
    }
}

struct Target {
    key: Vec<u8>,
    header: String,
    denial: Denial,
    /// The stamp after the denial returned; 0 before.
    denied: AtomicU64,
    let_in: AtomicUsize,
    /// Refusals of validations that started after the denial returned.
    refused_after: AtomicUsize,
}

#[derive(Default)]
struct Watch {
    /// The newest keys, some of them taken away just now.
    targets: RwLock<[Option<Arc<Target>>; 2]>,
    stamp: AtomicU64,
    over: AtomicBool,
    validations: AtomicUsize,
    too_late: AtomicUsize,
}

impl Watch {
    fn stamp(&self) -> u64 {
        self.stamp.fetch_add(1, SeqCst) + 1
    }

    fn read(&self, store: &Store, reader: usize) {
        let mut by_header = reader.is_multiple_of(2);
        while !self.over.load(SeqCst) {
            let targets = self.targets.read().unwrap().clone();
            for target in targets.iter().flatten() {
                by_header = !by_header;
                let started = self.stamp();
                let answer = if by_header {
                    store.authenticate(target.header.as_bytes())
                } else {
                    store.authenticate_key(&target.key)
                };
                let let_in = target.denial.is_let_in(&answer);
                self.validations.fetch_add(1, SeqCst);
                // A denial that has no stamp yet will get one later than ours.
                let denied = target.denied.load(SeqCst);
                match (let_in, denied != 0 && started > denied) {
                    (true, true) => _ = self.too_late.fetch_add(1, SeqCst),
                    (true, false) => _ = target.let_in.fetch_add(1, SeqCst),
                    (false, true) => _ = target.refused_after.fetch_add(1, SeqCst),
                    (false, false) => {}
                }
            }
            // The two threads that write must come to run where cores are few.
            thread::yield_now();
        }
    }

    fn write(&self, store: &Store, denials: usize) {
        let mut previous: Option<Arc<Target>> = None;
        for denial in DENIALS.into_iter().cycle().take(denials) {
            let mut new = new_key(store, "taken", &["api.read", "api.write"]);
            new.active = !matches!(denial, Denial::Delete | Denial::RevokeAgain);
            let (id, key) = issue(store, new);
            if matches!(denial, Denial::RevokeAgain) {
                store.update(id, Change::activate()).unwrap();
            }
            let target = Arc::new(Target {
                header: basic(&key),
                key,
                denial,
                denied: AtomicU64::new(0),
                let_in: AtomicUsize::new(0),
                refused_after: AtomicUsize::new(0),
            });
            *self.targets.write().unwrap() = [Some(Arc::clone(&target)), previous.take()];
            while target.let_in.load(SeqCst) == 0 {
                thread::yield_now();
            }
            denial.apply(store, id);
            target.denied.store(self.stamp(), SeqCst);
            while target.refused_after.load(SeqCst) == 0 && self.too_late.load(SeqCst) == 0 {
                thread::yield_now();
            }
            previous = Some(target);
        }
        self.over.store(true, SeqCst);
    }
}

fn watch(store: &Store, denials: usize, place: &str) {
    let watch = Watch::default();
    thread::scope(|scope| {
        for reader in 0..READERS {
            let watch = &watch;
            scope.spawn(move || watch.read(store, reader));
        }
        // Whatever happens to the writer, the readers must end.
        let over = OnDrop(&watch.over);
        watch.write(store, denials);
        drop(over);
    });
    let (validations, too_late) = (watch.validations.into_inner(), watch.too_late.into_inner());
    println!(
        "revocation {place}: {} revocations, {READERS} readers, {} validations, {too_late} accepted that started after the revocation returned",
        grouped(denials),
        grouped(validations),
    );
    assert_eq!(too_late, 0);
    assert!(validations > denials * 2, "each key was let in, and then refused, at least once");
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn no_validation_that_starts_after_a_revocation_in_memory_is_let_in() {
    let store = Store::in_memory().unwrap();
    watch(&store, number("PORTCULLIS_REVOCATIONS", 20_000), "in memory");
}

#[test]
fn no_validation_that_starts_after_a_revocation_on_disk_is_let_in() {
    let (_dir, home) = home();
    let store = Store::open(&home).unwrap();
    watch(&store, number("PORTCULLIS_REVOCATIONS_ON_DISK", 300), "on disk");
}
