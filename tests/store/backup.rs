//! Backups and restores: a backup is a consistent snapshot, every damage is detected, a restore
//! never re-enables a key that was revoked later, and it never overwrites anything.

use portcullis::{
    Actor, Change, Error, Expiry, Grant, KeyId, Offline, Record, Refusal, Store, Timestamp,
    audit::Act,
    backup::{LaterEffect, LaterEvidence, Restored},
    list::ListQuery,
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

fn new_directory(old: &Path) -> PathBuf {
    old.with_file_name("new")
}

fn directory(data: &Path) -> LaterEvidence {
    LaterEvidence::Directory { data: data.into(), anchor: None }
}

/// Returns all records by id.
fn by_id(store: &Store) -> BTreeMap<String, Arc<Record>> {
    records(store).into_iter().map(|record| (record.id.to_string(), record)).collect()
}

#[test]
fn restore_keeps_the_last_use_of_each_key() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let make = |name| issue(&store, new_key(&store, name, &["api.read"]));
    let (used, unused, gone) = (make("used"), make("unused"), make("gone"));
    store.authenticate_key(&used.1).unwrap();
    store.authenticate_key(&gone.1).unwrap();
    let last = store.last_used(used.0);
    assert!(last.is_some());
    // A backup includes uses that the store has only in memory.
    let bytes = backup(&store);
    store.revoke(gone.0).unwrap();
    store.delete(gone.0).unwrap();
    drop(store);
    let new = new_directory(&old);
    restore(&bytes, &new, &directory(&old)).unwrap();
    let store = portcullis_testkit::builder().open(&new).unwrap();
    assert_eq!((store.last_used(used.0), store.last_used(unused.0)), (last, None));
    assert_eq!(store.last_used(gone.0), None);
    // A backup of the restored store has the last use, too.
    let again = backup(&store);
    drop(store);
    let third = old.with_file_name("third");
    restore(&again, &third, &LaterEvidence::Unknown).unwrap();
    assert_eq!(portcullis_testkit::builder().open(&third).unwrap().last_used(used.0), last);
    let report = Offline::new().examine(&third, old.parent().unwrap()).unwrap();
    assert!(report.is_healthy(), "{report:#?}");
}

// ── consistency

/// A writer that changes the store each time a part of the backup is written.
struct ChangingWriter<'s>(Vec<u8>, &'s Store, Chance, Vec<KeyId>);

