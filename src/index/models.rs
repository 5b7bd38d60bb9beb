//! Model-checks the invariants of the index, by number, in many thousand thread schedules with shuttle.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --target-dir target/shuttle --lib models`;
//! `PORTCULLIS_SCHEDULES` sets the number of schedules of each model.

use super::{
    slots::STRIPES,
    tests::{all, apply, digest, grant, limited, networks, record, seen},
    *,
};
use crate::{origin::Unknown, sync::explore};
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

/// The two states of the key that readers look up.
const STATES: [(bool, &[&str]); 2] = [(true, &["api.read"]), (false, &["api.write"])];

/// Runs more readers than there are stripes, concurrently with a change.
fn beside_readers(read: impl Fn() + Send + Sync + 'static, change: impl FnOnce()) {
    let read = Arc::new(read);
    let readers: Vec<_> = (0..=STRIPES)
        .map(|_| {
            let read = Arc::clone(&read);
            thread::spawn(move || (0..2).for_each(|_| read()))
        })
        .collect();
    change();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn invariant_1_lookup_after_a_denial_refuses_while_the_table_grows() {
    explore(|| {
        let (index, denied) = (Arc::new(Index::new()), Arc::new(AtomicBool::new(false)));
        let made = record(1, 1, true, &["api.read"]);
        apply(&index, &made);
        let reads = {
            let (index, denied) = (Arc::clone(&index), Arc::clone(&denied));
            move || {
                let before = denied.load(SeqCst);
                let standing = seen(&index, 1).expect("a key is there while the table grows");
                assert!(!(before && standing.active), "a denied key passed");
            }
        };
        let growing = {
            let index = Arc::clone(&index);
            thread::spawn(move || {
                for id in 2..8 {
                    apply(&index, &record(id, id, true, &["api.write"]));
                }
            })
        };
        beside_readers(reads, || {
            index.deny(9, made.id, record(1, 9, false, &["api.read"]).standing());
            denied.store(true, SeqCst);
            growing.join().unwrap();
            assert!((1..8).all(|id| seen(&index, id).is_some()));
        });
    });
}

#[test]
fn invariant_2_reader_sees_one_whole_state() {
    explore(|| {
        let index = Arc::new(Index::new());
        let states = STATES.map(|(active, names)| (active, grant(names)));
        apply(&index, &record(1, 1, STATES[0].0, STATES[0].1));
        let reads = {
            let index = Arc::clone(&index);
            move || {
                let standing = seen(&index, 1).unwrap();
                assert!(states.contains(&(standing.active, standing.grant)), "half of two states");
            }
        };
        beside_readers(reads, || {
            for revision in 2..5 {
                let (active, names) = STATES[(revision % 2) as usize];
                apply(&index, &record(1, revision, active, names));
            }
        });
    });
}

#[test]
fn invariant_2_denial_outlasts_the_commit_of_an_older_change_in_any_order() {
    explore(|| {
        let (index, denied) = (Arc::new(Index::new()), Arc::new(AtomicBool::new(false)));
        let made = record(1, 1, true, &["api.read"]);
        apply(&index, &made);
        index.deny(2, made.id, record(1, 2, false, &["api.read"]).standing());
        let reads = {
            let (index, denied) = (Arc::clone(&index), Arc::clone(&denied));
            move || {
                let before = denied.load(SeqCst);
                assert!(!(before && seen(&index, 1).unwrap().active), "a denied key passed");
            }
        };
        let commits = {
            let index = Arc::clone(&index);
            thread::spawn(move || {
                apply(&index, &record(1, 2, false, &["api.read"]));
                apply(&index, &record(1, 3, true, &["api.read"]));
            })
        };
        beside_readers(reads, || {
            index.deny(3, made.id, record(1, 3, true, &["api.read"]).standing());
            index.deny(4, made.id, record(1, 4, false, &["api.read"]).standing());
            denied.store(true, SeqCst);
        });
        commits.join().unwrap();
        assert!(!seen(&index, 1).unwrap().active);
        apply(&index, &record(1, 4, false, &["api.read"]));
        apply(&index, &record(1, 5, true, &["api.read"]));
        assert!(seen(&index, 1).unwrap().active, "a denial ends with its own commit");
    });
}

/// A digest whose probe sequence begins at the last slot, so all such keys collide.
fn colliding_digest(id: u64) -> Digest {
    let mut bytes = [u8::MAX; 32];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    Digest::from_bytes(bytes)
}

#[test]
fn invariant_4_no_reader_sees_another_keys_state_while_keys_are_deleted_and_created() {
    explore(|| {
        let (index, deleted) = (Arc::new(Index::new()), Arc::new(AtomicU64::new(0)));
        let name = |id: u64| if id.is_multiple_of(2) { "api.read" } else { "api.write" };
        let make = move |index: &Index, id: u64| {
            let made = record(id, 2 * id + 1, true, &[name(id)]);
            index.apply(made.revision, made.id, colliding_digest(id), Some(&made)).unwrap();
        };
        let reads = {
            let (index, deleted) = (Arc::clone(&index), Arc::clone(&deleted));
            move || {
                for id in 1..9 {
                    let gone = deleted.load(SeqCst) >= id;
                    let Some((found, standing)) = index.find(&colliding_digest(id)) else {
                        continue;
                    };
                    assert_eq!(found, KeyId::from_u64(id), "another key");
                    assert_eq!(standing.grant, grant(&[name(id)]), "another key's state");
                    assert!(!gone, "a deleted key is still there");
                }
            }
        };
        make(&index, 1);
        beside_readers(reads, || {
            for id in 2..9 {
                let old = KeyId::from_u64(id - 1);
                index.apply(2 * id, old, colliding_digest(id - 1), None).unwrap();
                deleted.store(id - 1, SeqCst);
                make(&index, id);
            }
        });
        assert_eq!(all(&index).len(), 1);
    });
}

#[test]
fn invariant_7_use_survives_a_concurrent_rebuild() {
    explore(|| {
        let index = Arc::new(Index::new());
        apply(&index, &record(1, 1, true, &["api.read"]));
        let growing = {
            let index = Arc::clone(&index);
            thread::spawn(move || {
                for id in 2..8 {
                    apply(&index, &record(id, id, true, &["api.read"]));
                }
            })
        };
        let minute = |minute| move || Timestamp::from_minutes(minute);
        index.tick(minute(7)());
        let later = {
            let index = Arc::clone(&index);
            thread::spawn(move || {
                index.tick(minute(8)());
                index.admit(&digest(1), Unknown, minute(8)).unwrap()
            })
        };
        index.admit(&digest(1), Unknown, minute(7)).unwrap();
        later.join().unwrap();
        growing.join().unwrap();
        assert_eq!(index.last_use(KeyId::from_u64(1)), Some(8), "a use was lost");
    });
}

#[test]
fn invariant_6_awaiting_task_is_woken_in_any_order_of_watch_and_denial() {
    explore(|| {
        let index = Arc::new(Index::new());
        let made = record(1, 1, true, &["api.read"]);
        apply(&index, &made);
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let (index, made) = (Arc::clone(&index), Arc::clone(&made));
                thread::spawn(move || {
                    let holder = Principal::new(made.id, made.grant);
                    let watch = index.watch(&holder, Timestamp::from_secs(9));
                    // Waiting forever is a deadlock, which shuttle reports.
                    block_on(watch);
                })
            })
            .collect();
        index.deny(2, made.id, record(1, 2, false, &["api.read"]).standing());
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        assert_eq!(index.watches.count(), 0);
    });
}

