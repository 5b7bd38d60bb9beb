//! The handle of an open store.

use super::writer::Writer;
use crate::secret::Prefix;
use std::{fmt, sync::Arc};

/// An embedded key store. A handle is cheap to clone; dropping the last handle closes the store.
///
/// ```
/// use portcullis::{Expiry, Grant, Metadata, NewKey, Refusal, Store, scope::catalogue};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("keys");
/// let store = Store::open(dir)?;
/// let issued = store.issue(NewKey {
///     name: "Nightly export".into(),
///     grant: Grant::Scopes(store.scopes(["api.read"])?),
///     active: true,
///     expiry: Expiry::Never,
///     owner: None,
///     metadata: Metadata::new(),
/// })?;
/// let key = issued.secret.reveal(|text| text.to_owned()); // shown once
///
/// let principal = store.authenticate_key(key.as_bytes())?; // memory only
/// principal.require(&catalogue::API_READ)?;
///
/// store.revoke(issued.record.id)?; // refused from now on
/// assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    pub(super) writer: Arc<Writer>,
    pub(super) prefix: Prefix,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
