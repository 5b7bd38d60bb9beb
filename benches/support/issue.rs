//! Issuing one typical key.

use portcullis::{Expiry, Metadata, NewKey, Store};

/// Issues a key with an owner, one metadata entry and two scopes.
pub(crate) fn issue(store: &Store, number: usize) {
    let new = NewKey::new(
        format!("key {number} of a customer"),
        store.scopes(["api.read", "api.write"]).unwrap(),
        Expiry::Never,
    )
    .with_owner(format!("customer-{number}"))
    .with_metadata(Metadata::from([("plan".to_owned(), "standard".to_owned())]));
    store.issue(new).unwrap();
}
