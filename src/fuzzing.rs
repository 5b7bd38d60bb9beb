//! Private parsers, opened to the fuzz targets without widening the public API.

use crate::{
    Refusal,
    credential::{self, KeyBuffer},
};

/// The key that one `Authorization` value presents.
pub fn read(authorization: &[u8]) -> Result<Vec<u8>, Refusal> {
    credential::read(authorization, &mut KeyBuffer::new()).map(<[u8]>::to_vec)
}

/// The key that all `Authorization` values of a request present.
pub fn read_all(values: &[&[u8]]) -> Result<Vec<u8>, Refusal> {
    credential::read_all(values.iter().copied(), &mut KeyBuffer::new()).map(<[u8]>::to_vec)
}
