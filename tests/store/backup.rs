//! Backups and restores: one moment of a store that goes on, every damage seen, nothing revived,
//! nothing overwritten.

use portcullis::{
    Act, Actor, Change, Error, Expiry, Grant, KeyId, ListQuery, Offline, Record, Refusal, Store,
    Timestamp,
    backup::{LaterEffect, LaterEvidence, Restored},
};
use portcullis_testkit::{Chance, copy, home, issue, new_key, records};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

fn backup(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    let taken = store.backup(&mut bytes, |_| ()).unwrap();
    assert_eq!(taken, Offline::new().verify_backup(&bytes[..], |_| ()).unwrap());
    assert_eq!(taken.bytes, bytes.len() as u64);
    bytes
}

fn restore(bytes: &[u8], dir: &Path, later: &LaterEvidence) -> Result<Restored, Error> {
    Offline::new().restore(bytes, dir, later, Actor::Local(7), |_| ())
}

fn beside(old: &Path) -> PathBuf {
    old.with_file_name("new")
}

fn directory(data: &Path) -> LaterEvidence {
    LaterEvidence::Directory { data: data.into(), anchor: None }
}

/// What every key is, without its place in a list.
fn by_id(store: &Store) -> BTreeMap<String, Arc<Record>> {
    records(store).into_iter().map(|record| (record.id.to_string(), record)).collect()
}

#[test]
fn a_restored_store_knows_when_its_keys_were_last_used() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let make = |name| issue(&store, new_key(&store, name, &["api.read"]));
    let (used, unused, gone) = (make("used"), make("unused"), make("gone"));
    store.authenticate_key(&used.1).unwrap();
    store.authenticate_key(&gone.1).unwrap();
    let last = store.last_used(used.0);
    assert!(last.is_some());
    // What was never written to the store's own directory is in its backup.
    let bytes = backup(&store);
    store.revoke(gone.0).unwrap();
    store.delete(gone.0).unwrap();
    drop(store);
    let new = beside(&old);
    restore(&bytes, &new, &directory(&old)).unwrap();
    let store = Store::open(&new).unwrap();
    assert_eq!((store.last_used(used.0), store.last_used(unused.0)), (last, None));
    assert_eq!(store.last_used(gone.0), None);
    // And so does what is made from a backup of that.
    let again = backup(&store);
    drop(store);
    let third = old.with_file_name("third");
    restore(&again, &third, &LaterEvidence::Unknown).unwrap();
    assert_eq!(Store::open(&third).unwrap().last_used(used.0), last);
    let report = Offline::new().examine(&third, old.parent().unwrap()).unwrap();
    assert!(report.is_healthy(), "{report:#?}");
}

// ── one moment

/// Does something to the store each time a part of the backup is written.
struct Meddling<'s>(Vec<u8>, &'s Store, Chance, Vec<KeyId>);

