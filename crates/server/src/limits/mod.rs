//! The limits that keep one client from using up the resources of others: requests, bodies, bad keys.

mod admission;
mod bad_keys;
mod overload;

pub(crate) use admission::{Account, Admission, Permit, Reserved};
pub(crate) use bad_keys::BadKeyLimiter;
pub(crate) use overload::Overload;