#[test]
fn invariant_6_watch_is_over_when_the_denial_has_returned_and_stays_over() {
    explore(|| {
        let (index, denied) = (Arc::new(Index::new()), Arc::new(AtomicBool::new(false)));
        let made = record(1, 1, true, &["api.read"]);
        apply(&index, &made);
        let holder = Principal::new(made.id, made.grant);
        let early = index.watch(&holder, Timestamp::from_secs(9));
        let holding = {
            let (index, denied) = (Arc::clone(&index), Arc::clone(&denied));
            thread::spawn(move || {
                let begun = denied.load(SeqCst);
                let watch = index.watch(&holder, Timestamp::from_secs(9));
                assert!(!begun || watch.is_over(), "a watch missed the denial before it");
                for watch in [&early, &watch] {
                    let before = denied.load(SeqCst);
                    assert!(!before || watch.is_over(), "a watch missed a denial");
                }
                early
            })
        };
        index.deny(2, made.id, record(1, 2, false, &["api.read"]).standing());
        denied.store(true, SeqCst);
        let early = holding.join().unwrap();
        apply(&index, &record(1, 3, true, &["api.read"]));
        assert!(early.is_over(), "what is over stays over");
    });
}

#[test]
fn invariant_8_reader_sees_the_limits_of_its_key_while_lists_are_rebuilt() {
    explore(|| {
        let index = Arc::new(Index::new());
        // Each key has one of two networks at a time, and no other key has either.
        let of = |id: u64, revision: u64| {
            let network = [format!("10.{id}.0.0/16"), format!("10.{id}.{revision}.0/24")];
            let network = &network[usize::from(revision % 2 == 0)];
            limited(&record(id, revision, true, &["api.read"]), &[network])
        };
        (1..3).for_each(|id| apply(&index, &of(id, id)));
        let reads = {
            let index = Arc::clone(&index);
            move || {
                for id in 1..3 {
                    let standing = seen(&index, id).unwrap();
                    let all = networks(&[&format!("10.{id}.0.0/16")]);
                    assert!(standing.networks.is_within(&all), "the limits of another key");
                    assert!(!standing.networks.admit_nothing());
                }
            }
        };
        beside_readers(reads, || {
            // The list has four entries.
            (3..12).for_each(|revision| apply(&index, &of(1 + revision % 2, revision)));
        });
    });
}