impl Write for Meddling<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(written, store, chance, keys) = self;
        for _ in 0..20 {
            let key = keys[chance.below(keys.len())];
            // What cannot be done to this key in its state is done to another.
            let _ = match chance.below(4) {
                0 => store.revoke(key).map(drop),
                1 => store.revoke(key).and_then(|_| store.delete(key)),
                2 => store.rotate(key, Duration::ZERO).map(drop),
                _ => store.issue(new_key(store, "meanwhile", &["api.read"])).map(drop),
            };
        }
        // Less than there is, so that there are many such moments.
        let some = bytes.len().min(4000);
        written.extend_from_slice(&bytes[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_backup_is_the_store_at_the_moment_when_it_began() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let keys: Vec<KeyId> = (0..1200)
        .map(|n| {
            store.issue(new_key(&store, &format!("key {n}"), &["api.read"])).unwrap().record.id
        })
        .collect();
    let before = by_id(&store);
    let mut to = Meddling(Vec::new(), &store, Chance(1), keys);
    let taken = store.backup(&mut to, |_| ()).unwrap();
    assert!(by_id(&store) != before, "nothing happened meanwhile");
    assert_eq!((taken.sequence, taken.records), (1201, 1200));

    let made = restore(&to.0, &beside(&old), &LaterEvidence::Unknown).unwrap();
    assert_eq!((made.records, made.sequence), (1200, 1202));
    let restored = Store::open(beside(&old)).unwrap();
    assert!(by_id(&restored) == before);
    assert_eq!(restored.audit(0, 5000).unwrap()[..1201], store.audit(0, 1201).unwrap()[..]);
}

/// What the trail says that the keys are, said slowly.
fn replayed(store: &Store, through: u64) -> BTreeMap<String, (String, bool, Grant)> {
    let mut keys = BTreeMap::new();
    for entry in store.audit(0, usize::try_from(through).unwrap()).unwrap() {
        let Some(id) = entry.key.map(|id| id.to_string()) else { continue };
        let after = entry.after;
        if entry.act == Act::Delete {
            keys.remove(&id);
        } else if entry.act == Act::Create {
            keys.insert(id, (after.name.unwrap(), after.active.unwrap(), after.grant.unwrap()));
        } else {
            let key = keys.get_mut(&id).unwrap();
            key.0 = after.name.unwrap_or(key.0.clone());
            key.1 = after.active.unwrap_or(key.1);
            key.2 = after.grant.unwrap_or(key.2);
        }
    }
    keys
}

#[test]
fn backups_beside_busy_writers_are_each_one_moment() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    for n in 0..400 {
        store.issue(new_key(&store, &format!("key {n}"), &["api.read", "api.write"])).unwrap();
    }
    let stop = AtomicBool::new(false);
    let backups = thread::scope(|scope| {
        for seed in 0..2 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut chance = Chance(seed);
                let query = ListQuery { page_size: Some(200), ..ListQuery::default() };
                while !stop.load(Ordering::Relaxed) {
                    let page = store.list(&query).unwrap().records;
                    let id = page[chance.below(page.len())].id;
                    let less = Change {
                        grant: Some(portcullis_testkit::scopes(store, &["api.read"])),
                        ..Change::default()
                    };
                    // Others may have been faster.
                    let _ = match chance.below(5) {
                        0 => store.revoke(id).map(drop),
                        1 => store.update(id, Change::activate()).map(drop),
                        2 => store.update(id, less).map(drop),
                        3 => store.delete(id),
                        _ => store.issue(new_key(store, "new", &["api.read"])).map(drop),
                    };
                }
            });
        }
        let taken: Vec<_> = (0..3).map(|_| backup(&store)).collect();
        stop.store(true, Ordering::Relaxed);
        taken
    });
    for (number, bytes) in backups.iter().enumerate() {
        let taken = Offline::new().verify_backup(&bytes[..], |_| ()).unwrap();
        let new = old.with_file_name(format!("new {number}"));
        restore(bytes, &new, &LaterEvidence::Unknown).unwrap();
        let restored = Store::open(&new).unwrap();
        let found: BTreeMap<_, _> = records(&restored)
            .into_iter()
            .map(|r| (r.id.to_string(), (r.name.clone(), r.active, r.grant)))
            .collect();
        assert!(found == replayed(&restored, taken.sequence), "backup {number}");
    }
}

#[test]
fn a_backup_of_an_empty_store_is_one() {
    let (_dir, old) = home();
    let bytes = backup(&Store::open(&old).unwrap());
    assert_eq!(restore(&bytes, &beside(&old), &directory(&old)).unwrap().records, 0);
    assert!(records(&Store::open(beside(&old)).unwrap()).is_empty());
}

#[test]
fn progress_is_told_up_to_the_end() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    for _ in 0..600 {
        store.issue(new_key(&store, "a", &["api.read"])).unwrap();
    }
    let (mut bytes, mut told) = (Vec::new(), Vec::new());
    store.backup(&mut bytes, |progress| told.push((progress.done, progress.all))).unwrap();
    assert!(told.is_sorted() && told.len() > 3);
    assert_eq!(told.last(), Some(&(1201, 1201)));
    let mut read = 0;
    Offline::new().verify_backup(&bytes[..], |_| read += 1).unwrap();
    assert_eq!(read, 1);
}

// ── damage

