//! The invariants of the index, by number.

use super::{
    slots::{SEGMENTS, STRIPES, segment_number},
    *,
};
use crate::{
    codec::Resident,
    digest::Seals,
    network::Network,
    networks::Networks,
    origin::{Uncounted, Unknown},
    rate::Rate,
    record::{Actor, Expiry, NewKey},
    refusal::Refusal,
    scope::{Catalogue, Grant},
};
use proptest::prelude::*;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

pub(super) fn digest(id: u64) -> Digest {
    static SEALS: LazyLock<Seals> = LazyLock::new(|| Seals::derive(None));
    SEALS.digester.digest(&id.to_le_bytes())
}

pub(super) fn grant(names: &[&str]) -> Grant {
    Grant::Scopes(Catalogue::with_preset().set(names).unwrap())
}

pub(super) fn record(id: u64, revision: u64, active: bool, names: &[&str]) -> Arc<Record> {
    let new = NewKey::new("k", grant(names), Expiry::Never).with_active(active);
    Arc::new(
        Record::new(KeyId::from_u64(id), new, Timestamp::from_secs(id), Actor::Host, revision)
            .unwrap(),
    )
}

pub(super) fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
}

/// The same record with these networks.
pub(super) fn limited(record: &Record, texts: &[&str]) -> Arc<Record> {
    Arc::new(Record { networks: networks(texts), ..record.clone() })
}

pub(super) fn apply(index: &Index, record: &Arc<Record>) {
    let id = record.id.as_u64();
    index.apply(record.revision, record.id, digest(id), Some(record)).unwrap();
}

pub(super) fn delete(index: &Index, id: u64, sequence: u64) {
    index.apply(sequence, KeyId::from_u64(id), digest(id), None).unwrap();
}

pub(super) fn seen(index: &Index, id: u64) -> Option<Standing> {
    let (found, standing) = index.find(&digest(id))?;
    assert_eq!(found.as_u64(), id);
    Some(standing)
}

/// Every record, newest first.
pub(super) fn all(index: &Index) -> Vec<Record> {
    let (mut all, mut place) = (Vec::new(), None);
    loop {
        let (some, next) =
            index.search(place, &Search::new(None), RecordFilter::default(), usize::MAX);
        all.extend(some);
        place = next;
        if place.is_none() {
            return all;
        }
    }
}

#[test]
fn keys_except_excludes_deleted_keys() {
    let index = Index::new();
    for id in 1..=3 {
        apply(&index, &record(id, id, id != 2, &["api.read"]));
    }
    delete(&index, 2, 4);
    let others = |ids: &[u64]| {
        let mut others = index.keys_except(&ids.iter().map(|id| KeyId::from_u64(*id)).collect());
        others.sort_unstable_by_key(|(id, _)| *id);
        others
    };
    assert_eq!(others(&[1]), [(KeyId::from_u64(3), digest(3))]);
    assert_eq!(others(&[1, 3]), []);
    assert_eq!(others(&[]).len(), 2);
}

#[test]
fn invariant_2_revoke_reactivate_and_revoke_again_stays_refused_when_the_first_commits() {
    let index = Index::new();
    let made = record(1, 1, true, &["api.read"]);
    apply(&index, &made);
    let revoked = record(1, 2, false, &["api.read"]);
    let active = record(1, 3, true, &["api.read"]);
    let again = record(1, 4, false, &["api.read"]);
    for change in [&revoked, &active, &again] {
        index.deny(change.revision, change.id, change.standing());
        assert!(!seen(&index, 1).unwrap().active);
    }
    for change in [&revoked, &active, &again] {
        apply(&index, change);
        assert!(!seen(&index, 1).unwrap().active);
    }
    apply(&index, &record(1, 5, true, &["api.read"]));
    assert!(seen(&index, 1).unwrap().active);
}

#[test]
fn invariant_2_change_both_stricter_and_looser_denies_now_and_allows_after_commit() {
    let index = Index::new();
    apply(&index, &record(1, 1, true, &["api.read"]));
    let swapped = record(1, 2, true, &["api.write"]);
    index.deny(2, swapped.id, swapped.standing());
    assert_eq!(seen(&index, 1).unwrap().grant, grant(&[]));
    apply(&index, &swapped);
    assert_eq!(seen(&index, 1).unwrap().grant, grant(&["api.write"]));
}