impl Write for ChangingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(written, store, chance, keys) = self;
        for _ in 0..20 {
            let key = keys[chance.below(keys.len())];
            // A change that is invalid for the state of this key fails without an effect.
            let _ = match chance.below(4) {
                0 => store.revoke(key).map(drop),
                1 => store.revoke(key).and_then(|_| store.delete(key)),
                2 => store.rotate(key, Duration::ZERO).map(drop),
                _ => store.issue(new_key(store, "meanwhile", &["api.read"])).map(drop),
            };
        }
        // Accept only a part, so that there are many calls.
        let some = bytes.len().min(4000);
        written.extend_from_slice(&bytes[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn backup_is_a_snapshot_of_the_store_at_its_start() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let keys: Vec<KeyId> = (0..1200)
        .map(|n| {
            store.issue(new_key(&store, &format!("key {n}"), &["api.read"])).unwrap().record.id
        })
        .collect();
    let before = by_id(&store);
    let mut to = ChangingWriter(Vec::new(), &store, Chance(1), keys);
    let taken = store.backup(&mut to, |_| ()).unwrap();
    assert!(by_id(&store) != before, "the store did not change during the backup");
    assert_eq!((taken.sequence, taken.records), (1201, 1200));

    let summary = restore(&to.0, &new_directory(&old), &LaterEvidence::Unknown).unwrap();
    assert_eq!((summary.records, summary.sequence), (1200, 1202));
    let restored = portcullis_testkit::builder().open(new_directory(&old)).unwrap();
    assert!(by_id(&restored) == before);
    assert_eq!(restored.audit(0, 5000).unwrap()[..1201], store.audit(0, 1201).unwrap()[..]);
}

/// Computes the state of all keys from the audit log.
fn replay(store: &Store, through: u64) -> BTreeMap<String, (String, bool, Grant)> {
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
fn backup_during_concurrent_writes_is_consistent() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    for n in 0..400 {
        store.issue(new_key(&store, &format!("key {n}"), &["api.read", "api.write"])).unwrap();
    }
    let stop = AtomicBool::new(false);
    let backups = thread::scope(|scope| {
        for seed in 0..2 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut chance = Chance(seed);
                let query = ListQuery::default().with_page_size(200);
                while !stop.load(Ordering::Relaxed) {
                    let page = store.list(&query).unwrap().records;
                    let id = page[chance.below(page.len())].id;
                    let narrowed = Change::default()
                        .with_grant(portcullis_testkit::scopes(store, &["api.read"]));
                    // The change fails if the other thread changed the key first.
                    let _ = match chance.below(5) {
                        0 => store.revoke(id).map(drop),
                        1 => store.update(id, Change::activate()).map(drop),
                        2 => store.update(id, narrowed).map(drop),
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
        let restored = portcullis_testkit::builder().open(&new).unwrap();
        let found: BTreeMap<_, _> = records(&restored)
            .into_iter()
            .map(|r| (r.id.to_string(), (r.name.clone(), r.active, r.grant)))
            .collect();
        assert!(found == replay(&restored, taken.sequence), "backup {number}");
    }
}

#[test]
fn backup_of_an_empty_store_can_be_restored() {
    let (_dir, old) = home();
    let bytes = backup(&portcullis_testkit::builder().open(&old).unwrap());
    assert_eq!(restore(&bytes, &new_directory(&old), &directory(&old)).unwrap().records, 0);
    assert!(records(&portcullis_testkit::builder().open(new_directory(&old)).unwrap()).is_empty());
}

#[test]
fn progress_is_reported_up_to_the_end() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    for _ in 0..600 {
        store.issue(new_key(&store, "a", &["api.read"])).unwrap();
    }
    let (mut bytes, mut reported) = (Vec::new(), Vec::new());
    store.backup(&mut bytes, |progress| reported.push((progress.done, progress.all))).unwrap();
    assert!(reported.is_sorted() && reported.len() > 3);
    assert_eq!(reported.last(), Some(&(1201, 1201)));
    let mut read = 0;
    Offline::new().verify_backup(&bytes[..], |_| read += 1).unwrap();
    assert_eq!(read, 1);
}

// ── damage

#[test]
fn backup_with_any_flipped_bit_or_truncated_is_refused() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
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
    assert!(refused(&bytes), "one additional byte");
}

#[test]
fn restore_of_a_damaged_backup_creates_nothing() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    issue(&store, new_key(&store, "a", &["api.read"]));
    let mut bytes = backup(&store);
    drop(store);
    // Damage the last byte, so that everything before it is valid.
    *bytes.last_mut().unwrap() ^= 1;
    let refused = restore(&bytes, &new_directory(&old), &directory(&old));
    assert!(matches!(refused, Err(Error::BadBackup(_))), "{refused:?}");
    assert!(matches!(
        portcullis_testkit::builder().open_existing(new_directory(&old)),
        Err(Error::NotFound(_))
    ));
    assert!(!new_directory(&old).exists());
}

#[test]
fn backup_with_a_pepper_is_read_only_with_that_pepper() {
    let (_dir, old) = home();
    let builder = |pepper: &str| portcullis_testkit::builder().pepper(pepper.as_bytes().to_vec());
    let store = builder("a long enough pepper").open(&old).unwrap();
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
    let new = new_directory(&old);
    same.restore(&bytes[..], &new, &directory(&old), Actor::Host, |_| ()).unwrap();
    let store = builder("a long enough pepper").open(&new).unwrap();
    assert!(store.authenticate_key(&key).is_ok());
}

#[test]
fn backup_contains_no_secret() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let (_, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let secret = &key[key.len() - 38..];
    assert!(!backup(&store).windows(8).any(|window| secret.windows(8).any(|part| part == window)));
}

// ── later revocations

#[test]
fn restore_applies_every_kind_of_later_restriction() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let make = |name: &str| issue(&store, new_key(&store, name, &["api.read", "api.write"]));
    let (untouched, untouched_key) = make("untouched");
    let (revoked, revoked_key) = make("revoked");
    let (deleted, deleted_key) = make("deleted");
    let (narrowed, narrowed_key) = make("narrowed");
    let (shortened, shortened_key) = make("shortened");
    let (rotated, rotated_key) = make("rotated");
    let (graced, graced_key) = make("rotated with a grace");
    let (reactivated, reactivated_key) = make("revoked and reactivated");
    let (owned, _) = make("owned");
    let (inactive, inactive_key) = make("inactive");
    store.revoke(inactive).unwrap();
    let bytes = backup(&store);

    store.revoke(revoked).unwrap();
    store.revoke(deleted).unwrap();
    store.delete(deleted).unwrap();
    let change =
        |grant: &[&str]| Change::default().with_grant(portcullis_testkit::scopes(&store, grant));
    store.update(narrowed, change(&["api.read"])).unwrap();
    let past = Change::default().with_expiry(Expiry::At(Timestamp::from_secs(9)));
    store.update(shortened, past).unwrap();
    store.rotate(rotated, Duration::ZERO).unwrap();
    let successor = store.rotate(graced, Duration::from_hours(1)).unwrap().record.id;
    store.revoke(reactivated).unwrap();
    store.update(reactivated, Change::activate()).unwrap();
    let other = Change::default().with_owner("another");
    store.update(owned, other).unwrap();
    store.update(inactive, Change::activate()).unwrap();
    let (lost, lost_key) = make("issued after the backup");
    let before = by_id(&store);
    let last = store.audit(0, 1000).unwrap().len() as u64;
    drop(store);

    let summary = restore(&bytes, &new_directory(&old), &directory(&old)).unwrap();
    assert_eq!((summary.unknown, summary.sequence), (None, last + 1));
    let effects = |id: KeyId| -> Vec<LaterEffect> {
        summary
            .changes
            .iter()
            .filter(|change| change.key == id)
            .map(|change| change.effect)
            .collect()
    };
    assert_eq!(effects(untouched), []);
    assert_eq!(effects(revoked), [LaterEffect::Applied]);
    assert_eq!(effects(deleted), [LaterEffect::Applied, LaterEffect::Deleted]);
    assert_eq!(effects(reactivated), [LaterEffect::Applied, LaterEffect::NotGranted]);
    assert_eq!(
        (effects(lost), effects(successor)),
        (vec![LaterEffect::Lost], vec![LaterEffect::Lost])
    );

    let new = portcullis_testkit::builder().open(new_directory(&old)).unwrap();
    let refused = |key: &[u8]| new.authenticate_key(key).err();
    assert_eq!(refused(&untouched_key), None);
    assert_eq!(refused(&revoked_key), Some(Refusal::Inactive));
    assert_eq!(refused(&deleted_key), Some(Refusal::Unknown));
    assert_eq!(refused(&shortened_key), Some(Refusal::Expired));
    assert_eq!(refused(&rotated_key), Some(Refusal::Inactive));
    assert_eq!(refused(&lost_key), Some(Refusal::Unknown));
    // A later reactivation is not applied.
    assert_eq!(refused(&reactivated_key), Some(Refusal::Inactive));
    assert_eq!(refused(&inactive_key), Some(Refusal::Inactive));
    let [read, write] = ["api.read", "api.write"].map(|name| name.parse().unwrap());
    let principal = new.authenticate_key(&narrowed_key).unwrap();
    assert!(principal.require(&read).is_ok() && principal.require(&write).is_err());
    assert!(new.authenticate_key(&graced_key).is_ok());
    // Every other key is as it was before the restore.
    for id in [untouched, revoked, narrowed, shortened, rotated, graced, owned] {
        assert_eq!(new.get(id).unwrap(), before[&id.to_string()], "{id}");
    }

    // The audit log continues with an entry for the restore.
    let entries = new.audit(0, 1000).unwrap();
    assert_eq!(entries.len() as u64, last + 1);
    let entry = entries.last().unwrap();
    let act = Act::Restore { backup: summary.backup.sequence, later_known: true };
    assert_eq!((&entry.act, entry.actor), (&act, Actor::Local(7)));
    // The restored store accepts changes and can be reopened.
    issue(&new, new_key(&new, "after", &["api.read"]));
    drop(new);
    assert!(portcullis_testkit::builder().open(new_directory(&old)).is_ok());
}