#[test]
fn every_damaged_bit_and_every_cut_of_a_backup_is_refused() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    for name in ["one", "two"] {
        let (id, _) = issue(&store, new_key(&store, name, &["api.read"]));
        store.revoke(id).unwrap();
    }
    let mut bytes = backup(&store);
    let refused = |bytes: &[u8]| {
        matches!(
            Offline::new().verify_backup(bytes, |_| ()),
            Err(Error::BadBackup(_) | Error::NewerFormat { .. } | Error::WrongPepper)
        )
    };
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&bytes), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..bytes.len() {
        assert!(refused(&bytes[..length]), "the first {length} bytes");
    }
    assert!(!refused(&bytes));
    bytes.push(0);
    assert!(refused(&bytes), "a byte more");
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    issue(&store, new_key(&store, "a", &["api.read"]));
    let mut bytes = backup(&store);
    drop(store);
    // The very last byte: all else was read and was right.
    *bytes.last_mut().unwrap() ^= 1;
    let refused = restore(&bytes, &beside(&old), &directory(&old));
    assert!(matches!(refused, Err(Error::BadBackup(_))), "{refused:?}");
    assert!(matches!(Store::builder().open_existing(beside(&old)), Err(Error::NotFound(_))));
    assert!(!beside(&old).exists());
}

#[test]
fn a_backup_with_a_pepper_is_read_with_that_pepper_only() {
    let (_dir, old) = home();
    let with = |pepper: &str| Store::builder().pepper(pepper.as_bytes().to_vec());
    let store = with("a long enough pepper").open(&old).unwrap();
    let (_, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let mut bytes = Vec::new();
    store.backup(&mut bytes, |_| ()).unwrap();
    drop(store);
    let offline = |pepper: &str| Offline::new().pepper(pepper.as_bytes().to_vec());
    for other in [Offline::new(), offline("some other pepper of it")] {
        assert!(matches!(other.verify_backup(&bytes[..], |_| ()), Err(Error::WrongPepper)));
    }
    let same = offline("a long enough pepper");
    same.verify_backup(&bytes[..], |_| ()).unwrap();
    let new = beside(&old);
    same.restore(&bytes[..], &new, &directory(&old), Actor::Host, |_| ()).unwrap();
    let store = with("a long enough pepper").open(&new).unwrap();
    assert!(store.authenticate_key(&key).is_ok());
}

#[test]
fn a_backup_holds_no_secret() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let (_, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let secret = &key[key.len() - 38..];
    assert!(!backup(&store).windows(8).any(|window| secret.windows(8).any(|part| part == window)));
}

// ── nothing is revived

#[test]
fn each_kind_of_later_denial_survives_a_restore() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let make = |name: &str| issue(&store, new_key(&store, name, &["api.read", "api.write"]));
    let (untouched, untouched_key) = make("untouched");
    let (revoked, revoked_key) = make("revoked");
    let (deleted, deleted_key) = make("deleted");
    let (narrowed, narrowed_key) = make("narrowed");
    let (shortened, shortened_key) = make("shortened");
    let (rotated, rotated_key) = make("rotated");
    let (graced, graced_key) = make("rotated with a grace");
    let (back, back_key) = make("revoked and back");
    let (owned, _) = make("owned");
    let (asleep, asleep_key) = make("asleep");
    store.revoke(asleep).unwrap();
    let bytes = backup(&store);

    store.revoke(revoked).unwrap();
    store.revoke(deleted).unwrap();
    store.delete(deleted).unwrap();
    let change = |grant: &[&str]| Change {
        grant: Some(portcullis_testkit::scopes(&store, grant)),
        ..Change::default()
    };
    store.update(narrowed, change(&["api.read"])).unwrap();
    let past = Change { expiry: Some(Expiry::At(Timestamp::from_secs(9))), ..Change::default() };
    store.update(shortened, past).unwrap();
    store.rotate(rotated, Duration::ZERO).unwrap();
    let successor = store.rotate(graced, Duration::from_hours(1)).unwrap().record.id;
    store.revoke(back).unwrap();
    store.update(back, Change::activate()).unwrap();
    let other = Change { owner: Some(Some("another".into())), ..Change::default() };
    store.update(owned, other).unwrap();
    store.update(asleep, Change::activate()).unwrap();
    let (lost, lost_key) = make("too late");
    let before = by_id(&store);
    let last = store.audit(0, 1000).unwrap().len() as u64;
    drop(store);

    let made = restore(&bytes, &beside(&old), &directory(&old)).unwrap();
    assert_eq!((made.unknown, made.sequence), (None, last + 1));
    let fate = |id: KeyId| -> Vec<LaterEffect> {
        made.changes.iter().filter(|change| change.key == id).map(|change| change.effect).collect()
    };
    assert_eq!(fate(untouched), []);
    assert_eq!(fate(revoked), [LaterEffect::Applied]);
    assert_eq!(fate(deleted), [LaterEffect::Applied, LaterEffect::Deleted]);
    assert_eq!(fate(back), [LaterEffect::Applied, LaterEffect::NotGranted]);
    assert_eq!((fate(lost), fate(successor)), (vec![LaterEffect::Lost], vec![LaterEffect::Lost]));

    let new = Store::open(beside(&old)).unwrap();
    let refused = |key: &[u8]| new.authenticate_key(key).err();
    assert_eq!(refused(&untouched_key), None);
    assert_eq!(refused(&revoked_key), Some(Refusal::Inactive));
    assert_eq!(refused(&deleted_key), Some(Refusal::Unknown));
    assert_eq!(refused(&shortened_key), Some(Refusal::Expired));
    assert_eq!(refused(&rotated_key), Some(Refusal::Inactive));
    assert_eq!(refused(&lost_key), Some(Refusal::Unknown));
    // What was allowed later does not come back by itself.
    assert_eq!(refused(&back_key), Some(Refusal::Inactive));
    assert_eq!(refused(&asleep_key), Some(Refusal::Inactive));
    let [read, write] = ["api.read", "api.write"].map(|name| name.parse().unwrap());
    let principal = new.authenticate_key(&narrowed_key).unwrap();
    assert!(principal.require(&read).is_ok() && principal.require(&write).is_err());
    assert!(new.authenticate_key(&graced_key).is_ok());
    // What is neither looser nor lost is as it was.
    for id in [untouched, revoked, narrowed, shortened, rotated, graced, owned] {
        assert_eq!(new.get(id).unwrap(), before[&id.to_string()], "{id}");
    }

    // The trail goes on, and the note of the restore is in it.
    let trail = new.audit(0, 1000).unwrap();
    assert_eq!(trail.len() as u64, last + 1);
    let note = trail.last().unwrap();
    let act = Act::Restore { backup: made.backup.sequence, later_known: true };
    assert_eq!((&note.act, note.actor), (&act, Actor::Local(7)));
    // It is a store like any other.
    issue(&new, new_key(&new, "after", &["api.read"]));
    drop(new);
    assert!(Store::open(beside(&old)).is_ok());
}

