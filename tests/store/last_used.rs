//! The time when a key was last used, through the public API and over reopening the store.

use portcullis::{Expiry, Refusal, Timestamp};
use portcullis_testkit::{basic, home, issue, new_key, surgery::operate};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, SystemTime},
};

#[test]
fn last_use_has_minute_precision_and_survives_reopen() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let (id, key) = issue(&store, new_key(&store, "till", &["api.read"]));
    let (unused, _) = issue(&store, new_key(&store, "spare", &["api.read"]));
    assert_eq!(store.last_used(id), None);
    store.authenticate_key(&key).unwrap();
    let used = store.last_used(id).unwrap();
    let now = Timestamp::from(SystemTime::now());
    assert!(
        used <= now && now.as_secs() - used.as_secs() < 121 && used.as_secs().is_multiple_of(60)
    );
    let entries = store.audit(0, 99).unwrap().len();
    drop(store);

    let store = portcullis_testkit::builder().open(&home).unwrap();
    assert_eq!((store.last_used(id), store.last_used(unused)), (Some(used), None));
    assert_eq!(store.audit(0, 99).unwrap().len(), entries, "a use writes no audit entry");
    store.revoke(id).unwrap();
    assert_eq!(store.last_used(id), Some(used), "a change keeps the last use");
    store.delete(id).unwrap();
    assert_eq!(store.last_used(id), None);
    drop(store);
    assert_eq!(portcullis_testkit::builder().open(&home).unwrap().last_used(id), None);
}

#[test]
fn refused_authentication_is_not_a_use() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let mut new = new_key(&store, "short", &["api.read"]);
    new.expiry = Expiry::At(Timestamp::from_secs(1_000_000));
    let (expired, key) = issue(&store, new);
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Expired);
    let (revoked, key) = issue(&store, new_key(&store, "off", &["api.read"]));
    store.revoke(revoked).unwrap();
    assert_eq!(store.authenticate_key(&key).unwrap_err(), Refusal::Inactive);
    assert_eq!((store.last_used(expired), store.last_used(revoked)), (None, None));
}

#[test]
fn refused_authentication_writes_nothing() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let (_, good) = issue(&store, new_key(&store, "good", &["api.read"]));
    let (off, inactive) = issue(&store, new_key(&store, "off", &["api.read"]));
    let (gone, deleted) = issue(&store, new_key(&store, "gone", &["api.read"]));
    store.revoke(off).unwrap();
    store.revoke(gone).unwrap();
    store.delete(gone).unwrap();
    let mut new = new_key(&store, "short", &["api.read"]);
    new.expiry = Expiry::At(Timestamp::from_secs(1_000_000));
    let (_, expired) = issue(&store, new);
    let headers = [
        (basic(&inactive), Refusal::Inactive),
        (basic(&expired), Refusal::Expired),
        (basic(&deleted), Refusal::Unknown),
        (basic(b"somebody"), Refusal::Unknown),
        (basic(b"some body"), Refusal::Malformed),
    ];
    let entries = store.audit(0, 99).unwrap();
    drop(store);

    let before = on_disk(&home);
    let store = portcullis_testkit::builder().open(&home).unwrap();
    for (header, refusal) in headers.iter().cycle().take(5_000) {
        assert_eq!(store.authenticate_header(header.as_bytes()).unwrap_err(), *refusal);
        let twice = [header.as_bytes(); 2];
        assert_eq!(store.authenticate(twice.into_iter()).unwrap_err(), Refusal::Ambiguous);
    }
    assert_eq!(store.audit(0, 99).unwrap(), entries);
    // Closing the store writes the uses that are still in memory.
    drop(store);
    assert_eq!(on_disk(&home), before);

    let store = portcullis_testkit::builder().open(&home).unwrap();
    store.authenticate_key(&good).unwrap();
    drop(store);
    assert_ne!(on_disk(&home), before, "a use is written");
}

/// Reads every value in the database, and every other file with its modification time. Excludes the
/// database file, which sled also changes by itself, and the lock file, which names the process.
fn on_disk(home: &Path) -> BTreeMap<Vec<u8>, (Option<SystemTime>, Vec<u8>)> {
    let values = operate(home, |db| db.iter().map(Result::unwrap).collect::<Vec<_>>());
    let mut found: BTreeMap<_, _> =
        values.into_iter().map(|(place, frame)| (place.to_vec(), (None, frame.to_vec()))).collect();
    for dir in [home, &home.join("ledger")] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("lock") {
                let written = fs::metadata(&path).unwrap().modified().ok();
                found.insert(
                    path.as_os_str().as_bytes().into(),
                    (written, fs::read(&path).unwrap()),
                );
            }
        }
    }
    found
}

#[test]
fn key_of_a_rotation_is_unused() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "till", &["api.read"]));
    store.authenticate_key(&key).unwrap();
    let new = store.rotate(id, Duration::from_mins(1)).unwrap();
    assert_eq!(store.last_used(new.record.id), None);
    assert!(store.last_used(id).is_some());
}