#[test]
fn scopes_added_after_the_backup_keep_their_numbers() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let bytes = backup(&store);
    drop(store);
    let with_scope =
        |name: &str| portcullis_testkit::builder().scopes([(name.parse().unwrap(), String::new())]);
    let store = with_scope("late.one").open(&old).unwrap();
    let widened =
        Change::default().with_grant(portcullis_testkit::scopes(&store, &["api.read", "late.one"]));
    store.update(id, widened).unwrap();
    drop(store);
    restore(&bytes, &new_directory(&old), &directory(&old)).unwrap();
    let new = with_scope("late.two").open(new_directory(&old)).unwrap();
    let principal = new.authenticate_key(&key).unwrap();
    for later in ["late.one", "late.two"] {
        assert!(principal.require(&later.parse().unwrap()).is_err());
    }
    let names = |store: &Store| -> Vec<String> {
        store.catalogue().entries().iter().map(|entry| entry.scope.to_string()).collect()
    };
    assert_eq!(names(&new)[14..], ["late.one", "late.two"]);
    assert_eq!(new.audit(0, 100).unwrap().len(), 6);
}

#[test]
fn store_can_be_restored_repeatedly() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let first = backup(&store);
    drop(store);
    let second = new_directory(&old);
    restore(&first, &second, &directory(&old)).unwrap();
    portcullis_testkit::builder().open(&second).unwrap().revoke(id).unwrap();
    // The later revocation was made in the store that was restored from the same backup.
    let third = old.with_file_name("third");
    restore(&first, &third, &directory(&second)).unwrap();
    let store = portcullis_testkit::builder().open(&third).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
}

