//! Filling a store with many keys.

use portcullis::{Expiry, KeyId, NewKey, Store};
use std::thread;

/// Concurrent writers, so that the store commits their keys in batches.
const WRITERS: usize = 32;
const NAMES: [&str; 4] = ["Nightly export", "Till", "Partner", "Dashboard of branch"];

/// Issues keys with typical names, of which one in eight is inactive. Calls `each` with the number, the
/// id and the text of every key.
pub(crate) fn fill(store: &Store, keys: usize, each: impl Fn(usize, KeyId, &str) + Sync) {
    let (read, both) = (["api.read"], ["api.read", "api.write"]);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let each = &each;
            scope.spawn(move || {
                for number in (writer..keys).step_by(WRITERS) {
                    let scopes = if number % 3 == 0 { &read[..] } else { &both };
                    let issued = store.issue(
                        NewKey::new(
                            format!("{} {number}", NAMES[number % NAMES.len()]),
                            store.scopes(scopes).unwrap(),
                            Expiry::Never,
                        )
                        .with_active(number % 8 != 0)
                        .with_owner(format!("shop-{}", number % 1000)),
                    );
                    let issued = issued.unwrap();
                    issued.secret.reveal(|text| each(number, issued.record.id, text));
                }
            });
        }
    });
}
