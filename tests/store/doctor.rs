//! The doctor reports every kind of fault of a data directory and changes nothing. A repair copies
//! every provable key, and no other key stays active.

use portcullis::{
    Actor, Error, Expiry, KeyId, Offline, Refusal, Timestamp,
    doctor::{Finding, RepairIssue, Repaired, Report, Severity},
    scope::catalogue::financial_data,
};
use portcullis_testkit::{
    audit::hours_ago,
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

/// A closed store with keys in every state. Its audit log: 1 catalogue; 2 to 5 `kept`, `revoked`,
/// `deleted` and `old` created; 6 `revoked` revoked; 7 `deleted` revoked; 8 `deleted` deleted; 9 `old`
/// rotated into `new`; 10 `kept` renamed.
struct Fixture {
    dir: tempfile::TempDir,
    home: PathBuf,
    kept: (KeyId, Vec<u8>),
    revoked: (KeyId, Vec<u8>),
    deleted: (KeyId, Vec<u8>),
    new: KeyId,
    /// The records of `revoked` and `deleted` while they were active.
    active_frames: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("keys");
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let make = |name: &str| issue(&store, new_key(&store, name, &["api.read", "api.write"]));
        let [kept, revoked, deleted, old] = ["kept", "revoked", "deleted", "old"].map(make);
        drop(store);
        let active_frames = operate(&home, |db| vec![record(db, revoked.0), record(db, deleted.0)]);
        let store = portcullis_testkit::builder().open(&home).unwrap();
        store.revoke(revoked.0).unwrap();
        store.revoke(deleted.0).unwrap();
        store.delete(deleted.0).unwrap();
        let new = store.rotate(old.0, Duration::from_hours(1)).unwrap().record.id;
        let renamed = portcullis::Change::default().with_name("kept, renamed");
        store.update(kept.0, renamed).unwrap();
        drop(store);
        Self { dir, home, kept, revoked, deleted, new, active_frames }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn examine(&self) -> Report {
        self.examine_with(&Offline::new())
    }

    /// Examines the store. Asserts that no file changed and that no temporary file remains.
    fn examine_with(&self, offline: &Offline) -> Report {
        let scratch = self.path("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let before = snapshot(&self.home);
        let report = offline.examine(&self.home, &scratch).unwrap();
        assert_eq!(snapshot(&self.home), before);
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        report
    }

    /// Returns the only fault.
    #[track_caller]
    fn fault(&self) -> Finding {
        let report = self.examine();
        let faults: Vec<_> = report.faults().collect();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(!report.is_healthy() && !faults[0].remedy.is_empty());
        faults[0].clone()
    }

    fn finding(&self, code: &str) -> Finding {
        let report = self.examine();
        let found = report.findings.iter().find(|finding| finding.code == code);
        found.unwrap_or_else(|| panic!("{code}: {report:#?}")).clone()
    }

    fn repair(&self) -> (Repaired, PathBuf) {
        let (scratch, new) = (self.path("scratch"), self.path("repaired"));
        fs::create_dir_all(&scratch).unwrap();
        let before = snapshot(&self.home);
        let done = Offline::new().repair(&self.home, &new, &scratch, Actor::Host).unwrap();
        assert_eq!(snapshot(&self.home), before);
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        let report = Offline::new().examine(&new, &scratch).unwrap();
        assert!(report.is_healthy(), "{report:#?}");
        (done, new)
    }

    /// Repairs the store and returns the issue of each listed key.
    fn issues(&self) -> BTreeMap<KeyId, RepairIssue> {
        let (done, new) = self.repair();
        let store = portcullis_testkit::builder().open_existing(new).unwrap();
        // A repair never re-enables a revoked or deleted key.
        assert_ne!(store.authenticate_key(&self.revoked.1).map(drop), Ok(()));
        assert_eq!(store.authenticate_key(&self.deleted.1).map(drop), Err(Refusal::Unknown));
        let issues: BTreeMap<_, _> =
            done.issues.iter().filter_map(|(id, issue)| Some(((*id)?, *issue))).collect();
        for (id, issue) in &issues {
            match issue {
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
                    .filter(|issue| matches!(
                        issue,
                        RepairIssue::Unproved | RepairIssue::Older | RepairIssue::Narrowed
                    ))
                    .count()
        );
        issues
    }
}

/// Returns the mode, the modification time and the content of every file.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::metadata(&path).unwrap();
        let bytes = if about.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        if about.is_dir() {
            found.extend(snapshot(&path));
        }
        found.insert(path, (about.mode(), about.mtime(), about.mtime_nsec(), bytes));
    }
    found
}

#[test]
fn healthy_store_has_no_findings() {
    let fixture = Fixture::new();
    let report = fixture.examine();
    assert!(report.is_healthy(), "{report:#?}");
    assert_eq!((report.records, report.entries, report.findings.len()), (4, 10, 0));
}

#[test]
fn open_store_is_not_read() {
    let fixture = Fixture::new();
    let store = portcullis_testkit::builder().open(&fixture.home).unwrap();
    let fault = fixture.fault();
    assert_eq!(fault.code, "in-use");
    assert!(fault.text.contains(&format!("process {}", std::process::id())), "{}", fault.text);
    assert!(!fixture.examine().was_read);
    let refused =
        Offline::new().repair(&fixture.home, fixture.path("x"), fixture.dir.path(), Actor::Host);
    assert!(matches!(refused, Err(Error::Locked { .. })));
    assert!(!fixture.path("x").exists());
    drop(store);
    assert!(fixture.examine().is_healthy());
}

mod files {
    use super::*;

    #[test]
    fn file_accessible_by_others_is_reported() {
        let fixture = Fixture::new();
        let within =
            ["ledger/sled/db", "ledger/anchor", "ledger"].map(|path| fixture.home.join(path));
        for path in [fixture.home.clone()].into_iter().chain(within) {
            let about = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&path, Permissions::from_mode(about.mode() | 0o040)).unwrap();
            let fault = fixture.fault();
            assert_eq!(fault.code, "permissions");
            assert!(fault.text.starts_with(&path.display().to_string()), "{}", fault.text);
            fs::set_permissions(&path, about).unwrap();
        }
    }

    #[needs("root: test $(id -u) = 0")]
    #[test]
    fn file_of_another_user_is_reported() {
        let fixture = Fixture::new();
        let anchor = fixture.home.join("ledger/anchor");
        std::os::unix::fs::chown(&anchor, Some(4711), None).unwrap();
        let fault = fixture.fault();
        assert_eq!(fault.code, "owner");
        assert!(fault.text.ends_with("belongs to user 4711"), "{}", fault.text);
    }

    #[test]
    fn leftover_of_a_kill_is_reported() {
        let fixture = Fixture::new();
        fs::create_dir(fixture.home.join("ledger.new")).unwrap();
        fs::set_permissions(fixture.home.join("ledger.new"), Permissions::from_mode(0o700))
            .unwrap();
        assert_eq!(fixture.fault().code, "leftover");
        fs::remove_dir(fixture.home.join("ledger.new")).unwrap();
        let partial = fixture.home.join("ledger/sled/snap.00AA.generating");
        fs::write(&partial, b"half").unwrap();
        fs::set_permissions(&partial, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fixture.fault().code, "leftover");
        fs::remove_file(&partial).unwrap();
        // The state after a kill during a rehearsal. sled creates its file `conf` readable for all.
        let rehearsal = fixture.home.join("ledger/rehearsal");
        copy(&fixture.home.join("ledger/sled"), &rehearsal.join("portcullis-00"));
        fs::set_permissions(&rehearsal, Permissions::from_mode(0o700)).unwrap();
        let loose = Permissions::from_mode(0o644);
        fs::set_permissions(rehearsal.join("portcullis-00/conf"), loose).unwrap();
        let fault = fixture.fault();
        assert_eq!(fault.code, "leftover");
        assert!(fault.text.starts_with(&rehearsal.display().to_string()), "{}", fault.text);
        // Opening the store removes the leftover.
        drop(portcullis_testkit::builder().open(&fixture.home).unwrap());
        assert!(!rehearsal.exists() && fixture.examine().is_healthy());
    }

    #[test]
    fn value_outside_the_database_file_is_reported() {
        let fixture = Fixture::new();
        let blob = fixture.home.join("ledger/sled/blobs/7");
        fs::write(&blob, b"lost").unwrap();
        fs::set_permissions(&blob, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fixture.fault().code, "blob");
    }

    #[test]
    fn missing_file_is_reported() {
        let fixture = Fixture::new();
        for path in ["ledger/anchor", "ledger/sled/db"] {
            let path = fixture.home.join(path);
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let fault = fixture.fault();
            assert_eq!(fault.code, "missing-file");
            assert!(fault.text.starts_with(&path.display().to_string()), "{}", fault.text);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        assert!(fixture.examine().is_healthy());
    }

    #[test]
    fn missing_directory_is_an_error() {
        let fixture = Fixture::new();
        let nowhere = Offline::new().examine(fixture.path("nowhere"), fixture.dir.path());
        assert!(matches!(nowhere, Err(Error::NotFound(_))));
        let file = Offline::new().examine(fixture.home.join("ledger/anchor"), fixture.dir.path());
        assert!(matches!(file, Err(Error::BadDirectory { .. })));
    }
}

mod records {
    use super::*;

    #[test]
    fn damaged_record_is_reported_with_its_key() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| flip(db, &record(db, fixture.kept.0).0, 40));
        let report = fixture.examine();
        let keys: Vec<_> = report.faults().map(|fault| fault.key).collect();
        assert!(
            keys.iter().all(|key| *key == Some(fixture.kept.0)) && !keys.is_empty(),
            "{report:#?}"
        );
        assert_eq!(report.records, 3);
    }

    #[test]
    fn missing_record_is_reported_with_its_key() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| db.remove(record(db, fixture.kept.0).0).unwrap());
        let fault = fixture.fault();
        assert_eq!(
            (fault.code, fault.key, fault.sequence),
            ("missing-record", Some(fixture.kept.0), Some(10))
        );
    }

    #[test]
    fn record_older_than_the_audit_log_is_reported() {
        let fixture = Fixture::new();
        let (place, frame) = &fixture.active_frames[0];
        operate(&fixture.home, |db| db.insert(place, frame.as_slice()).unwrap());
        let fault = fixture.fault();
        assert_eq!(
            (fault.code, fault.key, fault.sequence),
            ("record", Some(fixture.revoked.0), Some(6))
        );
    }

    #[test]
    fn record_of_a_deleted_key_is_reported() {
        let fixture = Fixture::new();
        let (place, frame) = &fixture.active_frames[1];
        operate(&fixture.home, |db| db.insert(place, frame.as_slice()).unwrap());
        let fault = fixture.fault();
        assert_eq!(
            (fault.code, fault.key, fault.sequence),
            ("record", Some(fixture.deleted.0), Some(8))
        );
    }

    #[test]
    fn moved_record_is_reported_as_damaged() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            let ((place, frame), (other, _)) =
                (record(db, fixture.kept.0), record(db, fixture.revoked.0));
            db.remove(place).unwrap();
            db.insert(other, frame).unwrap();
        });
        let codes: Vec<_> = fixture.examine().faults().map(|fault| fault.code).collect();
        assert!(codes.contains(&"record") && codes.contains(&"missing-record"), "{codes:?}");
    }

    #[test]
    fn unknown_value_is_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| db.insert(b"kx", b"x").unwrap());
        assert_eq!(fixture.fault().code, "stray");
    }

    #[test]
    fn last_use_is_repaired_and_a_damaged_one_is_reported() {
        let fixture = Fixture::new();
        let store = portcullis_testkit::builder().open(&fixture.home).unwrap();
        store.authenticate_key(&fixture.kept.1).unwrap();
        drop(store);
        let (_, new) = fixture.repair();
        let store = portcullis_testkit::builder().open(&new).unwrap();
        assert!(store.last_used(fixture.kept.0).is_some());
        drop(store);
        fs::remove_dir_all(new).unwrap();
        operate(&fixture.home, |db| {
            let (place, _) = db.scan_prefix(b"u").next().unwrap().unwrap();
            flip(db, &place, 2);
        });
        let fault = fixture.fault();
        assert_eq!((fault.code, fault.key), ("use", Some(fixture.kept.0)));
        assert!(portcullis_testkit::builder().open(&fixture.home).is_err());
        let (done, _) = fixture.repair();
        assert_eq!((done.current, done.issues.len()), (4, 0));
    }

    #[test]
    fn damaged_scope_name_is_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| flip(db, b"s\x03", 12));
        let fault = fixture.fault();
        assert_eq!(fault.code, "scope-name");
        assert!(fault.text.contains("scope name 3"), "{}", fault.text);
    }

    #[test]
    fn key_with_a_scope_outside_the_catalogue_is_noted() {
        let fixture = Fixture::new();
        let closing = ("ledger.close".parse().unwrap(), String::new());
        let store = portcullis_testkit::builder().scopes([closing]).open(&fixture.home).unwrap();
        let (id, _) = issue(&store, new_key(&store, "closer", &["ledger.close", "api.read"]));
        drop(store);
        let other = ("ledger.open".parse().unwrap(), String::new());
        let report = fixture.examine_with(&Offline::new().scopes(financial_data()).scopes([other]));
        assert!(report.is_healthy(), "{report:#?}");
        let note = &report.findings[0];
        assert_eq!((note.code, note.severity, note.key), ("scope", Severity::Note, Some(id)));
        assert!(note.text.ends_with(": ledger.close"), "{}", note.text);
    }

    #[test]
    fn expired_keys_are_counted() {
        let fixture = Fixture::new();
        let store = portcullis_testkit::builder().open(&fixture.home).unwrap();
        for name in ["a", "b"] {
            let expiry = Expiry::At(Timestamp::from_secs(1_000_000));
            issue(&store, new_key(&store, name, &[]).with_expiry(expiry));
        }
        drop(store);
        let note = fixture.finding("expired");
        assert_eq!((note.text.as_str(), note.severity), ("2 keys have expired", Severity::Note));
    }
}

