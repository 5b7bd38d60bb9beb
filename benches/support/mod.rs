//! What the benches with many keys share.

pub(crate) mod fabricated;
pub(crate) mod furnished;
pub(crate) mod many;
