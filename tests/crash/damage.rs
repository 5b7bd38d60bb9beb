//! Damaged data directories. Opening either fails with an error that names the damage, or returns a store
//! with every acknowledged change. No store is opened in part, and nothing panics. Opening does not read
//! old entries of the audit log: damage in them is reported when they are read.
//!
//! The campaign of damaged copies tries twelve kinds of damage (`damage/kind.rs`): damage within files,
//! missing and older files, records that are moved or replaced with the engine's own calls, and a whole
//! directory that is replaced by an older one while its anchor is elsewhere. By default it is short. The
//! long form:
//!
//! ```text
//! PORTCULLIS_DAMAGES=5000 cargo test --release --test crash many_damaged_copies -- --nocapture
//! ```

mod campaign;
mod kind;

use kind::DamageKind;
use portcullis::{
    Change, Error, Expiry, Grant, KeyId, Offline, Record, Refusal, Store, Timestamp,
    audit::AuditEntry,
};
use portcullis_testkit::{
    Chance, copy, grouped, issue, needs, new_key, number, records, replace, room, seeded,
    surgery::{self, age, entry},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// The number of changes of a store with a long audit log.
const ENTRIES: usize = 3_000;

/// A closed store with keys in every state, and its expected content.
struct TestStore {
    dir: tempfile::TempDir,
    home: PathBuf,
    keys: Vec<(KeyId, Vec<u8>, Option<Refusal>)>,
    records: Vec<Arc<Record>>,
    audit: Vec<AuditEntry>,
}

impl TestStore {
    fn new() -> Self {
        Self::with_keys(6)
    }

    fn with_keys(count: usize) -> Self {
        let dir = room();
        let home = dir.path().join("keys");
        let mut keys = Vec::new();
        let store = Store::create(&home);
        let root = new_key(&store, "root", &[]).with_grant(Grant::All);
        let (id, key) = issue(&store, root);
        keys.push((id, key, None));
        for n in 0..count {
            let mut new = new_key(&store, &format!("key {n}"), &["api.read", "api.write"]);
            new.owner = (n % 2 == 0).then(|| format!("shop-{n}"));
            new.metadata = (0..n % 4).map(|m| (format!("m{m}"), "x".repeat(40 * m))).collect();
            if n % 7 == 6 {
                new.expiry = Expiry::At(Timestamp::from_secs(1_000_000));
            }
            let (id, key) = issue(&store, new);
            let refusal = match n % 7 {
                1 | 2 => {
                    store.revoke(id).unwrap();
                    Some(Refusal::Inactive)
                }
                3 => {
                    store.revoke(id).unwrap();
                    store.delete(id).unwrap();
                    Some(Refusal::Unknown)
                }
                4 => {
                    store.revoke(id).unwrap();
                    store.update(id, Change::activate()).unwrap();
                    None
                }
                6 => Some(Refusal::Expired),
                _ => None,
            };
            keys.push((id, key, refusal));
        }
        drop(store);
        let mut fixture = Self { dir, home, keys, records: Vec::new(), audit: Vec::new() };
        fixture.record_content();
        fixture
    }

    /// A store with an old audit log that opening does not read completely. It spans several segments of
    /// the engine's log.
    fn with_long_audit_log() -> Self {
        let mut fixture = Self::with_keys(40);
        let store = Store::open_existing(&fixture.home);
        for n in 0..ENTRIES {
            let name = format!("name {n}");
            store.update(fixture.keys[0].0, Change::default().with_name(name)).unwrap();
        }
        drop(store);
        age(&fixture.home, 100);
        fixture.record_content();
        fixture
    }

    /// Records the current content as the expected content.
    fn record_content(&mut self) {
        let store = Store::open_existing(&self.home);
        self.records = records(&store);
        self.audit = store.audit(0, usize::MAX).unwrap();
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        copy(&self.home, &to);
        to
    }

    /// Opens a directory. If that succeeds, checks the whole content.
    fn check(&self, home: &Path) -> Result<(), Error> {
        self.check_with_anchor(home, None)
    }

    fn check_with_anchor(&self, home: &Path, anchor: Option<&Path>) -> Result<(), Error> {
        self.check_audit(&self.check_keys(home, anchor)?)
    }

    fn check_keys(&self, home: &Path, anchor: Option<&Path>) -> Result<Store, Error> {
        let builder = portcullis_testkit::builder();
        let builder = if let Some(anchor) = anchor { builder.anchor(anchor) } else { builder };
        let store = builder.open_existing(home)?;
        assert_eq!(records(&store), self.records);
        for (id, key, refusal) in &self.keys {
            let answer = store.authenticate_key(key);
            assert_eq!(answer.as_ref().err(), refusal.as_ref(), "{id}");
            assert!(answer.is_err() || answer.is_ok_and(|principal| principal.id() == *id));
        }
        Ok(store)
    }

    fn check_audit(&self, store: &Store) -> Result<(), Error> {
        assert_eq!(store.audit(0, usize::MAX)?, self.audit);
        Ok(())
    }

    #[track_caller]
    fn assert_intact(&self, home: &Path) {
        self.check(home).unwrap();
    }

    /// Opening fails as damaged, and the error text contains `what`.
    #[track_caller]
    fn assert_damaged(&self, home: &Path, what: &str) {
        match self.check(home) {
            Err(Error::Damaged(text)) => assert!(text.contains(what), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Shorthands for opening and creating stores that must succeed.
trait OpenForTest: Sized {
    fn create(home: &Path) -> Self;
    fn open_existing(home: &Path) -> Self;
}

impl OpenForTest for Store {
    fn create(home: &Path) -> Self {
        portcullis_testkit::builder().create(home).unwrap()
    }

    fn open_existing(home: &Path) -> Self {
        portcullis_testkit::builder().open_existing(home).unwrap()
    }
}

/// Makes some more changes.
fn make_changes(home: &Path, changes: usize) {
    let store = Store::open_existing(home);
    for n in 0..changes {
        issue(&store, new_key(&store, &format!("later {n}"), &["api.read"]));
    }
}

fn names(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn sled_dir(home: &Path) -> PathBuf {
    home.join("ledger/sled")
}

fn db(home: &Path) -> PathBuf {
    sled_dir(home).join("db")
}

fn anchor(home: &Path) -> PathBuf {
    home.join("ledger/anchor")
}

fn snapshots(home: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(sled_dir(home)).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_stem().is_some_and(|stem| stem == "snap")).collect()
}

fn remove_snapshots(home: &Path) {
    for path in snapshots(home) {
        fs::remove_file(path).unwrap();
    }
}

fn flip(file: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn truncate(file: &Path, to: impl FnOnce(u64) -> u64) {
    let file = fs::File::options().write(true).open(file).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(to(len)).unwrap();
}

/// Changes values with the engine's own calls, without the store.
fn tamper(home: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(sled_dir(home)).flush_every_ms(None).open().unwrap();
    change(&db);
    db.flush().unwrap();
}

fn pairs(db: &sled::Db, kind: &str) -> Vec<(sled::IVec, sled::IVec)> {
    db.scan_prefix(kind).collect::<Result<_, _>>().unwrap()
}

mod directory {
    use super::*;

    #[test]
    fn file_in_place_of_the_directory_is_refused_and_unchanged() {
        let dir = room();
        let home = dir.path().join("keys");
        fs::write(&home, "a letter").unwrap();
        for builder in [
            portcullis_testkit::builder().open(&home),
            portcullis_testkit::builder().open_existing(&home),
        ] {
            let error = builder.unwrap_err();
            assert!(
                matches!(&error, Error::BadDirectory { dir, .. } if **dir == *home),
                "{error:?}"
            );
            assert!(error.to_string().contains("it is a file"), "{error}");
        }
        let below = portcullis_testkit::builder().open(home.join("below")).unwrap_err();
        assert!(matches!(below, Error::BadDirectory { .. }), "{below:?}");
        assert_eq!(fs::read_to_string(&home).unwrap(), "a letter");
    }

    #[test]
    fn directory_without_a_parent_is_not_created() {
        let dir = room();
        let error = portcullis_testkit::builder().open(dir.path().join("absent/keys")).unwrap_err();
        assert!(matches!(error, Error::BadDirectory { .. }), "{error:?}");
        assert!(error.to_string().contains("create that first"), "{error}");
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn open_existing_without_a_store_fails_and_creates_nothing() {
        let dir = room();
        let home = dir.path().join("keys");
        for _ in 0..2 {
            let error = portcullis_testkit::builder().open_existing(&home).unwrap_err();
            assert!(matches!(&error, Error::NotFound(named) if **named == *home), "{error:?}");
        }
        assert!(names(dir.path()).is_empty());
        fs::create_dir(&home).unwrap();
        let error = portcullis_testkit::builder().open_existing(&home).unwrap_err();
        assert!(matches!(&error, Error::NotFound(named) if **named == *home), "{error:?}");
        assert!(names(&home).is_empty());
    }

    #[test]
    fn create_fails_if_a_store_exists() {
        let fixture = TestStore::new();
        let error = portcullis_testkit::builder().create(&fixture.home).unwrap_err();
        assert!(
            matches!(&error, Error::AlreadyExists(named) if **named == *fixture.home),
            "{error:?}"
        );
        fixture.assert_intact(&fixture.home);
    }

    #[test]
    fn directory_with_foreign_files_is_refused_and_unchanged() {
        let dir = room();
        fs::write(dir.path().join("thesis.tex"), "chapter 1").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for error in [
            portcullis_testkit::builder().open(dir.path()),
            portcullis_testkit::builder().create(dir.path()),
        ] {
            let error = error.unwrap_err();
            assert!(matches!(error, Error::BadDirectory { .. }), "{error:?}");
            assert!(error.to_string().contains("it holds other files"), "{error}");
        }
        assert_eq!(names(dir.path()), ["thesis.tex".into()].into());
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn open_store_is_locked_and_error_names_the_holder() {
        let fixture = TestStore::new();
        let store = Store::open_existing(&fixture.home);
        let error = portcullis_testkit::builder().open(&fixture.home).unwrap_err();
        let me = format!("process {}", std::process::id());
        assert!(
            matches!(&error, Error::Locked { dir, holder } if **dir == *fixture.home && **holder == *me),
            "{error:?}"
        );
        drop(store);
        fixture.assert_intact(&fixture.home);
    }

    #[test]
    fn store_open_in_another_process_is_locked_until_that_process_ends() {
        const HELD: &str = "PORTCULLIS_TEST_HOLD";
        if let Some(home) = std::env::var_os(HELD) {
            let _store = Store::open_existing(Path::new(&home));
            std::io::stdout().write_all(b"held\n").unwrap();
            std::io::stdin().read_line(&mut String::new()).unwrap();
            return;
        }
        let fixture = TestStore::new();
        let home = fixture.copy("held");
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["damage::directory::store_open_in_another_process_is_locked_until_that_process_ends", "--exact"])
            .arg("--nocapture")
            .env(HELD, &home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("held")));
        let error = portcullis_testkit::builder().open(&home).unwrap_err();
        let name = format!("process {}", holder.id());
        assert!(
            matches!(&error, Error::Locked { dir, holder } if **dir == *home && **holder == *name),
            "{error:?}"
        );
        // The kernel releases the lock of a killed process.
        holder.kill().unwrap();
        holder.wait().unwrap();
        fixture.assert_intact(&home);
    }

    #[needs("root: test $(id -u) = 0")]
    #[test]
    fn directory_of_another_user_is_refused_and_unchanged() {
        let dir = room();
        std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
        let refused = portcullis_testkit::builder().open(dir.path());
        assert!(
            matches!(&refused, Err(Error::BadDirectory { reason, .. }) if reason.contains("another user"))
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn directory_and_files_are_private() {
        let dir = room();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        drop(Store::create(dir.path()));
        let loosened = dir.path().join("ledger/sled/db");
        fs::set_permissions(&loosened, Permissions::from_mode(0o644)).unwrap();
        let store = Store::open_existing(dir.path());
        let mut files = 0;
        let mut rooms = vec![dir.path().to_path_buf()];
        while let Some(room) = rooms.pop() {
            let mode = fs::metadata(&room).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o700, "{}", room.display());
            for entry in fs::read_dir(&room).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    rooms.push(path);
                } else {
                    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                    assert_eq!(mode, 0o600, "{}", path.display());
                    files += 1;
                }
            }
        }
        assert!(files >= 4, "lock, anchor, conf and db: {files}");
        drop(store);
    }

    #[test]
    fn interrupted_creation_is_replaced_by_a_new_store() {
        let dir = room();
        let home = dir.path().join("keys");
        fs::create_dir_all(home.join("ledger.new/sled")).unwrap();
        fs::write(home.join("ledger.new/sled/db"), "half a database").unwrap();
        let error = portcullis_testkit::builder().open_existing(&home).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error:?}");
        let store = portcullis_testkit::builder().open(&home).unwrap();
        assert!(records(&store).is_empty());
        issue(&store, new_key(&store, "first", &["api.read"]));
        assert_eq!(names(&home), ["ledger".into(), "lock".into()].into());
    }
}

mod database {
    use super::*;

    #[test]
    fn missing_database_is_refused() {
        let fixture = TestStore::new();
        let home = fixture.copy("gone");
        fs::remove_file(db(&home)).unwrap();
        fixture.assert_damaged(&home, "database file is missing");
        let home = fixture.copy("all gone");
        for entry in fs::read_dir(sled_dir(&home)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
        fixture.assert_damaged(&home, "database file is missing");
        // Opening must not create a new store in the place of a damaged one.
        let error = portcullis_testkit::builder().open(&home).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }

    #[test]
    fn empty_database_is_refused() {
        let fixture = TestStore::new();
        for keep_snapshots in [true, false] {
            let home = fixture.copy(&format!("empty {keep_snapshots}"));
            truncate(&db(&home), |_| 0);
            if !keep_snapshots {
                remove_snapshots(&home);
            }
            fixture.assert_damaged(&home, "");
        }
    }

    /// Opens truncated copies, with and without snapshots.
    fn open_truncated(fixture: &TestStore, lengths: &[u64]) -> Vec<Result<(), Error>> {
        let mut found = Vec::new();
        for length in lengths {
            for keep_snapshots in [true, false] {
                let home = fixture.copy(&format!("truncated {length} {keep_snapshots}"));
                truncate(&db(&home), |_| *length);
                if !keep_snapshots {
                    remove_snapshots(&home);
                }
                found.push(fixture.check(&home));
            }
        }
        found
    }

    /// The length without the zeros with which the engine fills up its file.
    fn written(fixture: &TestStore) -> u64 {
        let bytes = fs::read(db(&fixture.home)).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
    }

    #[test]
    fn truncated_database_without_its_last_changes_is_refused() {
        let fixture = TestStore::with_keys(40);
        let written = written(&fixture);
        let lengths = [written / 4, written / 2, written - 40_000, written - 16_000];
        for (n, found) in open_truncated(&fixture, &lengths).into_iter().enumerate() {
            assert!(
                matches!(found, Err(Error::Damaged(_) | Error::RolledBack { .. })),
                "{n}, {written} bytes written: {found:?}"
            );
        }
    }

    #[test]
    fn database_truncated_by_a_few_bytes_is_refused_or_intact() {
        let fixture = TestStore::with_keys(40);
        let (written, full) = (written(&fixture), fs::metadata(db(&fixture.home)).unwrap().len());
        let lengths = [written - 4096, written - 64, written - 1, full - 4096, full - 7, full - 1];
        for (n, found) in open_truncated(&fixture, &lengths).into_iter().enumerate() {
            assert!(
                matches!(found, Ok(()) | Err(Error::Damaged(_) | Error::RolledBack { .. })),
                "{n}, {written} bytes of {full} written: {found:?}"
            );
        }
    }

    #[test]
    fn database_without_snapshots_is_intact() {
        let fixture = TestStore::new();
        let home = fixture.copy("without");
        assert!(!snapshots(&home).is_empty());
        remove_snapshots(&home);
        fixture.assert_intact(&home);
    }

    #[test]
    fn damaged_snapshot_is_refused_and_removing_it_repairs_the_store() {
        let fixture = TestStore::new();
        let home = fixture.copy("damaged");
        for path in snapshots(&home) {
            flip(&path, fs::metadata(&path).unwrap().len() / 2);
        }
        fixture.assert_damaged(&home, "");
        remove_snapshots(&home);
        fixture.assert_intact(&home);
    }

    #[test]
    fn partial_snapshot_is_removed_by_opening() {
        let fixture = TestStore::new();
        let home = fixture.copy("half");
        let half = sled_dir(&home).join("snap.0FFFFFFFFFFFFFFF.generating");
        fs::write(&half, [0x5a; 100]).unwrap();
        fixture.assert_intact(&home);
        assert!(!half.exists());
    }

    #[test]
    fn value_outside_the_database_file_is_refused() {
        let fixture = TestStore::new();
        let home = fixture.copy("blob");
        fs::write(sled_dir(&home).join("blobs/77"), "a value").unwrap();
        fixture.assert_damaged(&home, "outside the database file");
    }

    #[test]
    fn missing_meta_record_is_refused() {
        let fixture = TestStore::new();
        let home = fixture.copy("meta");
        tamper(&home, |db| assert!(db.remove("m").unwrap().is_some()));
        fixture.assert_damaged(&home, "meta record is missing");
    }

    #[test]
    fn record_under_another_digest_is_refused() {
        let fixture = TestStore::new();
        let moved = fixture.copy("moved");
        tamper(&moved, |db| {
            let (key, frame) = pairs(db, "k").swap_remove(0);
            let mut other = key.to_vec();
            other[7] ^= 1;
            db.remove(key).unwrap();
            db.insert(other, frame).unwrap();
        });
        fixture.assert_damaged(&moved, "is not as it was written");
        let swapped = fixture.copy("swapped");
        tamper(&swapped, |db| {
            let pairs = pairs(db, "k");
            db.insert(&pairs[0].0, &pairs[1].1).unwrap();
            db.insert(&pairs[1].0, &pairs[0].1).unwrap();
        });
        fixture.assert_damaged(&swapped, "is not as it was written");
    }

    #[test]
    fn missing_extra_or_older_record_is_refused() {
        let mut fixture = TestStore::new();
        let early = fixture.copy("early");
        let (id, _, _) = fixture.keys[0];
        let store = Store::open_existing(&fixture.home);
        store.update(id, Change::default().with_name("renamed")).unwrap();
        drop(store);
        fixture.record_content();
        let mut old = Vec::new();
        tamper(&early, |db| old = pairs(db, "k"));

        let few = fixture.copy("few");
        tamper(&few, |db| assert!(db.remove(&pairs(db, "k")[0].0).unwrap().is_some()));
        fixture.assert_damaged(&few, "it should hold");

        let aged = fixture.copy("aged");
        tamper(&aged, |db| {
            for (key, frame) in &old {
                db.insert(key, frame).unwrap();
            }
        });
        fixture.assert_damaged(&aged, "it should hold");

        let other = TestStore::new();
        let many = fixture.copy("many");
        let mut other_records = Vec::new();
        tamper(&other.copy("other"), |db| other_records = pairs(db, "k"));
        tamper(&many, |db| {
            assert!(db.insert(&other_records[0].0, &other_records[0].1).unwrap().is_none());
        });
        fixture.assert_damaged(&many, "it should hold");

        let scopes = fixture.copy("scopes");
        tamper(&scopes, |db| assert!(db.remove(b"s\0").unwrap().is_some()));
        fixture.assert_damaged(&scopes, "a scope name is missing");

        let odd = fixture.copy("odd");
        tamper(&odd, |db| assert!(db.insert("kshort", "x").unwrap().is_none()));
        fixture.assert_damaged(&odd, "has a key that is not valid");
    }

    #[test]
    fn altered_audit_entry_is_reported_when_it_is_read() {
        let fixture = TestStore::new();
        let last = fixture.audit.last().unwrap().sequence;
        let altered = fixture.copy("altered");
        tamper(&altered, |db| surgery::flip(db, &entry(3), 9));
        fixture.assert_damaged(&altered, "entry 3 of the audit log");
        let replayed = fixture.copy("replayed");
        tamper(&replayed, |db| {
            let frame = db.get(entry(3)).unwrap().unwrap();
            db.insert(entry(4), frame).unwrap();
        });
        fixture.assert_damaged(&replayed, "entry 4 of the audit log");
        let holed = fixture.copy("holed");
        tamper(&holed, |db| assert!(db.remove(entry(3)).unwrap().is_some()));
        fixture.assert_damaged(&holed, "entry 3 of the audit log is missing");
        let shortened = fixture.copy("shortened");
        tamper(&shortened, |db| assert!(db.remove(entry(last)).unwrap().is_some()));
        fixture.assert_damaged(&shortened, "of the audit log is missing");
    }

    /// Opening reads the audit entries of the last day. No record is in the pages of older entries.
    #[test]
    fn store_with_a_damaged_old_audit_entry_still_revokes_keys() {
        let fixture = TestStore::with_long_audit_log();
        tamper(&fixture.home, |db| surgery::flip(db, &entry(700), 9));
        let assert_reported = |store: &Store| match fixture.check_audit(store) {
            Err(Error::Damaged(text)) => assert!(text.contains("entry 700"), "{text}"),
            other => panic!("{other:?}"),
        };
        let store = fixture.check_keys(&fixture.home, None).unwrap();
        assert_reported(&store);
        let last = fixture.audit.last().unwrap();
        assert_eq!(store.audit(last.sequence - 1, 1).unwrap(), std::slice::from_ref(last));
        let (id, key, _) = &fixture.keys[1];
        store.revoke(*id).unwrap();
        drop(store);
        let store = Store::open_existing(&fixture.home);
        assert_eq!(store.authenticate_key(key).unwrap_err(), Refusal::Inactive);
        assert_reported(&store);
        drop(store);
        let report = Offline::new().examine(&fixture.home, fixture.dir.path()).unwrap();
        let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
        assert_eq!(codes, ["trail"]);
    }
}

mod anchor_file {
    use super::*;

    #[test]
    fn missing_anchor_is_reported_by_path() {
        let fixture = TestStore::new();
        let home = fixture.copy("gone");
        fs::remove_file(anchor(&home)).unwrap();
        fixture.assert_damaged(&home, &anchor(&home).display().to_string());
        assert!(!anchor(&home).exists());
    }

    #[test]
    fn empty_or_truncated_anchor_is_refused() {
        let fixture = TestStore::new();
        for left in [0, 100] {
            let home = fixture.copy(&format!("truncated {left}"));
            truncate(&anchor(&home), |_| left);
            fixture.assert_damaged(&home, "anchor is not as it was written");
        }
    }

    #[test]
    fn anchor_with_one_damaged_slot_is_accepted_and_with_two_is_refused() {
        let fixture = TestStore::new();
        for slot in [0, 4096] {
            let home = fixture.copy(&format!("slot {slot}"));
            flip(&anchor(&home), slot + 20);
            fixture.assert_intact(&home);
        }
        let home = fixture.copy("both");
        flip(&anchor(&home), 20);
        flip(&anchor(&home), 4096 + 20);
        fixture.assert_damaged(&home, "anchor is not as it was written");
    }

    #[test]
    fn older_database_is_detected() {
        let mut fixture = TestStore::new();
        let older = fixture.copy("older");
        make_changes(&fixture.home, 5);
        fixture.record_content();
        replace(&sled_dir(&older), &sled_dir(&fixture.home));
        let last = fixture.audit.last().unwrap().sequence;
        let error = fixture.check(&fixture.home).unwrap_err();
        assert!(
            matches!(error, Error::RolledBack { found, anchored } if found == last - 5 && anchored == last),
            "{error:?}"
        );
        assert!(error.to_string().contains("was rolled back"), "{error}");
    }

    #[test]
    fn forked_history_of_any_length_is_detected() {
        let fixture = TestStore::new();
        for (n, (ours, theirs)) in [(3, 3), (3, 7), (1, 2)].into_iter().enumerate() {
            let (kept, fork) =
                (fixture.copy(&format!("kept {n}")), fixture.copy(&format!("fork {n}")));
            make_changes(&kept, ours);
            make_changes(&fork, theirs);
            replace(&sled_dir(&fork), &sled_dir(&kept));
            fixture.assert_damaged(&kept, "its history differs from its anchor");
        }
    }

    #[test]
    fn anchor_of_another_store_is_refused() {
        let (fixture, other) = (TestStore::new(), TestStore::new());
        let home = fixture.copy("mixed");
        replace(&sled_dir(&other.home), &sled_dir(&home));
        fixture.assert_damaged(&home, "anchor belongs to another store");
    }

    #[test]
    fn anchor_outside_the_directory_detects_an_older_or_forked_directory() {
        let dir = room();
        let (home, kept) = (dir.path().join("keys"), dir.path().join("kept.anchor"));
        let open = || portcullis_testkit::builder().anchor(&kept).open(&home);
        let store = open().unwrap();
        let (id, key) = issue(&store, new_key(&store, "stolen", &["api.read"]));
        drop(store);
        assert!(!anchor(&home).exists());
        let older = dir.path().join("older");
        copy(&home, &older);
        let early_anchor = dir.path().join("early.anchor");
        fs::copy(&kept, &early_anchor).unwrap();
        let store = open().unwrap();
        let revoked_at = store.revoke(id).unwrap().revision;
        drop(store);

        replace(&older, &home);
        let error = open().unwrap_err();
        assert!(
            matches!(error, Error::RolledBack { found, anchored } if anchored == revoked_at && found < anchored),
            "{error:?}"
        );
        // With its own anchor, the older copy makes more changes than the newer anchor records.
        let store = portcullis_testkit::builder().anchor(&early_anchor).open(&home).unwrap();
        for n in 0..4 {
            issue(&store, new_key(&store, &format!("fork {n}"), &["api.read"]));
        }
        assert!(store.authenticate_key(&key).is_ok());
        drop(store);
        let error = open().unwrap_err();
        assert!(
            matches!(&error, Error::Damaged(text) if text.contains("its history")),
            "{error:?}"
        );
    }

    #[test]
    fn anchor_without_its_store_is_reported_by_path() {
        let dir = room();
        let (home, kept) = (dir.path().join("keys"), dir.path().join("kept.anchor"));
        drop(portcullis_testkit::builder().anchor(&kept).open(&home).unwrap());
        fs::remove_dir_all(&home).unwrap();
        let bytes = fs::read(&kept).unwrap();
        let error = portcullis_testkit::builder().anchor(&kept).open(&home).unwrap_err();
        assert!(
            matches!(&error, Error::Damaged(text) if text.contains(kept.to_str().unwrap())),
            "{error:?}"
        );
        assert!(!home.join("ledger").exists());
        assert_eq!(fs::read(&kept).unwrap(), bytes);
    }
}
