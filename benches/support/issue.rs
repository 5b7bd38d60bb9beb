//! Issuing one typical key.

use portcullis::{Expiry, Grant, Metadata, NewKey, Store};

/// Issues a key with an owner, one metadata entry and two scopes.
pub(crate) fn issue(store: &Store, number: usize) {
    let new = NewKey {
        name: format!("key {number} of a customer"),
        grant: Grant::Scopes(store.scopes(["api.read", "api.write"]).unwrap()),
        active: true,
        expiry: Expiry::Never,
        owner: Some(format!("customer-{number}")),
        metadata: Metadata::from([("plan".to_owned(), "standard".to_owned())]),
    };
    store.issue(new).unwrap();
}