#[test]
fn scopes_that_came_after_the_backup_keep_their_numbers() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let bytes = backup(&store);
    drop(store);
    let with = |name: &str| Store::builder().scopes([(name.parse().unwrap(), String::new())]);
    let store = with("late.one").open(&old).unwrap();
    let wide = Change {
        grant: Some(portcullis_testkit::scopes(&store, &["api.read", "late.one"])),
        ..Change::default()
    };
    store.update(id, wide).unwrap();
    drop(store);
    restore(&bytes, &beside(&old), &directory(&old)).unwrap();
    let new = with("late.two").open(beside(&old)).unwrap();
    let principal = new.authenticate_key(&key).unwrap();
    for later in ["late.one", "late.two"] {
        assert!(principal.require(&later.parse().unwrap()).is_err());
    }
    let names = |store: &Store| -> Vec<String> {
        store.catalogue().entries().iter().map(|entry| entry.scope.to_string()).collect()
    };
    assert_eq!(names(&new)[13..], ["late.one", "late.two"]);
    assert_eq!(new.audit(0, 100).unwrap().len(), 6);
}

#[test]
fn a_store_can_be_restored_again_and_again() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let first = backup(&store);
    drop(store);
    let second = beside(&old);
    restore(&first, &second, &directory(&old)).unwrap();
    Store::open(&second).unwrap().revoke(id).unwrap();
    // The first backup meets what was done in the store that was made from it.
    let third = old.with_file_name("third");
    restore(&first, &third, &directory(&second)).unwrap();
    let store = Store::open(&third).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
}