#[test]
fn invariant_2_denial_without_a_commit_stays() {
    let index = Index::new();
    let made = record(1, 1, true, &["api.read"]);
    apply(&index, &made);
    index.deny(u64::MAX, made.id, Standing { active: false, ..made.standing() });
    apply(&index, &record(1, 7, true, &["api.read"]));
    assert!(!seen(&index, 1).unwrap().active);
}

#[test]
fn invariant_3_applying_twice_or_out_of_order_alters_nothing() {
    let index = Index::new();
    let (first, second) = (record(1, 1, true, &["api.read"]), record(1, 2, false, &["api.read"]));
    apply(&index, &second);
    apply(&index, &first);
    apply(&index, &second);
    assert_eq!(index.get(second.id).unwrap().0, second);
    assert!(!seen(&index, 1).unwrap().active);
    // No commit would remove a denial that comes after its own change, so it must have no effect.
    index.deny(2, second.id, second.standing());
    apply(&index, &record(1, 3, true, &["api.read"]));
    assert!(seen(&index, 1).unwrap().active);
    index.deny(3, second.id, second.standing());
    assert!(seen(&index, 1).unwrap().active);
}

#[test]
fn counts_follow_changes() {
    let index = Index::new();
    let root = |id, revision, active| {
        let mut root = Record::clone(&record(id, revision, active, &[]));
        root.grant = Grant::All;
        Arc::new(root)
    };
    let counted = |index: &Index| (index.count(), index.lasting_roots());
    assert_eq!(counted(&index), ((0, 0), 0));
    for id in 1..4 {
        apply(&index, &root(id, id, true));
    }
    apply(&index, &record(4, 4, true, &["api.read"]));
    apply(&index, &record(5, 5, false, &["api.read"]));
    assert_eq!(counted(&index), ((5, 4), 3));
    apply(&index, &root(1, 6, false));
    apply(&index, &root(2, 7, true));
    assert_eq!(counted(&index), ((5, 3), 2));
    delete(&index, 3, 8);
    delete(&index, 5, 9);
    assert_eq!(counted(&index), ((3, 2), 1));
}

#[test]
fn expired_active_keys_are_counted_across_batches() {
    let index = Index::new();
    let until = |id: u64, active, end| {
        let mut ending = Record::clone(&record(id, id, active, &["api.read"]));
        (ending.created_at, ending.expiry) = (Timestamp::from_secs(id), end);
        ending
    };
    for id in 1..=10_000 {
        let end = match id % 4 {
            0 => Expiry::Never,
            1 => Expiry::At(Timestamp::from_secs(1000)),
            _ => Expiry::At(Timestamp::from_secs(2000)),
        };
        apply(&index, &Arc::new(until(id, id % 4 != 3, end)));
    }
    let at = |second| index.count_expired(Timestamp::from_secs(second));
    assert_eq!([999, 1000, 1999, 2000, u64::MAX / 1000].map(at), [0, 2500, 2500, 5000, 5000]);
}

#[test]
fn ids_and_digests_in_use_are_taken() {
    let index = Index::new();
    apply(&index, &record(1, 1, true, &["api.read"]));
    let (one, two) = (KeyId::from_u64(1), KeyId::from_u64(2));
    assert!(index.is_taken(one, &digest(2)) && index.is_taken(two, &digest(1)));
    assert!(!index.is_taken(two, &digest(2)));
}

#[test]
fn threads_spread_over_stripes_and_keys_spread_over_segments() {
    let index = Index::new();
    let stripe = || std::ptr::from_ref(index.slots.stripe().unwrap()).addr();
    let stripes: HashSet<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2 * STRIPES).map(|_| scope.spawn(stripe)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // Threads of other tests take some numbers meanwhile.
    assert!(stripes.len() > STRIPES / 2);
    let segments: HashSet<_> = (0..SEGMENTS as u64).map(|low| segment_number([low, 0])).collect();
    assert_eq!(segments.len(), SEGMENTS);
}

#[test]
fn invariant_4_tombstone_of_a_deleted_key_stays() {
    let index = Index::new();
    delete(&index, 1, 5);
    apply(&index, &record(1, 3, true, &["api.read"]));
    assert_eq!(seen(&index, 1), None);
    apply(&index, &record(2, 6, false, &["api.read"]));
    delete(&index, 2, 7);
    apply(&index, &record(2, 8, true, &["api.read"]));
    assert_eq!(seen(&index, 2), None);
    assert!(index.is_taken(KeyId::from_u64(2), &digest(2)));
}