#[test]
fn restore_needs_an_audit_log_that_reaches_the_anchor() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let (id, _) = issue(&store, new_key(&store, "a", &["api.read"]));
    let earlier = old.with_file_name("earlier");
    drop(store);
    copy(&old, &earlier);
    let store = portcullis_testkit::builder().open(&old).unwrap();
    store.update(id, Change::default().with_name("b")).unwrap();
    let bytes = backup(&store);
    store.revoke(id).unwrap();

    let new = new_directory(&old);
    let refused = |data: &Path| match restore(&bytes, &new, &directory(data)) {
        Err(Error::UnknownRevocations(why)) => why.into_string(),
        other => panic!("{other:?}"),
    };
    // The old store is still open.
    assert!(matches!(restore(&bytes, &new, &directory(&old)), Err(Error::Locked { .. })));
    drop(store);

    assert!(refused(&earlier).contains("older than the backup"));
    // The audit log of the earlier copy with the current anchor.
    let rolled_back = old.with_file_name("rolled back");
    copy(&earlier, &rolled_back);
    fs::copy(old.join("ledger/anchor"), rolled_back.join("ledger/anchor")).unwrap();
    assert!(refused(&rolled_back).contains("the log reached 4"));
    // Another store.
    let other = old.with_file_name("other");
    let store = portcullis_testkit::builder().open(&other).unwrap();
    for _ in 0..5 {
        issue(&store, new_key(&store, "a", &["api.read"]));
    }
    drop(store);
    assert!(refused(&other).contains("does not follow"));
    // A damaged anchor, and no anchor.
    let without = old.with_file_name("without");
    copy(&old, &without);
    fs::write(without.join("ledger/anchor"), [0; 8192]).unwrap();
    assert!(refused(&without).contains("anchor"));
    fs::remove_file(without.join("ledger/anchor")).unwrap();
    assert!(refused(&without).contains("anchor"));

    // None of the attempts created anything, and the complete directory is accepted.
    restore(&bytes, &new, &directory(&old)).unwrap();
    assert!(!portcullis_testkit::builder().open(&new).unwrap().get(id).unwrap().active);
}

/// Exports the audit log.
fn export(store: &Store, after: u64) -> LaterEvidence {
    let range = store.audit_range(after, 1000).unwrap();
    let entries = range.entries.into_iter().map(|(entry, _)| entry.unwrap());
    LaterEvidence::Export { entries: entries.collect(), end: range.end }
}

#[test]
fn restore_accepts_an_export_instead_of_the_old_directory() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let (gone, gone_key) = issue(&store, new_key(&store, "gone", &["api.read"]));
    let (_, kept_key) = issue(&store, new_key(&store, "kept", &["api.read"]));
    let early = export(&store, 0);
    store.update(gone, Change::default().with_name("b")).unwrap();
    let bytes = backup(&store);
    store.revoke(gone).unwrap();
    let (lost, _) = issue(&store, new_key(&store, "lost", &["api.read"]));
    let complete = export(&store, 2);

    let new = new_directory(&old);
    let refused = |later: &LaterEvidence| match restore(&bytes, &new, later) {
        Err(Error::UnknownRevocations(why)) => why.into_string(),
        other => panic!("{other:?}"),
    };
    let altered = |alter: &dyn Fn(&mut Vec<portcullis::audit::AuditEntry>)| {
        let LaterEvidence::Export { entries, end } = complete.clone() else { panic!() };
        let mut entries = entries;
        alter(&mut entries);
        LaterEvidence::Export { entries, end }
    };
    assert!(refused(&early).contains("older than the backup"));
    assert!(refused(&export(&store, 5)).contains("entry 5"));
    assert!(refused(&altered(&|entries| drop(entries.pop()))).contains("the log reached 6"));
    assert!(refused(&altered(&|entries| drop(entries.remove(2)))).contains("missing"));
    let reactivate = |entries: &mut Vec<portcullis::audit::AuditEntry>| {
        entries[2].after = Change::activate();
    };
    assert!(refused(&altered(&reactivate)).contains("another history"));
    let LaterEvidence::Export { entries, end } = complete.clone() else { panic!() };
    let mut truncated_end = end.clone();
    truncated_end.sequence = 4;
    let truncated = LaterEvidence::Export { entries: entries[..2].to_vec(), end: truncated_end };
    assert!(refused(&truncated).contains("end of the exported audit log"));

    let summary = restore(&bytes, &new, &complete).unwrap();
    assert_eq!(summary.unknown.unwrap().0, end.at);
    let effects: Vec<_> =
        summary.changes.iter().map(|change| (change.key, change.effect)).collect();
    assert_eq!(effects, [(gone, LaterEffect::Applied), (lost, LaterEffect::Lost)]);
    let new = portcullis_testkit::builder().open(&new).unwrap();
    assert_eq!(new.authenticate_key(&gone_key).err(), Some(Refusal::Inactive));
    assert!(new.authenticate_key(&kept_key).is_ok());
}