mod meta_and_anchor {
    use super::*;

    #[test]
    fn damaged_or_missing_meta_record_is_reported() {
        let fixture = Fixture::new();
        let meta = operate(&fixture.home, |db| {
            let meta = db.get(b"m").unwrap().unwrap();
            flip(db, b"m", 60);
            meta
        });
        assert_eq!(fixture.fault().code, "meta");
        operate(&fixture.home, |db| db.remove(b"m").unwrap());
        assert_eq!(fixture.fault().code, "meta");
        operate(&fixture.home, |db| db.insert(b"m", meta).unwrap());
        assert!(fixture.examine().is_healthy());
    }

    #[test]
    fn records_with_another_sum_than_meta_are_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            let meta = db.get(b"m").unwrap().unwrap();
            let mut body = meta[..meta.len() - 16].to_vec();
            body[1 + 16 + 16 + 24] ^= 1;
            put_sealed(db, b"m", "meta", body);
        });
        let report = fixture.examine();
        let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
        assert_eq!(codes, ["fork", "sum"], "{report:#?}");
    }

    #[test]
    fn damaged_anchor_is_reported_and_one_damaged_slot_is_noted() {
        let fixture = Fixture::new();
        let path = fixture.home.join("ledger/anchor");
        let anchor = fs::File::options().read(true).write(true).open(path).unwrap();
        let flip = |at| {
            let mut byte = [0];
            anchor.read_exact_at(&mut byte, at).unwrap();
            anchor.write_all_at(&[byte[0] ^ 1], at).unwrap();
        };
        flip(60);
        let one = fixture.examine();
        flip(4096 + 60);
        let both = fixture.fault();
        assert_eq!(both.code, "anchor");
        // Either slot may be the newer one. The other slot alone is consistent with the store.
        assert!(one.is_healthy(), "{one:#?}");
        assert_eq!(one.findings[0].code, "anchor-slot");
    }

    #[test]
    fn anchor_of_another_store_is_reported() {
        let (fixture, other) = (Fixture::new(), Fixture::new());
        fs::copy(other.home.join("ledger/anchor"), fixture.home.join("ledger/anchor")).unwrap();
        assert_eq!(fixture.fault().code, "foreign-anchor");
        let elsewhere = fixture.path("anchor elsewhere");
        fs::copy(other.home.join("ledger/anchor"), &elsewhere).unwrap();
        let report = fixture.examine_with(&Offline::new().anchor(&elsewhere));
        assert!(report.faults().any(|fault| fault.code == "foreign-anchor"), "{report:#?}");
    }

    #[test]
    fn rolled_back_store_is_reported() {
        let fixture = Fixture::new();
        let older = fixture.path("older");
        copy(&fixture.home, &older);
        let store = portcullis_testkit::builder().open(&fixture.home).unwrap();
        store.revoke(fixture.kept.0).unwrap();
        drop(store);
        fs::copy(fixture.home.join("ledger/anchor"), older.join("ledger/anchor")).unwrap();
        let fixture = Fixture { home: older, ..fixture };
        let report = fixture.examine();
        let fault = report.faults().find(|fault| fault.code == "rolled-back").unwrap();
        assert!(
            fault.text.contains("at change 10, and its anchor records change 11"),
            "{}",
            fault.text
        );
        // No record can be proved: the missing change may have revoked any key.
        let (done, new) = fixture.repair();
        let store = portcullis_testkit::builder().open_existing(new).unwrap();
        assert_eq!((done.current, done.is_proved, store.count().active), (0, false, 0));
        assert_eq!(done.sequence, 12);
    }

    #[test]
    fn forked_store_is_reported() {
        let fixture = Fixture::new();
        let fork = fixture.path("fork");
        copy(&fixture.home, &fork);
        fs::set_permissions(&fork, Permissions::from_mode(0o700)).unwrap();
        for (home, name) in [(&fixture.home, "one"), (&fork, "other")] {
            let store = portcullis_testkit::builder().open(home).unwrap();
            issue(&store, new_key(&store, name, &[]));
        }
        fs::copy(fixture.home.join("ledger/anchor"), fork.join("ledger/anchor")).unwrap();
        let fixture = Fixture { home: fork, ..fixture };
        let fault = fixture.fault();
        assert_eq!((fault.code, fault.sequence), ("fork", Some(11)));
    }

    #[test]
    fn wrong_pepper_is_distinguished_from_damage() {
        let fixture = Fixture::new();
        let report = fixture.examine_with(&Offline::new().pepper(PEPPER));
        let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
        assert_eq!(codes, ["pepper"]);
        let refused = Offline::new().pepper(PEPPER).repair(
            &fixture.home,
            fixture.path("x"),
            fixture.dir.path(),
            Actor::Host,
        );
        assert!(matches!(refused, Err(Error::WrongPepper)));
    }

    #[test]
    fn store_with_a_pepper_is_healthy_with_that_pepper() {
        let fixture = Fixture::new();
        let home = fixture.path("peppered");
        let store = portcullis_testkit::builder().pepper(PEPPER).open(&home).unwrap();
        issue(&store, new_key(&store, "a", &[]));
        drop(store);
        let fixture = Fixture { home, ..fixture };
        let report = fixture.examine_with(&Offline::new().pepper(PEPPER));
        assert!(report.is_healthy(), "{report:#?}");
        assert_eq!(fixture.fault().code, "pepper");
    }

    #[test]
    fn clock_behind_the_newest_change_is_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            let meta = db.get(b"m").unwrap().unwrap();
            let mut body = meta[..meta.len() - 16].to_vec();
            let newest = &mut body[1 + 16 + 16 + 24 + 64..][..8];
            let at = u64::from_le_bytes(newest.try_into().unwrap()) + 7_200_000;
            newest.copy_from_slice(&at.to_le_bytes());
            put_sealed(db, b"m", "meta", body);
        });
        let fault = fixture.fault();
        assert_eq!(fault.code, "clock");
        assert!(
            fault.text.contains("the clock is 71") || fault.text.contains("the clock is 72"),
            "{}",
            fault.text
        );
    }

    #[test]
    fn unreadable_database_is_reported() {
        let fixture = Fixture::new();
        let path = fixture.home.join("ledger/sled/db");
        let length = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
        let report = fixture.examine();
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

mod audit_log {
    use super::*;

    fn faults(fixture: &Fixture) -> Vec<(Option<u64>, String)> {
        let report = fixture.examine();
        let found = report.audit_faults().map(|fault| (fault.sequence, fault.text.clone()));
        found.collect()
    }

    #[test]
    fn edited_entry_is_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| flip(db, &entry(4), 30));
        let found = faults(&fixture);
        assert_eq!((found.len(), found[0].0), (1, Some(4)), "{found:?}");
    }

    #[test]
    fn edited_entry_with_a_new_seal_is_detected_at_the_next_entry() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            let before = db.get(entry(3)).unwrap().unwrap();
            let frame = db.get(entry(4)).unwrap().unwrap();
            let mut body = frame[..frame.len() - 32].to_vec();
            body[9] ^= 1;
            let head =
                portcullis_testkit::surgery::seal("trail", &[&before[before.len() - 32..], &body]);
            body.extend(head);
            db.insert(entry(4), body).unwrap();
        });
        let found = faults(&fixture);
        assert_eq!((found.len(), found[0].0), (1, Some(5)), "{found:?}");
    }

    #[test]
    fn removed_entries_are_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            db.remove(entry(4)).unwrap();
            db.remove(entry(5)).unwrap();
        });
        let found = faults(&fixture);
        assert_eq!(found[0].1, "entries 4 to 5 of the audit log are missing");
        assert_eq!((found.len(), found[1].0), (2, Some(6)), "{found:?}");
    }

    #[test]
    fn added_entry_is_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            let copy = db.get(entry(10)).unwrap().unwrap();
            db.insert(entry(11), copy).unwrap();
        });
        let found = faults(&fixture);
        assert!(found.iter().any(|(sequence, _)| *sequence == Some(11)), "{found:?}");
    }

    #[test]
    fn reordered_entries_are_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            let (one, other) =
                (db.get(entry(6)).unwrap().unwrap(), db.get(entry(7)).unwrap().unwrap());
            db.insert(entry(6), other).unwrap();
            db.insert(entry(7), one).unwrap();
        });
        let found = faults(&fixture);
        assert_eq!((found[0].0, found[1].0), (Some(6), Some(7)), "{found:?}");
        assert!(found[0].1.starts_with("another entry is in the place of entry 6"), "{found:?}");
    }

    #[test]
    fn truncated_audit_log_is_reported() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| {
            for sequence in 8..=10 {
                db.remove(entry(sequence)).unwrap();
            }
        });
        let found = faults(&fixture);
        assert!(
            found.iter().any(|(_, text)| text == "entries 8 to 10 of the audit log are missing"),
            "{found:?}"
        );
    }
}

