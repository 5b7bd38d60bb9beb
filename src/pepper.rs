//! The pepper of a deployment: the secret from which a store's digests and seals are derived.

use crate::{
    digest::Seals,
    error::{Error, Field},
};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

const SHORTEST: usize = 16;

/// The pepper of a deployment, if it has one.
#[derive(Default)]
pub(crate) struct Pepper(Option<Zeroizing<Vec<u8>>>);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Pepper(<elided>)" } else { "Pepper(None)" })
    }
}

impl Pepper {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Some(Zeroizing::new(bytes.into())))
    }

    /// Derives the seals of a store with this pepper.
    pub(crate) fn seals(&self) -> Result<Arc<Seals>, Error> {
        match &self.0 {
            Some(pepper) if pepper.len() < SHORTEST => {
                Err(Error::invalid(Field::Pepper, "must be at least 16 bytes"))
            }
            pepper => Ok(Arc::new(Seals::derive(pepper.as_ref().map(|bytes| bytes.as_slice())))),
        }
    }
}
