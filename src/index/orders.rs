//! Model-checks the memory ordering of loads and stores with loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --target-dir target/loom --lib orders`. Shuttle's models treat
//! every access as sequentially consistent; here a reader may see what the memory model lets it.

use super::{
    segment::Segment,
    tests::{apply, delete, limited, record, seen},
    *,
};
use crate::record::Expiry;
use loom::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use std::{future::Future, pin::pin, task::Context};

fn word(number: u64) -> Word {
    Word::new(true, Expiry::Never, number)
}

fn found(segment: &Segment, fingerprint: [u64; 2]) -> Option<(KeyId, Word)> {
    segment.find(fingerprint).map(|(id, word, _)| (id, word))
}

/// Two keys whose probes begin at the same slot.
const FIRST: [u64; 2] = [11, u64::MAX];
const SECOND: [u64; 2] = [22, u64::MAX];

#[test]
fn reader_that_sees_a_slots_word_sees_its_key() {
    loom::model(|| {
        let segment = Arc::new(Segment::with_room_for(0));
        let reads = {
            let segment = Arc::clone(&segment);
            thread::spawn(move || {
                let first = found(&segment, FIRST);
                assert!(first.is_none_or(|key| key == (KeyId::from_u64(1), word(7))));
                let second = found(&segment, SECOND);
                assert!(second.is_none_or(|key| key == (KeyId::from_u64(2), word(8))));
                assert!(second.is_none() || found(&segment, FIRST).is_some(), "in the order made");
            })
        };
        assert!(segment.insert(FIRST, KeyId::from_u64(1), word(7)));
        assert!(segment.insert(SECOND, KeyId::from_u64(2), word(8)));
        reads.join().unwrap();
    });
}

#[test]
fn lookup_of_a_deleted_key_sees_its_state_or_its_deletion() {
    loom::model(|| {
        let segment = Arc::new(Segment::with_room_for(0));
        assert!(segment.insert(FIRST, KeyId::from_u64(1), word(7)));
        let reads = {
            let segment = Arc::clone(&segment);
            thread::spawn(move || {
                let (id, state) = found(&segment, FIRST).unwrap();
                assert!(id == KeyId::from_u64(1) && (state == word(7) || state == Word::GONE));
                let second = found(&segment, SECOND);
                assert!(second.is_none_or(|key| key == (KeyId::from_u64(2), word(8))));
            })
        };
        assert!(segment.set(FIRST, Word::GONE));
        assert!(segment.insert(SECOND, KeyId::from_u64(2), word(8)));
        reads.join().unwrap();
    });
}

#[test]
fn returned_denial_is_visible_to_every_later_lookup() {
    loom::model(|| {
        let (index, denied) = (Arc::new(Index::new()), Arc::new(AtomicBool::new(false)));
        let made = record(1, 1, true, &["api.read"]);
        apply(&index, &made);
        let reads = {
            let (index, denied) = (Arc::clone(&index), Arc::clone(&denied));
            thread::spawn(move || {
                // A later lookup is ordered by an acquiring load; otherwise nothing is "later".
                let before = denied.load(Ordering::Acquire);
                assert!(!(before && seen(&index, 1).unwrap().active), "a denied key passed");
            })
        };
        index.deny(2, made.id, record(1, 2, false, &["api.read"]).standing());
        denied.store(true, Ordering::Release);
        reads.join().unwrap();
    });
}

#[test]
fn reader_sees_a_whole_state_with_its_grant() {
    loom::model(|| {
        let index = Arc::new(Index::new());
        let (one, other) = (record(1, 1, true, &["api.read"]), record(1, 2, false, &["api.write"]));
        apply(&index, &one);
        let reads = {
            let index = Arc::clone(&index);
            let states = [one.standing(), other.standing()];
            thread::spawn(move || assert!(states.contains(&seen(&index, 1).unwrap())))
        };
        apply(&index, &other);
        delete(&index, 2, 3);
        reads.join().unwrap();
    });
}

#[test]
fn reader_of_a_limited_key_sees_its_limits() {
    loom::model(|| {
        let index = Arc::new(Index::new());
        let one = limited(&record(1, 1, true, &["api.read"]), &["192.0.2.0/24"]);
        let other = limited(&record(1, 2, true, &["api.read"]), &["198.51.100.0/24"]);
        apply(&index, &one);
        let reads = {
            let index = Arc::clone(&index);
            let states = [one.standing(), other.standing()];
            thread::spawn(move || assert!(states.contains(&seen(&index, 1).unwrap())))
        };
        apply(&index, &other);
        reads.join().unwrap();
    });
}

#[test]
fn watch_and_concurrent_denial_never_miss_each_other() {
    struct Woken(AtomicBool);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let index = Arc::new(Index::new());
        let made = record(1, 1, true, &["api.read"]);
        apply(&index, &made);
        let awaits = {
            let (index, made) = (Arc::clone(&index), Arc::clone(&made));
            thread::spawn(move || {
                let woken = Arc::new(Woken(AtomicBool::new(false)));
                let waker = Waker::from(Arc::clone(&woken));
                let holder = Principal::new(made.id, made.grant);
                let mut watch = Box::pin(index.watch(&holder, Timestamp::from_secs(9)));
                let pending = pin!(&mut watch).poll(&mut Context::from_waker(&waker)).is_pending();
                (watch, pending, woken)
            })
        };
        index.deny(2, made.id, record(1, 2, false, &["api.read"]).standing());
        let (watch, pending, woken) = awaits.join().unwrap();
        assert!(watch.is_over(), "a watch missed the denial");
        assert!(!pending || woken.0.load(Ordering::SeqCst), "a wake-up was lost");
    });
}
