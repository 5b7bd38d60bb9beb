//! The doctor finds each thing that can be wrong with a directory, names it, and changes nothing;
//! and a repair brings over nothing that works and is not proved.

use portcullis::{
    Actor, Error, Expiry, KeyId, Offline, Refusal, Store, Timestamp,
    doctor::{Finding, RepairIssue, Repaired, Report, Severity},
};
use portcullis_testkit::{
    copy, issue, needs, new_key,
    surgery::{age, entry, flip, operate, put_sealed, record},
};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

const PEPPER: &[u8] = b"sixteen bytes at least";

/// A closed store with keys in every state. Its trail: 1 catalogue, 2 kept, 3 off, 4 gone,
/// 5 old, 6 off revoked, 7 gone revoked, 8 gone deleted, 9 old rotated into new, 10 kept renamed.
struct House {
    dir: tempfile::TempDir,
    home: PathBuf,
    kept: (KeyId, Vec<u8>),
    off: (KeyId, Vec<u8>),
    gone: (KeyId, Vec<u8>),
    new: KeyId,
    /// The records of `off` and `gone` while they worked.
    frames: Vec<(Vec<u8>, Vec<u8>)>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("keys");
        let store = Store::open(&home).unwrap();
        let make = |name: &str| issue(&store, new_key(&store, name, &["api.read", "api.write"]));
        let (kept, off, gone, old) = (make("kept"), make("off"), make("gone"), make("old"));
        drop(store);
        let frames = operate(&home, |db| vec![record(db, off.0), record(db, gone.0)]);
        let store = Store::open(&home).unwrap();
        store.revoke(off.0).unwrap();
        store.revoke(gone.0).unwrap();
        store.delete(gone.0).unwrap();
        let new = store.rotate(old.0, Duration::from_hours(1)).unwrap().record.id;
        let name = Some("kept, renamed".into());
        store.update(kept.0, portcullis::Change { name, ..Default::default() }).unwrap();
        drop(store);
        Self { dir, home, kept, off, gone, new, frames }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn examine(&self) -> Report {
        self.examine_with(&Offline::new())
    }

    /// Examines, and shows that nothing was changed and nothing is left.
    fn examine_with(&self, offline: &Offline) -> Report {
        let scratch = self.at("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let before = told(&self.home);
        let report = offline.examine(&self.home, &scratch).unwrap();
        assert_eq!(told(&self.home), before);
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        report
    }

    /// The only fault.
    #[track_caller]
    fn fault(&self) -> Finding {
        let report = self.examine();
        let faults: Vec<_> = report.faults().collect();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(!report.is_healthy() && !faults[0].remedy.is_empty());
        faults[0].clone()
    }

    fn has(&self, code: &str) -> Finding {
        let report = self.examine();
        let found = report.findings.iter().find(|finding| finding.code == code);
        found.unwrap_or_else(|| panic!("{code}: {report:#?}")).clone()
    }

    fn repair(&self) -> (Repaired, PathBuf) {
        let (scratch, new) = (self.at("scratch"), self.at("repaired"));
        fs::create_dir_all(&scratch).unwrap();
        let before = told(&self.home);
        let done = Offline::new().repair(&self.home, &new, &scratch, Actor::Host).unwrap();
        assert_eq!(told(&self.home), before);
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        let report = Offline::new().examine(&new, &scratch).unwrap();
        assert!(report.is_healthy(), "{report:#?}");
        (done, new)
    }

    /// What became of each key that a repair lists.
    fn issues(&self) -> BTreeMap<KeyId, RepairIssue> {
        let (done, new) = self.repair();
        let store = Store::builder().open_existing(new).unwrap();
        // Whatever else is brought over: what was taken away never works again.
        assert_ne!(store.authenticate_key(&self.off.1).map(drop), Ok(()));
        assert_eq!(store.authenticate_key(&self.gone.1).map(drop), Err(Refusal::Unknown));
        let issues: BTreeMap<_, _> =
            done.issues.iter().filter_map(|(id, d)| Some(((*id)?, *d))).collect();
        for (id, doubt) in &issues {
            match doubt {
                RepairIssue::Unproved | RepairIssue::Older => {
                    assert!(!store.get(*id).unwrap().active);
                }
                RepairIssue::Narrowed => assert!(store.get(*id).is_ok()),
                _ => assert!(store.get(*id).is_err()),
            }
        }
        assert_eq!(
            store.count().active + store.count().inactive,
            usize::try_from(done.current).unwrap()
                + issues
                    .values()
                    .filter(|d| matches!(
                        d,
                        RepairIssue::Unproved | RepairIssue::Older | RepairIssue::Narrowed
                    ))
                    .count()
        );
        issues
    }
}

/// Every file with all that must not change of it.
fn told(dir: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::metadata(&path).unwrap();
        let bytes = if about.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        if about.is_dir() {
            found.extend(told(&path));
        }
        found.insert(path, (about.mode(), about.mtime(), about.mtime_nsec(), bytes));
    }
    found
}

