//! The limits that keep one client from taking what the others need: requests, bodies, bad keys.

mod admission;
mod bad_keys;
mod overload;

pub(crate) use admission::{Account, Admission, Permit, Reserved};
pub(crate) use bad_keys::BadKeyLimiter;
pub(crate) use overload::Overload;