mod repair {
    use super::*;

    #[test]
    fn healthy_store_is_copied_completely() {
        let fixture = Fixture::new();
        let (done, new) = fixture.repair();
        assert_eq!((done.current, done.issues.len(), done.sequence), (4, 0, 11));
        assert!(done.is_proved);
        let (old, new) = (
            portcullis_testkit::builder().open(&fixture.home).unwrap(),
            portcullis_testkit::builder().open(new).unwrap(),
        );
        assert_eq!(portcullis_testkit::records(&old), portcullis_testkit::records(&new));
        assert_eq!(new.authenticate_key(&fixture.kept.1).unwrap().id(), fixture.kept.0);
        assert_eq!(new.authenticate_key(&fixture.revoked.1).map(drop), Err(Refusal::Inactive));
        assert_eq!(new.authenticate_key(&fixture.deleted.1).map(drop), Err(Refusal::Unknown));
        // The new audit log starts with the repair, after the last sequence of the old store.
        new.revoke(fixture.kept.0).unwrap();
        let entries = new.audit(0, 10).unwrap();
        let acts: Vec<_> =
            entries.iter().map(|entry| (entry.sequence, entry.act.as_str())).collect();
        assert_eq!(acts, [(11, "repair"), (12, "update")]);
    }

    #[test]
    fn damaged_record_is_listed_and_the_others_are_copied() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| flip(db, &record(db, fixture.new).0, 40));
        assert_eq!(fixture.issues(), [(fixture.new, RepairIssue::Lost)].into());
    }

    #[test]
    fn missing_record_is_listed() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| db.remove(record(db, fixture.kept.0).0).unwrap());
        assert_eq!(fixture.issues(), [(fixture.kept.0, RepairIssue::Lost)].into());
    }

    #[test]
    fn old_record_of_a_revoked_key_is_not_activated() {
        let fixture = Fixture::new();
        let (place, frame) = &fixture.active_frames[0];
        operate(&fixture.home, |db| db.insert(place, frame.as_slice()).unwrap());
        assert_eq!(fixture.issues(), [(fixture.revoked.0, RepairIssue::Older)].into());
    }

    #[test]
    fn deleted_key_is_not_restored() {
        let fixture = Fixture::new();
        let (place, frame) = &fixture.active_frames[1];
        operate(&fixture.home, |db| db.insert(place, frame.as_slice()).unwrap());
        assert_eq!(fixture.issues(), [(fixture.deleted.0, RepairIssue::Deleted)].into());
    }

    #[test]
    fn no_key_is_activated_without_the_anchor() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.home.join("ledger/anchor")).unwrap();
        let issues = fixture.issues();
        assert_eq!(issues.len(), 4);
        assert!(issues.values().all(|issue| *issue == RepairIssue::Unproved));
    }

    #[test]
    fn no_key_is_activated_if_the_audit_log_is_truncated() {
        let fixture = Fixture::new();
        let (place, frame) = &fixture.active_frames[0];
        operate(&fixture.home, |db| {
            for sequence in 6..=10 {
                db.remove(entry(sequence)).unwrap();
            }
            db.insert(place, frame.as_slice()).unwrap();
        });
        let issues = fixture.issues();
        assert_eq!(issues.get(&fixture.revoked.0), Some(&RepairIssue::Unproved));
        // The deletion is among the removed entries; the creation is not.
        assert_eq!(issues.get(&fixture.deleted.0), Some(&RepairIssue::Lost));
        assert_eq!(issues.len(), 5);
    }

    #[test]
    fn only_keys_changed_after_the_last_gap_are_activated() {
        let fixture = Fixture::new();
        let (place, frame) = &fixture.active_frames[0];
        // Remove the entry of the revocation, and put the old record back.
        operate(&fixture.home, |db| {
            db.remove(entry(6)).unwrap();
            db.insert(place, frame.as_slice()).unwrap();
        });
        let issues = fixture.issues();
        assert_eq!(issues, [(fixture.revoked.0, RepairIssue::Unproved)].into());
    }

    #[test]
    fn old_record_is_not_activated_if_the_revocation_entry_is_damaged() {
        let fixture = Fixture::new();
        let (place, frame) = &fixture.active_frames[0];
        operate(&fixture.home, |db| {
            flip(db, &entry(6), 30);
            db.insert(place, frame.as_slice()).unwrap();
        });
        assert!(fixture.issues().contains_key(&fixture.revoked.0));
    }

    #[test]
    fn meta_record_is_not_needed_if_audit_log_and_anchor_agree() {
        let fixture = Fixture::new();
        operate(&fixture.home, |db| flip(db, b"m", 60));
        assert_eq!(fixture.issues(), BTreeMap::new());
    }

    #[test]
    fn scope_with_an_unreadable_name_is_removed() {
        let fixture = Fixture::new();
        let number = operate(&fixture.home, |db| {
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
        let issues = fixture.issues();
        assert!(
            !issues.is_empty() && issues.values().all(|issue| *issue == RepairIssue::Narrowed),
            "{issues:?}"
        );
        let store = portcullis_testkit::builder().open(fixture.path("repaired")).unwrap();
        let kept = store.authenticate_key(&fixture.kept.1).unwrap();
        assert!(kept.require(&"api.read".parse().unwrap()).is_ok());
        assert!(kept.require(&"api.write".parse().unwrap()).is_err());
    }

    #[test]
    fn pruned_store_is_proved_by_the_sum_of_all_records() {
        let fixture = Fixture::new();
        age(&fixture.home, 100);
        let store = portcullis_testkit::builder().open(&fixture.home).unwrap();
        let acting = store.acting_as(Actor::Host);
        let pruned = acting.prune_audit(hours_ago(50)).unwrap().unwrap();
        assert_eq!((pruned.through, pruned.removed), (10, 10));
        drop(store);
        assert!(fixture.examine().is_healthy());
        assert_eq!(fixture.issues(), BTreeMap::new());
        fs::remove_dir_all(fixture.path("repaired")).unwrap();
        // If one record differs, the sum proves none of them.
        let (place, frame) = &fixture.active_frames[0];
        operate(&fixture.home, |db| db.insert(place, frame.as_slice()).unwrap());
        let issues = fixture.issues();
        assert_eq!(issues.get(&fixture.revoked.0), Some(&RepairIssue::Unproved));
        assert_eq!(issues.len(), 4);
    }

    #[test]
    fn restored_store_is_proved_by_the_sum_of_all_records() {
        let fixture = Fixture::new();
        let store = portcullis_testkit::builder().open(&fixture.home).unwrap();
        let mut backup = Vec::new();
        store.backup(&mut backup, |_| ()).unwrap();
        store.revoke(fixture.new).unwrap();
        issue(&store, new_key(&store, "issued after the backup", &[]));
        drop(store);
        let restored = fixture.path("restored");
        let later = portcullis::backup::LaterEvidence::Directory {
            data: fixture.home.clone(),
            anchor: None,
        };
        Offline::new().restore(&backup[..], &restored, &later, Actor::Host, |_| ()).unwrap();
        let store = portcullis_testkit::builder().open(&restored).unwrap();
        store.revoke(fixture.kept.0).unwrap();
        drop(store);
        let fixture = Fixture { home: restored, ..fixture };
        let report = fixture.examine();
        assert!(report.is_healthy(), "{report:#?}");
        assert_eq!(fixture.issues(), BTreeMap::new());
    }

    #[test]
    fn existing_store_is_not_overwritten() {
        let fixture = Fixture::new();
        let other = fixture.path("other");
        drop(portcullis_testkit::builder().open(&other).unwrap());
        let before = snapshot(&other);
        let done = Offline::new().repair(&fixture.home, &other, fixture.dir.path(), Actor::Host);
        assert!(matches!(done, Err(Error::AlreadyExists(_))), "{done:?}");
        let unlocked = |mut files: BTreeMap<PathBuf, _>| {
            files.retain(|path, _| !path.ends_with("lock"));
            files
        };
        assert_eq!(unlocked(snapshot(&other)), unlocked(before));
    }
}
