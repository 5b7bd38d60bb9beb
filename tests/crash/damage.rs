//! What a data directory may have gone through: each is refused with an error that says so, or
//! opened with all that was acknowledged. Nothing is opened in part, and nothing panics. Only what
//! opening does not read, old entries of the trail, is refused when it is read.
//!
//! The campaign of damaged copies tries twelve kinds of wounds (`damage/wounds.rs`): within files,
//! whole files missing or older, records moved or put back by the engine's own means, and the whole
//! directory put back to an earlier day where its anchor is kept elsewhere. It is short here. The
//! long one:
//!
//! ```text
//! PORTCULLIS_DAMAGES=5000 cargo test --release --test crash many_damaged_copies -- --nocapture
//! ```

mod campaign;
mod wounds;

use portcullis::{
    AuditEntry, Change, Error, Expiry, Grant, KeyId, NewKey, Offline, Record, Refusal, Store,
    Timestamp,
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
use wounds::Wound;

/// Changes of a store that has lived.
const ENTRIES: usize = 3_000;

/// A closed store with keys in every state, and what it must still say.
struct House {
    dir: tempfile::TempDir,
    home: PathBuf,
    keys: Vec<(KeyId, Vec<u8>, Option<Refusal>)>,
    records: Vec<Arc<Record>>,
    trail: Vec<AuditEntry>,
}

impl House {
    fn new() -> Self {
        Self::with_keys(6)
    }

    fn with_keys(count: usize) -> Self {
        let dir = room();
        let home = dir.path().join("keys");
        let mut keys = Vec::new();
        let store = Store::create(&home);
        let root = NewKey { grant: Grant::All, ..new_key(&store, "root", &[]) };
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
        let mut house = Self { dir, home, keys, records: Vec::new(), trail: Vec::new() };
        house.remember();
        house
    }

    /// One whose trail is longer and older than what opening reads of it, over several segments of
    /// the engine's log.
    fn lived() -> Self {
        let mut house = Self::with_keys(40);
        let store = Store::open_existing(&house.home);
        for n in 0..ENTRIES {
            let name = Some(format!("name {n}"));
            store.update(house.keys[0].0, Change { name, ..Change::default() }).unwrap();
        }
        drop(store);
        age(&house.home, 100);
        house.remember();
        house
    }

    /// What the store holds now is what it must hold.
    fn remember(&mut self) {
        let store = Store::open_existing(&self.home);
        self.records = records(&store);
        self.trail = store.audit(0, usize::MAX).unwrap();
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        copy(&self.home, &to);
        to
    }

    /// Opens what is there; if it opens, it must hold everything.
    fn look(&self, home: &Path) -> Result<(), Error> {
        self.look_with(home, None)
    }

    fn look_with(&self, home: &Path, anchor: Option<&Path>) -> Result<(), Error> {
        self.look_at_trail(&self.look_at_keys(home, anchor)?)
    }

    fn look_at_keys(&self, home: &Path, anchor: Option<&Path>) -> Result<Store, Error> {
        let builder = Store::builder();
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

    fn look_at_trail(&self, store: &Store) -> Result<(), Error> {
        assert_eq!(store.audit(0, usize::MAX)?, self.trail);
        Ok(())
    }

    #[track_caller]
    fn is_whole(&self, home: &Path) {
        self.look(home).unwrap();
    }

    /// It is refused as damaged, and the text names what it says it does.
    #[track_caller]
    fn is_damaged(&self, home: &Path, what: &str) {
        match self.look(home) {
            Err(Error::Damaged(text)) => assert!(text.contains(what), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

/// The two ways to open that these tests need, with what must not happen unwrapped.
trait Ways: Sized {
    fn create(home: &Path) -> Self;
    fn open_existing(home: &Path) -> Self;
}

impl Ways for Store {
    fn create(home: &Path) -> Self {
        Self::builder().create(home).unwrap()
    }

    fn open_existing(home: &Path) -> Self {
        Self::builder().open_existing(home).unwrap()
    }
}

/// Some more changes.
fn run_on(home: &Path, changes: usize) {
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

fn cut(file: &Path, to: impl FnOnce(u64) -> u64) {
    let file = fs::File::options().write(true).open(file).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(to(len)).unwrap();
}

/// Changes values behind the store's back, with the engine's own means.
fn tamper(home: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(sled_dir(home)).flush_every_ms(None).open().unwrap();
    change(&db);
    db.flush().unwrap();
}

fn pairs(db: &sled::Db, kind: &str) -> Vec<(sled::IVec, sled::IVec)> {
    db.scan_prefix(kind).collect::<Result<_, _>>().unwrap()
}

mod a_directory {
    use super::*;

    #[test]
    fn that_is_a_file_is_named_and_left_alone() {
        let dir = room();
        let home = dir.path().join("keys");
        fs::write(&home, "a letter").unwrap();
        for builder in [Store::open(&home), Store::builder().open_existing(&home)] {
            let error = builder.unwrap_err();
            assert!(
                matches!(&error, Error::BadDirectory { dir, .. } if **dir == *home),
                "{error:?}"
            );
            assert!(error.to_string().contains("it is a file"), "{error}");
        }
        let below = Store::open(home.join("below")).unwrap_err();
        assert!(matches!(below, Error::BadDirectory { .. }), "{below:?}");
        assert_eq!(fs::read_to_string(&home).unwrap(), "a letter");
    }

    #[test]
    fn without_a_parent_is_not_made() {
        let dir = room();
        let error = Store::open(dir.path().join("absent/keys")).unwrap_err();
        assert!(matches!(error, Error::BadDirectory { .. }), "{error:?}");
        assert!(error.to_string().contains("make that first"), "{error}");
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn without_a_store_is_not_found_and_nothing_is_made_in_it() {
        let dir = room();
        let home = dir.path().join("keys");
        for _ in 0..2 {
            let error = Store::builder().open_existing(&home).unwrap_err();
            assert!(matches!(&error, Error::NotFound(named) if **named == *home), "{error:?}");
        }
        assert!(names(dir.path()).is_empty());
        fs::create_dir(&home).unwrap();
        let error = Store::builder().open_existing(&home).unwrap_err();
        assert!(matches!(&error, Error::NotFound(named) if **named == *home), "{error:?}");
        assert!(names(&home).is_empty());
    }

    #[test]
    fn with_a_store_gets_no_second_one() {
        let house = House::new();
        let error = Store::builder().create(&house.home).unwrap_err();
        assert!(
            matches!(&error, Error::AlreadyExists(named) if **named == *house.home),
            "{error:?}"
        );
        house.is_whole(&house.home);
    }

    #[test]
    fn with_foreign_files_is_left_as_it_was() {
        let dir = room();
        fs::write(dir.path().join("thesis.tex"), "chapter 1").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for error in [Store::open(dir.path()), Store::builder().create(dir.path())] {
            let error = error.unwrap_err();
            assert!(matches!(error, Error::BadDirectory { .. }), "{error:?}");
            assert!(error.to_string().contains("it holds other files"), "{error}");
        }
        assert_eq!(names(dir.path()), ["thesis.tex".into()].into());
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn that_is_open_names_itself_and_its_holder() {
        let house = House::new();
        let store = Store::open_existing(&house.home);
        let error = Store::open(&house.home).unwrap_err();
        let me = format!("process {}", std::process::id());
        assert!(
            matches!(&error, Error::Locked { dir, holder } if **dir == *house.home && **holder == *me),
            "{error:?}"
        );
        drop(store);
        house.is_whole(&house.home);
    }

    #[test]
    fn that_another_process_holds_names_that_process() {
        const HELD: &str = "PORTCULLIS_TEST_HOLD";
        if let Some(home) = std::env::var_os(HELD) {
            let _store = Store::open_existing(Path::new(&home));
            std::io::stdout().write_all(b"held\n").unwrap();
            std::io::stdin().read_line(&mut String::new()).unwrap();
            return;
        }
        let house = House::new();
        let home = house.copy("held");
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["damage::a_directory::that_another_process_holds_names_that_process", "--exact"])
            .arg("--nocapture")
            .env(HELD, &home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("held")));
        let error = Store::open(&home).unwrap_err();
        let name = format!("process {}", holder.id());
        assert!(
            matches!(&error, Error::Locked { dir, holder } if **dir == *home && **holder == *name),
            "{error:?}"
        );
        // Its lock goes with it, however it ends.
        holder.kill().unwrap();
        holder.wait().unwrap();
        house.is_whole(&home);
    }

    #[needs("root: test $(id -u) = 0")]
    #[test]
    fn of_another_user_is_refused_and_left_as_it_was() {
        let dir = room();
        std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
        let refused = Store::open(dir.path());
        assert!(
            matches!(&refused, Err(Error::BadDirectory { reason, .. }) if reason.contains("another user"))
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn is_closed_to_others_and_so_are_its_files() {
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
    fn with_an_interrupted_creation_gets_a_fresh_store() {
        let dir = room();
        let home = dir.path().join("keys");
        fs::create_dir_all(home.join("ledger.new/sled")).unwrap();
        fs::write(home.join("ledger.new/sled/db"), "half a database").unwrap();
        let error = Store::builder().open_existing(&home).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error:?}");
        let store = Store::open(&home).unwrap();
        assert!(records(&store).is_empty());
        issue(&store, new_key(&store, "first", &["api.read"]));
        assert_eq!(names(&home), ["ledger".into(), "lock".into()].into());
    }
}

mod a_database {
    use super::*;

    #[test]
    fn that_is_gone_is_missed() {
        let house = House::new();
        let home = house.copy("gone");
        fs::remove_file(db(&home)).unwrap();
        house.is_damaged(&home, "database file is missing");
        let home = house.copy("all gone");
        for entry in fs::read_dir(sled_dir(&home)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
        house.is_damaged(&home, "database file is missing");
        // Not even a wish for a new store makes one here.
        let error = Store::open(&home).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }

    #[test]
    fn that_is_empty_is_refused() {
        let house = House::new();
        for keep_snapshots in [true, false] {
            let home = house.copy(&format!("empty {keep_snapshots}"));
            cut(&db(&home), |_| 0);
            if !keep_snapshots {
                remove_snapshots(&home);
            }
            house.is_damaged(&home, "");
        }
    }

    /// Opens cut copies, with and without snapshots.
    fn look_at_cuts(house: &House, lengths: &[u64]) -> Vec<Result<(), Error>> {
        let mut found = Vec::new();
        for length in lengths {
            for keep_snapshots in [true, false] {
                let home = house.copy(&format!("cut {length} {keep_snapshots}"));
                cut(&db(&home), |_| *length);
                if !keep_snapshots {
                    remove_snapshots(&home);
                }
                found.push(house.look(&home));
            }
        }
        found
    }

    /// Behind the last page the engine fills its file up with zeros.
    fn written(house: &House) -> u64 {
        let bytes = fs::read(db(&house.home)).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
    }

    #[test]
    fn that_lost_its_last_changes_is_refused() {
        let house = House::with_keys(40);
        let written = written(&house);
        let lengths = [written / 4, written / 2, written - 40_000, written - 16_000];
        for (n, found) in look_at_cuts(&house, &lengths).into_iter().enumerate() {
            assert!(
                matches!(found, Err(Error::Damaged(_) | Error::RolledBack { .. })),
                "{n}, {written} bytes written: {found:?}"
            );
        }
    }

    #[test]
    fn that_lost_a_few_bytes_is_refused_or_whole() {
        let house = House::with_keys(40);
        let (written, full) = (written(&house), fs::metadata(db(&house.home)).unwrap().len());
        let lengths = [written - 4096, written - 64, written - 1, full - 4096, full - 7, full - 1];
        for (n, found) in look_at_cuts(&house, &lengths).into_iter().enumerate() {
            assert!(
                matches!(found, Ok(()) | Err(Error::Damaged(_) | Error::RolledBack { .. })),
                "{n}, {written} bytes of {full} written: {found:?}"
            );
        }
    }

    #[test]
    fn without_its_snapshots_is_whole() {
        let house = House::new();
        let home = house.copy("without");
        assert!(!snapshots(&home).is_empty());
        remove_snapshots(&home);
        house.is_whole(&home);
    }

    #[test]
    fn with_a_damaged_snapshot_is_refused_and_mended_by_removing_it() {
        let house = House::new();
        let home = house.copy("damaged");
        for path in snapshots(&home) {
            flip(&path, fs::metadata(&path).unwrap().len() / 2);
        }
        house.is_damaged(&home, "");
        remove_snapshots(&home);
        house.is_whole(&home);
    }

    #[test]
    fn with_a_half_written_snapshot_opens() {
        let house = House::new();
        let home = house.copy("half");
        let half = sled_dir(&home).join("snap.0FFFFFFFFFFFFFFF.generating");
        fs::write(&half, [0x5a; 100]).unwrap();
        house.is_whole(&home);
        assert!(!half.exists());
    }

    #[test]
    fn with_a_value_outside_its_file_is_refused() {
        let house = House::new();
        let home = house.copy("blob");
        fs::write(sled_dir(&home).join("blobs/77"), "a value").unwrap();
        house.is_damaged(&home, "outside the database file");
    }

    #[test]
    fn without_its_meta_record_is_refused() {
        let house = House::new();
        let home = house.copy("meta");
        tamper(&home, |db| assert!(db.remove("m").unwrap().is_some()));
        house.is_damaged(&home, "meta record is missing");
    }

    #[test]
    fn with_a_record_under_another_digest_is_refused() {
        let house = House::new();
        let moved = house.copy("moved");
        tamper(&moved, |db| {
            let (key, frame) = pairs(db, "k").swap_remove(0);
            let mut other = key.to_vec();
            other[7] ^= 1;
            db.remove(key).unwrap();
            db.insert(other, frame).unwrap();
        });
        house.is_damaged(&moved, "is not as it was written");
        let swapped = house.copy("swapped");
        tamper(&swapped, |db| {
            let pairs = pairs(db, "k");
            db.insert(&pairs[0].0, &pairs[1].1).unwrap();
            db.insert(&pairs[1].0, &pairs[0].1).unwrap();
        });
        house.is_damaged(&swapped, "is not as it was written");
    }

    #[test]
    fn with_a_record_too_few_or_too_many_or_too_old_is_refused() {
        let mut house = House::new();
        let early = house.copy("early");
        let (id, _, _) = house.keys[0];
        let store = Store::open_existing(&house.home);
        store.update(id, Change { name: Some("renamed".into()), ..Change::default() }).unwrap();
        drop(store);
        house.remember();
        let mut old = Vec::new();
        tamper(&early, |db| old = pairs(db, "k"));

        let few = house.copy("few");
        tamper(&few, |db| assert!(db.remove(&pairs(db, "k")[0].0).unwrap().is_some()));
        house.is_damaged(&few, "it should hold");

        let aged = house.copy("aged");
        tamper(&aged, |db| {
            for (key, frame) in &old {
                db.insert(key, frame).unwrap();
            }
        });
        house.is_damaged(&aged, "it should hold");

        let stranger = House::new();
        let many = house.copy("many");
        let mut theirs = Vec::new();
        tamper(&stranger.copy("theirs"), |db| theirs = pairs(db, "k"));
        tamper(&many, |db| assert!(db.insert(&theirs[0].0, &theirs[0].1).unwrap().is_none()));
        house.is_damaged(&many, "it should hold");

        let scopes = house.copy("scopes");
        tamper(&scopes, |db| assert!(db.remove(b"s\0").unwrap().is_some()));
        house.is_damaged(&scopes, "a scope name is missing");

        let odd = house.copy("odd");
        tamper(&odd, |db| assert!(db.insert("kshort", "x").unwrap().is_none()));
        house.is_damaged(&odd, "under a key that is not one");
    }

    #[test]
    fn whose_trail_was_altered_says_so_when_it_is_read() {
        let house = House::new();
        let last = house.trail.last().unwrap().sequence;
        let altered = house.copy("altered");
        tamper(&altered, |db| surgery::flip(db, &entry(3), 9));
        house.is_damaged(&altered, "entry 3 of the audit log");
        let replayed = house.copy("replayed");
        tamper(&replayed, |db| {
            let frame = db.get(entry(3)).unwrap().unwrap();
            db.insert(entry(4), frame).unwrap();
        });
        house.is_damaged(&replayed, "entry 4 of the audit log");
        let holed = house.copy("holed");
        tamper(&holed, |db| assert!(db.remove(entry(3)).unwrap().is_some()));
        house.is_damaged(&holed, "entry 3 of the audit log is missing");
        let shortened = house.copy("shortened");
        tamper(&shortened, |db| assert!(db.remove(entry(last)).unwrap().is_some()));
        house.is_damaged(&shortened, "of the audit log is missing");
    }

    /// Opening reads the trail of a day, and no record lies in the pages of an older one.
    #[test]
    fn whose_old_trail_is_damaged_takes_keys_away_all_the_same() {
        let house = House::lived();
        tamper(&house.home, |db| surgery::flip(db, &entry(700), 9));
        let says_so = |store: &Store| match house.look_at_trail(store) {
            Err(Error::Damaged(text)) => assert!(text.contains("entry 700"), "{text}"),
            other => panic!("{other:?}"),
        };
        let store = house.look_at_keys(&house.home, None).unwrap();
        says_so(&store);
        let last = house.trail.last().unwrap();
        assert_eq!(store.audit(last.sequence - 1, 1).unwrap(), std::slice::from_ref(last));
        let (id, key, _) = &house.keys[1];
        store.revoke(*id).unwrap();
        drop(store);
        let store = Store::open_existing(&house.home);
        assert_eq!(store.authenticate_key(key).unwrap_err(), Refusal::Inactive);
        says_so(&store);
        drop(store);
        let report = Offline::new().examine(&house.home, house.dir.path()).unwrap();
        let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
        assert_eq!(codes, ["trail"]);
    }
}

mod an_anchor {
    use super::*;

    #[test]
    fn that_is_gone_is_missed_by_its_name() {
        let house = House::new();
        let home = house.copy("gone");
        fs::remove_file(anchor(&home)).unwrap();
        house.is_damaged(&home, &anchor(&home).display().to_string());
        assert!(!anchor(&home).exists());
    }

    #[test]
    fn that_is_empty_or_cut_within_both_slots_is_not_believed() {
        let house = House::new();
        for left in [0, 100] {
            let home = house.copy(&format!("cut {left}"));
            cut(&anchor(&home), |_| left);
            house.is_damaged(&home, "anchor is not as it was written");
        }
    }

    #[test]
    fn with_one_bad_slot_still_holds_and_with_two_does_not() {
        let house = House::new();
        for slot in [0, 4096] {
            let home = house.copy(&format!("slot {slot}"));
            flip(&anchor(&home), slot + 20);
            house.is_whole(&home);
        }
        let home = house.copy("both");
        flip(&anchor(&home), 20);
        flip(&anchor(&home), 4096 + 20);
        house.is_damaged(&home, "anchor is not as it was written");
    }

    #[test]
    fn notices_an_older_database() {
        let mut house = House::new();
        let older = house.copy("older");
        run_on(&house.home, 5);
        house.remember();
        replace(&sled_dir(&older), &sled_dir(&house.home));
        let last = house.trail.last().unwrap().sequence;
        let error = house.look(&house.home).unwrap_err();
        assert!(
            matches!(error, Error::RolledBack { found, anchored } if found == last - 5 && anchored == last),
            "{error:?}"
        );
        assert!(error.to_string().contains("was rolled back"), "{error}");
    }

    #[test]
    fn notices_a_fork_of_any_length() {
        let house = House::new();
        for (n, (ours, theirs)) in [(3, 3), (3, 7), (1, 2)].into_iter().enumerate() {
            let (kept, fork) = (house.copy(&format!("kept {n}")), house.copy(&format!("fork {n}")));
            run_on(&kept, ours);
            run_on(&fork, theirs);
            replace(&sled_dir(&fork), &sled_dir(&kept));
            house.is_damaged(&kept, "its past is not the one that its anchor saw");
        }
    }

    #[test]
    fn of_another_store_is_not_believed() {
        let (house, other) = (House::new(), House::new());
        let home = house.copy("mixed");
        replace(&sled_dir(&other.home), &sled_dir(&home));
        house.is_damaged(&home, "anchor belongs to another store");
    }

    #[test]
    fn kept_elsewhere_notices_that_the_whole_directory_is_older_or_a_fork() {
        let dir = room();
        let (home, kept) = (dir.path().join("keys"), dir.path().join("kept.anchor"));
        let open = || Store::builder().anchor(&kept).open(&home);
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
        // The older copy runs on under its own anchor, past what the newer one has seen.
        let store = Store::builder().anchor(&early_anchor).open(&home).unwrap();
        for n in 0..4 {
            issue(&store, new_key(&store, &format!("fork {n}"), &["api.read"]));
        }
        assert!(store.authenticate_key(&key).is_ok());
        drop(store);
        let error = open().unwrap_err();
        assert!(matches!(&error, Error::Damaged(text) if text.contains("its past")), "{error:?}");
    }

    #[test]
    fn kept_elsewhere_without_its_store_is_named() {
        let dir = room();
        let (home, kept) = (dir.path().join("keys"), dir.path().join("kept.anchor"));
        drop(Store::builder().anchor(&kept).open(&home).unwrap());
        fs::remove_dir_all(&home).unwrap();
        let bytes = fs::read(&kept).unwrap();
        let error = Store::builder().anchor(&kept).open(&home).unwrap_err();
        assert!(
            matches!(&error, Error::Damaged(text) if text.contains(kept.to_str().unwrap())),
            "{error:?}"
        );
        assert!(!home.join("ledger").exists());
        assert_eq!(fs::read(&kept).unwrap(), bytes);
    }
}
