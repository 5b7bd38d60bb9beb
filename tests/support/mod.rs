//! What several tests need: a place for a store, keys, headers.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::struct_excessive_bools,
    reason = "for tests; each uses a part of it"
)]

pub(crate) mod campaign;
pub(crate) mod chance;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod surgery;

mod base64;

pub(crate) use self::base64::base64;

use portcullis::{Change, Expiry, Grant, KeyId, Metadata, NewKey, Store};
use std::{path::PathBuf, time::SystemTime};

/// A directory that goes with the test, and the place of a store in it.
pub(crate) fn home() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("keys");
    (dir, home)
}

pub(crate) fn scopes(store: &Store, names: &[&str]) -> Grant {
    Grant::Scopes(store.scopes(names).unwrap())
}

pub(crate) fn new_key(store: &Store, name: &str, names: &[&str]) -> NewKey {
    NewKey {
        name: name.into(),
        grant: scopes(store, names),
        active: true,
        expiry: Expiry::Never,
        owner: None,
        metadata: Metadata::new(),
    }
}

/// Issues a key and reveals it. A key whose end is past is issued first and expires then.
pub(crate) fn issue(store: &Store, mut new: NewKey) -> (KeyId, Vec<u8>) {
    let is_past = new.expiry.has_come(SystemTime::now().into());
    let end = is_past.then(|| std::mem::replace(&mut new.expiry, Expiry::Never));
    let issued = store.issue(new).unwrap();
    if end.is_some() {
        store.update(issued.record.id, Change { expiry: end, ..Change::default() }).unwrap();
    }
    (issued.record.id, issued.secret.reveal(|text| text.as_bytes().to_vec()))
}

/// The header of Basic authentication for a user without a password.
pub(crate) fn basic(user: &[u8]) -> String {
    format!("Basic {}", base64(&[user, b":"].concat()))
}