#[test]
fn without_a_trail_that_reaches_the_anchor_nothing_is_restored() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let (id, _) = issue(&store, new_key(&store, "a", &["api.read"]));
    let earlier = old.with_file_name("earlier");
    drop(store);
    copy(&old, &earlier);
    let store = Store::open(&old).unwrap();
    store.update(id, Change { name: Some("b".into()), ..Change::default() }).unwrap();
    let bytes = backup(&store);
    store.revoke(id).unwrap();

    let new = beside(&old);
    let refused = |data: &Path| match restore(&bytes, &new, &directory(data)) {
        Err(Error::UnknownRevocations(why)) => why.into_string(),
        other => panic!("{other:?}"),
    };
    // Open in this process still.
    assert!(matches!(restore(&bytes, &new, &directory(&old)), Err(Error::Locked { .. })));
    drop(store);

    assert!(refused(&earlier).contains("older than the backup"));
    // The trail of the earlier copy beside the anchor of today.
    let rolled_back = old.with_file_name("rolled back");
    copy(&earlier, &rolled_back);
    fs::copy(old.join("ledger/anchor"), rolled_back.join("ledger/anchor")).unwrap();
    assert!(refused(&rolled_back).contains("the log reached 4"));
    // Another store.
    let other = old.with_file_name("other");
    let store = Store::open(&other).unwrap();
    for _ in 0..5 {
        issue(&store, new_key(&store, "a", &["api.read"]));
    }
    drop(store);
    assert!(refused(&other).contains("does not follow"));
    // No anchor, or a damaged one.
    let without = old.with_file_name("without");
    copy(&old, &without);
    fs::write(without.join("ledger/anchor"), [0; 8192]).unwrap();
    assert!(refused(&without).contains("anchor"));
    fs::remove_file(without.join("ledger/anchor")).unwrap();
    assert!(refused(&without).contains("anchor"));

    // Nothing was made by any of them, and all is well with the right one.
    restore(&bytes, &new, &directory(&old)).unwrap();
    assert!(!Store::open(&new).unwrap().get(id).unwrap().active);
}

/// The trail as it is exported.
fn exported(store: &Store, after: u64) -> LaterEvidence {
    let part = store.audit_range(after, 1000).unwrap();
    let entries = part.entries.into_iter().map(|(entry, _)| entry.unwrap());
    LaterEvidence::Export { entries: entries.collect(), end: part.end }
}

#[test]
fn an_exported_trail_takes_the_place_of_the_old_directory() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let (gone, gone_key) = issue(&store, new_key(&store, "gone", &["api.read"]));
    let (_, kept_key) = issue(&store, new_key(&store, "kept", &["api.read"]));
    let early = exported(&store, 0);
    store.update(gone, Change { name: Some("b".into()), ..Change::default() }).unwrap();
    let bytes = backup(&store);
    store.revoke(gone).unwrap();
    let (lost, _) = issue(&store, new_key(&store, "lost", &["api.read"]));
    let whole = exported(&store, 2);

    let new = beside(&old);
    let refused = |later: &LaterEvidence| match restore(&bytes, &new, later) {
        Err(Error::UnknownRevocations(why)) => why.into_string(),
        other => panic!("{other:?}"),
    };
    let altered = |alter: &dyn Fn(&mut Vec<portcullis::AuditEntry>)| {
        let LaterEvidence::Export { entries, end } = whole.clone() else { panic!() };
        let mut entries = entries;
        alter(&mut entries);
        LaterEvidence::Export { entries, end }
    };
    assert!(refused(&early).contains("older than the backup"));
    assert!(refused(&exported(&store, 5)).contains("entry 5"));
    assert!(refused(&altered(&|entries| drop(entries.pop()))).contains("the log reached 6"));
    assert!(refused(&altered(&|entries| drop(entries.remove(2)))).contains("missing"));
    let back = |entries: &mut Vec<portcullis::AuditEntry>| {
        entries[2].after = Change::activate();
    };
    assert!(refused(&altered(&back)).contains("another history"));
    let LaterEvidence::Export { entries, end } = whole.clone() else { panic!() };
    let mut cut = end.clone();
    cut.sequence = 4;
    let cut = LaterEvidence::Export { entries: entries[..2].to_vec(), end: cut };
    assert!(refused(&cut).contains("end of the exported audit log"));

    let made = restore(&bytes, &new, &whole).unwrap();
    assert_eq!(made.unknown.unwrap().0, end.at);
    let fates: Vec<_> = made.changes.iter().map(|change| (change.key, change.effect)).collect();
    assert_eq!(fates, [(gone, LaterEffect::Applied), (lost, LaterEffect::Lost)]);
    let new = Store::open(&new).unwrap();
    assert_eq!(new.authenticate_key(&gone_key).err(), Some(Refusal::Inactive));
    assert!(new.authenticate_key(&kept_key).is_ok());
}