#[test]
fn a_healthy_store_is_healthy() {
    let house = House::new();
    let report = house.examine();
    assert!(report.is_healthy(), "{report:#?}");
    assert_eq!((report.records, report.entries, report.findings.len()), (4, 10, 0));
}

#[test]
fn a_store_that_is_open_is_not_read() {
    let house = House::new();
    let store = Store::open(&house.home).unwrap();
    let fault = house.fault();
    assert_eq!(fault.code, "in-use");
    assert!(fault.text.contains(&format!("process {}", std::process::id())), "{}", fault.text);
    assert!(!house.examine().was_read);
    let refused = Offline::new().repair(&house.home, house.at("x"), house.dir.path(), Actor::Host);
    assert!(matches!(refused, Err(Error::Locked { .. })));
    assert!(!house.at("x").exists());
    drop(store);
    assert!(house.examine().is_healthy());
}

mod from_outside {
    use super::*;

    #[test]
    fn files_that_others_can_use_are_named() {
        let house = House::new();
        let within =
            ["ledger/sled/db", "ledger/anchor", "ledger"].map(|path| house.home.join(path));
        for path in [house.home.clone()].into_iter().chain(within) {
            let about = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&path, Permissions::from_mode(about.mode() | 0o040)).unwrap();
            let fault = house.fault();
            assert_eq!(fault.code, "permissions");
            assert!(fault.text.starts_with(&path.display().to_string()), "{}", fault.text);
            fs::set_permissions(&path, about).unwrap();
        }
    }

    #[needs("root: test $(id -u) = 0")]
    #[test]
    fn files_of_another_user_are_named() {
        let house = House::new();
        let anchor = house.home.join("ledger/anchor");
        std::os::unix::fs::chown(&anchor, Some(4711), None).unwrap();
        let fault = house.fault();
        assert_eq!(fault.code, "owner");
        assert!(fault.text.ends_with("belongs to user 4711"), "{}", fault.text);
    }

    #[test]
    fn what_a_kill_left_behind_is_named() {
        let house = House::new();
        fs::create_dir(house.home.join("ledger.new")).unwrap();
        fs::set_permissions(house.home.join("ledger.new"), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(house.fault().code, "leftover");
        fs::remove_dir(house.home.join("ledger.new")).unwrap();
        let partial = house.home.join("ledger/sled/snap.00AA.generating");
        fs::write(&partial, b"half").unwrap();
        fs::set_permissions(&partial, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(house.fault().code, "leftover");
        fs::remove_file(&partial).unwrap();
        // As a kill within a rehearsal leaves it, with what the engine makes for all to read.
        let rehearsal = house.home.join("ledger/rehearsal");
        copy(&house.home.join("ledger/sled"), &rehearsal.join("portcullis-00"));
        fs::set_permissions(&rehearsal, Permissions::from_mode(0o700)).unwrap();
        let loose = Permissions::from_mode(0o644);
        fs::set_permissions(rehearsal.join("portcullis-00/conf"), loose).unwrap();
        let fault = house.fault();
        assert_eq!(fault.code, "leftover");
        assert!(fault.text.starts_with(&rehearsal.display().to_string()), "{}", fault.text);
        // Opening it is all there is to do.
        drop(Store::open(&house.home).unwrap());
        assert!(!rehearsal.exists() && house.examine().is_healthy());
    }

    #[test]
    fn a_value_outside_the_database_file_is_named() {
        let house = House::new();
        let blob = house.home.join("ledger/sled/blobs/7");
        fs::write(&blob, b"lost").unwrap();
        fs::set_permissions(&blob, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(house.fault().code, "blob");
    }

    #[test]
    fn missing_files_are_named() {
        let house = House::new();
        for path in ["ledger/anchor", "ledger/sled/db"] {
            let path = house.home.join(path);
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let fault = house.fault();
            assert_eq!(fault.code, "missing-file");
            assert!(fault.text.starts_with(&path.display().to_string()), "{}", fault.text);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        assert!(house.examine().is_healthy());
    }

    #[test]
    fn no_directory_is_an_error() {
        let house = House::new();
        let nowhere = Offline::new().examine(house.at("nowhere"), house.dir.path());
        assert!(matches!(nowhere, Err(Error::NotFound(_))));
        let file = Offline::new().examine(house.home.join("ledger/anchor"), house.dir.path());
        assert!(matches!(file, Err(Error::BadDirectory { .. })));
    }
}

mod records {
    use super::*;

    #[test]
    fn one_that_is_damaged_is_named_by_its_key() {
        let house = House::new();
        operate(&house.home, |db| flip(db, &record(db, house.kept.0).0, 40));
        let report = house.examine();
        let keys: Vec<_> = report.faults().map(|fault| fault.key).collect();
        assert!(
            keys.iter().all(|key| *key == Some(house.kept.0)) && !keys.is_empty(),
            "{report:#?}"
        );
        assert_eq!(report.records, 3);
    }

    #[test]
    fn one_that_is_missing_is_named_by_its_key() {
        let house = House::new();
        operate(&house.home, |db| db.remove(record(db, house.kept.0).0).unwrap());
        let fault = house.fault();
        assert_eq!(
            (fault.code, fault.key, fault.sequence),
            ("missing-record", Some(house.kept.0), Some(10))
        );
    }

    #[test]
    fn one_that_is_older_than_the_trail_is_named() {
        let house = House::new();
        let (place, frame) = &house.frames[0];
        operate(&house.home, |db| db.insert(place, frame.as_slice()).unwrap());
        let fault = house.fault();
        assert_eq!((fault.code, fault.key, fault.sequence), ("record", Some(house.off.0), Some(6)));
    }

    #[test]
    fn one_of_a_deleted_key_is_named() {
        let house = House::new();
        let (place, frame) = &house.frames[1];
        operate(&house.home, |db| db.insert(place, frame.as_slice()).unwrap());
        let fault = house.fault();
        assert_eq!(
            (fault.code, fault.key, fault.sequence),
            ("record", Some(house.gone.0), Some(8))
        );
    }

    #[test]
    fn one_that_was_moved_is_damaged() {
        let house = House::new();
        operate(&house.home, |db| {
            let ((place, frame), (other, _)) = (record(db, house.kept.0), record(db, house.off.0));
            db.remove(place).unwrap();
            db.insert(other, frame).unwrap();
        });
        let codes: Vec<_> = house.examine().faults().map(|fault| fault.code).collect();
        assert!(codes.contains(&"record") && codes.contains(&"missing-record"), "{codes:?}");
    }

    #[test]
    fn a_value_that_is_no_record_is_named() {
        let house = House::new();
        operate(&house.home, |db| db.insert(b"kx", b"what").unwrap());
        assert_eq!(house.fault().code, "stray");
    }

    #[test]
    fn a_last_use_is_brought_over_and_a_damaged_one_is_named() {
        let house = House::new();
        let store = Store::open(&house.home).unwrap();
        store.authenticate_key(&house.kept.1).unwrap();
        drop(store);
        let (_, new) = house.repair();
        let store = Store::open(&new).unwrap();
        assert!(store.last_used(house.kept.0).is_some());
        drop(store);
        fs::remove_dir_all(new).unwrap();
        operate(&house.home, |db| {
            let (place, _) = db.scan_prefix(b"u").next().unwrap().unwrap();
            flip(db, &place, 2);
        });
        let fault = house.fault();
        assert_eq!((fault.code, fault.key), ("use", Some(house.kept.0)));
        assert!(Store::open(&house.home).is_err());
        let (done, _) = house.repair();
        assert_eq!((done.current, done.issues.len()), (4, 0));
    }

    #[test]
    fn a_scope_name_that_is_damaged_is_named() {
        let house = House::new();
        operate(&house.home, |db| flip(db, b"s\x03", 12));
        let fault = house.fault();
        assert_eq!(fault.code, "scope-name");
        assert!(fault.text.contains("scope name 3"), "{}", fault.text);
    }

    #[test]
    fn keys_with_scopes_that_are_no_longer_offered_are_noted() {
        let house = House::new();
        let closing = ("ledger.close".parse().unwrap(), String::new());
        let store = Store::builder().scopes([closing]).open(&house.home).unwrap();
        let (id, _) = issue(&store, new_key(&store, "closer", &["ledger.close", "api.read"]));
        drop(store);
        let other = ("ledger.open".parse().unwrap(), String::new());
        let report = house.examine_with(&Offline::new().scopes([other]));
        assert!(report.is_healthy(), "{report:#?}");
        let note = &report.findings[0];
        assert_eq!((note.code, note.severity, note.key), ("scope", Severity::Note, Some(id)));
        assert!(note.text.ends_with(": ledger.close"), "{}", note.text);
    }

    #[test]
    fn expired_keys_are_counted() {
        let house = House::new();
        let store = Store::open(&house.home).unwrap();
        for name in ["a", "b"] {
            let expiry = Expiry::At(Timestamp::from_secs(1_000_000));
            issue(&store, portcullis::NewKey { expiry, ..new_key(&store, name, &[]) });
        }
        drop(store);
        let note = house.has("expired");
        assert_eq!((note.text.as_str(), note.severity), ("2 keys have expired", Severity::Note));
    }
}

mod heads {
    use super::*;

    #[test]
    fn a_damaged_or_missing_meta_record_is_named() {
        let house = House::new();
        let meta = operate(&house.home, |db| {
            let meta = db.get(b"m").unwrap().unwrap();
            flip(db, b"m", 60);
            meta
        });
        assert_eq!(house.fault().code, "meta");
        operate(&house.home, |db| db.remove(b"m").unwrap());
        assert_eq!(house.fault().code, "meta");
        operate(&house.home, |db| db.insert(b"m", meta).unwrap());
        assert!(house.examine().is_healthy());
    }

    #[test]
    fn records_that_meta_does_not_vouch_for_are_named() {
        let house = House::new();
        operate(&house.home, |db| {
            let meta = db.get(b"m").unwrap().unwrap();
            let mut body = meta[..meta.len() - 16].to_vec();
            body[1 + 16 + 16 + 24] ^= 1;
            put_sealed(db, b"m", "meta", body);
        });
        let report = house.examine();
        let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
        assert_eq!(codes, ["fork", "sum"], "{report:#?}");
    }

    #[test]
    fn a_damaged_anchor_is_named_and_one_torn_slot_is_only_noted() {
        let house = House::new();
        let path = house.home.join("ledger/anchor");
        let anchor = fs::File::options().read(true).write(true).open(path).unwrap();
        let flip = |at| {
            let mut byte = [0];
            anchor.read_exact_at(&mut byte, at).unwrap();
            anchor.write_all_at(&[byte[0] ^ 1], at).unwrap();
        };
        flip(60);
        let one = house.examine();
        flip(4096 + 60);
        let both = house.fault();
        assert_eq!(both.code, "anchor");
        // Which slot is the newer one is chance; the older one alone shows a rollback of nothing.
        assert!(one.is_healthy(), "{one:#?}");
        assert_eq!(one.findings[0].code, "anchor-slot");
    }

    #[test]
    fn the_anchor_of_another_store_is_named() {
        let (house, other) = (House::new(), House::new());
        fs::copy(other.home.join("ledger/anchor"), house.home.join("ledger/anchor")).unwrap();
        assert_eq!(house.fault().code, "foreign-anchor");
        let elsewhere = house.at("anchor elsewhere");
        fs::copy(other.home.join("ledger/anchor"), &elsewhere).unwrap();
        let report = house.examine_with(&Offline::new().anchor(&elsewhere));
        assert!(report.faults().any(|fault| fault.code == "foreign-anchor"), "{report:#?}");
    }

    #[test]
    fn a_store_that_was_rolled_back_is_named() {
        let house = House::new();
        let older = house.at("older");
        copy(&house.home, &older);
        let store = Store::open(&house.home).unwrap();
        store.revoke(house.kept.0).unwrap();
        drop(store);
        fs::copy(house.home.join("ledger/anchor"), older.join("ledger/anchor")).unwrap();
        let house = House { home: older, ..house };
        let report = house.examine();
        let fault = report.faults().find(|fault| fault.code == "rolled-back").unwrap();
        assert!(
            fault.text.contains("at change 10, and its anchor records change 11"),
            "{}",
            fault.text
        );
        // Nothing of it can be proved: the missing change may have taken any key away.
        let (done, new) = house.repair();
        let store = Store::builder().open_existing(new).unwrap();
        assert_eq!((done.current, done.is_proved, store.count().active), (0, false, 0));
        assert_eq!(done.sequence, 12);
    }

    #[test]
    fn a_store_that_went_another_way_is_named() {
        let house = House::new();
        let fork = house.at("fork");
        copy(&house.home, &fork);
        fs::set_permissions(&fork, Permissions::from_mode(0o700)).unwrap();
        for (home, name) in [(&house.home, "one"), (&fork, "other")] {
            let store = Store::open(home).unwrap();
            issue(&store, new_key(&store, name, &[]));
        }
        fs::copy(house.home.join("ledger/anchor"), fork.join("ledger/anchor")).unwrap();
        let house = House { home: fork, ..house };
        let fault = house.fault();
        assert_eq!((fault.code, fault.sequence), ("fork", Some(11)));
    }

    #[test]
    fn a_wrong_pepper_is_told_from_damage() {
        let house = House::new();
        let report = house.examine_with(&Offline::new().pepper(PEPPER));
        let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
        assert_eq!(codes, ["pepper"]);
        let refused = Offline::new().pepper(PEPPER).repair(
            &house.home,
            house.at("x"),
            house.dir.path(),
            Actor::Host,
        );
        assert!(matches!(refused, Err(Error::WrongPepper)));
    }

    #[test]
    fn a_store_with_a_pepper_is_healthy_with_it() {
        let house = House::new();
        let home = house.at("peppered");
        let store = Store::builder().pepper(PEPPER).open(&home).unwrap();
        issue(&store, new_key(&store, "a", &[]));
        drop(store);
        let house = House { home, ..house };
        let report = house.examine_with(&Offline::new().pepper(PEPPER));
        assert!(report.is_healthy(), "{report:#?}");
        assert_eq!(house.fault().code, "pepper");
    }

    #[test]
    fn a_clock_behind_the_newest_change_is_named() {
        let house = House::new();
        operate(&house.home, |db| {
            let meta = db.get(b"m").unwrap().unwrap();
            let mut body = meta[..meta.len() - 16].to_vec();
            let newest = &mut body[1 + 16 + 16 + 24 + 64..][..8];
            let at = u64::from_le_bytes(newest.try_into().unwrap()) + 7_200_000;
            newest.copy_from_slice(&at.to_le_bytes());
            put_sealed(db, b"m", "meta", body);
        });
        let fault = house.fault();
        assert_eq!(fault.code, "clock");
        assert!(
            fault.text.contains("the clock is 71") || fault.text.contains("the clock is 72"),
            "{}",
            fault.text
        );
    }

    #[test]
    fn a_database_that_cannot_be_read_is_named() {
        let house = House::new();
        let path = house.home.join("ledger/sled/db");
        let length = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
        let report = house.examine();
        assert!(!report.is_healthy(), "{report:#?}");
        assert!(
            report.faults().all(|fault| [
                "unreadable",
                "meta",
                "snapshot",
                "trail",
                "scope-name",
                "rolled-back",
                "end"
            ]
            .contains(&fault.code)),
            "{report:#?}"
        );
    }
}

mod trails {
    use super::*;

    fn faults(house: &House) -> Vec<(Option<u64>, String)> {
        let report = house.examine();
        let found = report.audit_faults().map(|fault| (fault.sequence, fault.text.clone()));
        found.collect()
    }

    #[test]
    fn an_edited_entry_is_named() {
        let house = House::new();
        operate(&house.home, |db| flip(db, &entry(4), 30));
        let found = faults(&house);
        assert_eq!((found.len(), found[0].0), (1, Some(4)), "{found:?}");
    }

    #[test]
    fn an_entry_whose_own_seal_was_computed_anew_betrays_itself_in_the_next() {
        let house = House::new();
        operate(&house.home, |db| {
            let before = db.get(entry(3)).unwrap().unwrap();
            let frame = db.get(entry(4)).unwrap().unwrap();
            let mut body = frame[..frame.len() - 32].to_vec();
            body[9] ^= 1;
            let head =
                portcullis_testkit::surgery::seal("trail", &[&before[before.len() - 32..], &body]);
            body.extend(head);
            db.insert(entry(4), body).unwrap();
        });
        let found = faults(&house);
        assert_eq!((found.len(), found[0].0), (1, Some(5)), "{found:?}");
    }

    #[test]
    fn removed_entries_are_named() {
        let house = House::new();
        operate(&house.home, |db| {
            db.remove(entry(4)).unwrap();
            db.remove(entry(5)).unwrap();
        });
        let found = faults(&house);
        assert_eq!(found[0].1, "entries 4 to 5 of the audit log are missing");
        assert_eq!((found.len(), found[1].0), (2, Some(6)), "{found:?}");
    }

    #[test]
    fn an_added_entry_is_named() {
        let house = House::new();
        operate(&house.home, |db| {
            let copy = db.get(entry(10)).unwrap().unwrap();
            db.insert(entry(11), copy).unwrap();
        });
        let found = faults(&house);
        assert!(found.iter().any(|(sequence, _)| *sequence == Some(11)), "{found:?}");
    }

    #[test]
    fn entries_in_another_order_are_named() {
        let house = House::new();
        operate(&house.home, |db| {
            let (one, other) =
                (db.get(entry(6)).unwrap().unwrap(), db.get(entry(7)).unwrap().unwrap());
            db.insert(entry(6), other).unwrap();
            db.insert(entry(7), one).unwrap();
        });
        let found = faults(&house);
        assert_eq!((found[0].0, found[1].0), (Some(6), Some(7)), "{found:?}");
        assert!(found[0].1.starts_with("another entry is in the place of entry 6"), "{found:?}");
    }

    #[test]
    fn a_tail_that_was_cut_off_is_named() {
        let house = House::new();
        operate(&house.home, |db| {
            for sequence in 8..=10 {
                db.remove(entry(sequence)).unwrap();
            }
        });
        let found = faults(&house);
        assert!(
            found.iter().any(|(_, text)| text == "entries 8 to 10 of the audit log are missing"),
            "{found:?}"
        );
    }
}

mod a_repair {
    use super::*;

    #[test]
    fn of_a_healthy_store_brings_everything_over_as_it_was() {
        let house = House::new();
        let (done, new) = house.repair();
        assert_eq!((done.current, done.issues.len(), done.sequence), (4, 0, 11));
        assert!(done.is_proved);
        let (old, new) = (Store::open(&house.home).unwrap(), Store::open(new).unwrap());
        assert_eq!(portcullis_testkit::records(&old), portcullis_testkit::records(&new));
        assert_eq!(new.authenticate_key(&house.kept.1).unwrap().id(), house.kept.0);
        assert_eq!(new.authenticate_key(&house.off.1).map(drop), Err(Refusal::Inactive));
        assert_eq!(new.authenticate_key(&house.gone.1).map(drop), Err(Refusal::Unknown));
        // Its trail begins with the repair, above all that the old store had seen, and goes on.
        new.revoke(house.kept.0).unwrap();
        let told = new.audit(0, 10).unwrap();
        let told: Vec<_> = told.iter().map(|entry| (entry.sequence, entry.act.as_str())).collect();
        assert_eq!(told, [(11, "repair"), (12, "update")]);
    }

    #[test]
    fn lists_a_damaged_record_and_saves_the_others() {
        let house = House::new();
        operate(&house.home, |db| flip(db, &record(db, house.new).0, 40));
        assert_eq!(house.issues(), [(house.new, RepairIssue::Lost)].into());
    }

    #[test]
    fn lists_a_missing_record() {
        let house = House::new();
        operate(&house.home, |db| db.remove(record(db, house.kept.0).0).unwrap());
        assert_eq!(house.issues(), [(house.kept.0, RepairIssue::Lost)].into());
    }

    #[test]
    fn activates_no_old_frame_of_a_revoked_key() {
        let house = House::new();
        let (place, frame) = &house.frames[0];
        operate(&house.home, |db| db.insert(place, frame.as_slice()).unwrap());
        assert_eq!(house.issues(), [(house.off.0, RepairIssue::Older)].into());
    }

    #[test]
    fn brings_no_deleted_key_back() {
        let house = House::new();
        let (place, frame) = &house.frames[1];
        operate(&house.home, |db| db.insert(place, frame.as_slice()).unwrap());
        assert_eq!(house.issues(), [(house.gone.0, RepairIssue::Deleted)].into());
    }

    #[test]
    fn activates_nothing_without_the_anchor() {
        let house = House::new();
        fs::remove_file(house.home.join("ledger/anchor")).unwrap();
        let issues = house.issues();
        assert_eq!(issues.len(), 4);
        assert!(issues.values().all(|doubt| *doubt == RepairIssue::Unproved));
    }

    #[test]
    fn activates_nothing_where_the_tail_of_the_trail_is_cut_off() {
        let house = House::new();
        let (place, frame) = &house.frames[0];
        operate(&house.home, |db| {
            for sequence in 6..=10 {
                db.remove(entry(sequence)).unwrap();
            }
            db.insert(place, frame.as_slice()).unwrap();
        });
        let issues = house.issues();
        assert_eq!(issues.get(&house.off.0), Some(&RepairIssue::Unproved));
        // That one was deleted is forgotten with the tail; that it was made is not.
        assert_eq!(issues.get(&house.gone.0), Some(&RepairIssue::Lost));
        assert_eq!(issues.len(), 5);
    }

    #[test]
    fn activates_only_what_changed_after_the_last_gap() {
        let house = House::new();
        let (place, frame) = &house.frames[0];
        // The entry of the revocation is gone, and the old frame is back.
        operate(&house.home, |db| {
            db.remove(entry(6)).unwrap();
            db.insert(place, frame.as_slice()).unwrap();
        });
        let issues = house.issues();
        assert_eq!(issues, [(house.off.0, RepairIssue::Unproved)].into());
    }

    #[test]
    fn activates_no_old_frame_where_the_revocation_is_damaged() {
        let house = House::new();
        let (place, frame) = &house.frames[0];
        operate(&house.home, |db| {
            flip(db, &entry(6), 30);
            db.insert(place, frame.as_slice()).unwrap();
        });
        assert!(house.issues().contains_key(&house.off.0));
    }

    #[test]
    fn works_without_the_meta_record_where_trail_and_anchor_end_together() {
        let house = House::new();
        operate(&house.home, |db| flip(db, b"m", 60));
        assert_eq!(house.issues(), BTreeMap::new());
    }

    #[test]
    fn takes_away_scopes_whose_names_cannot_be_read() {
        let house = House::new();
        let number = operate(&house.home, |db| {
            let mut all = db.scan_prefix(b"s").map(Result::unwrap);
            let (place, _) = all
                .find(|(_, frame)| {
                    frame.ends_with(&[]) && frame.windows(9).any(|w| w == b"api.write")
                })
                .unwrap();
            flip(db, &place, 12);
            place
        });
        assert_eq!(number.len(), 2);
        let issues = house.issues();
        assert!(
            !issues.is_empty() && issues.values().all(|d| *d == RepairIssue::Narrowed),
            "{issues:?}"
        );
        let store = Store::open(house.at("repaired")).unwrap();
        let kept = store.authenticate_key(&house.kept.1).unwrap();
        assert!(kept.require(&"api.read".parse().unwrap()).is_ok());
        assert!(kept.require(&"api.write".parse().unwrap()).is_err());
    }

    #[test]
    fn after_a_cut_of_the_trail_takes_the_sum_of_all_records_for_what_was_cut() {
        let house = House::new();
        age(&house.home, 100);
        let store = Store::open(&house.home).unwrap();
        let acting = store.acting_as(Actor::Host, None);
        let cut =
            acting.prune_audit(Timestamp::from_millis(now() - 50 * 3_600_000)).unwrap().unwrap();
        assert_eq!((cut.through, cut.removed), (10, 10));
        drop(store);
        assert!(house.examine().is_healthy());
        assert_eq!(house.issues(), BTreeMap::new());
        fs::remove_dir_all(house.at("repaired")).unwrap();
        // One record is not what the sum says: then no other is proved by it either.
        let (place, frame) = &house.frames[0];
        operate(&house.home, |db| db.insert(place, frame.as_slice()).unwrap());
        let issues = house.issues();
        assert_eq!(issues.get(&house.off.0), Some(&RepairIssue::Unproved));
        assert_eq!(issues.len(), 4);
    }

    #[test]
    fn of_a_restored_store_takes_the_sum_of_all_records_for_what_was_overtaken() {
        let house = House::new();
        let store = Store::open(&house.home).unwrap();
        let mut backup = Vec::new();
        store.backup(&mut backup, |_| ()).unwrap();
        store.revoke(house.new).unwrap();
        issue(&store, new_key(&store, "too late for the backup", &[]));
        drop(store);
        let restored = house.at("restored");
        let later =
            portcullis::backup::LaterEvidence::Directory { data: house.home.clone(), anchor: None };
        Offline::new().restore(&backup[..], &restored, &later, Actor::Host, |_| ()).unwrap();
        let store = Store::open(&restored).unwrap();
        store.revoke(house.kept.0).unwrap();
        drop(store);
        let house = House { home: restored, ..house };
        let report = house.examine();
        assert!(report.is_healthy(), "{report:#?}");
        assert_eq!(house.issues(), BTreeMap::new());
    }

    #[test]
    fn never_writes_over_anything() {
        let house = House::new();
        let other = house.at("other");
        drop(Store::open(&other).unwrap());
        let before = told(&other);
        let done = Offline::new().repair(&house.home, &other, house.dir.path(), Actor::Host);
        assert!(matches!(done, Err(Error::AlreadyExists(_))), "{done:?}");
        let unlocked = |mut files: BTreeMap<PathBuf, _>| {
            files.retain(|path, _| !path.ends_with("lock"));
            files
        };
        assert_eq!(unlocked(told(&other)), unlocked(before));
    }
}

fn now() -> u64 {
    Timestamp::from(std::time::SystemTime::now()).as_millis()
}
