//! A directory for a store, keys, and the header of a request.

use super::base64;
use portcullis::{
    Builder, Change, Expiry, Grant, KeyId, NewKey, Store, scope::catalogue::financial_data,
};
use std::{path::PathBuf, time::SystemTime};

/// Creates a temporary directory, and returns it with the path of a store in it.
pub fn home() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("keys");
    (dir, home)
}

/// Returns the builder of a store with the preset of scopes.
pub fn builder() -> Builder {
    Store::builder().scopes(financial_data())
}

/// Returns a grant of these scopes.
pub fn scopes(store: &Store, names: &[&str]) -> Grant {
    Grant::Scopes(store.scopes(names).unwrap())
}

/// Returns an active key without an owner that never expires.
pub fn new_key(store: &Store, name: &str, names: &[&str]) -> NewKey {
    NewKey::new(name, scopes(store, names), Expiry::Never)
}

/// Issues a key and returns its id and text. A past expiry is set after the key is issued.
pub fn issue(store: &Store, mut new: NewKey) -> (KeyId, Vec<u8>) {
    let is_past = new.expiry.has_come(SystemTime::now().into());
    let end = is_past.then(|| std::mem::replace(&mut new.expiry, Expiry::Never));
    let issued = store.issue(new).unwrap();
    if let Some(end) = end {
        store.update(issued.record.id, Change::default().with_expiry(end)).unwrap();
    }
    (issued.record.id, issued.secret.reveal(|text| text.as_bytes().to_vec()))
}

/// Returns the `Authorization` header of Basic authentication for a user without a password.
pub fn basic(user: &[u8]) -> String {
    format!("Basic {}", base64(&[user, b":"].concat()))
}
