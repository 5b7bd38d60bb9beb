//! Portcullis and what one would use instead, asked the same question: whose key is in this header?
//!
//! Every rival gets the same keys and the same headers (but `prefixed-api-key`, whose keys have a
//! form of their own), decodes them on the stack, and answers with the number of the key. What a
//! rival looks up with is the digest that Portcullis looks up with: blake3 of the key.

pub mod databases;
pub mod keys;
pub mod maps;
pub mod redis;
pub mod timing;

use crate::keys::Rows;

/// One way to know whose key a header carries.
pub trait Rival {
    fn name(&self) -> &'static str;

    /// The headers to ask about; all of them carry a good key.
    fn headers(&self) -> &Rows;

    /// A number that depends on the answer, for the next call to depend on.
    fn check(&self, header: &[u8]) -> u64;
}