#[test]
fn two_keys_with_one_fingerprint_are_an_error() {
    let index = Index::new();
    apply(&index, &record(1, 1, true, &[]));
    let other = record(2, 2, true, &[]);
    assert!(index.apply(2, other.id, digest(1), Some(&other)).is_err());
    let moved = record(1, 3, true, &[]);
    assert!(index.apply(3, moved.id, digest(9), Some(&moved)).is_err());
}

/// A naive model of the index: a map of the committed records and a list of denials.
#[derive(Default)]
struct Model(HashMap<u64, ModelEntry>);

/// The last change, the record, the denials.
type ModelEntry = (u64, Option<Arc<Record>>, Vec<(u64, Standing)>);

impl Model {
    fn seen(&self, id: u64) -> Option<Standing> {
        let (_, record, denials) = self.0.get(&id)?;
        let committed = record.as_ref()?.standing();
        let mut seen = denials.iter().fold(committed, |seen, (_, denied)| seen.meet(denied));
        // An inactive key is refused before its networks count.
        if !seen.active {
            seen.networks = Networks::ANY;
        }
        Some(seen)
    }
}

proptest! {
    #[test]
    fn index_agrees_with_a_map(
        steps in prop::collection::vec((0u64..400, 0u8..4, any::<bool>(), prop::sample::select(vec!["api.read", "api.write"]), 0usize..6), 1..1500),
    ) {
        let (index, mut model) = (Index::new(), Model::default());
        let lists: [&[&str]; 6] =
            [&[], &[], &[], &["192.0.2.0/24"], &["192.0.2.0/25", "::1"], &["198.51.100.7"]];
        for (sequence, (id, step, active, name, list)) in (1u64..).zip(steps) {
            let change = limited(&record(id, sequence, active, &[name]), lists[list]);
            match step {
                0 => {
                    index.deny(sequence + 3, change.id, change.standing());
                    if let Some((_, _, denials)) = model.0.get_mut(&id) {
                        denials.push((sequence + 3, change.standing()));
                    }
                }
                1 => {
                    delete(&index, id, sequence);
                    let entry = model.0.entry(id).or_insert((0, None, vec![]));
                    if entry.0 == 0 || entry.1.is_some() {
                        *entry = (sequence, None, vec![]);
                    }
                }
                _ => {
                    apply(&index, &change);
                    let entry = model.0.entry(id).or_insert((0, None, vec![]));
                    if sequence > entry.0 && (entry.0 == 0 || entry.1.is_some()) {
                        entry.0 = sequence;
                        entry.1 = Some(change);
                        entry.2.retain(|(pending, _)| *pending > sequence);
                    }
                }
            }
            prop_assert_eq!(seen(&index, id), model.seen(id));
        }
        for id in 0..400 {
            prop_assert_eq!(seen(&index, id), model.seen(id), "{}", id);
        }
    }
}