#[test]
fn restore_does_not_change_the_old_directory() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let bytes = backup(&store);
    issue(&store, new_key(&store, "a", &["api.read"]));
    drop(store);
    let before = contents(&old);
    restore(&bytes, &new_directory(&old), &directory(&old)).unwrap();
    assert!(contents(&old) == before);
}

#[test]
fn restore_without_evidence_reports_the_unknown_period() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let (id, key) = issue(&store, new_key(&store, "a", &["api.read"]));
    let bytes = backup(&store);
    store.revoke(id).unwrap();
    let summary = restore(&bytes, &new_directory(&old), &LaterEvidence::Unknown).unwrap();
    let (from, to) = summary.unknown.unwrap();
    assert!(from == summary.backup.taken && from <= to);
    let new = portcullis_testkit::builder().open(new_directory(&old)).unwrap();
    // As documented for `Unknown`, the later revocation is not applied.
    assert!(new.authenticate_key(&key).is_ok());
    let entry = new.audit(summary.sequence - 1, 1).unwrap().remove(0);
    let act = Act::Restore { backup: summary.backup.sequence, later_known: false };
    assert_eq!(entry.act, act);
}

// ── existing and incomplete directories

#[test]
fn restore_never_overwrites() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    let bytes = backup(&store);
    drop(store);
    let before = contents(&old);
    let refused = restore(&bytes, &old, &LaterEvidence::Unknown);
    assert!(matches!(refused, Err(Error::AlreadyExists(_))), "{refused:?}");
    assert!(contents(&old) == before);
    let full = old.with_file_name("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("a file"), "of another program").unwrap();
    let refused = restore(&bytes, &full, &LaterEvidence::Unknown);
    assert!(matches!(refused, Err(Error::BadDirectory { .. })), "{refused:?}");
    assert_eq!(names_in(&full), ["a file"]);
    // An anchor outside the directory belongs to a store, too.
    let anchor = old.with_file_name("anchor");
    fs::copy(old.join("ledger/anchor"), &anchor).unwrap();
    let offline = Offline::new().anchor(&anchor);
    let refused = offline.restore(
        &bytes[..],
        new_directory(&old),
        &LaterEvidence::Unknown,
        Actor::Host,
        |_| (),
    );
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    assert_eq!(fs::read(&anchor).unwrap(), fs::read(old.join("ledger/anchor")).unwrap());
}

/// A reader that fails at its end.
struct FailingReader<'b>(&'b [u8]);

impl Read for FailingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("read error")),
            count => Ok(count),
        }
    }
}

#[test]
fn failed_restore_leaves_no_directory() {
    let (_dir, old) = home();
    let store = portcullis_testkit::builder().open(&old).unwrap();
    for _ in 0..50 {
        issue(&store, new_key(&store, "a", &["api.read"]));
    }
    let bytes = backup(&store);
    let new = new_directory(&old);
    for length in [8, 500, bytes.len() / 2, bytes.len() - 1] {
        let truncated = FailingReader(&bytes[..length]);
        let failed =
            Offline::new().restore(truncated, &new, &LaterEvidence::Unknown, Actor::Host, |_| ());
        assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
        assert!(!new.exists());
    }
    restore(&bytes, &new, &LaterEvidence::Unknown).unwrap();
    assert_eq!(names_in(&new), ["ledger", "lock"]);
}

#[test]
fn in_memory_store_cannot_be_backed_up() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
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

/// Returns the content of every file below the directory.
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
