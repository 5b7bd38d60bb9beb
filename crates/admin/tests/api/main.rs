//! Tests of the Administration API through its router.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helper functions fail a test by panicking"
)]

mod audit;
mod audit_stream;
mod authz;
mod example;
mod http;
#[cfg(feature = "secret-scanning")]
mod leak_reports;
mod leaked;
mod lists;
mod networks;
mod owners;
mod pending;
mod policy;
mod rates;
mod reach;
mod reference;
