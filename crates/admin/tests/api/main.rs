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
mod owners;
mod pending;
mod reach;
mod reference;
