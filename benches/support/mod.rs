//! What the benches with many keys share.

pub(crate) mod many;