#[test]
fn an_old_directory_is_not_changed_by_a_restore() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let bytes = backup(&store);
    issue(&store, new_key(&store, "a", &["api.read"]));
    drop(store);
    let before = contents(&old);
    restore(&bytes, &beside(&old), &directory(&old)).unwrap();
    assert!(contents(&old) == before);
}

#[test]
fn who_does_not_know_the_later_denials_is_told_of_the_time_that_is_unknown() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let bytes = backup(&store);
    store.revoke(id).unwrap();
    let made = restore(&bytes, &beside(&old), &LaterEvidence::Unknown).unwrap();
    let (from, to) = made.unknown.unwrap();
    assert!(from == made.backup.taken && from <= to);
    let new = Store::open(beside(&old)).unwrap();
    // This is what the name of the option says.
    assert!(new.authenticate_key(&key).is_ok());
    let note = new.audit(made.sequence - 1, 1).unwrap().remove(0);
    let act = Act::Restore { backup: made.backup.sequence, later_known: false };
    assert_eq!(note.act, act);
}

// ── nothing is overwritten, nothing is half-born

#[test]
fn a_restore_never_overwrites() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    let bytes = backup(&store);
    drop(store);
    let before = contents(&old);
    let refused = restore(&bytes, &old, &LaterEvidence::Unknown);
    assert!(matches!(refused, Err(Error::AlreadyExists(_))), "{refused:?}");
    assert!(contents(&old) == before);
    let full = old.with_file_name("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("a file"), "of someone").unwrap();
    let refused = restore(&bytes, &full, &LaterEvidence::Unknown);
    assert!(matches!(refused, Err(Error::BadDirectory { .. })), "{refused:?}");
    assert_eq!(names_in(&full), ["a file"]);
    // An anchor elsewhere is that of a store, too.
    let anchor = old.with_file_name("anchor");
    fs::copy(old.join("ledger/anchor"), &anchor).unwrap();
    let offline = Offline::new().anchor(&anchor);
    let refused =
        offline.restore(&bytes[..], beside(&old), &LaterEvidence::Unknown, Actor::Host, |_| ());
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    assert_eq!(fs::read(&anchor).unwrap(), fs::read(old.join("ledger/anchor")).unwrap());
}

/// Ends with an error in the middle.
struct Broken<'b>(&'b [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the tape tore")),
            count => Ok(count),
        }
    }
}

#[test]
fn a_restore_that_breaks_off_leaves_nothing_half_born() {
    let (_dir, old) = home();
    let store = Store::open(&old).unwrap();
    for _ in 0..50 {
        issue(&store, new_key(&store, "a", &["api.read"]));
    }
    let bytes = backup(&store);
    let new = beside(&old);
    for part in [8, 500, bytes.len() / 2, bytes.len() - 1] {
        let torn = Broken(&bytes[..part]);
        let failed =
            Offline::new().restore(torn, &new, &LaterEvidence::Unknown, Actor::Host, |_| ());
        assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
        assert!(!new.exists());
    }
    restore(&bytes, &new, &LaterEvidence::Unknown).unwrap();
    assert_eq!(names_in(&new), ["ledger", "lock"]);
}

#[test]
fn a_store_in_memory_has_no_backup() {
    let store = Store::in_memory().unwrap();
    assert!(store.backup(Vec::new(), |_| ()).is_err());
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every file below, and what is in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}
