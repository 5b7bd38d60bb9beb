//! Portcullis and its alternatives, with the same task: find the key of a header.
//!
//! Every rival gets the same keys and the same headers, decodes them on the stack, and returns the
//! number of the key. It looks up the same digest as Portcullis, blake3 of the key. The exception is
//! `prefixed-api-key`, whose keys have another format.

pub mod databases;
pub mod keys;
pub mod maps;
pub mod redis;
pub mod timing;

use crate::keys::Rows;

/// One way to find the key of a header.
pub trait Rival {
    fn name(&self) -> &'static str;

    /// The headers to check; each has a valid key.
    fn headers(&self) -> &Rows;

    /// Checks a header. Returns a number that depends on the result, so that the next call can depend on it.
    fn check(&self, header: &[u8]) -> u64;
}
