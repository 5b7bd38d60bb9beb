//! Tests of the Administration API through its router.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helper functions fail a test by panicking"
)]

mod audit;
mod authz;
mod example;
mod http;
mod networks;
mod owners;
mod pending;
mod rates;
mod reference;
