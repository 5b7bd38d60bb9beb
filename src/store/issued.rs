//! A key that was just created: its record and its secret.

use crate::{record::Record, secret::Secret};
use std::sync::Arc;

/// A key that was just created.
#[derive(Debug)]
pub struct Issued {
    /// The record that the store keeps.
    pub record: Arc<Record>,
    /// The secret of the key, to be shown once.
    pub secret: Secret,
}