/// Runs more readers than stripes while keys are created, revoked and deleted and segments grow. After a
/// denial has returned, no reader sees the key active. No reader sees a state that its key never had.
/// Key n only ever has the scope of its parity.
#[test]
fn invariants_1_and_4_hold_for_more_threads_than_stripes_while_the_index_grows() {
    const KEYS: u64 = 3_000;
    let index = Index::new();
    let revoked = AtomicU64::new(0);
    let made = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let grants = [grant(&["api.read"]), grant(&["api.write"])];
    thread::scope(|scope| {
        for reader in 0..(STRIPES as u64 + 6) {
            let (index, revoked, made, done) = (&index, &revoked, &made, &done);
            scope.spawn(move || {
                let mut id = reader;
                while !done.load(Ordering::SeqCst) {
                    id = (id + 7) % KEYS;
                    let (before, there) =
                        (revoked.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
                    let standing = seen(index, id);
                    assert!(
                        standing.is_some() || id >= there || id < revoked.load(Ordering::SeqCst)
                    );
                    if let Some(standing) = standing {
                        assert_eq!(standing.grant, grants[(id % 2) as usize]);
                        assert!(
                            id >= before || !standing.active,
                            "key {id} passed after its revocation"
                        );
                    }
                    thread::yield_now();
                }
            });
        }
        let name = |id: u64| if id.is_multiple_of(2) { "api.read" } else { "api.write" };
        for id in 0..KEYS {
            apply(&index, &record(id, 2 * id + 1, true, &[name(id)]));
            made.store(id + 1, Ordering::SeqCst);
        }
        for id in 0..KEYS {
            let off = record(id, 2 * KEYS + 3 * id, false, &[name(id)]);
            index.deny(off.revision, off.id, off.standing());
            revoked.store(id + 1, Ordering::SeqCst);
            apply(&index, &off);
            if id.is_multiple_of(3) {
                delete(&index, id, off.revision + 1);
                apply(&index, &record(KEYS + id, off.revision + 2, true, &[name(id)]));
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!((0..KEYS).all(|id| {
        seen(&index, id).is_none_or(|standing| {
            standing.check(None, Timestamp::default) == Err(Refusal::Inactive)
        })
    }));
    let all = all(&index);
    assert_eq!(all.len() as u64, KEYS);
    assert!(all.is_sorted_by(|newer, older| (newer.created_at, newer.id) > (older.created_at, older.id)));
}

#[test]
fn invariant_6_watch_is_over_when_its_key_is_denied() {
    let index = Index::new();
    let (now, both) = (Timestamp::from_secs(9), grant(&["api.read", "api.write"]));
    let narrow = grant(&["api.read"]);
    let watched = |id, grant| index.watch(&Principal::new(KeyId::from_u64(id), grant), now);
    assert!(watched(1, both).is_over(), "a key that is not there");
    apply(&index, &record(1, 1, true, &["api.read", "api.write"]));
    apply(&index, &record(2, 2, true, &["api.read", "api.write"]));
    let (wide, narrower, other) = (watched(1, both), watched(1, narrow), watched(2, both));
    assert!(!wide.is_over() && !narrower.is_over());

    let id = KeyId::from_u64(1);
    index.deny(3, id, record(1, 3, true, &["api.read"]).standing());
    assert!(wide.is_over() && !narrower.is_over());
    index.deny(4, id, record(1, 4, false, &["api.read"]).standing());
    assert!(narrower.is_over());
    apply(&index, &record(1, 5, true, &["api.read", "api.write"]));
    assert!(seen(&index, 1).unwrap().active && !watched(1, both).is_over());
    assert!(wide.is_over() && narrower.is_over(), "what is over stays over");

    let last = watched(1, both);
    delete(&index, 1, 6);
    assert!(last.is_over() && !other.is_over());
    assert_eq!(index.watches.count(), 4);
    drop((wide, narrower, last));
    assert_eq!(index.watches.count(), 1);
    drop(index);
    assert!(other.is_over(), "the store is closed");
}

#[test]
fn invariant_6_dropped_index_ends_its_watches() {
    let index = Index::new();
    apply(&index, &record(1, 1, true, &["api.read"]));
    let holder = index.admit(&digest(1), Unknown, Timestamp::default).unwrap();
    let watch = index.watch(&holder, Timestamp::default());
    assert!(!watch.is_over());
    drop(index);
    assert!(watch.is_over());
}

#[test]
fn cleared_index_has_no_key_and_accepts_its_former_keys_as_new() {
    let index = Index::new();
    apply(&index, &record(1, 5, true, &["api.read"]));
    delete(&index, 2, 6);
    index.record_use(KeyId::from_u64(1), 7);
    assert_eq!(index.last_use(KeyId::from_u64(1)), Some(7));
    index.clear();
    assert_eq!((index.count(), all(&index).len(), seen(&index, 1)), ((0, 0), 0, None));
    apply(&index, &record(1, 1, true, &["api.write"]));
    assert_eq!(seen(&index, 1).map(|standing| standing.grant), Some(grant(&["api.write"])));
}

#[test]
fn invariant_6_no_wake_up_is_lost_between_watch_and_denial() {
    struct Woken(AtomicBool);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    // Both sides start together and are delayed by all combinations of some steps.
    let rounds: u64 = 40_000;
    let delay = |steps: u64| (0..steps % 32).for_each(|_| std::hint::spin_loop());
    let until = |round: u64, clock: &AtomicU64| {
        let mut spins = 0;
        while clock.load(Ordering::SeqCst) < round {
            spins += 1;
            if spins % 1000 == 0 { thread::yield_now() } else { std::hint::spin_loop() }
        }
    };
    let (index, begun, denied) = (Index::new(), AtomicU64::new(0), AtomicU64::new(0));
    let both = grant(&["api.read", "api.write"]);
    let refused = record(1, 1, false, &["api.read"]).standing();
    let again = record(1, 1, true, &["api.read", "api.write"]);
    let (id, now) = (KeyId::from_u64(1), Timestamp::from_secs(9));
    let (mut missed, mut lost) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=rounds {
                until(round, &begun);
                delay(round);
                index.deny(2 * round, id, refused.clone());
                denied.store(round, Ordering::SeqCst);
            }
        });
        for round in 1..=rounds {
            index.apply(2 * round - 1, id, digest(1), Some(&again)).unwrap();
            let woken = Arc::new(Woken(AtomicBool::new(false)));
            let waker = Waker::from(Arc::clone(&woken));
            begun.store(round, Ordering::SeqCst);
            delay(round / 32);
            let mut watch = std::pin::pin!(index.watch(&Principal::new(id, both), now));
            let polled = watch.as_mut().poll(&mut std::task::Context::from_waker(&waker));
            until(round, &denied);
            // Asserted below: here a failure would leave the other side waiting.
            missed += usize::from(!watch.is_over());
            lost += usize::from(polled.is_pending() && !woken.0.load(Ordering::SeqCst));
        }
    });
    assert_eq!(missed, 0, "watches that missed a denial");
    assert_eq!(lost, 0, "wake-ups that were lost");
}

/// Each key is accepted once, while segments are rebuilt.
#[test]
fn invariant_7_no_use_is_lost_while_the_index_grows() {
    const KEYS: u64 = 20_000;
    let (index, made) = (Index::new(), AtomicU64::new(0));
    let now = Timestamp::from_minutes(7);
    index.tick(now);
    thread::scope(|scope| {
        for reader in 0..2 {
            let (index, made) = (&index, &made);
            scope.spawn(move || {
                for id in (reader..KEYS).step_by(2) {
                    while made.load(Ordering::SeqCst) <= id {
                        thread::yield_now();
                    }
                    index.admit(&digest(id), Unknown, || now).unwrap();
                }
            });
        }
        for id in 0..KEYS {
            apply(&index, &record(id, id + 1, true, &[]));
            made.store(id + 1, Ordering::SeqCst);
        }
    });
    let uses: Vec<_> = (0..SEGMENTS).flat_map(|s| index.used_since(7, s).unwrap()).collect();
    assert_eq!(uses.len() as u64, KEYS);
    assert!((0..KEYS).all(|id| index.last_use(KeyId::from_u64(id)) == Some(7)));
    assert_eq!(index.used_since(8, 0), Some(vec![]));
    assert_eq!(index.used_since(7, SEGMENTS), None);
}

#[test]
fn invariant_7_refused_or_deleted_key_has_no_use() {
    let (index, now) = (Index::new(), Timestamp::from_minutes(7));
    index.tick(now);
    index.tick(Timestamp::from_minutes(6));
    apply(&index, &record(1, 1, false, &[]));
    assert_eq!(index.admit(&digest(1), Unknown, || now).unwrap_err(), Refusal::Inactive);
    assert_eq!(index.last_use(KeyId::from_u64(1)), None);
    apply(&index, &record(2, 2, true, &[]));
    assert!(index.admit(&digest(2), Unknown, || now).is_ok());
    assert_eq!(index.last_use(KeyId::from_u64(2)), Some(7));
    delete(&index, 2, 3);
    assert_eq!(index.admit(&digest(2), Unknown, || now).unwrap_err(), Refusal::Unknown);
    assert_eq!(index.last_use(KeyId::from_u64(2)), None);
}

#[test]
fn loaded_index_equals_a_grown_one() {
    let (grown, mut loading) = (Index::new(), Loading::with_room_for(900));
    for id in 0..1000 {
        let record = record(id * 7 % 1000, id + 1, id % 3 > 0, &["api.read"]);
        apply(&grown, &record);
        let loaded = || vec![(digest(record.id.as_u64()), Resident::of(&record).unwrap())];
        loading.records(loaded()).unwrap();
        loading.last_use(record.id, 5);
        assert!(loading.records(loaded()).is_err());
    }
    loading.last_use(KeyId::from_u64(5000), 5);
    let loaded = loading.finish();
    assert!(all(&loaded) == all(&grown));
    assert_eq!(loaded.count(), grown.count());
    assert!((0..1000).all(|id| seen(&loaded, id) == seen(&grown, id)));
    assert_eq!(loaded.last_use(KeyId::from_u64(999)), Some(5));
}

fn from(index: &Index, id: u64, address: &str) -> Result<KeyId, Refusal> {
    let address: Option<IpAddr> = address.parse().ok();
    index.admit(&digest(id), address, Timestamp::default).map(|principal| principal.id())
}

#[test]
fn limited_key_is_accepted_from_its_networks_only() {
    let index = Index::new();
    apply(&index, &limited(&record(1, 1, true, &["api.read"]), &["192.0.2.0/24", "::1"]));
    apply(&index, &record(2, 2, true, &["api.read"]));
    let key = KeyId::from_u64;
    assert_eq!(from(&index, 1, "192.0.2.7"), Ok(key(1)));
    assert_eq!(from(&index, 1, "::ffff:192.0.2.7"), Ok(key(1)));
    assert_eq!(from(&index, 1, "192.0.3.7"), Err(Refusal::Network));
    assert_eq!(from(&index, 1, "not known"), Err(Refusal::Network));
    assert_eq!(index.admit(&digest(1), Unknown, Timestamp::default).unwrap_err(), Refusal::Network);
    assert_eq!(from(&index, 2, "192.0.3.7"), Ok(key(2)));
    assert!(!index.is_valid(&digest(1), None, Timestamp::default));
    assert!(index.is_valid(&digest(1), "::1".parse().ok(), Timestamp::default));
    // State comes before the networks: an inactive key is inactive from everywhere.
    apply(&index, &limited(&record(1, 3, false, &["api.read"]), &["192.0.2.0/24"]));
    assert_eq!(from(&index, 1, "192.0.3.7"), Err(Refusal::Inactive));
    apply(&index, &record(1, 4, true, &["api.read"]));
    assert_eq!(from(&index, 1, "not known"), Ok(key(1)));
    delete(&index, 1, 5);
    assert_eq!(from(&index, 1, "192.0.2.7"), Err(Refusal::Unknown));
}

#[test]
fn invariant_2_change_of_networks_denies_at_once_and_allows_after_commit() {
    let index = Index::new();
    let one = limited(&record(1, 1, true, &["api.read"]), &["192.0.2.0/24"]);
    let other = limited(&record(1, 2, true, &["api.read"]), &["198.51.100.0/24"]);
    apply(&index, &one);
    index.deny(2, other.id, other.standing());
    for address in ["192.0.2.7", "198.51.100.7", "unknown"] {
        assert_eq!(from(&index, 1, address), Err(Refusal::Network), "{address}");
    }
    apply(&index, &other);
    assert!(from(&index, 1, "198.51.100.7").is_ok() && from(&index, 1, "192.0.2.7").is_err());
    // A key without networks gets some.
    apply(&index, &record(2, 3, true, &["api.read"]));
    let bound = limited(&record(2, 4, true, &["api.read"]), &["192.0.2.0/24"]);
    index.deny(4, bound.id, bound.standing());
    assert_eq!(from(&index, 2, "198.51.100.7"), Err(Refusal::Network));
    index.retract(4, bound.id, &bound.standing());
    assert!(from(&index, 2, "198.51.100.7").is_ok());
}

#[test]
fn invariant_8_lists_of_limits_stay_as_small_as_their_keys() {
    let index = Index::new();
    let bytes = |index: &Index| -> usize {
        index.slots.table().unwrap().0.iter().map(|segment| segment.bytes()).sum()
    };
    let changed = |revision: u64| {
        let network = format!("10.{}.{}.0/24", revision / 256, revision % 256);
        limited(&record(1, revision, true, &["api.read"]), &[&network])
    };
    apply(&index, &changed(1));
    let before = bytes(&index);
    for revision in 2..5000 {
        apply(&index, &changed(revision));
    }
    assert_eq!(bytes(&index), before);
    assert_eq!(seen(&index, 1).unwrap().networks, changed(4999).networks);
    // Equal limits need no further entry, and a key without limits needs none.
    for id in 2..5000 {
        apply(&index, &record(id, 5000 + id, true, &["api.read"]));
    }
    assert_eq!(seen(&index, 1).unwrap().networks, changed(4999).networks);
}

fn rated(record: &Record, requests: u32, seconds: u32) -> Arc<Record> {
    Arc::new(Record { rate: Rate::new(requests, seconds).ok(), ..record.clone() })
}

/// How many of some requests at this second are allowed.
fn allowed(index: &Index, id: u64, second: u64, of: usize) -> usize {
    let now = || Timestamp::from_secs(second);
    (0..of).filter(|_| index.admit(&digest(id), Unknown, now).is_ok()).count()
}

#[test]
fn requests_of_a_key_are_counted_and_those_of_others_are_not() {
    let index = Index::new();
    let (key, other) = (record(1, 1, true, &["api.read"]), record(2, 2, true, &["api.read"]));
    apply(&index, &rated(&key, 3, 60));
    apply(&index, &rated(&other, 2, 60));
    apply(&index, &record(3, 3, true, &["api.read"]));
    assert_eq!(allowed(&index, 1, 100, 9), 3);
    assert_eq!((allowed(&index, 2, 100, 9), allowed(&index, 3, 100, 9)), (2, 9));
    assert_eq!((allowed(&index, 1, 119, 9), allowed(&index, 1, 120, 9)), (0, 1));
    let refused = index.admit(&digest(1), Unknown, || Timestamp::from_secs(120)).unwrap_err();
    let rate = Rate::new(3, 60).unwrap();
    assert_eq!(refused, Refusal::RateLimited { rate, retry_after: 20 });
    // To check the key again is no request.
    let again = || index.admit(&digest(1), Uncounted(None), || Timestamp::from_secs(120));
    assert!((0..9).all(|_| again().is_ok()));
}

#[test]
fn network_is_checked_before_the_rate_and_a_refused_request_is_not_counted() {
    let index = Index::new();
    apply(&index, &rated(&limited(&record(1, 1, true, &[]), &["192.0.2.0/24"]), 1, 60));
    for _ in 0..3 {
        assert_eq!(from(&index, 1, "198.51.100.7"), Err(Refusal::Network));
    }
    assert!(from(&index, 1, "192.0.2.7").is_ok());
    assert!(matches!(from(&index, 1, "192.0.2.7"), Err(Refusal::RateLimited { .. })));
    assert_eq!(from(&index, 1, "198.51.100.7"), Err(Refusal::Network));
}

#[test]
fn count_survives_other_changes_and_rebuilds_but_not_a_revocation_or_another_rate() {
    let index = Index::new();
    let change = |revision: u64, active: bool| record(1, revision, active, &["api.read"]);
    apply(&index, &rated(&change(1, true), 2, 60));
    assert_eq!(allowed(&index, 1, 100, 9), 2);
    // Each change of networks takes an entry, so the list is rebuilt.
    for revision in 2..40 {
        let network = format!("192.0.2.{revision}");
        apply(&index, &rated(&limited(&change(revision, true), &[&network]), 2, 60));
    }
    apply(&index, &rated(&change(40, true), 2, 60));
    for id in 2..5000 {
        apply(&index, &record(id, 100 + id, true, &["api.read"]));
    }
    assert_eq!(allowed(&index, 1, 100, 9), 0);
    // A denial with the same rate counts on, and so does its end.
    let narrowed = rated(&record(1, 41, true, &[]), 2, 60);
    index.deny(41, narrowed.id, narrowed.standing());
    assert_eq!(allowed(&index, 1, 100, 9), 0);
    index.retract(41, narrowed.id, &narrowed.standing());
    assert_eq!(allowed(&index, 1, 100, 9), 0);
    apply(&index, &rated(&change(6000, true), 3, 60));
    assert_eq!(allowed(&index, 1, 100, 9), 3);
    apply(&index, &rated(&change(6001, false), 3, 60));
    apply(&index, &rated(&change(6002, true), 3, 60));
    assert_eq!(allowed(&index, 1, 100, 9), 3);
    apply(&index, &change(6003, true));
    assert_eq!(allowed(&index, 1, 100, 9), 9);
}

#[test]
fn root_with_networks_is_no_lasting_root() {
    let index = Index::new();
    let root = Record { grant: Grant::All, ..(*record(1, 1, true, &[])).clone() };
    apply(&index, &Arc::new(root.clone()));
    assert_eq!(index.lasting_roots(), 1);
    apply(&index, &limited(&Record { revision: 2, ..root.clone() }, &["::1"]));
    assert_eq!((index.lasting_roots(), index.count()), (0, (1, 1)));
    apply(&index, &Arc::new(Record { revision: 3, ..root }));
    assert_eq!(index.lasting_roots(), 1);
    delete(&index, 1, 4);
    assert_eq!((index.lasting_roots(), index.count()), (0, (0, 0)));
}
