//! The handle of an open store.

use super::writer::Writer;
use crate::{credential::Credentials, secret::Prefix};
use std::{fmt, sync::Arc};

/// An embedded key store. A handle is cheap to clone; dropping the last handle closes the store.
///
/// Authentication and reads of records run in memory. A change blocks until it is durable: an async host
/// calls it through `web::unblock` (feature `axum`), or on a thread that may block.
///
/// ```
/// use portcullis::{Expiry, NewKey, Refusal, Store, scope::catalogue};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("keys");
/// let store = Store::builder().scopes(catalogue::financial_data()).open(dir)?;
/// let new = NewKey::new("Nightly export", store.scopes(["api.read"])?, Expiry::Never);
/// let issued = store.issue(new)?;
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
    pub(super) credentials: Credentials,
    /// Whether this process asked for the creation of the store.
    pub(super) is_created: bool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
